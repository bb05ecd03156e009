//! Postfix's queue ids, in their long form (`enable_long_queue_ids = yes`): time in seconds and microseconds to
//! the base 52, a `z`, and the inode to the base 51. Vowels are no digits.
//!
//! Short ids are the microseconds and the inode alone: they come again within seconds, so that an act upon one may
//! hit another message. becalm acts on none.

use std::fmt;

/// Postfix's `MQID_LG_SEC_PAD` and `MQID_LG_USEC_PAD`: the least number of digits before the `z`.
const TIME_DIGITS: usize = 10;

/// The microseconds are the last of them.
const MICROSECOND_DIGITS: usize = 4;

/// Seconds of 64 bits have 12 digits, inodes of 64 bits as many.
const LONGEST: usize = 12 + MICROSECOND_DIGITS + 1 + 12;

/// Queue directories are nested no deeper than the hexadecimal digits of the microseconds go.
const MAX_DEPTH: usize = 5;

/// To the base 51 it ends before the `z`.
const DIGITS: &[u8; 52] = b"0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz";

/// A queue id in Postfix's long syntax: it can stand in a file name, in a line for `postsuper`, anywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(String);

/// Not such an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// Postfix is set to `enable_long_queue_ids = no`.
    #[error(
        "this is a short queue id, which Postfix gives again and again: set enable_long_queue_ids = yes \
         (`postconf -e`), `postfix reload`"
    )]
    Short,
    /// Something else altogether.
    #[error("this is no queue id of Postfix's")]
    Syntax,
}

impl QueueId {
    /// Checks the syntax; whether there is such a message is another matter.
    ///
    /// # Errors
    /// A short id, or none at all.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        if text.len() > LONGEST {
            return Err(BadId::Syntax);
        }
        let digits = |text: &str, base: usize| {
            !text.is_empty() && text.bytes().all(|byte| DIGITS.iter().take(base).any(|digit| *digit == byte))
        };
        match text.rsplit_once('z') {
            Some((time, inode)) if time.len() >= TIME_DIGITS && digits(time, 52) && digits(inode, 51) => {
                Ok(Self(text.to_owned()))
            }
            _ if text.len() >= 6 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F')) => {
                Err(BadId::Short)
            }
            _ => Err(BadId::Syntax),
        }
    }

    /// As Postfix writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the message may be below its queue's directory: `ID`, or in directories named by the hexadecimal
    /// digits of the microseconds (Postfix's `hash_queue_names`, `hash_queue_depth`), the likeliest first.
    pub fn places(&self) -> impl Iterator<Item = String> + '_ {
        let time = self.0.rsplit_once('z').map_or("", |(time, _)| time);
        let microseconds = time.get(time.len().saturating_sub(MICROSECOND_DIGITS)..).unwrap_or_default();
        let number = microseconds.bytes().fold(0_usize, |number, byte| {
            number * 52 + DIGITS.iter().position(|digit| *digit == byte).unwrap_or(0)
        });
        // More than 52^4 does not come out; what Postfix writes is below 10^6: five digits.
        let hex = format!("{number:05X}");
        (0..=MAX_DEPTH).map(move |depth| {
            let folders: String = hex.chars().take(depth).flat_map(|digit| [digit, '/']).collect();
            format!("{folders}{}", self.0)
        })
    }
}

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_are_taken_and_nothing_else() {
        for id in ["4jXc4x0HtRz1XDct", "3Pt2mN2VXxznjll", "4jXc4xzHtRz1XDct", "4jXc4x0HtRz1"] {
            assert_eq!(QueueId::parse(id).map(|id| id.0), Ok(id.to_owned()));
        }
        for id in ["1A2B3C4D5E6F", "AAAAAA", "0123456789ABCDEF0"] {
            assert_eq!(QueueId::parse(id), Err(BadId::Short), "{id}");
        }
        for id in [
            "",
            "ALL",
            "-",
            "-d",
            "4jXc4x0HtRz",
            "4jXc4x0Hz1XDct",
            "4jXc4x0HtRz1XDca",
            "4jXc4x0HtRz1XDct\n4jXc4x0L7Dz1XDcv",
            "../4jXc4x0HtRz1X",
            "4jXc4x0HtRz1XDct ",
            "4jXc4x0HtRz1XDc\0",
            "4jXc4x0HtRz1XDctttttttttttttttttttttt",
            "äjXc4x0HtRz1XDct",
        ] {
            assert_eq!(QueueId::parse(id), Err(BadId::Syntax), "{id:?}");
        }
    }

    #[test]
    fn directories_are_named_by_the_microseconds() {
        // As Postfix 3.7.11 put them, with hash_queue_depth = 2.
        for (id, place) in
            [("4jXc4x3HQ5z1XDhK", "7/1/"), ("4jXc4x3Ht5z1XDhN", "7/1/"), ("4jXc4x0HtRz1XDct", "0/A/")]
        {
            let places: Vec<String> = QueueId::parse(id).unwrap().places().collect();
            assert_eq!((places[0].as_str(), places.len()), (id, 6));
            assert_eq!(places[2], format!("{place}{id}"));
        }
    }
}
