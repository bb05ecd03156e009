//! The notice for a browser, a terminal and a program.

use serde::Deserialize;

use super::PublicStatus;
use super::template::{Template, Times, fill};
use crate::time::Timestamp;
use jiff::tz::TimeZone;

/// No script, nothing from elsewhere. Colours have a contrast above 7:1 in both schemes.
const STYLE: &str = ":root{color-scheme:light dark;--ink:#1b1b1b;--paper:#fff;--edge:#8a4b00}\
@media(prefers-color-scheme:dark){:root{--ink:#f0f0f0;--paper:#161616;--edge:#f0b060}}\
body{margin:0 auto;padding:1.5rem 1rem;max-width:40rem;font:1.125rem/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}\
h1{font-size:1.5rem;line-height:1.25}ul{list-style:none;margin:0;padding:0}\
li{margin:1rem 0;padding-inline-start:1rem;border-inline-start:.25rem solid var(--edge);overflow-wrap:anywhere}li p{margin:.25rem 0}\
@media print{:root{--ink:#000;--paper:#fff;--edge:#000}body{max-width:none}li{break-inside:avoid}}";

/// A browser looks again after so many seconds.
const LOOK_AGAIN_S: u32 = 60;

/// In which form the notice is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A page of its own.
    #[default]
    Html,
    /// Lines.
    Text,
    /// An object.
    Json,
}

impl Format {
    /// For HTTP.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Html => "text/html; charset=utf-8",
            Self::Text => "text/plain; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    /// As a word in a query.
    pub fn name(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

impl PublicStatus {
    /// The whole notice, as of `now`.
    pub fn render(&self, format: Format, template: &Template, zone: &TimeZone, now: Timestamp) -> String {
        let times = Times { template, zone, now };
        let updated = fill(&template.updated, &[("time", &times.say(now))]);
        match format {
            Format::Html => self.html(template, &updated),
            Format::Text => self.text(template, &updated),
            // Strings and numbers under fixed names: nothing in it can fail to be written.
            Format::Json => serde_json::to_string_pretty(self).unwrap_or_default() + "\n",
        }
    }

    fn text(&self, template: &Template, updated: &str) -> String {
        let mut out = format!("{}\n\n", printable(&template.title));
        for list in &self.lists {
            for message in &list.messages {
                out.push_str(&printable(message));
                out.push('\n');
            }
            out.push('\n');
        }
        for message in &self.messages {
            out.push_str(&printable(message));
            out.push('\n');
        }
        out + "\n" + &printable(updated) + "\n"
    }

    fn html(&self, template: &Template, updated: &str) -> String {
        let (language, direction) = (escaped(&self.language), template.direction.name());
        let title = escaped(&template.title);
        let mut out = format!(
            "<!DOCTYPE html>\n<html lang=\"{language}\" dir=\"{direction}\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"refresh\" content=\"{LOOK_AGAIN_S}\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        );
        if !self.lists.is_empty() {
            out.push_str("<ul>\n");
            for list in &self.lists {
                let paragraphs = list.messages.iter().map(|text| format!("<p>{}</p>", escaped(text)));
                out.push_str(&format!("<li>{}</li>\n", paragraphs.collect::<String>()));
            }
            out.push_str("</ul>\n");
        }
        for message in &self.messages {
            out.push_str(&format!("<p>{}</p>\n", escaped(message)));
        }
        let machine = escaped(&self.updated);
        out.push_str(&format!(
            "<p><small><time datetime=\"{machine}\">{}</time></small></p>\n</main>\n</body>\n</html>\n",
            escaped(updated)
        ));
        out
    }
}

/// For text and for values of attributes in double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().filter(|c| !c.is_control()) {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Nothing that commands a terminal.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
