//! A journal of any bytes: nothing panics, no count takes memory, what is read is what would be written; and an
//! engine that is told any records still judges.
//!
//! The input is read three times: as a file, as the frames of a file, and as a record.
#![no_main]

use std::sync::{Arc, LazyLock};

use becalm::directory::snapshot::{List, Snapshot};
use becalm::engine::{Capacity, Engine, Exempt, Parts, Watch};
use becalm::journal::checkpoint;
use becalm::journal::codec;
use becalm::journal::frame::{Frames, Header, Kind};
use becalm::journal::record::{Piece, Record};
use becalm::mail::AddressRules;
use becalm::storm::limits::LimitSettings;
use becalm::storm::policy::Policy;
use becalm::time::Timestamp;
use libfuzzer_sys::fuzz_target;

const NOW: Timestamp = Timestamp::from_millis(1_479_112_140_000);

static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let list = List {
        address: "all@example.org".into(),
        names: Vec::new(),
        members: 840_000,
        class: None,
        origin: "fuzz".into(),
        contains: Vec::new(),
        pattern: false,
    };
    let parts = Parts {
        snapshot: Arc::new(Snapshot::of(vec![list], AddressRules::default())),
        default_policy: Policy::default(),
        exempt: Exempt::default(),
        watch: Watch::default(),
        limits: LimitSettings::default(),
    };
    let capacity = Capacity { conversations: 64, recipients: 64, known_authors: 64, message_ids: 64 };
    Engine::new([7; 16], capacity, parts, |_: &List| Policy::default(), NOW).expect("no limits are set")
});

fuzz_target!(|data: &[u8]| {
    let _ = checkpoint::verify(data);
    let header = Header::decode(data).unwrap_or_else(|_| Header {
        kind: Kind::Segment,
        node: "fuzz".into(),
        boot: 1,
        key: 2,
        number: 3,
        sequence: 4,
        at: NOW,
    });
    let mut frames = Frames::new(&header, data);
    let read: usize = frames.by_ref().map(|frame| frame.payload.len()).sum();
    assert!(read + frames.torn() <= data.len());
    let Ok(record) = codec::decode(data) else { return };
    let mut again = Vec::new();
    codec::encode(&record, &mut again);
    assert_eq!(codec::decode(&again).as_ref(), Ok(&record));
    // Lists are remembered by the ten thousand; a run has millions.
    let list = match &record {
        Record::Judged(judged) => judged.shares.iter().any(|share| share.list != 0),
        Record::Opened(_) | Record::Ended(_) | Record::ByHand(_) => true,
        Record::Piece(piece) => matches!(**piece, Piece::List(_) | Piece::ByHand(_)),
        Record::ClawedBack(_) | Record::Known(_) => false,
    };
    if !list {
        ENGINE.apply(&record, NOW);
        let mut tx = ENGINE.session(None);
        ENGINE.begin(&mut tx, b"jo@example.org", None, NOW);
        ENGINE.recipient(&mut tx, b"all@example.org");
        ENGINE.at_data(&mut tx);
        ENGINE.judge(&tx, None, NOW);
    }
});
