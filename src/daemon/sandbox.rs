//! Landlock: the daemon gives up every right to write beyond its own folders, before it reads anything that others
//! have written. What it starts (the command of an alert, getent) inherits that.
//!
//! Reading stays as the file permissions have it: aliases include files from anywhere, and a reload names new ones.
//! System calls are systemd's part (`SystemCallFilter` of the unit).

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus,
    path_beneath_rules,
};
use tracing::warn;

use crate::config::{Config, ListenAddress};

/// The newest set of rights that becalm knows; older kernels enforce what they have of it. Those of version 5 for
/// devices (ioctl) are in it.
const KNOWN: ABI = ABI::V5;

/// What is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// All of it.
    Full,
    /// What this kernel's older Landlock can.
    Partial,
    /// This kernel has no Landlock, or it was turned off at boot.
    NoKernel,
    /// The kernel refused.
    Failed,
    /// The configuration says no.
    #[default]
    Off,
}

/// As `becalm status` says it.
impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Partial => "partial: an older kernel",
            Self::NoKernel => "none: kernel",
            Self::Failed => "none: refused",
            Self::Off => "none: off",
        })
    }
}

/// Confines this thread, and all that it starts, for ever. To be called before there are others.
pub fn confine(config: &Config) -> Sandbox {
    if !config.daemon.sandbox {
        return Sandbox::Off;
    }
    match restrict(&writable(config)) {
        Ok(RulesetStatus::FullyEnforced) => Sandbox::Full,
        Ok(RulesetStatus::PartiallyEnforced) => Sandbox::Partial,
        Ok(RulesetStatus::NotEnforced) => Sandbox::NoKernel,
        Err(error) => {
            warn!(%error, "becalm runs without a sandbox of its own");
            Sandbox::Failed
        }
    }
}

/// The folders that it writes to, whether they are there or not.
fn writable(config: &Config) -> BTreeSet<PathBuf> {
    let sockets = config.listen.sockets.iter().filter_map(|socket| match socket {
        ListenAddress::Unix(path) => path.parent(),
        ListenAddress::Inet { .. } => None,
    });
    let state: [&Path; 1] = [&config.state.directory];
    // The journal makes its folder itself.
    let journal =
        config.journal.directory.iter().flat_map(|folder| [Some(folder.as_path()), parent_of_new(folder)]);
    let all = state.into_iter().chain(journal.flatten()).chain(sockets).chain(config.admin.socket.parent());
    all.chain(config.daemon.writable.iter().map(PathBuf::as_path)).map(Path::to_owned).collect()
}

fn parent_of_new(folder: &Path) -> Option<&Path> {
    if folder.exists() { None } else { folder.parent() }
}

fn restrict(writable: &BTreeSet<PathBuf>) -> Result<RulesetStatus, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(["/"], AccessFs::from_read(KNOWN)))?
        .add_rules(path_beneath_rules(writable, AccessFs::from_all(KNOWN)))?
        // A program that is started without a standard output writes there.
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::from_all(KNOWN)))?
        .restrict_self()?;
    Ok(status.ruleset)
}
