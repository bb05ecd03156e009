//! What operators did with held mail and with storms: who, when, what, with which messages. Lines of JSON in `audit.log` in the state
//! directory; becalm only ever appends to it, and makes it anew where it was rotated away.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};
use tracing::error;

use crate::account;
use crate::admin::api::{Act, Acted};
use crate::admin::backend::Who;
use crate::time::Timestamp;

/// File in the state directory.
const FILE: &str = "audit.log";

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

    /// In one write, so that lines of two processes never mix; on the disk before this returns.
    fn append(&self, now: Timestamp, who: &Value, what: Value) -> io::Result<()> {
        let mut line = json!({ "at": now.rfc3339() });
        for part in [who.clone(), what] {
            if let (Value::Object(line), Value::Object(part)) = (&mut line, part) {
                line.extend(part);
            }
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display())))?;
        file.write_all(format!("{line}\n").as_bytes())?;
        file.sync_data()
    }
}

/// As the log says it.
fn named(who: &Who) -> Value {
    match who {
        Who::User(user) => json!({ "uid": user, "user": account::user_name(*user) }),
    }
}
