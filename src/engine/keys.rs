//! Keyed hashes. Every key of every table is one, so that nobody can craft mail that collides on purpose.

use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The secret of this process's tables: one hasher for each role, which has read the role already.
#[derive(Clone)]
pub struct Keys([SipHasher13; ROLES]);

/// What a hash stands for: the same bytes in another role give another key.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Role {
    /// An address that mail goes to, a list's or any other: one hash of a recipient serves all look-ups.
    Recipient,
    /// A recipient as it was sent.
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
        Self(std::array::from_fn(|role| {
            let mut hasher = SipHasher13::new_with_key(&secret);
            // A whole word, so that what follows is read word by word from its beginning.
            hasher.write_u64(role as u64);
            hasher
        }))
    }

    /// The key of some bytes in a role.
    #[inline]
    pub fn bytes(&self, role: Role, bytes: &[u8]) -> u64 {
        self.0[role as usize].hash(bytes)
    }

    /// The key of a combination of keys in a role.
    #[inline]
    pub fn combine(&self, role: Role, parts: &[u64]) -> u64 {
        let mut hasher = self.0[role as usize];
        for part in parts {
            hasher.write_u64(*part);
        }
        hasher.finish()
    }
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
        let b = keys.combine(Role::Author, &[1, 2]);
        assert_ne!(b, keys.combine(Role::Author, &[2, 1]));
        assert_ne!(b, keys.combine(Role::Known, &[1, 2]));
    }
}
