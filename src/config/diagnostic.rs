//! What is wrong with a file, where, and what to do about it; printed as a compiler prints it.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing to do.
    Ok,
    /// Works, but probably not as meant.
    Warning,
    /// The file is refused.
    Error,
}

impl Severity {
    /// `ok`, `warning` or `error`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One remark about one place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where, in bytes of the file's text; `None` where it is about the file as a whole.
    pub span: Option<Range<usize>>,
    /// Said beside the caret.
    pub label: Option<String>,
    /// The remedy.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, message: message.into(), span: Some(span), label: None, help: None }
    }

    /// A warning at `span`.
    pub fn warning(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(span, message) }
    }

    /// The same with a remedy.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The same with a word beside the caret.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }
}

/// Remarks about one file, with its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The file's name, as the operator gave it.
    pub file: String,
    /// Its text.
    pub text: String,
    /// In the order of the text; those about the whole file first.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// True where the file must be refused.
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    /// Adds remarks that only a look beyond the file could bring.
    pub fn add(&mut self, found: impl IntoIterator<Item = Diagnostic>) {
        self.diagnostics.extend(found);
        self.diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
    }

    /// Where the value of `key` in `[section]` stands, or the `item`-th of its array, from 0. `None` where the text does
    /// not set it.
    pub fn place(&self, section: &str, key: &str, item: usize) -> Option<Range<usize>> {
        let (root, _) = DeTable::parse_recoverable(&self.text);
        let value = root.get_ref().get(section)?.get_ref().as_table()?.get(key)?;
        match value.get_ref() {
            DeValue::Array(items) => items.get(item).map(Spanned::span),
            _ => Some(value.span()),
        }
    }

    /// The remarks as a compiler prints them: severity and message, `--> file:line:column`, the line with a
    /// caret, and the remedy. `color`: with terminal colours.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut out = String::new();
        for diagnostic in &self.diagnostics {
            out.push_str(&self.render_one(diagnostic, &renderer));
            out.push_str("\n\n");
        }
        out
    }

    fn render_one(&self, diagnostic: &Diagnostic, renderer: &Renderer) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Ok => Level::NOTE,
        };
        let title = level.primary_title(printable(&diagnostic.message));
        let mut group = match &diagnostic.span {
            Some(span) => {
                let annotation = AnnotationKind::Primary
                    .span(within(&self.text, span))
                    .label(diagnostic.label.as_deref().map(printable));
                title.element(
                    Snippet::source(self.text.as_str()).path(self.file.as_str()).annotation(annotation),
                )
            }
            None => Group::with_title(title).element(annotate_snippets::Origin::path(self.file.as_str())),
        };
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(printable_lines(help)));
        }
        renderer.render(&[group])
    }

    /// The remarks as JSON: an array of objects with `severity`, `message`, `file`, `line`, `column` (counted
    /// from 1, in characters; null where the remark is about the whole file) and `help`.
    pub fn to_json(&self) -> Value {
        self.diagnostics.iter().map(|diagnostic| self.one_to_json(diagnostic)).collect()
    }

    fn one_to_json(&self, diagnostic: &Diagnostic) -> Value {
        let position = diagnostic.span.as_ref().map(|span| line_column(&self.text, span.start));
        json!({
            "severity": diagnostic.severity.name(),
            "message": diagnostic.message,
            "file": self.file,
            "line": position.map(|(line, _)| line),
            "column": position.map(|(_, column)| column),
            "help": diagnostic.help,
        })
    }
}

/// One line a remark, `file:line:column: error: message (remedy)`: for the log.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some(span) = &diagnostic.span {
                let (line, column) = line_column(&self.text, span.start);
                write!(f, ":{line}:{column}")?;
            }
            write!(f, ": {}: {}", diagnostic.severity.name(), printable(&diagnostic.message))?;
            if let Some(help) = &diagnostic.help {
                write!(f, " ({})", printable(help))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

/// Line and column of byte `offset` of `text`, both counted from 1, the column in characters.
pub fn line_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..floor_boundary(text, offset)).unwrap_or(text);
    let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (line, before.get(start..).unwrap_or("").chars().count() + 1)
}

/// The candidate that `word` is most likely a slip of the pen for.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A third of the letters may differ; of a longer word nobody means another.
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    let allowed = (word.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.chars().collect::<Vec<_>>()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// How many letters have to be put in, taken out, changed or swapped with their neighbour.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut two_ago: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut row = Vec::with_capacity(right.len() + 1);
        row.push(i + 1);
        for (j, b) in right.iter().enumerate() {
            let mut best = (previous[j] + usize::from(a != b)).min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(two_ago[j - 1] + 1);
            }
            row.push(best);
        }
        two_ago = std::mem::replace(&mut previous, row);
    }
    previous.last().copied().unwrap_or(left.len())
}

/// `span` moved inside `text` and onto the boundaries of characters, on one line.
fn within(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = floor_boundary(text, span.start);
    let end = floor_boundary(text, span.end).max(start);
    let line_end = text.get(start..).and_then(|rest| rest.find('\n')).map_or(text.len(), |at| start + at);
    start..end.min(line_end)
}

fn floor_boundary(text: &str, offset: usize) -> usize {
    text.floor_char_boundary(offset)
}

/// Control characters, which a file may contain, must not reach the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn printable_lines(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(text: &str, diagnostic: Diagnostic) -> Report {
        Report { file: "becalm.toml".to_owned(), text: text.to_owned(), diagnostics: vec![diagnostic] }
    }

    #[test]
    fn prints_as_a_compiler_does() {
        let text = "[storm]\nfre = 3\n";
        let found = Diagnostic::error(8..11, "unknown setting `fre`").help("did you mean `free`?");
        insta::assert_snapshot!(report(text, found).render(false), @r"
        error: unknown setting `fre`
         --> becalm.toml:2:1
          |
        2 | fre = 3
          | ^^^
          |
          = help: did you mean `free`?
        ");
    }

    #[test]
    fn prints_remarks_about_the_whole_file() {
        let found = Diagnostic { span: None, ..Diagnostic::error(0..0, "cannot be read") };
        assert_eq!(report("", found).render(false), "error: cannot be read\n--> becalm.toml\n\n");
    }

    #[test]
    fn one_line_for_the_log_and_json_for_programs() {
        let found = Diagnostic::warning(4..5, "odd\u{1b}[31m").help("mend it");
        let report = report("ä\nx=1\n", found);
        assert_eq!(report.to_string(), "becalm.toml:2:2: warning: odd\u{fffd}[31m (mend it)");
        assert_eq!(
            report.to_json(),
            json!([{ "severity": "warning", "message": "odd\u{1b}[31m", "file": "becalm.toml", "line": 2,
                     "column": 2, "help": "mend it" }])
        );
    }

    #[test]
    fn spans_beyond_the_text_or_inside_a_character_do_no_harm() {
        for span in [0..1, 1..2, 1..900, 900..901, 3..4] {
            let found = Diagnostic::error(span, "x");
            assert!(report("ä\n", found).render(true).contains('x'));
        }
        assert_eq!(line_column("a\näb", 4), (2, 2));
        assert_eq!(line_column("a\n", 99), (2, 1));
    }

    #[test]
    fn a_setting_is_found_again() {
        let text = "listen.group = 'g'\n[directory]\naliases = ['/a', '/b']\n";
        let mut report = report(text, Diagnostic::warning(40..41, "last"));
        let at = |place: Option<Range<usize>>| place.map(|span| &text[span]);
        assert_eq!(at(report.place("listen", "group", 0)), Some("'g'"));
        assert_eq!(at(report.place("directory", "aliases", 1)), Some("'/b'"));
        assert_eq!(at(report.place("directory", "aliases", 2)), None);
        assert_eq!(at(report.place("directory", "virtuals", 0)), None);
        assert_eq!(at(report.place("admin", "group", 0)), None);
        report.add([Diagnostic::error(1..2, "first")]);
        assert_eq!(report.diagnostics[0].message, "first");
    }

    #[test]
    fn guesses_only_what_is_near() {
        let known = ["mode", "max_connections", "idle_timeout"];
        assert_eq!(did_you_mean("max_conections", known), Some("max_connections"));
        assert_eq!(did_you_mean("MODE", known), Some("mode"));
        assert_eq!(did_you_mean("mdoe", known), Some("mode"));
        assert_eq!(did_you_mean("threads", known), None);
        assert_eq!(did_you_mean("", known), None);
    }
}
