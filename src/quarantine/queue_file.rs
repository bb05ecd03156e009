//! What a file in Postfix's queue says of its message: sender, recipients, size, and becalm's own header field.
//!
//! A queue file is a row of records: a byte for the kind, a length in portions of seven bits, the data. What a
//! milter adds or takes away is written at the end of the file, and pointer records lead there and back. This
//! reads as much as a listing needs, a block or two of each file; `postcat(1)` takes a process for each.

use crate::time::Timestamp;

/// Read at a time: the envelope and the header of most messages.
const BLOCK: usize = 4096;

/// A record's data. Postfix cuts lines at `line_length_limit` (2,048) and attributes at about as much.
const MAX_RECORD: usize = 16 * 1024;

/// Records of the envelope that are looked at. A message to thousands has as many times four of them; its sender
/// comes before them.
const MAX_ENVELOPE_RECORDS: usize = 256;

/// Lines of a header. Postfix takes 100 kB of it by default (`header_size_limit` is for one field).
const MAX_HEADER_LINES: usize = 8192;

/// Pointers that are followed: one for each change that a milter made. becalm makes three or four.
const MAX_POINTERS: usize = 256;

/// Recipients that are told; enough to find the list among them.
const MAX_RECIPIENTS: usize = 16;

/// Longest address that is told; as long as what becalm takes over SMTP.
const MAX_ADDRESS: usize = 1024;

/// Longest field of ours that is looked at, and how many: one is right, and the rest is somebody's game.
const MAX_MARK: usize = 1024;
const MAX_MARKS: usize = 8;

/// A file, or bytes.
pub trait ReadAt {
    /// Reads from `offset` on; 0 at the end. None: the system refuses.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<usize>;
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Option<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let length = rest.len().min(into.len());
        into.get_mut(..length)?.copy_from_slice(rest.get(..length)?);
        Some(length)
    }
}

/// What a queue file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueFile {
    /// When it came.
    pub arrived: Timestamp,
    /// The envelope sender; empty: the null sender.
    pub sender: String,
    /// The first recipients, as they were sent where Postfix says so, each once; at most 16.
    pub recipients: Vec<String>,
    /// How many there are, after aliases.
    pub recipient_count: u64,
    /// Bytes of the message.
    pub size: u64,
    /// The values of its header fields that have the wanted name, unfolded; at most 8.
    pub marks: Vec<String>,
}

/// It is no queue file, or one that this does not understand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a queue file as Postfix writes it ({0})")]
pub struct Malformed(&'static str);

/// Records of an envelope that are counted: four for each recipient, and Postfix's own lists end below a million.
const MAX_COUNTED: usize = 8_000_000;

/// How many recipients a queue file has that are left, and how many that are done. cleanup(8) writes those of SMTP
/// before the message; what stands behind it is not counted.
///
/// # Errors
/// As [`read`].
pub fn count_recipients(file: &impl ReadAt) -> Result<(u64, u64), Malformed> {
    let mut records = Records::new(file);
    let (mut left, mut done) = (0, 0);
    for _ in 0..MAX_COUNTED {
        match records.next()?.ok_or(Malformed("it is cut short"))?.0 {
            b'R' => left += 1,
            b'D' => done += 1,
            b'M' => return Ok((left, done)),
            _ => {}
        }
    }
    Err(Malformed("its envelope does not end"))
}

/// What is wrong with a file that the system does not read.
const UNREADABLE: Malformed = Malformed("it cannot be read");

impl Malformed {
    /// Is it the system that fails, so that nobody knows what the file says?
    pub fn is_unreadable(self) -> bool {
        self == UNREADABLE
    }
}

/// Reads a queue file; `field` is the name of the header field that is looked for.
///
/// # Errors
/// Where it is no queue file, or cannot be read.
pub fn read(file: &impl ReadAt, field: &str) -> Result<QueueFile, Malformed> {
    let mut records = Records::new(file);
    let mut out = QueueFile::default();
    let (kind, size) = records.next()?.ok_or(Malformed("it is empty"))?;
    let sizes = String::from_utf8_lossy(size);
    let mut sizes = sizes.split_ascii_whitespace().map_while(|number| number.parse::<u64>().ok());
    let (b'C', Some(bytes), Some(content), Some(count)) = (kind, sizes.next(), sizes.next(), sizes.next())
    else {
        return Err(Malformed("it does not begin with its size"));
    };
    (out.size, out.recipient_count) = (bytes, count);
    read_envelope(&mut records, &mut out)?;
    records.seek(content);
    read_header(&mut records, field, &mut out)?;
    Ok(out)
}

fn read_envelope(records: &mut Records<'_, impl ReadAt>, out: &mut QueueFile) -> Result<(), Malformed> {
    let mut sender = None;
    let mut finals = Vec::new();
    for _ in 0..MAX_ENVELOPE_RECORDS {
        let Some((kind, data)) = records.next()? else { return Err(Malformed("it is cut short")) };
        match kind {
            b'T' => {
                let seconds = String::from_utf8_lossy(data);
                let seconds = seconds.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
                out.arrived = Timestamp::from_millis(seconds.unwrap_or(0_u64).saturating_mul(1000));
            }
            b'S' => sender = sender.or_else(|| Some(address(data))),
            b'O' => add(&mut out.recipients, data),
            b'R' => add(&mut finals, data),
            b'M' => break,
            _ => {}
        }
    }
    out.sender = sender.ok_or(Malformed("it names no sender"))?;
    if out.recipients.is_empty() {
        out.recipients = finals;
    }
    Ok(())
}

fn read_header(
    records: &mut Records<'_, impl ReadAt>,
    field: &str,
    out: &mut QueueFile,
) -> Result<(), Malformed> {
    // The value of the field that is being read, if it is the wanted one.
    let mut wanted: Option<String> = None;
    // Is the next record the rest of a long line?
    let mut rest = false;
    for _ in 0..MAX_HEADER_LINES {
        let Some((kind, data)) = records.next()? else { return Err(Malformed("it is cut short")) };
        match kind {
            b'N' | b'L' => {
                let folded = data.first().is_some_and(|byte| matches!(byte, b' ' | b'\t'));
                if rest || folded {
                    if let Some(value) = &mut wanted {
                        append(value, data);
                    }
                } else {
                    keep(&mut out.marks, wanted.take());
                    if data.is_empty() {
                        return Ok(());
                    }
                    wanted = value_of(field, data);
                }
                rest = kind == b'L';
            }
            // The end of the content: a message without a body.
            b'X' | b'E' => {
                keep(&mut out.marks, wanted.take());
                return Ok(());
            }
            _ => {}
        }
    }
    keep(&mut out.marks, wanted);
    Ok(())
}

/// The value that a line gives to `field`; none where it is about another.
fn value_of(field: &str, line: &[u8]) -> Option<String> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    let (name, value) = line.split_at(colon);
    let named = name.trim_ascii_end().eq_ignore_ascii_case(field.as_bytes());
    let mut text = String::new();
    append(&mut text, value.get(1..).unwrap_or_default());
    named.then(|| text.trim_start().to_owned())
}

fn append(value: &mut String, data: &[u8]) {
    if value.len() < MAX_MARK {
        value.push_str(&String::from_utf8_lossy(data.get(..MAX_MARK).unwrap_or(data)));
    }
}

fn keep(marks: &mut Vec<String>, value: Option<String>) {
    if let Some(value) = value
        && marks.len() < MAX_MARKS
    {
        marks.push(value);
    }
}

fn add(recipients: &mut Vec<String>, data: &[u8]) {
    let address = address(data);
    if recipients.len() < MAX_RECIPIENTS && !address.is_empty() && !recipients.contains(&address) {
        recipients.push(address);
    }
}

fn address(data: &[u8]) -> String {
    String::from_utf8_lossy(data.get(..MAX_ADDRESS).unwrap_or(data)).into_owned()
}

/// The records of a file, pointers followed.
struct Records<'f, F> {
    file: &'f F,
    offset: u64,
    block: Vec<u8>,
    /// Where the block begins.
    block_at: u64,
    data: Vec<u8>,
    pointers: usize,
}

impl<'f, F: ReadAt> Records<'f, F> {
    fn new(file: &'f F) -> Self {
        Self { file, offset: 0, block: Vec::new(), block_at: 0, data: Vec::new(), pointers: 0 }
    }

    fn seek(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// The next record that is no pointer. None at the end of the file.
    fn next(&mut self) -> Result<Option<(u8, &[u8])>, Malformed> {
        loop {
            let Some(kind) = self.byte()? else { return Ok(None) };
            let length = self.length()?;
            let mut data = std::mem::take(&mut self.data);
            data.clear();
            while data.len() < length {
                let missing = length - data.len();
                let block = self.ahead()?;
                let part = block.get(..missing).unwrap_or(block);
                if part.is_empty() {
                    return Err(Malformed("a record is cut short"));
                }
                data.extend_from_slice(part);
                let taken = part.len() as u64;
                self.offset = self.offset.saturating_add(taken);
            }
            self.data = data;
            match kind {
                b'p' => self.follow()?,
                // What a milter took away (`w`) too: the callers count the records.
                _ => break Ok(Some((kind, &self.data))),
            }
        }
    }

    /// A pointer that is not used yet points nowhere: to 0.
    fn follow(&mut self) -> Result<(), Malformed> {
        let text = String::from_utf8_lossy(&self.data);
        let target: u64 = text.trim().parse().map_err(|_| Malformed("a pointer is no number"))?;
        self.pointers += 1;
        if self.pointers > MAX_POINTERS {
            return Err(Malformed("too many pointers"));
        }
        if target > 0 {
            self.offset = target;
        }
        Ok(())
    }

    fn length(&mut self) -> Result<usize, Malformed> {
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?.ok_or(Malformed("a record has no length"))?;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if length > MAX_RECORD { Err(Malformed("a record is too long")) } else { Ok(length) };
            }
        }
        Err(Malformed("a record is too long"))
    }

    fn byte(&mut self) -> Result<Option<u8>, Malformed> {
        let Some(byte) = self.ahead()?.first().copied() else { return Ok(None) };
        self.offset = self.offset.saturating_add(1);
        Ok(Some(byte))
    }

    /// What is in the block from here on; the block is read first if need be. Empty at the end.
    fn ahead(&mut self) -> Result<&[u8], Malformed> {
        let within = self.offset.checked_sub(self.block_at).is_some_and(|at| at < self.block.len() as u64);
        if !within {
            self.block.resize(BLOCK, 0);
            let read = self.file.read_at(self.offset, &mut self.block).ok_or(UNREADABLE)?;
            self.block.truncate(read);
            self.block_at = self.offset;
        }
        let from = usize::try_from(self.offset.saturating_sub(self.block_at)).unwrap_or(usize::MAX);
        Ok(self.block.get(from..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
        out.push(kind);
        let mut length = data.len();
        while length > 0x7f {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(data);
    }

    /// A file as cleanup(8) leaves it when a milter has added a field: the header goes on at the end.
    fn file() -> Vec<u8> {
        let mut envelope = Vec::new();
        record(&mut envelope, b'T', b"1479112212 5");
        record(&mut envelope, b'A', b"log_ident=x");
        record(&mut envelope, b'S', b"a@example.org");
        record(&mut envelope, b'O', b"all@example.org");
        record(&mut envelope, b'R', b"b@example.org");
        record(&mut envelope, b'O', b"all@example.org");
        record(&mut envelope, b'R', b"c@example.org");
        record(&mut envelope, b'M', b"");
        let content = 2 + 90 + envelope.len();
        let mut out = Vec::new();
        let sizes = format!("{:15} {:15} {:15} {:15} {:15} {:10}", 1234, content, 2, 0, 1234, 0);
        assert_eq!(sizes.len(), 90);
        record(&mut out, b'C', sizes.as_bytes());
        out.extend_from_slice(&envelope);
        record(&mut out, b'N', b"Received: from x");
        record(&mut out, b'N', b"\tby y");
        record(&mut out, b'w', b"X-Becalm: taken away");
        record(&mut out, b'N', b"Subject: test");
        let pointer = out.len();
        record(&mut out, b'p', b"              0");
        record(&mut out, b'N', b"");
        let body = out.len() - 2;
        record(&mut out, b'N', b"X-Becalm: in the body");
        record(&mut out, b'X', b"");
        record(&mut out, b'E', b"");
        let added = out.len();
        record(&mut out, b'N', b"X-Becalm: v=1;");
        record(&mut out, b'L', b"\tmac");
        record(&mut out, b'N', b"=5");
        record(&mut out, b'p', format!("{body:15}").as_bytes());
        out.splice(pointer + 2..pointer + 17, format!("{added:15}").into_bytes());
        out
    }

    #[test]
    fn what_a_milter_added_is_found_at_the_end_of_the_file() {
        let read = read(&file().as_slice(), "x-becalm").unwrap();
        let expected = QueueFile {
            arrived: Timestamp::from_millis(1_479_112_212_000),
            sender: "a@example.org".to_owned(),
            recipients: vec!["all@example.org".to_owned()],
            recipient_count: 2,
            size: 1234,
            marks: vec!["v=1;\tmac=5".to_owned()],
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_cut_short_or_goes_in_circles_ends() {
        let file = file();
        for length in 0..file.len() {
            let _ = read(&file.get(..length).unwrap(), "X-Becalm");
        }
        assert_eq!(read(&&b""[..], "X-Becalm"), Err(Malformed("it is empty")));
        let mut circle = file.clone();
        let at = circle.windows(2).position(|two| two == b"p\x0f").unwrap();
        circle.splice(at + 2..at + 17, format!("{at:15}").into_bytes());
        assert_eq!(read(&circle.as_slice(), "X-Becalm"), Err(Malformed("too many pointers")));
    }

    #[test]
    fn recipients_are_counted() {
        let mut file = file();
        assert_eq!(count_recipients(&file.as_slice()), Ok((2, 0)));
        // As a delivery agent does.
        let at = file
            .windows(4)
            .position(|four| four == b"R\x0db@")
            .or_else(|| file.windows(3).position(|three| three == [b'R', 13, b'b']));
        file[at.expect("the first recipient")] = b'D';
        assert_eq!(count_recipients(&file.as_slice()), Ok((1, 1)));
        assert!(count_recipients(&file.get(..150).unwrap()).is_err());
    }

    #[test]
    fn lengths_of_more_than_seven_bits() {
        let mut out = Vec::new();
        record(&mut out, b'N', &[b'x'; 300]);
        let bytes = out.as_slice();
        let mut records = Records::new(&bytes);
        assert_eq!(records.next().unwrap().map(|(kind, data)| (kind, data.len())), Some((b'N', 300)));
    }
}
