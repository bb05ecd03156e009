//! The sentences, in every language.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use serde::Deserialize;

use crate::time::Timestamp;

/// Languages at once: those that ship, and an operator's.
const MAX_LANGUAGES: usize = 64;

/// A sentence is a sentence: a book in its place would make a page of megabytes.
const MAX_SENTENCE: usize = 2000;

/// What ships.
const SHIPPED: [(&str, &str); 4] = [
    ("en", include_str!("templates/en.toml")),
    ("de", include_str!("templates/de.toml")),
    ("fr", include_str!("templates/fr.toml")),
    ("es", include_str!("templates/es.toml")),
];

/// One language.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// BCP 47: the name of its file.
    #[serde(skip)]
    pub language: String,
    /// `ltr` or `rtl`.
    pub direction: Direction,
    /// Of the page.
    pub title: String,
    /// Nothing is paused.
    pub calm: String,
    /// `{list}`, `{since}`.
    pub paused: String,
    /// `{since}`; the list has no name for the public.
    pub paused_unnamed: String,
    /// `{since}`; no list, but a conversation among many recipients. Without it `paused_unnamed` is said.
    #[serde(default)]
    pub paused_conversation: Option<String>,
    /// `{end}`.
    pub ends: String,
    /// Other mail goes on.
    pub unaffected: String,
    /// What to do instead.
    pub advice: String,
    /// `{count}`: further lists.
    pub more: String,
    /// `{time}`.
    pub updated: String,
    /// A time of today: `{hour}`, `{minute}`.
    pub time: String,
    /// A time of another day: `{day}`, `{month}`, `{time}`.
    pub day_time: String,
    /// January to December, as they stand in `day_time`.
    pub months: [String; 12],
}

impl Template {
    /// What is said of a conversation among many recipients.
    pub(super) fn conversation(&self) -> &str {
        self.paused_conversation.as_deref().unwrap_or(&self.paused_unnamed)
    }
}

/// Where lines begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// At the left.
    Ltr,
    /// At the right.
    Rtl,
}

impl Direction {
    /// As HTML says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ltr => "ltr",
            Self::Rtl => "rtl",
        }
    }
}

/// A file of an operator's that cannot be used; the others are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{language}.toml: {why}")]
pub struct BadTemplate {
    /// The file, without its ending.
    pub language: String,
    /// What is wrong, and where.
    pub why: String,
}

/// All languages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Templates(BTreeMap<String, Template>);

impl Default for Templates {
    fn default() -> Self {
        let shipped = SHIPPED.iter().map(|(language, text)| {
            let template = read(language, toml::Table::new(), text).expect("what ships is tested");
            ((*language).to_owned(), template)
        });
        Self(shipped.collect())
    }
}

impl Templates {
    /// What ships, changed and added to by `files`: the name without `.toml`, and the text of each. A file may have
    /// some of the keys only, where its language, or that without its region, is known already.
    pub fn with(files: impl IntoIterator<Item = (String, String)>) -> (Self, Vec<BadTemplate>) {
        let mut templates = Self::default();
        let mut bad = Vec::new();
        for (name, text) in files {
            let language = name.to_ascii_lowercase();
            let found = match templates.0.len() >= MAX_LANGUAGES && !templates.0.contains_key(&language) {
                true => Err(format!("there are {MAX_LANGUAGES} languages already")),
                false => add(&language, &text),
            };
            match found {
                Ok(template) => drop(templates.0.insert(language, template)),
                Err(why) => bad.push(BadTemplate { language: name, why }),
            }
        }
        (templates, bad)
    }

    /// The names of the languages, in lower case.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The language, or the same without its region; names are compared without regard to case.
    pub fn get(&self, language: &str) -> Option<&Template> {
        let language = language.to_ascii_lowercase();
        self.0.get(&language).or_else(|| self.0.get(language.split_once('-')?.0))
    }
}

fn add(language: &str, text: &str) -> Result<Template, String> {
    let tag = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if !(2..=35).contains(&language.len()) || !language.chars().all(tag) {
        return Err("the file's name is no language; it is named like de.toml or pt-br.toml".to_owned());
    }
    let known = |name: &str| SHIPPED.iter().find(|(language, _)| *language == name);
    let base = known(language).or_else(|| known(language.split_once('-')?.0));
    let base = base.and_then(|(_, text)| text.parse().ok()).unwrap_or_default();
    read(language, base, text)
}

fn read(language: &str, mut base: toml::Table, text: &str) -> Result<Template, String> {
    let own: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    base.extend(own);
    let mut template: Template = base.try_into().map_err(|error: toml::de::Error| one_line(&error))?;
    template.language = language.to_owned();
    check(&template)?;
    Ok(template)
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().lines().collect::<Vec<_>>().join("; ")
}

/// Each sentence has the placeholders that it takes, and no others.
fn check(template: &Template) -> Result<(), String> {
    let t = template;
    let sentences: [(&str, &str, &[&str]); 12] = [
        ("title", &t.title, &[]),
        ("calm", &t.calm, &[]),
        ("paused", &t.paused, &["list", "since"]),
        ("paused_unnamed", &t.paused_unnamed, &["since"]),
        ("paused_conversation", t.conversation(), &["since"]),
        ("ends", &t.ends, &["end"]),
        ("unaffected", &t.unaffected, &[]),
        ("advice", &t.advice, &[]),
        ("more", &t.more, &["count"]),
        ("updated", &t.updated, &["time"]),
        ("time", &t.time, &["hour", "minute"]),
        ("day_time", &t.day_time, &["day", "month", "time"]),
    ];
    for (key, text, takes) in sentences {
        sentence(key, text)?;
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let after = rest.get(open..).unwrap_or_default();
            let name = after.strip_prefix('{').and_then(|after| after.split_once('}'));
            match name {
                Some((name, left)) if takes.contains(&name) => rest = left,
                _ => {
                    let takes = match takes {
                        [] => "none".to_owned(),
                        takes => {
                            takes.iter().map(|name| format!("{{{name}}}")).collect::<Vec<_>>().join(", ")
                        }
                    };
                    return Err(format!("`{key}` has a placeholder that it does not take; it takes {takes}"));
                }
            }
        }
        if let Some(missing) = takes.iter().find(|name| !text.contains(&format!("{{{name}}}"))) {
            return Err(format!("`{key}` lacks {{{missing}}}"));
        }
    }
    t.months.iter().try_for_each(|month| sentence("months", month))
}

fn sentence(key: &str, text: &str) -> Result<(), String> {
    match text {
        "" => Err(format!("`{key}` is empty")),
        text if text.len() > MAX_SENTENCE => Err(format!("`{key}` has more than {MAX_SENTENCE} bytes")),
        text if text.chars().any(char::is_control) => Err(format!("`{key}` has more than one line")),
        _ => Ok(()),
    }
}

/// Fills placeholders in. What is filled in is not looked at again.
pub(super) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (name, left) = after.split_once('}').unwrap_or((after, ""));
        out.extend(values.iter().find(|(key, _)| *key == name).map(|(_, value)| *value));
        rest = left;
    }
    out + rest
}

/// How times are said.
pub(super) struct Times<'a> {
    pub template: &'a Template,
    pub zone: &'a TimeZone,
    pub now: Timestamp,
}

impl Times<'_> {
    /// The hour, and the day where it is not today's.
    pub(super) fn say(&self, time: Timestamp) -> String {
        let zoned = |time: Timestamp| {
            let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
            jiff::Timestamp::from_second(second).ok().map(|time| time.to_zoned(self.zone.clone()))
        };
        let (Some(then), Some(now)) = (zoned(time), zoned(self.now)) else { return time.rfc3339() };
        let minute = format!("{:02}", then.minute());
        let hour = format!("{:02}", then.hour());
        let hours = fill(&self.template.time, &[("hour", &hour), ("minute", &minute)]);
        if then.date() == now.date() {
            return hours;
        }
        let month = usize::try_from(then.month() - 1).ok().and_then(|index| self.template.months.get(index));
        let month = month.map_or("", String::as_str);
        fill(&self.template.day_time, &[("day", &then.day().to_string()), ("month", month), ("time", &hours)])
    }
}
