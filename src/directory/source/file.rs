//! One file: what it is, and what it says.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use thiserror::Error;

use super::super::content::{Allowance, Builder, Content, Format, TooMuch};
use super::super::parse::aliases::Aliases;
use super::super::parse::include;
use super::super::parse::virtuals::Virtuals;
use crate::mail::address::AddressRules;
use crate::time::Timestamp;

/// Largest file that is read: some twenty million addresses.
const MAX_FILE: u64 = 512 << 20;

/// Longest physical line: some six hundred thousand addresses on it. It is kept in memory whole.
const MAX_LINE: usize = 16 << 20;

/// Bytes read at once.
const CHUNK: usize = 128 << 10;

/// A file modified so shortly before it was read may be modified again within the same tick of the file
/// system's clock: 2 s is the coarsest that is in use (FAT; others are at some milliseconds).
const TICK: Duration = Duration::from_secs(2);

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// What looking at a path without opening it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Something in this state.
    Something(Stamp),
    /// Nothing that could be looked at.
    Nothing(io::ErrorKind),
}

/// Looks at `path`, following symbolic links.
pub fn look(path: &Path) -> Seen {
    match std::fs::metadata(path) {
        Ok(metadata) => Seen::Something(Stamp::of(&metadata)),
        Err(error) => Seen::Nothing(error.kind()),
    }
}

/// A file that was read.
#[derive(Debug)]
pub struct Reading {
    pub content: Content,
    pub stamp: Stamp,
    /// Nobody wrote to it meanwhile.
    pub whole: bool,
    /// It had been left alone long enough for its stamp to be trusted.
    pub settled: bool,
}

/// Why a file is of no use.
#[derive(Debug, Error)]
pub enum Unusable {
    /// The system refused.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A directory, a device, a pipe.
    #[error("is not a regular file")]
    NotAFile,
    /// Over the limit.
    #[error("is larger than 512 MiB; write its largest lists into becalm's configuration instead")]
    TooLarge,
    /// Over the limit.
    #[error("line {0} is longer than 16 MiB; break it into continuation lines")]
    LineTooLong(u32),
    /// A NUL byte.
    #[error(
        "line {0} is not text; name the source file, not the table that postalias(1) or postmap(1) made of it"
    )]
    Binary(u32),
    /// Over the limit.
    #[error("line {0}: {1}")]
    TooMuch(u32, TooMuch),
}

impl Unusable {
    /// Whether another try may go better although the file's stamp is the same, as after a chmod(1).
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::Io(_))
    }
}

/// Reads all of `path`, as `format`. `now` is compared with the file's modification time.
///
/// # Errors
///
/// If it is not a file that can be read, or holds more than becalm is willing to keep.
pub fn read(
    path: &Path,
    format: Format,
    rules: &AddressRules,
    allowance: Allowance,
    now: Timestamp,
) -> Result<Reading, Unusable> {
    // Opening a pipe would wait for its writer.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    if metadata.len() > MAX_FILE {
        return Err(Unusable::TooLarge);
    }
    let stamp = Stamp::of(&metadata);
    let content = parse(&file, format, rules, allowance)?;
    let whole = look(path) == Seen::Something(stamp) && Stamp::of(&file.metadata()?) == stamp;
    Ok(Reading { content, stamp, whole, settled: is_settled(&metadata, now) })
}

/// A modification time in the future is a wrong clock, not a file that is being written.
fn is_settled(metadata: &Metadata, now: Timestamp) -> bool {
    let modified = metadata
        .modified()
        .ok()
        .and_then(|modified| modified.duration_since(SystemTime::UNIX_EPOCH).ok())
        .map_or(Timestamp::default(), |modified| Timestamp::default().after(modified));
    now.since(modified) >= TICK || modified.since(now) >= TICK
}

fn parse(
    file: &File,
    format: Format,
    rules: &AddressRules,
    allowance: Allowance,
) -> Result<Content, Unusable> {
    let mut builder = Builder::new(rules, format, allowance);
    let (mut aliases, mut virtuals) = (Aliases::default(), Virtuals::default());
    // A file that grows while it is read does not go beyond the limit either.
    lines(BufReader::with_capacity(CHUNK, file.take(MAX_FILE)), |number, line| {
        if memchr::memchr(0, line).is_some() {
            return Err(Unusable::Binary(number));
        }
        match format {
            Format::Aliases => aliases.line(number, line, &mut builder),
            Format::Virtual => virtuals.line(number, line, &mut builder),
            Format::Include => include::line(number, line, &mut builder),
        }
        builder.too_much().map_or(Ok(()), |too_much| Err(Unusable::TooMuch(number, too_much)))
    })?;
    Ok(builder.finish())
}

/// Calls `line` with every line and its number, from 1; without copying where it lies in the buffer whole.
fn lines(
    mut reader: impl BufRead,
    mut line: impl FnMut(u32, &[u8]) -> Result<(), Unusable>,
) -> Result<(), Unusable> {
    let mut number = 1_u32;
    let mut begun = Vec::new();
    loop {
        let chunk = match reader.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if chunk.is_empty() {
            return if begun.is_empty() { Ok(()) } else { line(number, &begun) };
        }
        let read = chunk.len();
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (text, after) = rest.split_at(end);
            if begun.is_empty() {
                line(number, text)?;
            } else {
                begun.extend_from_slice(text);
                line(number, &begun)?;
                begun.clear();
            }
            number = number.saturating_add(1);
            rest = after.get(1..).unwrap_or_default();
        }
        begun.extend_from_slice(rest);
        if begun.len() > MAX_LINE {
            return Err(Unusable::LineTooLong(number));
        }
        reader.consume(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str, buffer: usize) -> Vec<(u32, String)> {
        let mut found = Vec::new();
        lines(BufReader::with_capacity(buffer, text.as_bytes()), |number, line| {
            found.push((number, String::from_utf8(line.to_vec()).unwrap()));
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn lines_do_not_depend_on_the_buffer() {
        let text = "one\n\ntwo two\nthree";
        let expected =
            [(1, "one"), (2, ""), (3, "two two"), (4, "three")].map(|(at, text)| (at, text.to_owned()));
        for buffer in 1..30 {
            assert_eq!(split(text, buffer), expected);
        }
        assert!(split("", 8).is_empty());
    }

    #[test]
    fn a_line_without_end_is_given_up() {
        let endless = io::repeat(b'a');
        let result = lines(BufReader::with_capacity(CHUNK, endless), |_, _| Ok(()));
        assert!(matches!(result, Err(Unusable::LineTooLong(1))));
    }

    fn attempt(path: &Path) -> Result<Reading, Unusable> {
        read(path, Format::Aliases, &AddressRules::default(), Allowance::SOURCE, Timestamp::default())
    }

    #[test]
    fn only_text_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(attempt(dir.path()), Err(Unusable::NotAFile)));
        assert!(matches!(attempt(Path::new("/dev/zero")), Err(Unusable::NotAFile)));
        assert!(matches!(attempt(&dir.path().join("none")), Err(Unusable::Io(_))));
        let path = dir.path().join("aliases.db");
        std::fs::write(&path, b"a: b\n\0\0").unwrap();
        assert!(matches!(attempt(&path), Err(Unusable::Binary(2))));
        let path = dir.path().join("huge");
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        assert!(matches!(attempt(&path), Err(Unusable::TooLarge)));
    }

    #[test]
    fn a_file_just_written_is_not_settled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aliases");
        std::fs::write(&path, "a: b\n").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1000)).unwrap();
        for (now, settled) in [(900, true), (999, false), (1000, false), (1001, false), (1002, true)] {
            let now = Timestamp::from_millis(now * 1000);
            let reading =
                read(&path, Format::Aliases, &AddressRules::default(), Allowance::SOURCE, now).unwrap();
            assert_eq!((reading.settled, reading.whole), (settled, true), "{now:?}");
        }
    }
}
