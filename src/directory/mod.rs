//! List → members: how many mailboxes each list address reaches.
//!
//! ```text
//! files ──source (I/O)──▶ parse ──▶ content (hashes) ─┐
//! configuration ──────────────────────────────────────┴─▶ resolve ──▶ Snapshot, asked for every recipient
//!         └────────────── refresh: read again what has changed, believe it or keep the last good ──┘
//! ```
//!
//! Only `source` and `refresh` read files; everything else is bytes in, data out. A snapshot keeps counts and
//! containment; the members themselves stay in the [`Directory`], as hashes.

mod content;
mod parse;
mod pattern;
mod refresh;
mod resolve;
pub mod settings;
pub mod snapshot;
mod source;

pub use self::refresh::{Directory, Outcome};
pub use self::snapshot::{List, ListId, Snapshot, SourceStatus};
