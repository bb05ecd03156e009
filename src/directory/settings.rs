//! What an operator can set about the directory.

use std::path::PathBuf;
use std::time::Duration;

/// A list that the configuration itself names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfiguredList {
    /// An address, or a pattern in which `*` stands for any number of characters.
    pub address: String,
    /// Mailboxes it reaches. 0 to 10^9.
    pub members: u64,
    /// A name for the group of lists that it belongs to.
    pub class: Option<String>,
    /// Where it was written (`becalm.toml:12`), for `becalm lists`.
    pub origin: String,
}

/// Sources and how they are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectorySettings {
    /// Lists of the configuration. They win over a source that knows the same address.
    pub lists: Vec<ConfiguredList>,
    /// Files in aliases(5) format.
    pub aliases: Vec<PathBuf>,
    /// Files in virtual(5) format.
    pub virtuals: Vec<PathBuf>,
    /// An alias with fewer members than this is not a list (default 10). 2 to 10^6.
    pub min_members: u64,
    /// How often sources are looked at for changes (default 30 s). 1 s to 1 day.
    pub refresh: Duration,
    /// A source that loses more than this share of its members at once is not believed; the last good
    /// snapshot stays (default 0.5). 0.0 to 1.0, in per mille here.
    pub shrink_limit_per_mille: u32,
}

impl Default for DirectorySettings {
    fn default() -> Self {
        Self {
            lists: Vec::new(),
            aliases: Vec::new(),
            virtuals: Vec::new(),
            min_members: 10,
            refresh: Duration::from_secs(30),
            shrink_limit_per_mille: 500,
        }
    }
}
