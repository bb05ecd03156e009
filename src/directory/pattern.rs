//! Addresses with `*`.

/// A pattern in which `*` stands for any number of characters, none included. Everything else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// What the text begins with, when there is no `*` all of it.
    first: Box<[u8]>,
    /// What follows each `*`; none if there is no `*`.
    rest: Box<[Box<[u8]>]>,
}

impl Pattern {
    /// Compiles `pattern`.
    pub fn new(pattern: &str) -> Self {
        let mut parts = pattern.as_bytes().split(|byte| *byte == b'*').map(Box::from);
        let first = parts.next().unwrap_or_default();
        Self { first, rest: parts.collect() }
    }

    /// Whether all of `text` matches. Looks for each part in turn, never back: linear in practice, and the ends
    /// are compared first, so that most addresses are refused after a few bytes.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some(after) = text.strip_prefix(&*self.first) else { return false };
        let Some((last, between)) = self.rest.split_last() else { return after.is_empty() };
        let Some(mut middle) = after.strip_suffix(&**last) else { return false };
        for part in between {
            let Some(at) = memchr::memmem::find(middle, part) else { return false };
            middle = middle.get(at + part.len()..).unwrap_or_default();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn stars_stand_for_anything() {
        for (pattern, text, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*-all@*.example", "x-all@y.example", true),
            ("*-all@*.example", "x-all.example", false),
            ("*ab*ab*", "ab-b", false),
            ("*ab*ab*", "abab", true),
            ("a**b", "ab", true),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// By the definition: `*` takes nothing, or one more character.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', pattern_rest)), _) => {
                naive(pattern_rest, text) || text.split_first().is_some_and(|(_, rest)| naive(pattern, rest))
            }
            (Some((a, pattern_rest)), Some((b, rest))) => a == b && naive(pattern_rest, rest),
            _ => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn as_the_naive_matcher(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let expected = naive(pattern.as_bytes(), text.as_bytes());
            assert_eq!(Pattern::new(&pattern).matches(text.as_bytes()), expected);
        }
    }
}
