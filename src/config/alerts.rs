//! The sections that say who is told what: `[alerts]`, `[[alert]]` and `[notice]`.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::de::DeValue;

use super::Config;
use super::diagnostic::{Diagnostic, did_you_mean};
use super::file::set;
use super::reader::{Notes, Section, Value};
use super::value::{self, Problem, days, hours, minutes, seconds};
use crate::alert::Kind;
use crate::alert::settings::{AlertSettings, Body, MailSettings, Means, NoticeSettings, Tls, Way};

/// Each has a thread.
const MOST_WAYS: usize = 16;

/// A subject of more would be folded; a text of more is not read.
const MAX_SUBJECT: usize = 200;
const MAX_TEXT: usize = 4000;

/// Longest URL and longest argument.
const MAX_ARGUMENT: usize = 4096;

#[derive(Clone, Copy)]
enum Sort {
    Webhook,
    Command,
    Mail,
}

impl Config {
    /// The way by mail that notices take, and how mail is handed in there: the first.
    pub fn mail_way(&self) -> Option<(&Way, &MailSettings)> {
        self.alerts.ways.iter().find_map(|way| match &way.means {
            Means::Mail(mail) => Some((way, mail)),
            Means::Webhook { .. } | Means::Command { .. } => None,
        })
    }

    /// The domains whose people get notices: those that are set, or those of the site.
    pub fn notice_domains(&self) -> Vec<String> {
        if !self.notice.domains.is_empty() {
            return self.notice.domains.clone();
        }
        let mut domains = self.addresses.local_domains.clone();
        domains.extend(Some(self.addresses.myorigin.clone()).filter(|domain| !domain.is_empty()));
        domains.dedup();
        domains
    }
}

/// `[alerts]`.
pub(super) fn alerts(mut section: Section<'_, '_>) -> AlertSettings {
    let mut alerts = AlertSettings::default();
    set(&mut alerts.lasting, section.duration("lasting", Duration::ZERO..=hours(1)));
    set(&mut alerts.silence, section.duration("silence", Duration::ZERO..=days(30)));
    section.finish();
    alerts
}

/// `[[alert]]`.
pub(super) fn ways(notes: &Notes, value: Option<&Value<'_>>) -> Vec<Way> {
    let Some(value) = value else { return Vec::new() };
    let DeValue::Array(entries) = value.get_ref() else {
        let help = "write `[[alert]]`, once for every way; settings for all of them are in `[alerts]`";
        notes.push(Diagnostic::error(value.span(), "`alert` is an array of tables").help(help));
        return Vec::new();
    };
    let mut ways: Vec<Way> = Vec::new();
    let mut names = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        if index >= MOST_WAYS {
            let found =
                Diagnostic::error(entry.span(), format!("there are {} ways of alerts", entries.len()));
            notes.push(found.help(format!("allowed: {MOST_WAYS}; a command can tell many")));
            break;
        }
        let Some(way) = way(notes, entry, index + 1) else { continue };
        if !names.insert(way.name.clone()) {
            let found = Diagnostic::error(entry.span(), format!("two alerts are called `{}`", way.name));
            notes.push(found.help("give each a `name` of its own"));
        }
        ways.push(way);
    }
    ways
}

fn way(notes: &Notes, entry: &Value<'_>, number: usize) -> Option<Way> {
    let mut section = Section::of(notes, "alert", Some(entry));
    if !section.exists() {
        return None;
    }
    let sorts = [("webhook", Sort::Webhook), ("command", Sort::Command), ("mail", Sort::Mail)];
    let given = section.has("way");
    let sort = section.choice("way", &sorts);
    let name = section.text("name", "1 to 63 letters, digits, `-`, `_` and `.`", value::name);
    let events = section.texts("events", "names of events", event);
    if events.as_ref().is_some_and(Vec::is_empty) {
        section.error("events", "`events` names none", "leave `events` out for all of them");
    }
    let timeout = section.duration("timeout", seconds(1)..=minutes(5));
    if !given {
        let found = Diagnostic::error(section.span(), "this alert has no way");
        notes.push(found.help("add `way = \"webhook\"`, \"command\" or \"mail\""));
    }
    let Some(sort) = sort else {
        // What it may have depends on that.
        return None;
    };
    let (word, means) = match sort {
        Sort::Webhook => ("webhook", webhook(&mut section)),
        Sort::Command => ("command", command(&mut section)),
        Sort::Mail => ("mail", mail(&mut section)),
    };
    section.finish();
    Some(Way {
        name: name.unwrap_or_else(|| format!("{word}-{number}")),
        events,
        timeout: timeout.unwrap_or(seconds(10)),
        means: means?,
    })
}

fn event(text: &str) -> Result<Kind, Problem> {
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == text) {
        return Ok(kind);
    }
    let names = Kind::ALL.map(Kind::name);
    let help = match did_you_mean(text, names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("one of \"{}\"", names.join("\", \"")),
    };
    Err(Problem::new(format!("\"{text}\" is no event"), help))
}

fn webhook(section: &mut Section<'_, '_>) -> Option<Means> {
    let given = section.has("url");
    let url = section.text("url", "https://... or http://...", url);
    if !given {
        section.error("url", "a webhook without `url`", "add `url = \"https://...\"`");
    }
    let token_file = section.text("token_file", "an absolute path", value::absolute_path);
    if token_file.is_some() && url.as_ref().is_some_and(|url| leaves_in_the_clear(url)) {
        section.warn("token_file", "the token is sent without encryption", "use https://");
    }
    let body = section.choice("body", &[("full", Body::Full), ("text", Body::Text)]);
    Some(Means::Webhook { url: url?, token_file, body: body.unwrap_or_default() })
}

/// Only what can be told without a look at the network.
fn url(text: &str) -> Result<String, Problem> {
    const HELP: &str = "write it as in \"https://chat.example.org/hooks/x\"";
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let Some(rest) = rest else {
        return Err(Problem::new(format!("`{text}` is not a URL of http:// or https://"), HELP));
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(Problem::new(
            "a name or a password in a URL",
            "put a token into a file, and name it in `token_file`",
        ));
    }
    let fits = text.len() <= MAX_ARGUMENT && text.bytes().all(|byte| byte.is_ascii_graphic());
    if host.is_empty() || host.starts_with(':') || !fits {
        return Err(Problem::new(format!("`{text}` is not a URL"), HELP));
    }
    Ok(text.to_owned())
}

fn leaves_in_the_clear(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    !is_this_machine(name)
}

fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback())
}

fn command(section: &mut Section<'_, '_>) -> Option<Means> {
    let given = section.has("command");
    let argv = section.texts("command", "a program's absolute path, and its arguments", |text| {
        let fits = text.len() <= MAX_ARGUMENT && !text.contains('\0');
        let refusal =
            || Problem::new("an argument that no program can be given", "at most 4,096 bytes, without NUL");
        fits.then(|| text.to_owned()).ok_or_else(refusal)
    });
    let program = argv.as_ref().and_then(|argv| argv.first());
    match program {
        _ if !given => {
            section.error("command", "a command without `command`", "add `command = [\"/path/to/program\"]`")
        }
        None => {
            section.error("command", "`command` is empty", "begin it with the absolute path of a program")
        }
        Some(program) if !program.starts_with('/') => section.error(
            "command",
            format!("`{program}` is not an absolute path"),
            "begin it with `/`; there is no shell: for one, write [\"/bin/sh\", \"-c\", \"...\"]",
        ),
        Some(_) => return argv.map(|argv| Means::Command { argv }),
    }
    None
}

fn mail(section: &mut Section<'_, '_>) -> Option<Means> {
    let host = section.text("host", "a name or an address", host).unwrap_or_else(|| "localhost".to_owned());
    let port = section.count("port", 1..=65_535);
    let choices = [("starttls", Tls::Starttls), ("tls", Tls::Tls), ("none", Tls::None)];
    let tls = section.choice("tls", &choices).unwrap_or_default();
    let user = section.text("user", "a name", |text| line(text, 256));
    let password_file = section.text("password_file", "an absolute path", value::absolute_path);
    if user.is_some() != password_file.is_some() {
        let key = if user.is_some() { "user" } else { "password_file" };
        section.error(key, "`user` and `password_file` go together", "add the other, or leave this one out");
    }
    if tls == Tls::None && user.is_some() && !is_this_machine(&host) {
        let message = format!("the password would go to `{host}` without encryption");
        section.error("tls", message, "use \"starttls\" or \"tls\"");
    } else if tls == Tls::None && !is_this_machine(&host) {
        let message = format!("mail to `{host}` goes without encryption");
        section.warn("tls", message, "use \"starttls\" or \"tls\"");
    }
    let missing = |key: &'static str, section: &Section<'_, '_>, help: &str| {
        if !section.has(key) {
            section.error(key, format!("mail without `{key}`"), help);
        }
    };
    missing("from", section, "add `from = \"becalm@your.domain\"`");
    missing("to", section, "add `to = [\"postmaster@your.domain\"]`");
    let from = section.text("from", "an address", recipient);
    let to = section.texts("to", "addresses", recipient);
    if let Some(to) = &to
        && !(1..=16).contains(&to.len())
    {
        section.error(
            "to",
            format!("`to`: {} recipients", to.len()),
            "allowed: 1 to 16; write to a list instead",
        );
    }
    let usual = if tls == Tls::Tls { 465 } else { 587 };
    Some(Means::Mail(MailSettings {
        host,
        port: port.unwrap_or(usual),
        tls,
        user,
        password_file,
        from: from?,
        to: to?,
    }))
}

fn host(text: &str) -> Result<String, Problem> {
    let bare = text.trim_matches(['[', ']']);
    if bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    value::domain(text).map_err(|_| {
        Problem::new(
            format!("`{text}` is not the name of a host"),
            "write its name or address; the port is `port`",
        )
    })
}

/// An address that mail can be sent to.
fn recipient(text: &str) -> Result<String, Problem> {
    let address = value::mail_address(text, false)?;
    if address.contains('@') && address.is_ascii() {
        return Ok(address);
    }
    Err(Problem::new(format!("`{text}` is not a whole address"), "write `local@domain`"))
}

fn line(text: &str, most: usize) -> Result<String, Problem> {
    if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
        let help = format!("write one line of at most {most} bytes");
        return Err(Problem::new("this is not one line of text", help));
    }
    Ok(text.to_owned())
}

/// `[notice]`.
pub(super) fn notice(mut section: Section<'_, '_>) -> NoticeSettings {
    let mut notice = NoticeSettings::default();
    set(&mut notice.enabled, section.flag("enabled"));
    set(&mut notice.domains, section.texts("domains", "domains", value::domain));
    let subject = section.text("subject", "one line of at most 200 bytes", |text| {
        line(text, MAX_SUBJECT).and_then(|text| placeholders(&text).map(|()| text))
    });
    set(&mut notice.subject, subject);
    let text = section.text("text", "at most 4,000 bytes", |text| {
        if text.trim().is_empty() || text.len() > MAX_TEXT {
            let message = format!("the text has {} bytes", text.len());
            return Err(Problem::new(message, "say what has happened and what to do, within 4,000 bytes"));
        }
        placeholders(text).map(|()| text.to_owned())
    });
    set(&mut notice.text, text);
    set(&mut notice.per_minute, section.count("per_minute", 1..=10_000));
    section.finish();
    notice
}

fn placeholders(text: &str) -> Result<(), Problem> {
    let help = "`{list}`, `{members}`, `{storm}` and `{since}` are filled in; no other braces";
    value::placeholders(text, &["list", "members", "storm", "since"], help)
}

/// What notices need from elsewhere in the file.
pub(super) fn check_notices(notes: &Notes, root: &Section<'_, '_>, config: &Config) {
    if !config.notice.enabled {
        return;
    }
    let at = root.span_of("notice");
    if config.mail_way().is_none() {
        let found = Diagnostic::error(at.clone(), "notices are on, but no [[alert]] goes by mail");
        notes.push(found.help("add an `[[alert]]` with `way = \"mail\"`: notices are handed in there"));
    }
    if config.notice_domains().is_empty() {
        let found = Diagnostic::error(at, "notices are on, but nobody gets one: no domain is known");
        notes.push(found.help("set `domains` in [notice], or `local_domains` in [postfix]"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse("b.toml", text).map(|(config, _)| config).map_err(|report| report.to_string())
    }

    #[test]
    fn ways_have_usual_settings() {
        let config = parse(
            "[[alert]]\nway = 'webhook'\nurl = 'https://x.example/h'\n[[alert]]\nway = 'mail'\nfrom = 'b@x.example'\nto = ['o@x.example']\n\
             events = ['held']\n[[alert]]\nway = 'command'\ncommand = ['/bin/true']\nname = 'page'",
        )
        .unwrap();
        let names: Vec<_> = config.alerts.ways.iter().map(|way| way.name.as_str()).collect();
        assert_eq!(names, ["webhook-1", "mail-2", "page"]);
        let (way, mail) = config.mail_way().unwrap();
        assert_eq!((mail.host.as_str(), mail.port, mail.tls), ("localhost", 587, Tls::Starttls));
        assert!(
            way.takes(Kind::Held, None) && !way.takes(Kind::Degraded, None) && way.takes(Kind::Test, None)
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_remedy() {
        for (text, words) in [
            ("[[alert]]", "add `way = "),
            ("[[alert]]\nway = 'pager'", "one of \"webhook\", \"command\", \"mail\""),
            ("[[alert]]\nway = 'webhook'", "a webhook without `url`"),
            ("[[alert]]\nway = 'webhook'\nurl = 'chat.example'", "not a URL of http://"),
            ("[[alert]]\nway = 'webhook'\nurl = 'https://u:p@chat.example/'", "token_file"),
            (
                "[[alert]]\nway = 'webhook'\nurl = 'https://x/'\nhost = 'y'",
                "unknown setting `host` in `alert`",
            ),
            ("[[alert]]\nway = 'command'\ncommand = ['page']", "not an absolute path"),
            ("[[alert]]\nway = 'command'\ncommand = []", "`command` is empty"),
            ("[[alert]]\nway = 'mail'\nto = ['a@b']", "mail without `from`"),
            ("[[alert]]\nway = 'mail'\nfrom = 'a@b'\nto = []", "allowed: 1 to 16"),
            ("[[alert]]\nway = 'mail'\nfrom = 'a@b'\nto = ['x']", "not a whole address"),
            ("[[alert]]\nway = 'mail'\nfrom = 'a@b'\nto = ['a@b']\nhost = 'mx:25'", "not the name of a host"),
            ("[[alert]]\nway = 'mail'\nfrom = 'a@b'\nto = ['a@b']\nuser = 'x'", "go together"),
            (
                "[[alert]]\nway='mail'\nfrom='a@b.c'\nto=['a@b.c']\ntls='none'\nhost='mx.example'\nuser='x'\npassword_file='/p'",
                "the password would go to `mx.example` without encryption",
            ),
            (
                "[[alert]]\nway = 'command'\ncommand = ['/a']\nevents = ['storm_start']",
                "did you mean \"storm_started\"?",
            ),
            ("[[alert]]\nway = 'command'\ncommand = ['/a']\nevents = []", "names none"),
            (
                "[[alert]]\nname = 'a'\nway = 'command'\ncommand = ['/a']\n[[alert]]\nname = 'a'\nway = 'command'\ncommand = ['/a']",
                "two alerts are called `a`",
            ),
            ("[alert]\nway = 'mail'", "write `[[alert]]`"),
            ("[notice]\nenabled = true", "no [[alert]] goes by mail"),
            ("[notice]\nenabled = true", "nobody gets one"),
            ("[notice]\ntext = 'on {lists}'", "did you mean `{list}`?"),
            ("[notice]\nsubject = 'a } b {'", "a brace without its partner"),
        ] {
            let report = parse(text).expect_err(text);
            assert!(report.contains(words), "{text}\n{report}");
        }
        let many = "[[alert]]\nway = 'command'\ncommand = ['/a']\n".repeat(17);
        assert!(parse(&many).unwrap_err().contains("allowed: 16"));
    }

    #[test]
    fn what_goes_in_the_clear_is_remarked_upon() {
        for (text, warned) in [
            ("[[alert]]\nway='webhook'\nurl='http://x.example/'\ntoken_file='/t'", true),
            ("[[alert]]\nway='webhook'\nurl='http://127.0.0.1:99/'\ntoken_file='/t'", false),
            ("[[alert]]\nway='mail'\nfrom='a@b.c'\nto=['a@b.c']\ntls='none'\nhost='mx.example'", true),
            ("[[alert]]\nway='mail'\nfrom='a@b.c'\nto=['a@b.c']\ntls='none'\nhost='::1'", false),
        ] {
            let (_, report) = Config::parse("b.toml", text).unwrap();
            assert_eq!(!report.diagnostics.is_empty(), warned, "{text}: {report}");
        }
    }
}
