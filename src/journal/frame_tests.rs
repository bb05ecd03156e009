//! Files cut at every byte, and with every byte changed: what comes out was put in.

use super::*;

fn header() -> Header {
    Header {
        kind: Kind::Segment,
        node: "mx1.example.org".to_owned(),
        boot: 0x1234_5678_9abc_def0,
        key: 7,
        number: 17,
        sequence: 1000,
        at: Timestamp::from_millis(1_479_112_140_000),
    }
}

/// A file of frames, and where each of them ends.
fn file(payloads: &[Vec<u8>]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = header().encode().to_vec();
    let mut framer = Framer::new(&header());
    let mut ends = Vec::new();
    for payload in payloads {
        assert!(framer.frame(&mut bytes, |out| out.extend_from_slice(payload)));
        ends.push(bytes.len());
    }
    assert_eq!(framer.frames() as usize, payloads.len());
    (bytes, ends)
}

fn payloads() -> Vec<Vec<u8>> {
    let mut payloads: Vec<Vec<u8>> = (0..20_u8).map(|n| vec![n; usize::from(n) * 3]).collect();
    // One that holds marks, and a frame of another file.
    let mut other = Vec::new();
    Framer::new(&Header { number: 16, ..header() }).frame(&mut other, |out| out.extend_from_slice(b"stale"));
    payloads.push(MARK.repeat(9));
    payloads.push(other);
    payloads.push(vec![0; 300]);
    payloads
}

fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, u64, usize) {
    let mut frames = Frames::new(&header(), bytes.get(HEADER..).unwrap_or_default());
    let read = frames.by_ref().map(|frame| frame.payload.to_vec()).collect();
    (read, frames.damaged, frames.torn())
}

#[test]
fn a_header_is_read_or_told() {
    let bytes = header().encode();
    assert_eq!(Header::decode(&bytes), Ok(header()));
    for cut in 0..HEADER {
        assert_eq!(Header::decode(&bytes[..cut]), Err(HeaderError::Short));
    }
    for at in 0..HEADER {
        let mut changed = bytes;
        changed[at] ^= 1;
        assert!(Header::decode(&changed).is_err(), "byte {at}");
    }
    let mut later = bytes;
    later[16] = 2;
    assert_eq!(Header::decode(&later), Err(HeaderError::Damaged));
    let code = crc32fast::hash(&later[..CODE_AT]);
    later[CODE_AT..].copy_from_slice(&code.to_le_bytes());
    assert_eq!(Header::decode(&later), Err(HeaderError::Newer(2)));
    let long = Header { node: "n".repeat(100), ..header() };
    assert_eq!(Header::decode(&long.encode()).map(|header| header.node.len()), Ok(63));
}

#[test]
fn cut_at_every_byte_all_before_the_torn_record_is_there() {
    let payloads = payloads();
    let (bytes, ends) = file(&payloads);
    for cut in HEADER..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let (read, damaged, torn) = read(&bytes[..cut]);
        assert_eq!(read, payloads[..whole], "cut at {cut}");
        assert_eq!(damaged, 0, "an end that is torn is no damage");
        let end = ends[..whole].last().copied().unwrap_or(HEADER);
        assert_eq!(torn, cut - end);
    }
}

#[test]
fn with_any_byte_changed_only_its_record_is_lost() {
    let payloads = payloads();
    let (bytes, ends) = file(&payloads);
    for at in HEADER..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        let hit = ends.iter().filter(|end| **end <= at).count();
        let mut expected = payloads.clone();
        expected.remove(hit);
        let (read, damaged, torn) = read(&changed);
        assert_eq!(read, expected, "byte {at}");
        let last = hit == payloads.len() - 1;
        assert_eq!((damaged, torn > 0), (u64::from(!last), last));
    }
}

#[test]
fn blocks_that_never_reached_the_disk_are_passed_over() {
    let payloads: Vec<Vec<u8>> = (0..200_u8).map(|n| vec![n; 90]).collect();
    let (bytes, ends) = file(&payloads);
    for block in (HEADER..bytes.len() - 512).step_by(512) {
        let mut holed = bytes.clone();
        holed[block..block + 512].fill(0);
        let (read, damaged, _) = read(&holed);
        let begin = |n: usize| n.checked_sub(1).map_or(HEADER, |before| ends[before]);
        let expected: Vec<_> = (0..payloads.len())
            .filter(|n| ends[*n] <= block || begin(*n) >= block + 512)
            .map(|n| payloads[n].clone())
            .collect();
        assert_eq!((read, damaged), (expected, 1), "block at {block}");
    }
}

#[test]
fn a_payload_too_long_is_refused_and_leaves_nothing() {
    let mut framer = Framer::new(&header());
    let mut bytes = vec![1];
    assert!(!framer.frame(&mut bytes, |out| out.resize(out.len() + usize::from(u16::MAX) + 1, 0)));
    assert_eq!((bytes.len(), framer.frames()), (1, 0));
    assert!(framer.frame(&mut bytes, |out| out.resize(out.len() + usize::from(u16::MAX), 0)));
}
