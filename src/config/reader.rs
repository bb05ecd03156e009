//! Walks the parsed TOML and takes the settings out, one by one: whatever is wrong is noted with its place, and
//! reading goes on, so that the operator sees all of it at once.
//!
//! The reader remembers every key it was asked for. What is left over in the file is unknown; and the tests of
//! the default file learn from it which settings there are.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::diagnostic::{Diagnostic, did_you_mean};
use super::value::{self, Problem, show_count, show_duration};

pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// A setting that the program reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Known {
    /// `listen.max_connections`, `list.address`, `class.*.mode`.
    pub path: String,
    /// What it may be, as the documentation says it.
    pub range: String,
    /// Whether the file sets it.
    pub present: bool,
}

/// What the sections note while they are read.
#[derive(Default)]
pub(super) struct Notes {
    diagnostics: RefCell<Vec<Diagnostic>>,
    known: RefCell<Vec<Known>>,
}

impl Notes {
    pub fn push(&self, diagnostic: Diagnostic) {
        // Nobody reads more; a file of a million wrong entries must not fill the memory.
        const MOST: usize = 200;
        let mut diagnostics = self.diagnostics.borrow_mut();
        if diagnostics.len() < MOST {
            diagnostics.push(diagnostic);
        }
    }

    pub fn into_parts(self) -> (Vec<Diagnostic>, Vec<Known>) {
        (self.diagnostics.into_inner(), self.known.into_inner())
    }
}

/// One table of the file, or the absence of it.
pub(super) struct Section<'r, 't> {
    notes: &'r Notes,
    path: &'static str,
    table: Option<&'r DeTable<'t>>,
    span: Range<usize>,
    asked: Vec<&'static str>,
}

impl<'r, 't> Section<'r, 't> {
    /// The file's top level.
    pub fn root(notes: &'r Notes, table: &'r Spanned<DeTable<'t>>) -> Self {
        Self { notes, path: "", table: Some(table.get_ref()), span: 0..0, asked: Vec::new() }
    }

    /// A table whose header or braces stand at `value`; `path` is how the documentation calls it.
    pub fn of(notes: &'r Notes, path: &'static str, value: Option<&'r Value<'t>>) -> Self {
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => {
                let message = format!("`{path}` is a table, not {}", kind(other));
                notes.push(Diagnostic::error(value.span(), message).help(format!("write `[{path}]`")));
                None
            }
        });
        let span = value.map_or(0..0, Spanned::span);
        Self { notes, path, table, span, asked: Vec::new() }
    }

    /// The table `[key]`.
    pub fn section(&mut self, key: &'static str) -> Section<'r, 't> {
        let value = self.take(key);
        Section::of(self.notes, key, value)
    }

    /// The value of `key`; asked for once.
    pub fn take(&mut self, key: &'static str) -> Option<&'r Value<'t>> {
        self.asked.push(key);
        self.table.and_then(|table| table.get(key))
    }

    /// Every entry of the table: for sections whose keys the operator chooses. None of them is unknown.
    pub fn entries(&mut self) -> impl Iterator<Item = (&'r str, Range<usize>, &'r Value<'t>)> + use<'r, 't> {
        self.table
            .take()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    /// Where `key` stands, or the table where it does not set it.
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.table
            .and_then(|table| table.get_key_value(key))
            .map_or_else(|| self.span.clone(), |(_, value)| value.span())
    }

    /// True where the table sets `key`.
    pub fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// True where the table sets `key`, rightly or wrongly, and nothing else.
    pub fn has_only(&self, key: &str) -> bool {
        self.has(key) && self.table.is_some_and(|table| table.len() == 1)
    }

    /// How many items the array of `key` has, right or wrong.
    pub fn items(&self, key: &str) -> usize {
        let value = self.table.and_then(|table| table.get(key));
        value.and_then(|value| value.get_ref().as_array()).map_or(0, |array| array.len())
    }

    /// True where the file has this table at all.
    pub fn exists(&self) -> bool {
        self.table.is_some()
    }

    /// Where the table stands.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Takes `key` through `parse`; `range` is what the documentation says of it.
    pub fn read<T>(
        &mut self,
        key: &'static str,
        range: impl Into<String>,
        parse: impl FnOnce(&DeValue<'_>) -> Result<T, Problem>,
    ) -> Option<T> {
        let value = self.take(key);
        self.know(key, range.into(), value.is_some());
        let value = value?;
        match parse(value.get_ref()) {
            Ok(parsed) => Some(parsed),
            Err(problem) => {
                self.refuse(key, value.span(), problem);
                None
            }
        }
    }

    /// A whole number within `range`, both ends included.
    pub fn count<N: TryFrom<u64>>(&mut self, key: &'static str, range: RangeInclusive<u64>) -> Option<N> {
        let text = format!("{} to {}", show_count(*range.start()), show_count(*range.end()));
        let refusal =
            |given: String| Problem::new(format!("{given} is out of range"), format!("allowed: {text}"));
        self.read(key, text.clone(), |value| {
            let DeValue::Integer(integer) = value else { return Err(wanted("a whole number", value, &text)) };
            let given = integer.to_string();
            let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
            let number =
                number.filter(|number| range.contains(number)).ok_or_else(|| refusal(given.clone()))?;
            N::try_from(number).map_err(|_| refusal(given))
        })
    }

    /// A length of time within `range`, both ends included.
    pub fn duration(&mut self, key: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        let text = format!("{} to {}", show_duration(*range.start()), show_duration(*range.end()));
        self.read(key, text.clone(), |value| {
            let given = string(value, "a length of time", "as in \"90s\", \"10m\" or \"1h 30m\"")?;
            let duration = value::duration(given)?;
            if range.contains(&duration) {
                Ok(duration)
            } else {
                Err(Problem::new(format!("\"{given}\" is out of range"), format!("allowed: {text}")))
            }
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.read(key, "true or false", |value| match value {
            DeValue::Boolean(flag) => Ok(*flag),
            other => Err(wanted("`true` or `false`", other, "without quotes")),
        })
    }

    /// A string that `parse` accepts.
    pub fn text<T>(
        &mut self,
        key: &'static str,
        range: &str,
        parse: impl FnOnce(&str) -> Result<T, Problem>,
    ) -> Option<T> {
        self.read(key, range, |value| parse(string(value, "a string", "in quotes")?))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        self.text(key, &words.join(", "), |text| value::choice(text, choices))
    }

    /// An array of strings, each through `parse`; every wrong one is noted.
    pub fn texts<T>(
        &mut self,
        key: &'static str,
        range: &str,
        parse: impl Fn(&str) -> Result<T, Problem>,
    ) -> Option<Vec<T>> {
        let value = self.take(key);
        self.know(key, range.to_owned(), value.is_some());
        let value = value?;
        let DeValue::Array(array) = value.get_ref() else {
            self.refuse(
                key,
                value.span(),
                wanted("an array of strings", value.get_ref(), "as in [\"a\", \"b\"]"),
            );
            return None;
        };
        Some(self.each(key, array, parse))
    }

    /// Notes what is in the file and was not asked for.
    pub fn finish(self) {
        for (key, value) in self.table.into_iter().flatten() {
            let word = key.get_ref().as_ref();
            if self.asked.contains(&word) {
                continue;
            }
            let what = if matches!(value.get_ref(), DeValue::Table(_)) { "section" } else { "setting" };
            let place = if self.path.is_empty() { String::new() } else { format!(" in `{}`", self.path) };
            let found = Diagnostic::error(key.span(), format!("unknown {what} `{word}`{place}"));
            self.notes.push(found.help(match did_you_mean(word, self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`becalm config --default` prints every setting".to_owned(),
            }));
        }
    }

    /// Notes an error at the value of `key`.
    pub fn error(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.notes.push(Diagnostic::error(self.span_of(key), message).help(help));
    }

    /// Notes a warning at the value of `key`.
    pub fn warn(&self, key: &str, message: impl Into<String>, help: impl Into<String>) {
        self.notes.push(Diagnostic::warning(self.span_of(key), message).help(help));
    }

    fn each<T>(&self, key: &str, array: &DeArray<'_>, parse: impl Fn(&str) -> Result<T, Problem>) -> Vec<T> {
        let mut out = Vec::new();
        for item in array.iter() {
            match string(item.get_ref(), "a string", "in quotes").and_then(&parse) {
                Ok(parsed) => out.push(parsed),
                Err(problem) => self.refuse(key, item.span(), problem),
            }
        }
        out
    }

    fn refuse(&self, key: &str, span: Range<usize>, problem: Problem) {
        let message = format!("`{key}`: {}", problem.message);
        self.notes.push(Diagnostic::error(span, message).help(problem.help));
    }

    fn know(&self, key: &str, range: String, present: bool) {
        let path = format!("{}.{key}", self.path);
        let mut known = self.notes.known.borrow_mut();
        match known.iter_mut().find(|known| known.path == path) {
            Some(known) => known.present |= present,
            None => known.push(Known { path, range, present }),
        }
    }
}

/// The string in `value`.
pub(super) fn string<'v>(value: &'v DeValue<'_>, what: &str, help: &str) -> Result<&'v str, Problem> {
    value.as_str().ok_or_else(|| wanted(what, value, help))
}

/// The problem that `value` is of another kind than `what`.
pub(super) fn wanted(what: &str, value: &DeValue<'_>, help: &str) -> Problem {
    Problem::new(format!("this must be {what}, not {}", kind(value)), help)
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
