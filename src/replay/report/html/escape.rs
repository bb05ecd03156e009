//! Text that others wrote, made harmless. Subjects and addresses come from anybody.

use std::fmt;

/// Characters shown of one text: what is longer is cut, so that a page stays as small as it is meant to be.
const MAX_SHOWN: usize = 120;

/// Characters of one of our own sentences, which may name what others wrote.
const MAX_SENTENCE: usize = 1_000;

/// Text in an element or in a quoted attribute. What would be markup is written as text, what cannot be seen is
/// made visible, and it takes at most 120 characters.
pub struct Text<'a>(pub &'a str);

/// The same for our own sentences: at most 1,000 characters.
pub struct Sentence<'a>(pub &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, MAX_SHOWN)
    }
}

impl fmt::Display for Sentence<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, self.0, MAX_SENTENCE)
    }
}

fn write(f: &mut fmt::Formatter<'_>, text: &str, most: usize) -> fmt::Result {
    use fmt::Write as _;
    let mut chars = text.chars();
    for c in chars.by_ref().take(most) {
        match c {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' => f.write_str("&quot;")?,
            '\'' => f.write_str("&#39;")?,
            c if is_unseen(c) => f.write_char('\u{fffd}')?,
            c => f.write_char(c)?,
        }
    }
    if chars.next().is_some() { f.write_char('…') } else { Ok(()) }
}

/// Controls, and the marks that turn the direction of writing: with them one text passes for another.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_becomes_markup() {
        assert_eq!(
            Text("<script src='x'>\"&amp;").to_string(),
            "&lt;script src=&#39;x&#39;&gt;&quot;&amp;amp;"
        );
        assert_eq!(Text("a\u{202e}b\nc\0").to_string(), "a\u{fffd}b\u{fffd}c\u{fffd}");
        assert_eq!(Text("回复: é").to_string(), "回复: é");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!(Text(&"<".repeat(120)).to_string(), "&lt;".repeat(120));
        assert_eq!(Text(&"é".repeat(1_000_000)).to_string(), format!("{}…", "é".repeat(120)));
    }
}
