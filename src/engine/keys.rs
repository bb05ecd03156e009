//! Keyed hashes. Every key of every table is one, so that nobody can craft mail that collides on purpose. (Spellings of
//! recipients are hashed more quickly: see [`Keys::spelling`] for what that costs.)

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The secret of this process's tables.
#[derive(Clone)]
pub struct Keys {
    /// One hasher for each role, which has read the role already.
    roles: [SipHasher13; ROLES],
    /// The key of [`Keys::spelling`]. Half a KiB: not to be moved about.
    multipliers: Box<[u128; 3 + SPELLING_WORDS]>,
}

/// The longest spelling that is hashed by multiplying, in words of eight bytes: the longest path there is
/// (RFC 5321, 4.5.3.1.3).
const SPELLING_WORDS: usize = 256 / 8;

/// What a hash stands for: the same bytes in another role give another key.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Role {
    /// An address that mail goes to, a list's or any other: one hash of a recipient serves all look-ups.
    Recipient,
    /// A recipient as it was sent: see [`Keys::spelling`].
    Spelling,
    /// An author's address.
    Author,
    /// An author on a list.
    Known,
    /// A Message-ID.
    MessageId,
    /// The GUID of a Thread-Index.
    ThreadIndex,
    /// A base subject on a list.
    Subject,
    /// A thread on a list.
    Conversation,
    /// A message by an author, in all its parts.
    Parts,
    /// A message by an author to a list or to a set of recipients.
    Retry,
    /// A client with an envelope sender.
    Origin,
    /// Nothing but the key itself.
    Check,
}

const ROLES: usize = Role::Check as usize + 1;

impl Keys {
    /// From 16 secret bytes.
    pub fn new(secret: [u8; 16]) -> Self {
        let roles: [_; ROLES] = std::array::from_fn(|role| {
            let mut hasher = SipHasher13::new_with_key(&secret);
            // A whole word, so that what follows is read word by word from its beginning.
            hasher.write_u64(role as u64);
            hasher
        });
        let multipliers = std::array::from_fn(|number| {
            let half = |half| u128::from(combine(roles[Role::Spelling as usize], &[number as u64, half]));
            half(0) << 64 | half(1)
        });
        Self { roles, multipliers: Box::new(multipliers) }
    }

    /// The key of some bytes in a role.
    #[inline]
    pub fn bytes(&self, role: Role, bytes: &[u8]) -> u64 {
        self.roles[role as usize].hash(bytes)
    }

    /// The key of a recipient as it was sent, quicker than by [`Keys::bytes`]: a message has up to thousands of them, and
    /// for most of them this is half of what there is to do.
    ///
    /// The words of the spelling, its length among them, are multiplied by secret numbers and added up. Two different
    /// spellings, whoever chose them, have any two keys with the same probability (Dietzfelbinger, "Universal hashing
    /// and k-wise independent random variables via integer arithmetic without primes", 1996). Whoever found out, by
    /// timing, about two of them that meet in a set could make more that do, which costs time, no mail: all 64 bits of two
    /// keys must be the same before one is taken for the other. Of 8 to 263 bytes; shorter ones have no word, longer ones
    /// are no addresses, and both are hashed as other bytes are.
    #[inline]
    pub fn spelling(&self, raw: &[u8]) -> u64 {
        let (words, _) = raw.as_chunks::<8>();
        let (Some(last), true) = (raw.last_chunk::<8>(), words.len() <= SPELLING_WORDS) else {
            return self.bytes(Role::Spelling, raw);
        };
        let [offset, by_length, by_last, by_word @ ..] = &*self.multipliers;
        let product = |by: &u128, word: u64| by.wrapping_mul(u128::from(word));
        let mut sum = offset.wrapping_add(product(by_length, raw.len() as u64));
        sum = sum.wrapping_add(product(by_last, u64::from_le_bytes(*last)));
        for (by, word) in by_word.iter().zip(words) {
            sum = sum.wrapping_add(product(by, u64::from_le_bytes(*word)));
        }
        (sum >> 64) as u64
    }

    /// The key of a combination of keys in a role.
    #[inline]
    pub fn combine(&self, role: Role, parts: &[u64]) -> u64 {
        combine(self.roles[role as usize], parts)
    }
}

#[inline]
fn combine(mut hasher: SipHasher13, parts: &[u64]) -> u64 {
    for part in parts {
        hasher.write_u64(*part);
    }
    hasher.finish()
}

/// For maps whose keys are such keys: spread already, and secret.
#[derive(Clone, Copy, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        // Nothing but u64 is hashed; whatever else came would still be told apart.
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_and_secret_change_the_key() {
        let keys = Keys::new([1; 16]);
        let a = keys.bytes(Role::Author, b"a@example.org");
        assert_eq!(a, keys.bytes(Role::Author, b"a@example.org"));
        assert_ne!(a, keys.bytes(Role::Recipient, b"a@example.org"));
        assert_ne!(a, Keys::new([2; 16]).bytes(Role::Author, b"a@example.org"));
        assert_ne!(keys.spelling(b"<a@example.org>"), Keys::new([2; 16]).spelling(b"<a@example.org>"));
        let b = keys.combine(Role::Author, &[1, 2]);
        assert_ne!(b, keys.combine(Role::Author, &[2, 1]));
        assert_ne!(b, keys.combine(Role::Known, &[1, 2]));
    }

    #[test]
    fn spellings_that_differ_anywhere_have_keys_that_do() {
        let keys = Keys::new([1; 16]);
        let longest = 8 * SPELLING_WORDS + 20;
        let mut seen = std::collections::HashSet::new();
        for length in 0..longest {
            let mut raw = vec![b'a'; length];
            assert!(seen.insert(keys.spelling(&raw)), "{length} bytes");
            for place in 0..length {
                raw[place] = b'b';
                assert!(seen.insert(keys.spelling(&raw)), "byte {place} of {length}");
                raw[place] = b'a';
            }
        }
        for length in 1..longest {
            assert!(seen.insert(keys.spelling(&vec![0; length])), "{length} zeros");
        }
    }

    #[test]
    fn spellings_are_spread_over_their_sets() {
        const SETS: usize = 64;
        let keys = Keys::new([1; 16]);
        // Addresses that are alike but for eight bytes of one word, and all of whose words are even.
        let mut lowest = [0; SETS];
        let mut highest = [0; SETS];
        for number in 0..64 * SETS as u64 {
            let word = (number << 17).to_le_bytes();
            let key = keys.spelling(&[b"@bbbbbbb".as_slice(), &word, b"@bbbbbbb"].concat());
            lowest[key as usize % SETS] += 1;
            highest[(key >> 58) as usize] += 1;
        }
        for count in lowest.into_iter().chain(highest) {
            assert!((20..110).contains(&count), "{lowest:?} {highest:?}");
        }
    }
}
