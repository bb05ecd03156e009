//! From the configuration to what the engine takes: the only place that knows both.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use tracing::warn;

use super::connection::Patience;
use crate::config::{Config, State};
use crate::directory::snapshot::{List, Snapshot};
use crate::engine::{Capacity, Exempt, Parts, Watch};
use crate::mail::AddressBuf;
use crate::quarantine::keyfile::{self, KEY_FILE};
use crate::quarantine::keys::{Key, Keyring};
use crate::quarantine::mark::Marker;
use crate::storm::policy::Policy;
use crate::time::Timestamp;

/// File in the state directory that puts everything to observe for as long as it is there.
const OBSERVE_FILE: &str = "observe-only";

/// What a world is made of.
pub fn parts(config: &Config, snapshot: Arc<Snapshot>) -> Parts {
    let rules = Arc::clone(snapshot.rules());
    let authors = config.exempt.authors.iter().filter_map(|author| {
        let mut buf = AddressBuf::new();
        rules.canonical(author.as_bytes(), &mut buf).map(|address| address.full().to_vec())
    });
    Parts {
        exempt: Exempt { authors: authors.collect(), networks: config.exempt.networks.clone() },
        snapshot,
        default_policy: config.policies.default_policy().clone(),
        watch: Watch {
            many_recipients: config.watch.many_recipients,
            parts_within: config.watch.parts_within,
            unknown_list_authors: config.unknown_lists.authors,
            unknown_list_window: config.unknown_lists.window,
        },
        limits: config.limits,
    }
}

/// Says which sources could not be read as they are now.
pub fn report_sources(snapshot: &Snapshot) {
    for source in snapshot.sources() {
        if let Some(why) = &source.stale {
            warn!(source = source.name, why, "the directory keeps what it read before");
        }
    }
}

/// The policy of a list of the directory.
pub fn policy(config: &Config) -> impl Fn(&List) -> Policy {
    |list| config.policies.for_list(&list.address, list.class.as_deref())
}

/// The sizes of the tables.
pub fn capacity(config: &Config) -> Capacity {
    let tables = &config.tables;
    Capacity {
        conversations: tables.conversations,
        recipients: tables.recipients,
        known_authors: tables.known_authors,
        message_ids: tables.message_ids,
    }
}

/// How long sessions may take.
pub fn patience(config: &Config) -> Patience {
    let listen = &config.listen;
    Patience { idle: listen.idle_timeout, message: listen.message_timeout, packet: listen.packet_timeout }
}

/// The flag file that puts everything to observe.
pub fn observe_flag(config: &Config) -> PathBuf {
    config.state.directory.join(OBSERVE_FILE)
}

/// Puts the flag file there, or takes it away.
pub fn throw_switch(flag: &Path, on: bool) -> io::Result<()> {
    match on {
        true => std::fs::write(flag, "put there by `becalm observe on`\n")?,
        false => match std::fs::remove_file(flag) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        },
    }
    // It holds already; that it also holds after a power failure is worth trying, and no reason to say that it failed.
    if let Some(folder) = flag.parent() {
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
    }
    Ok(())
}

/// The site's keys.
pub struct Keys {
    /// The first one, from which the engine's hashes come.
    pub first: Key,
    /// Those of the marks.
    pub ring: Keyring,
}

/// Where the site's first key is.
pub fn key_path(state: &State) -> PathBuf {
    state.directory.join(KEY_FILE)
}

/// The site's keys: read from the state directory, or made there. Where neither is possible, a key that lasts
/// as long as the process; its marks cannot be checked after a restart, and the log says so.
pub fn keys(config: &Config) -> Keys {
    let path = key_path(&config.state);
    let first = keyfile::read_key(&path).or_else(|_| {
        let made = random();
        match keyfile::make_key(&path, &made)? {
            true => Ok(made),
            false => keyfile::read_key(&path),
        }
    });
    match first {
        Ok(first) => {
            let ring = keyfile::read_ring(&path).unwrap_or_else(|error| {
                warn!(%error, "the keys after the first cannot be read: held mail is marked with the first");
                Keyring::first(first)
            });
            Keys { first, ring }
        }
        Err(error) => {
            warn!(
                path = %path.display(), %error,
                "no key for the header of held mail and for the journal: one is made up until the next restart; \
                 create the directory and let becalm write there"
            );
            let first = random();
            Keys { first, ring: Keyring::first(first) }
        }
    }
}

/// The secret of the engine's hashes: the same as long as the site's key is, so that what was learnt before a
/// restart still means something after it. Nobody who sees a mark of that key, or the journal, learns either.
pub fn engine_secret(key: &[u8; 32]) -> [u8; 16] {
    derived(key, b"becalm: hashes of the engine")
}

/// Another secret, for one `purpose`, that is the same as long as the site's key is.
pub fn derived(key: &[u8; 32], purpose: &[u8]) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(purpose);
    let bytes = mac.finalize().into_bytes();
    std::array::from_fn(|index| bytes.get(index).copied().unwrap_or_default())
}

/// Random bytes from the system.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes once it has booted");
    bytes
}

/// Signs headers as the daemon does, where the site has keys that can be read; none are made.
///
/// # Errors
/// As reading the files has them.
pub fn existing_marker(config: &Config, now: Timestamp) -> std::io::Result<Marker> {
    Ok(keyfile::read_ring(&key_path(&config.state))?.marker(&config.state.node, now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::AddressRules;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn key(config: &Config) -> Key {
        keys(config).first
    }

    fn config(directory: &Path) -> Config {
        let mut config = Config::default();
        config.state.directory = directory.to_owned();
        config
    }

    #[test]
    fn what_is_watched_by_default_is_one_thing() {
        let parts = parts(&Config::default(), Arc::new(Snapshot::of(Vec::new(), AddressRules::default())));
        assert_eq!(parts.watch, Watch::default());
    }

    #[test]
    fn the_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = key(&config(folder.path()));
        assert_eq!(first, key(&config(folder.path())));
        let mode = std::fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_key_that_was_cut_short_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(KEY_FILE), b"short").unwrap();
        let made_up = key(&config(folder.path()));
        assert_ne!(made_up, key(&config(folder.path())), "each is made up anew");
        assert_eq!(std::fs::read(folder.path().join(KEY_FILE)).unwrap(), b"short");
    }
}
