//! What is written is read; what is not written is refused, and never by a panic.

use proptest::collection::vec;
use proptest::prelude::*;
use smallvec::SmallVec;

use super::*;

fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(0), Just(u64::MAX), 1_479_112_140_000..1_579_112_140_000_u64]
        .prop_map(Timestamp::from_millis)
}

fn figures() -> impl Strategy<Value = [u64; 4]> {
    any::<[u64; 4]>()
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Pass),
        time().prop_map(|until| Verdict::Suspicion { until }),
        Just(Verdict::Automatic),
        Just(Verdict::Storm),
    ]
}

fn parts() -> impl Strategy<Value = Parts> {
    (any::<u64>(), verdict(), any::<u64>()).prop_map(|(audience, worst, list)| Parts {
        audience,
        worst,
        list,
    })
}

fn share() -> impl Strategy<Value = Share> {
    let hashes = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>());
    let rest = (any::<u8>(), any::<u32>(), any::<u32>(), time(), time(), figures());
    (hashes, rest, proptest::option::of(verdict())).prop_map(|(hashes, rest, verdict)| {
        let (list, thread, subject, audience) = hashes;
        let (flags, window, known_for, closed_until, storm, figures) = rest;
        let figures = if storm == Timestamp::default() { [0; 4] } else { figures };
        Share {
            list,
            thread,
            subject,
            flags,
            audience,
            window,
            known_for,
            closed_until,
            storm,
            figures,
            verdict,
        }
    })
}

fn entries() -> impl Strategy<Value = Entries> {
    vec(any::<(u64, u64)>(), 0..31)
}

fn words() -> impl Strategy<Value = Words> {
    (any::<u8>(), any::<u64>(), vec(any::<(u32, u64)>(), 0..20)).prop_map(|(layout, sets, words)| Words {
        layout,
        sets,
        words,
    })
}

fn by_hand() -> impl Strategy<Value = ByHand> {
    (any::<[u64; 3]>(), time(), time()).prop_map(|([list, message, thread], at, until)| ByHand {
        list,
        at,
        until,
        message,
        thread,
    })
}

/// Any record.
pub(crate) fn record() -> impl Strategy<Value = Record> {
    let judged = (
        (time(), any::<[u64; 4]>()),
        vec(any::<u64>(), 0..20),
        vec(share(), 0..4),
        proptest::option::of(parts()),
    )
        .prop_map(|((at, [author, message, origin, digest]), ids, shares, parts)| {
            let (ids, shares) = (SmallVec::from_vec(ids), SmallVec::from_vec(shares));
            Record::Judged(Judged { at, author, message, origin, digest, ids, shares, parts })
        });
    let opened = (any::<[u64; 4]>(), time(), any::<u16>(), any::<u8>(), any::<[u32; 3]>()).prop_map(
        |([list, members, copies, conversation], since, digits, trigger, counts)| {
            Record::Opened(Opened { list, since, digits, trigger, members, counts, copies, conversation })
        },
    );
    let ended = (any::<[u64; 2]>(), time(), time(), time(), figures()).prop_map(
        |([list, conversation], since, at, cooling_until, figures)| {
            Record::Ended(Ended { list, since, at, cooling_until, figures, conversation })
        },
    );
    let known = (any::<u64>(), time(), any::<u32>())
        .prop_map(|(key, at, known_for)| Record::Known(Known { key, at, known_for }));
    let slot = (any::<u8>(), any::<u64>(), any::<u32>(), any::<[u64; 3]>(), entries()).prop_map(
        |(layout, sets, set, words, entries)| Piece::Conversation(Slot { layout, sets, set, words, entries }),
    );
    let list =
        (any::<u8>(), any::<u64>(), proptest::array::uniform5(time()), figures(), entries(), entries())
            .prop_map(|(layout, list, times, figures, newcomers, automatic)| {
                Piece::List(ListImage { layout, list, times, figures, newcomers, automatic })
            });
    let gathering = (any::<[u64; 2]>(), proptest::array::uniform4(time()), figures()).prop_map(
        |([conversation, members], times, figures)| {
            Piece::Gathering(GatheringImage { conversation, members, times, figures })
        },
    );
    let piece = prop_oneof![
        gathering,
        by_hand().prop_map(Piece::ByHand),
        words().prop_map(Piece::Known),
        words().prop_map(Piece::Origins),
        slot,
        list,
        vec((any::<u64>(), time(), any::<u64>()), 0..9).prop_map(Piece::Threads),
        vec((any::<u64>(), time(), verdict(), any::<bool>()), 0..9).prop_map(Piece::Retries),
        vec((any::<u64>(), time(), parts()), 0..9).prop_map(Piece::Parts),
    ];
    let by_hand = by_hand().prop_map(Record::ByHand);
    let clawed = (time(), "[ -~]{0,40}", "\\PC{0,20}", any::<[u64; 3]>()).prop_map(
        |(at, storm, queue_id, [copies, messages, sum])| {
            Record::ClawedBack(ClawedBack { at, storm, queue_id, copies, sums: [messages, sum] })
        },
    );
    prop_oneof![
        judged,
        opened,
        ended,
        known,
        by_hand,
        clawed,
        piece.prop_map(|piece| Record::Piece(Box::new(piece)))
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(record in record(), added in vec(any::<u8>(), 0..5)) {
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        let length = bytes.len();
        bytes.extend(added);
        prop_assert_eq!(decode(&bytes), Ok(record.clone()), "what a later version adds is passed over");
        // Without it, what is left is a record of an earlier version.
        let added = if matches!(record, Record::Opened(_) | Record::Ended(_)) { size_of::<u64>() } else { 0 };
        for cut in (0..length).filter(|cut| added == 0 || cut + added != length) {
            prop_assert_eq!(decode(&bytes[..cut]), Err(DecodeError::Short), "cut at {}", cut);
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(kind in 0..26_u8, bytes in vec(any::<u8>(), 0..300)) {
        let bytes: Vec<u8> = std::iter::once(kind).chain(bytes).collect();
        if let Ok(record) = decode(&bytes) {
            let mut again = Vec::new();
            encode(&record, &mut again);
            prop_assert_eq!(decode(&again), Ok(record));
        }
    }
}

#[test]
fn a_record_of_an_earlier_version_has_no_conversation() {
    for record in [
        Record::Opened(Opened { list: 1, conversation: 7, ..Opened::default() }),
        Record::Ended(Ended { list: 1, conversation: 7, ..Ended::default() }),
    ] {
        let mut bytes = Vec::new();
        encode(&record, &mut bytes);
        bytes.truncate(bytes.len() - size_of::<u64>());
        match decode(&bytes).unwrap() {
            Record::Opened(opened) => assert_eq!((opened.list, opened.conversation), (1, 0)),
            Record::Ended(ended) => assert_eq!((ended.list, ended.conversation), (1, 0)),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_count_alone_takes_no_memory() {
    let mut bytes = vec![PIECE_THREADS];
    Sink(&mut bytes).number(65_535);
    assert_eq!(decode(&bytes), Err(DecodeError::Short));
    bytes = vec![PIECE_THREADS];
    Sink(&mut bytes).number(65_536);
    assert_eq!(decode(&bytes), Err(DecodeError::Senseless));
    assert_eq!(decode(&[99]), Err(DecodeError::UnknownKind(99)));
    assert_eq!(decode(&[]), Err(DecodeError::Short));
}
