//! `becalm key rotate` while the daemon runs: it sees the new keys within a second, without a signal.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, PoisonError};

use tracing::{error, info};

use super::{Daemon, site};
use crate::config::State;
use crate::quarantine::keyfile;

/// Which file the keys were read from: another one is there after a rotation, since it is replaced as a whole.
pub(super) type Seen = Option<(u64, i64, i64)>;

/// Which file is there now.
pub(super) fn look(state: &State) -> Seen {
    let about = std::fs::symlink_metadata(keyfile::ring_path(&site::key_path(state))).ok()?;
    Some((about.ino(), about.mtime(), about.mtime_nsec()))
}

impl Daemon {
    /// Signs with the newest key, if there is a newer one.
    pub(super) fn look_at_keys(&self) {
        let state = self.standing().at_start.state.clone();
        let now_there = look(&state);
        let mut seen = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        if now_there.is_none() || *seen == now_there {
            return;
        }
        match keyfile::read_ring(&site::key_path(&state)) {
            Ok(ring) => {
                *seen = now_there;
                let marker = ring.marker(&state.node, self.shared.clock.now());
                self.shared.marker.store(Arc::new(marker));
                info!(earlier = ring.retired().count(), "held mail is marked with another key from now on");
            }
            // Tried again until it works: mail that is marked with a key of old is not ours for ever.
            Err(error) => {
                if self.shared.peer_lines.admits(self.shared.clock.now()) {
                    error!(%error, "the new keys cannot be read: mail is marked with the one before");
                }
            }
        }
    }
}
