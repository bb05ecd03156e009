//! Checkpoints: all of what is known, in one file that is there whole or not at all.

use std::io::{self, BufWriter, Write as _};

use super::codec;
use super::frame::{Framer, Frames, HEADER, Header, Kind};
use super::record::Record;
use super::store::{MAX_FILE, Store};

/// Hands over all that is known, record by record, until one is refused.
pub type Image = dyn Fn(&mut dyn FnMut(Record) -> io::Result<()>) -> io::Result<()> + Send + Sync;

/// Begins the last frame of a checkpoint: the number of the frames before it.
const END: u8 = 31;

/// Writes the checkpoint of `header.number`: under another name first, and synced, so that a power loss leaves the
/// old one or the new one. Returns its bytes. `image` hands over each record there is to write.
///
/// # Errors
/// The disk does not take it; the draft is removed.
pub fn write(store: &Store, header: &Header, image: &Image) -> io::Result<u64> {
    let draft = store.draft(header.number);
    // One that an earlier attempt left behind.
    let _ = std::fs::remove_file(&draft);
    let written = write_draft(store, header, image).and_then(|bytes| {
        std::fs::rename(&draft, store.checkpoint(header.number))?;
        store.sync()?;
        Ok(bytes)
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })
}

fn write_draft(store: &Store, header: &Header, image: &Image) -> io::Result<u64> {
    let file = store.create(&store.draft(header.number))?;
    let mut out = BufWriter::with_capacity(256 * 1024, &file);
    out.write_all(&header.encode())?;
    let mut framer = Framer::new(header);
    let mut bytes = HEADER as u64;
    let mut frame = Vec::new();
    let mut put = |payload: &mut dyn FnMut(&mut Vec<u8>), framer: &mut Framer| -> io::Result<()> {
        frame.clear();
        if !framer.frame(&mut frame, |out| payload(out)) {
            return Err(io::Error::other("a piece of the checkpoint is longer than a frame"));
        }
        bytes += frame.len() as u64;
        if bytes > MAX_FILE {
            return Err(io::Error::other("the checkpoint is larger than 1 GiB; make the [tables] smaller"));
        }
        out.write_all(&frame)
    };
    image(&mut |record| put(&mut |out| codec::encode(&record, out), &mut framer))?;
    let frames = u64::from(framer.frames()).to_le_bytes();
    put(
        &mut |out| {
            out.push(END);
            out.extend_from_slice(&frames);
        },
        &mut framer,
    )?;
    out.flush()?;
    drop(out);
    file.sync_all()?;
    Ok(bytes)
}

/// Whether `bytes` are a whole checkpoint; its header.
pub fn verify(bytes: &[u8]) -> Option<Header> {
    let header = Header::decode(bytes).ok().filter(|header| header.kind == Kind::Checkpoint)?;
    let mut frames = Frames::new(&header, bytes.get(HEADER..)?);
    let mut whole = false;
    for (count, frame) in (0_u64..).zip(frames.by_ref()) {
        whole = match frame.payload.split_first() {
            Some((&END, said)) => said == count.to_le_bytes(),
            _ => false,
        };
    }
    (whole && frames.damaged == 0 && frames.torn() == 0).then_some(header)
}

/// The payloads of a checkpoint that [`verify`] found whole.
pub fn payloads<'b>(header: &Header, bytes: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
    let frames = Frames::new(header, bytes.get(HEADER..).unwrap_or_default());
    frames.map(|frame| frame.payload).filter(|payload| payload.first() != Some(&END))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::Known;
    use crate::time::Timestamp;

    fn header() -> Header {
        Header {
            kind: Kind::Checkpoint,
            node: "mx1".to_owned(),
            boot: 1,
            key: 2,
            number: 3,
            sequence: 0,
            at: Timestamp::from_millis(4),
        }
    }

    fn record(key: u64) -> Record {
        Record::Known(Known { key, ..Known::default() })
    }

    #[test]
    fn it_is_whole_or_not_there() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        let image =
            |out: &mut dyn FnMut(Record) -> io::Result<()>| (0..9).try_for_each(|key| out(record(key)));
        let bytes = write(&store, &header(), &image).unwrap();
        let path = store.checkpoint(3);
        let text = std::fs::read(&path).unwrap();
        assert_eq!(text.len() as u64, bytes);
        assert_eq!(verify(&text), Some(header()));
        let records: Vec<Record> =
            payloads(&header(), &text).map(|payload| codec::decode(payload).unwrap()).collect();
        assert_eq!(records, (0..9).map(record).collect::<Vec<_>>());
        for cut in 0..text.len() {
            assert_eq!(verify(&text[..cut]), None, "cut at {cut}");
        }
        for at in 0..text.len() {
            let mut changed = text.clone();
            changed[at] ^= 1;
            assert_eq!(verify(&changed), None, "byte {at}");
        }
    }

    #[test]
    fn what_fails_leaves_the_one_before_it() {
        let home = tempfile::tempdir().unwrap();
        let store = Store::new(home.path());
        write(&store, &header(), &|out| out(record(1))).unwrap();
        let before = std::fs::read(store.checkpoint(3)).unwrap();
        let failed = write(&store, &header(), &|out| {
            out(record(2))?;
            Err(io::Error::other("no"))
        });
        assert!(failed.is_err());
        assert_eq!(std::fs::read(store.checkpoint(3)).unwrap(), before);
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "no draft is left");
    }
}
