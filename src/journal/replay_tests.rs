//! A folder of segments, cut, damaged, copied, and written by others.

use super::*;
use crate::journal::frame::Framer;
use crate::journal::record::Known;

const KEY: u64 = 7;

fn record(key: u64) -> Record {
    Record::Known(Known { key, at: Timestamp::from_millis(5), known_for: 90 })
}

fn header(number: u64, sequence: u64) -> Header {
    Header {
        kind: Kind::Segment,
        node: "mx1".to_owned(),
        boot: 1,
        key: KEY,
        number,
        sequence,
        at: Timestamp::from_millis(1000 * number),
    }
}

fn segment(header: &Header, keys: std::ops::Range<u64>) -> Vec<u8> {
    let mut bytes = header.encode().to_vec();
    let mut framer = Framer::new(header);
    for key in keys {
        framer.frame(&mut bytes, |out| codec::encode(&record(key), out));
    }
    bytes
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn store(&self) -> Store {
        Store::new(self.0.path())
    }

    fn put(&self, number: u64, bytes: &[u8]) {
        std::fs::write(self.store().segment(number), bytes).unwrap();
    }

    fn read(&self) -> (Vec<u64>, Replayed) {
        let mut keys = Vec::new();
        let found = replay(&self.store(), KEY, |record| match record {
            Record::Known(known) => keys.push(known.key),
            other => panic!("{other:?}"),
        });
        (keys, found.unwrap())
    }
}

#[test]
fn cut_at_every_byte_nothing_wrong_is_applied() {
    let folder = Folder::new();
    folder.put(1, &segment(&header(1, 0), 0..5));
    let bytes = segment(&header(2, 5), 5..15);
    let frame = (bytes.len() - HEADER) / 10;
    for cut in 0..=bytes.len() {
        folder.put(2, &bytes[..cut]);
        let (keys, found) = folder.read();
        let whole = cut.saturating_sub(HEADER) / frame;
        assert_eq!(keys, (0..5 + whole as u64).collect::<Vec<_>>(), "cut at {cut}");
        assert_eq!(found.damaged, 0, "a torn end is to be expected: {:?}", found.remarks);
        let end = if cut < HEADER { 0 } else { HEADER + whole * frame };
        assert_eq!(found.torn, (cut - end) as u64);
    }
}

#[test]
fn damage_in_the_middle_costs_what_is_damaged() {
    let folder = Folder::new();
    let bytes = segment(&header(1, 0), 0..10);
    let frame = (bytes.len() - HEADER) / 10;
    folder.put(2, &segment(&header(2, 10), 10..12));
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x80;
        folder.put(1, &changed);
        let (keys, found) = folder.read();
        let lost = at.checked_sub(HEADER).map(|at| (at / frame) as u64);
        let expected: Vec<u64> = match lost {
            Some(lost) => (0..12).filter(|key| *key != lost).collect(),
            None => (10..12).collect(),
        };
        assert_eq!(keys, expected, "byte {at}");
        let last = lost == Some(9);
        assert_eq!((found.damaged > 0, found.torn > 0), (!last, last), "byte {at}: counted");
    }
}

#[test]
fn a_segment_that_is_there_twice_counts_once() {
    let folder = Folder::new();
    let bytes = segment(&header(1, 0), 0..10);
    folder.put(1, &bytes);
    folder.put(2, &bytes);
    let (keys, found) = folder.read();
    assert_eq!((keys, found.events), ((0..10).collect(), 10));
}

#[test]
fn a_later_version_is_left_alone() {
    let folder = Folder::new();
    folder.put(1, &segment(&header(1, 0), 0..10));
    let mut later = segment(&header(2, 10), 10..20);
    later[16] = 9;
    let code = crc32fast::hash(&later[..HEADER - 4]);
    later[HEADER - 4..HEADER].copy_from_slice(&code.to_le_bytes());
    folder.put(2, &later);
    let mut applied = 0;
    let error = replay(&folder.store(), KEY, |_| applied += 1).unwrap_err();
    assert!(error.to_string().contains("00000002.segment was written by a later version"), "{error}");
    assert_eq!(applied, 0);
    assert_eq!(std::fs::read(folder.store().segment(2)).unwrap(), later);
}

#[test]
fn another_key_tells_nothing() {
    let folder = Folder::new();
    folder.put(1, &segment(&Header { key: 8, ..header(1, 0) }, 0..10));
    folder.put(2, &segment(&header(2, 10), 10..12));
    let (keys, found) = folder.read();
    assert_eq!(keys, [10, 11]);
    assert!(found.remarks[0].contains("another key"), "{:?}", found.remarks);
}

#[test]
fn no_folder_is_an_empty_journal() {
    let folder = Folder::new();
    let store = Store::new(&folder.0.path().join("none"));
    let found = replay(&store, KEY, |record| panic!("{record:?}")).unwrap();
    assert_eq!(found, Replayed::default());
    std::fs::write(folder.0.path().join("file"), "").unwrap();
    let error = replay(&Store::new(&folder.0.path().join("file")), KEY, |_| ()).unwrap_err();
    assert!(matches!(error, ReplayError::Io { .. }), "{error}");
}
