//! What an operator can set about the journal.

use std::path::PathBuf;
use std::time::Duration;

/// Where the journal is kept, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalSettings {
    /// Keep one at all. Without it everything learnt is forgotten at the end of the process.
    pub enabled: bool,
    /// Its folder; none: `journal` in the state directory.
    pub directory: Option<PathBuf>,
    /// Segments older than this are dropped, once a checkpoint covers them. 1 day to 365 days.
    pub retention: Duration,
    /// Segments beyond this, the oldest first, are dropped before their time, once a checkpoint covers them. In
    /// MiB; 64 to 1,048,576.
    pub size_mib: u32,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: None,
            // Ids of conversations are remembered for a week: from so many segments all of it can be built anew,
            // should every checkpoint be damaged.
            retention: Duration::from_secs(8 * 86_400),
            size_mib: 512,
        }
    }
}
