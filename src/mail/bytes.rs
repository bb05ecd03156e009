//! Bytes of header values: looked at many at once, and without blanks at their ends.
//!
//! Header values are some dozen bytes long: a plain loop spends most of its time on what is left over after the last
//! sixteen. Here the last sixteen are looked at whole, some of them perhaps twice.

/// As many as a register of any processor holds.
const MANY: usize = 16;

/// Is any byte such a one?
#[inline]
pub(super) fn any(text: &[u8], is: impl Fn(u8) -> bool) -> bool {
    // Without a way out in the middle of the many.
    let among = |many: &[u8; MANY]| many.iter().fold(0, |any, byte| any | u8::from(is(*byte))) != 0;
    match text.last_chunk() {
        Some(last) => text.as_chunks().0.iter().any(among) || among(last),
        None => text.iter().any(|byte| is(*byte)),
    }
}

/// Is a byte, and the one after it, such a pair?
#[inline]
pub(super) fn any_pair(text: &[u8], is: impl Fn(u8, u8) -> bool) -> bool {
    let Some((seconds, firsts)) = text.get(1..).zip(text.split_last().map(|(_, firsts)| firsts)) else {
        return false;
    };
    let among = |(a, b): (&[u8; MANY], &[u8; MANY])| {
        a.iter().zip(b).fold(0, |any, (a, b)| any | u8::from(is(*a, *b))) != 0
    };
    match firsts.last_chunk().zip(seconds.last_chunk()) {
        Some(last) => firsts.as_chunks().0.iter().zip(seconds.as_chunks().0).any(among) || among(last),
        None => firsts.iter().zip(seconds).any(|(a, b)| is(*a, *b)),
    }
}

/// Eight bytes that are 1.
pub(crate) const EACH: u64 = u64::from_le_bytes([1; 8]);

/// Sets the highest bit of the lowest byte that is 0, and of none below it.
#[inline]
pub(crate) fn zeros(word: u64) -> u64 {
    word.wrapping_sub(EACH) & !word
}

/// How many bytes stand before the first that is such a one: made for what comes soon. `among` is asked of eight bytes at
/// once, and sets the highest bit of the lowest of them that is one, and of none below it.
#[inline]
pub(crate) fn position(text: &[u8], among: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> usize {
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = among(u64::from_le_bytes(*word)) & (0x80 * EACH);
        if found != 0 {
            return 8 * index + found.trailing_zeros() as usize / 8;
        }
    }
    let in_rest = rest.iter().position(|byte| is(*byte)).unwrap_or(rest.len());
    8 * words.len() + in_rest
}

/// The text without blanks at its ends. Most has none, and that is seen at once.
#[inline]
pub(crate) fn trimmed(text: &[u8]) -> &[u8] {
    match text {
        [first, .., last] if *first > b' ' && *last > b' ' => text,
        _ => text.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn blanks_at_ends_are_those_of_ascii(text in "[ \\t\\r\\n\\x0b\\x0cab]{0,6}") {
            prop_assert_eq!(trimmed(text.as_bytes()), text.as_bytes().trim_ascii());
        }

        #[test]
        fn every_byte_and_every_pair_is_looked_at(length in 0..70_usize, at in 0..70_usize) {
            let mut text = vec![b'.'; length];
            text.iter_mut().skip(at).take(1).for_each(|byte| *byte = b'x');
            prop_assert_eq!(any(&text, |byte| byte == b'x'), at < length);
            prop_assert_eq!(any_pair(&text, |a, b| (a, b) == (b'.', b'x')), 0 < at && at < length);
            prop_assert_eq!(any_pair(&text, |a, b| (a, b) == (b'x', b'.')), at + 1 < length);
        }
    }
}
