//! What operators did with held mail, with storms, and with the emergency switch: who, when, what, with which messages. Lines of JSON in `audit.log` in the state
//! directory; becalm only ever appends to it, and makes it anew where it was rotated away.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;

use crate::account;
use crate::admin::api::{Act, Acted, AuditLog};
use crate::admin::backend::Who;
use crate::time::Timestamp;

/// File in the state directory.
const FILE: &str = "audit.log";

/// So much of its end is read at most: a thousand acts of fifty messages each.
const MOST_READ: u64 = 4 * 1024 * 1024;

/// The file.
pub(super) struct Audit {
    path: PathBuf,
}

/// An act that was begun.
pub(super) struct Entry {
    who: Value,
    act: Act,
}

impl Audit {
    /// In the state directory.
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: directory.join(FILE) }
    }

    /// Before anything is done: what is asked for, by whom.
    ///
    /// # Errors
    /// Where it cannot be written down; then it is not to be done.
    pub(super) fn begin(&self, now: Timestamp, who: &Who, act: Act, ids: &[String]) -> io::Result<Entry> {
        let who = named(who);
        self.append(now, &who, json!({ "act": act.name(), "asked": ids.len(), "ids": ids }))?;
        Ok(Entry { who, act })
    }

    /// What came of it.
    pub(super) fn end(&self, now: Timestamp, entry: &Entry, acted: &Acted) {
        let what = json!({
            "act": entry.act.name(), "done": acted.done.len(), "failed": acted.failed, "ids": acted.done,
        });
        if let Err(error) = self.append(now, &entry.who, what) {
            error!(path = %self.path.display(), %error, "the outcome of an operator's act is not in the audit log");
        }
    }

    /// Another act than one upon held mail: what is asked for, or what came of it.
    ///
    /// # Errors
    /// Where it cannot be written down; then it is not to be done.
    pub(super) fn note(&self, now: Timestamp, who: &Who, what: &impl Serialize) -> io::Result<()> {
        self.append(now, &named(who), json!({ "storms": what }))
    }

    /// The emergency switch is to be thrown.
    ///
    /// # Errors
    /// Where it cannot be written down.
    pub(super) fn switched(&self, now: Timestamp, who: &Who, on: bool) -> io::Result<()> {
        self.append(now, &named(who), json!({ "act": "observe", "on": on }))
    }

    /// A way of alerts is to be tried.
    ///
    /// # Errors
    /// Where it cannot be written down; then it is not to be done.
    pub(super) fn tries(&self, now: Timestamp, who: &Who, way: &str) -> io::Result<()> {
        self.append(now, &named(who), json!({ "act": "alert_test", "way": way }))
    }

    /// The latest entries, the latest first: at most `most`, and of the last four MiB of the file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub(super) fn latest(&self, most: usize) -> io::Result<AuditLog> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        let mut file = match File::open(&self.path) {
            // Nobody has done anything yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(AuditLog::default()),
            file => file.map_err(named)?,
        };
        let length = file.metadata().map_err(named)?.len();
        let skipped = length.saturating_sub(MOST_READ);
        let mut text = Vec::new();
        file.seek(SeekFrom::Start(skipped)).map_err(named)?;
        file.take(MOST_READ).read_to_end(&mut text).map_err(named)?;
        // Where the file does not begin here, the first line is not whole.
        let lines = text.split(|byte| *byte == b'\n').skip(usize::from(skipped > 0));
        let lines: Vec<&[u8]> = lines.filter(|line| !line.is_empty()).collect();
        let mut log = AuditLog::default();
        for line in lines.iter().rev().take(most) {
            match serde_json::from_slice(line) {
                Ok(entry) => log.entries.push(entry),
                Err(_) => log.damaged += 1,
            }
        }
        Ok(log)
    }

    /// In one write, so that lines of two processes never mix; on the disk before this returns.
    fn append(&self, now: Timestamp, who: &Value, what: Value) -> io::Result<()> {
        let mut line = json!({ "at": now.rfc3339() });
        for part in [who.clone(), what] {
            if let (Value::Object(line), Value::Object(part)) = (&mut line, part) {
                line.extend(part);
            }
        }
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        let (mut file, is_new) = self.open().map_err(named)?;
        // A line that was cut short, when the disk was full, must not take this one with it.
        let begin = if is_new || ends_a_line(&mut file).map_err(named)? { "" } else { "\n" };
        file.write_all(format!("{begin}{line}\n").as_bytes()).map_err(named)?;
        file.sync_data().map_err(named)?;
        match self.path.parent() {
            Some(folder) if is_new => File::open(folder).and_then(|folder| folder.sync_all()).map_err(named),
            _ => Ok(()),
        }
    }

    /// The file, and whether it was made just now.
    fn open(&self) -> io::Result<(File, bool)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o640);
        match options.open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok((options.create(true).open(&self.path)?, true))
            }
            file => Ok((file?, false)),
        }
    }
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// As the log says it.
fn named(who: &Who) -> Value {
    match who {
        Who::User(user) => json!({ "uid": user, "user": account::user_name(*user) }),
        Who::Token(peer) => json!({ "user": "token", "peer": peer.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_entries_come_first_and_damage_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::new(folder.path());
        assert_eq!(audit.latest(5).unwrap(), AuditLog::default());
        let root = Who::User(0);
        audit.switched(Timestamp::from_millis(1000), &root, true).unwrap();
        let mut file = OpenOptions::new().append(true).open(folder.path().join(FILE)).unwrap();
        file.write_all(b"no entry\n\n").unwrap();
        let peer = Who::Token("127.0.0.1:5".parse().unwrap());
        let entry = audit.begin(Timestamp::from_millis(2000), &peer, Act::Return, &["a".to_owned()]).unwrap();
        audit.end(Timestamp::from_millis(3000), &entry, &Acted::default());
        let log = audit.latest(10).unwrap();
        assert_eq!(log.damaged, 1);
        let brief: Vec<_> = log.entries.iter().map(|entry| (&entry["user"], &entry["act"])).collect();
        let (token, back) = (json!("token"), json!("return"));
        assert_eq!(brief, [(&token, &back), (&token, &back), (&json!("root"), &json!("observe"))]);
        assert_eq!(log.entries[0]["peer"], "127.0.0.1:5");
        assert_eq!(audit.latest(1).unwrap().entries.len(), 1);

        // A line that was cut short is damage, the one after it is not.
        file.write_all(b"{\"at\": \"2016-11").unwrap();
        audit.switched(Timestamp::from_millis(4000), &root, false).unwrap();
        let log = audit.latest(10).unwrap();
        assert_eq!((log.damaged, log.entries.len()), (2, 4));

        // Of a long file only the end is read, and no half line.
        let line = format!("{}\n", json!({ "act": "x".repeat(1 << 20) }));
        (0..5).for_each(|_| file.write_all(line.as_bytes()).unwrap());
        let log = audit.latest(1000).unwrap();
        assert_eq!((log.entries.len(), log.damaged), (3, 0));
    }
}
