//! An mbox of any bytes, read in pieces of any size: nothing panics, nothing grows, and the pieces give what the
//! whole gives.
//!
//! The first byte of the input says how large the pieces are.
#![no_main]

use becalm::replay::header;
use becalm::replay::mbox::{MAX_HEAD, Splitter};
use becalm::replay::source::{Arrived, MboxSource, Source};
use becalm::time::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((size, text)) = data.split_first() else { return };
    let whole = split(text, usize::MAX);
    assert_eq!(split(text, usize::from(*size) + 1), whole);
    for (_, head) in &whole {
        assert!(head.len() <= MAX_HEAD);
        for (name, value) in header::fields(head) {
            assert!(!name.is_empty());
            header::addresses(value).for_each(drop);
            header::list_post(value);
            header::list_id(value, &mut Vec::new());
        }
        header::arrival(head, None);
    }
    let mut source = MboxSource::new(text, None);
    let (mut message, mut found) = (Arrived::default(), 0);
    while source.next(&mut message).expect("bytes in memory can be read") {
        found += 1;
    }
    assert!(found <= whole.len());
});

fn split(text: &[u8], piece: usize) -> Vec<(Option<Timestamp>, Vec<u8>)> {
    let mut splitter = Splitter::new();
    let mut rest = text;
    let mut found = Vec::new();
    loop {
        let room = splitter.room();
        let length = rest.len().min(piece).min(room.len());
        assert!(length > 0 || rest.is_empty(), "there is always room");
        let (now, later) = rest.split_at(length);
        room[..length].copy_from_slice(now);
        rest = later;
        splitter.filled(length);
        while let Some(message) = splitter.next() {
            let ends = message.lines.iter().map(|end| *end as usize);
            assert!(header::fields_of_lines(message.head, ends).eq(header::fields(message.head)));
            found.push((message.at, message.head.to_vec()));
        }
        if length == 0 {
            return found;
        }
    }
}
