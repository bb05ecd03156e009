//! The keys that marks are signed with: one signs, those before it still verify for a while.
//!
//! The file `key` of the state directory holds 32 bytes, for ever: the engine's hashes come from it, so that a
//! rotation makes nobody a stranger. Marks are signed with it too, until the first rotation writes `key.ring`
//! beside it, one key a line, the newest first:
//!
//! ```text
//! 64 hexadecimal digits            signs
//! 64 hexadecimal digits 1479112212 verifies until then (Unix time in seconds)
//! ```

use std::fmt::Write as _;

use super::mark::Marker;
use crate::time::Timestamp;

/// Keys in a ring at most, the signing one included: each costs an HMAC for every forged mark that is looked at.
pub const MAX_KEYS: usize = 4;

/// Longest ring that is read; four keys with their times have 4 * (64 + 1 + 20 + 1) bytes.
pub const MAX_RING: usize = 512;

/// A key of 256 bits.
pub type Key = [u8; 32];

/// The ring is not as this program writes it, or cannot take one more key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// A line of the file.
    #[error("line {0} is no key")]
    Line(usize),
    /// Nothing signs.
    #[error("it holds no key")]
    Empty,
    /// More than [`MAX_KEYS`].
    #[error("it holds more than {MAX_KEYS} keys")]
    TooMany,
    /// One more would cut off mail that may still be held.
    #[error("there are {MAX_KEYS} keys already, and mail may be held under each of them until {}", .0.rfc3339())]
    Full(Timestamp),
}

/// Keys, the newest first. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Keyring {
    signing: Key,
    /// With the time until which each verifies.
    retired: Vec<(Key, Timestamp)>,
}

/// Without the keys.
impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keyring").field("retired", &self.retired.len()).finish_non_exhaustive()
    }
}

impl Keyring {
    /// A site's first key: nothing was rotated yet.
    pub fn first(key: Key) -> Self {
        Self { signing: key, retired: Vec::new() }
    }

    /// Reads what [`Keyring::text`] wrote.
    ///
    /// # Errors
    /// It is anything else.
    pub fn parse(text: &str) -> Result<Self, RingError> {
        let mut lines = text.lines().enumerate();
        let (_, first) = lines.next().ok_or(RingError::Empty)?;
        let signing = decode(first).ok_or(RingError::Line(1))?;
        let mut retired = Vec::new();
        for (number, line) in lines {
            if retired.len() + 1 >= MAX_KEYS {
                return Err(RingError::TooMany);
            }
            let key = line.split_once(' ').and_then(|(key, until)| {
                let until = until.parse::<u64>().ok()?;
                Some((decode(key)?, Timestamp::from_millis(until.saturating_mul(1000))))
            });
            retired.push(key.ok_or(RingError::Line(number.saturating_add(1)))?);
        }
        Ok(Self { signing, retired })
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = encode(&self.signing) + "\n";
        for (key, until) in &self.retired {
            // Rounded up, as the marks are: nothing is refused before its time.
            let _ = writeln!(text, "{} {}", encode(key), until.as_millis().div_ceil(1000));
        }
        text
    }

    /// With `new` as the signing key; the one before verifies until `until`. What has expired at `now` is gone.
    ///
    /// # Errors
    /// All [`MAX_KEYS`] are still needed.
    pub fn rotate(&self, new: Key, now: Timestamp, until: Timestamp) -> Result<Self, RingError> {
        let mut retired = vec![(self.signing, until)];
        retired.extend(self.alive(now).copied());
        if retired.len() >= MAX_KEYS {
            let first = self.alive(now).map(|(_, until)| *until).min().unwrap_or(until);
            return Err(RingError::Full(first));
        }
        Ok(Self { signing: new, retired })
    }

    /// What makes marks in the name of `node`, and knows those of every key that is good at `now`.
    pub fn marker(&self, node: &str, now: Timestamp) -> Marker {
        let retired: Vec<Key> = self.alive(now).map(|(key, _)| *key).collect();
        Marker::new(&self.signing, node).knowing(&retired)
    }

    /// Until when each of the earlier keys verifies, those included whose time is over.
    pub fn retired(&self) -> impl Iterator<Item = Timestamp> {
        self.retired.iter().map(|(_, until)| *until)
    }

    fn alive(&self, now: Timestamp) -> impl Iterator<Item = &(Key, Timestamp)> {
        self.retired.iter().filter(move |(_, until)| *until > now)
    }
}

fn encode(key: &Key) -> String {
    key.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn decode(text: &str) -> Option<Key> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; 32];
    for (index, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quarantine::mark::Mark;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn value(ring: &Keyring, now: Timestamp) -> String {
        ring.marker("mx1", now).value(&Mark {
            queue_id: "4XyZ1a2b3c".to_owned(),
            verdict: "hold".to_owned(),
            reason: "storm".to_owned(),
            storm: "-".to_owned(),
            at: now,
            copies: 1,
            until: None,
            list: None,
        })
    }

    #[test]
    fn an_old_key_verifies_until_its_time_and_signs_nothing() {
        let first = Keyring::first([1; 32]);
        let old = value(&first, at(100));
        let ring = first.rotate([2; 32], at(200), at(1000)).unwrap();
        let new = value(&ring, at(300));
        assert!(first.marker("", at(300)).verify(&new).is_none(), "signed with the new one");
        for (now, known) in [(300, true), (999, true), (1000, false), (5000, false)] {
            let marker = ring.marker("", at(now));
            assert_eq!(marker.verify(&old).is_some(), known, "{now}");
            assert!(marker.verify(&new).is_some());
        }
    }

    #[test]
    fn a_fifth_key_waits_until_one_is_needed_no_more() {
        let mut ring = Keyring::first([0; 32]);
        for n in 1..4 {
            ring = ring.rotate([n; 32], at(u64::from(n)), at(100 + u64::from(n))).unwrap();
        }
        assert_eq!(ring.rotate([9; 32], at(50), at(200)).err(), Some(RingError::Full(at(101))));
        let ring = ring.rotate([9; 32], at(101), at(200)).unwrap();
        assert_eq!(ring.retired().collect::<Vec<_>>(), [at(200), at(103), at(102)]);
    }

    #[test]
    fn anything_else_is_no_ring() {
        let key = "ab".repeat(32);
        for (text, error) in [
            (String::new(), RingError::Empty),
            ("short\n".to_owned(), RingError::Line(1)),
            ("+1".repeat(32), RingError::Line(1)),
            (format!("{key}\n{key}\n"), RingError::Line(2)),
            (format!("{key}\n{key} -1\n"), RingError::Line(2)),
            (format!("{key}\n{}", format!("{key} 5\n").repeat(4)), RingError::TooMany),
        ] {
            assert_eq!(Keyring::parse(&text).err(), Some(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(signing: Key, retired in prop::collection::vec((any::<Key>(), any::<u32>()), 0..MAX_KEYS)) {
            let retired = retired.into_iter().map(|(key, until)| (key, at(u64::from(until)))).collect();
            let ring = Keyring { signing, retired };
            prop_assert!(ring.text().len() <= MAX_RING);
            prop_assert!(Keyring::parse(&ring.text()) == Ok(ring));
        }

        #[test]
        fn no_text_can_do_harm(text: String) {
            let _ = Keyring::parse(&text);
        }
    }
}
