//! The sections of the file, each into its settings.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::alerts;
use super::diagnostic::{Diagnostic, Report, Severity};
use super::reader::{Known, Notes, Section, wanted};
use super::rules::{MODES, Place, classes, default_policy, lists};
use super::value::{self, Problem, days, hours, minutes, seconds};
use super::{
    Admin, AdminHttp, Config, Daemon, Exempt, Listen, ListenAddress, Log, LogFormat, Policies, Public,
    Quarantine, State, Tables, UnknownLists, Watch,
};
use crate::directory::settings::DirectorySettings;
use crate::journal::settings::JournalSettings;
use crate::mail::address::AddressRules;
use crate::storm::limits::{LimitSettings, Rate};

const FORMATS: [(&str, LogFormat); 3] =
    [("text", LogFormat::Text), ("json", LogFormat::Json), ("journald", LogFormat::Journald)];
const LEVELS: [(&str, tracing::Level); 5] = [
    ("error", tracing::Level::ERROR),
    ("warn", tracing::Level::WARN),
    ("info", tracing::Level::INFO),
    ("debug", tracing::Level::DEBUG),
    ("trace", tracing::Level::TRACE),
];

/// See [`Config::parse`].
pub(super) fn parse(file: &str, text: &str) -> Result<(Config, Report), Report> {
    let (config, report, _) = parse_knowing(file, text);
    if report.has_errors() { Err(report) } else { Ok((config, report)) }
}

/// See [`Config::whereabouts`].
pub(super) fn whereabouts(text: &str) -> Option<(Admin, State)> {
    let (table, _) = DeTable::parse_recoverable(text);
    let notes = Notes::default();
    let mut root = Section::root(&notes, &table);
    let places = (admin(&notes, root.section("admin")), state(root.section("state")));
    let (diagnostics, _) = notes.into_parts();
    let wrong = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    (!wrong).then_some(places)
}

/// The same, and every setting that was looked for.
pub(super) fn parse_knowing(file: &str, text: &str) -> (Config, Report, Vec<Known>) {
    let (table, syntax) = DeTable::parse_recoverable(text);
    let notes = Notes::default();
    for error in &syntax {
        notes.push(mistake(error, text));
    }
    // What stands around a mistake of syntax was guessed by the parser: remarks about it would mislead.
    let config = if syntax.is_empty() {
        config(&notes, Section::root(&notes, &table), &Place { file, text })
    } else {
        Config::default()
    };
    let (mut diagnostics, known) = notes.into_parts();
    diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map(|span| span.start));
    (config, Report { file: file.to_owned(), text: text.to_owned(), diagnostics }, known)
}

/// A mistake of syntax, with what the parser expected as the remedy.
fn mistake(error: &toml::de::Error, text: &str) -> Diagnostic {
    let span = error.span().unwrap_or(0..0);
    let found = error.message().lines().next().unwrap_or("this is not TOML");
    let (what, expected) = found.split_once(", expected ").unwrap_or((found, ""));
    let given = text.get(span.clone()).unwrap_or_default();
    let (what, help) = match expected {
        "literal string" if given.trim().is_empty() => {
            ("the value is missing", "write it after the `=`".to_owned())
        }
        "literal string" => (what, format!("write \"{given}\"")),
        "" if what.starts_with("duplicate") => {
            (what, "a key stands once in its section: keep one".to_owned())
        }
        "" | "nothing" => (what, "see https://toml.io for the syntax of the file".to_owned()),
        expected => (what, format!("expected {expected}")),
    };
    Diagnostic::error(span, what).help(help)
}

fn config(notes: &Notes, mut root: Section<'_, '_>, place: &Place<'_>) -> Config {
    let listen = listen(root.section("listen"));
    let addresses = addresses(notes, root.section("postfix"));
    let watch = watch(root.section("watch"));
    let directory = directory(root.section("directory"));
    let default = default_policy(root.section("verdict"), root.section("storm"));
    let classes = classes(notes, root.section("class"), &default);
    let policies = Policies { default, classes, ..Policies::default() };
    let mut config = Config {
        listen,
        addresses,
        watch,
        directory,
        policies,
        exempt: exempt(root.section("exempt")),
        limits: limits(notes, root.section("limits")),
        unknown_lists: unknown_lists(root.section("unknown_lists")),
        tables: tables(root.section("tables")),
        log: log(root.section("log")),
        quarantine: quarantine(root.section("quarantine")),
        admin: admin(notes, root.section("admin")),
        public: public(root.section("public")),
        daemon: daemon(root.section("daemon")),
        state: state(root.section("state")),
        journal: journal(root.section("journal")),
        alerts: alerts::alerts(root.section("alerts")),
        notice: alerts::notice(root.section("notice")),
    };
    lists(notes, root.take("list"), place, &mut config);
    config.alerts.ways = alerts::ways(notes, root.take("alert"));
    alerts::check_notices(notes, &root, &config);
    root.finish();
    config
}

pub(super) fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn listen(mut section: Section<'_, '_>) -> Listen {
    let mut listen = Listen::default();
    if let Some(sockets) = section.texts("sockets", "1 to 16", value::listen_address) {
        check_sockets(&section, &sockets);
        listen.sockets = sockets;
    }
    set(&mut listen.mode, mode_bits(&mut section));
    if listen.mode & 0o002 != 0 {
        let help = "use \"0660\" and the group of Postfix";
        section.warn("mode", "every user of this machine could speak to becalm", help);
    }
    set(&mut listen.group, group(&mut section));
    set(&mut listen.max_connections, section.count("max_connections", 1..=100_000));
    set(&mut listen.idle_timeout, section.duration("idle_timeout", seconds(10)..=hours(24)));
    set(&mut listen.message_timeout, section.duration("message_timeout", seconds(10)..=hours(24)));
    set(&mut listen.packet_timeout, section.duration("packet_timeout", seconds(1)..=minutes(10)));
    set(&mut listen.drain, section.duration("drain", Duration::ZERO..=minutes(10)));
    set(&mut listen.linger, section.duration("linger", Duration::ZERO..=minutes(10)));
    set(&mut listen.takeover_linger, section.duration("takeover_linger", Duration::ZERO..=hours(24)));
    set(&mut listen.threads, section.count("threads", 0..=1024));
    section.finish();
    listen
}

fn check_sockets(section: &Section<'_, '_>, sockets: &[ListenAddress]) {
    // As many as the file names: a wrong one is no socket, and has its own remark.
    let given = section.items("sockets");
    if !(1..=16).contains(&given) {
        section.error("sockets", format!("`sockets`: {given} are given"), "allowed: 1 to 16");
    }
    for (index, socket) in sockets.iter().enumerate() {
        if sockets.iter().take(index).any(|earlier| earlier == socket) {
            section.error(
                "sockets",
                format!("`sockets`: `{socket}` is given twice"),
                "leave one of them out",
            );
        }
        if let ListenAddress::Inet { host, .. } = socket
            && !host.is_loopback()
        {
            let message = format!("`{socket}` can be reached from other machines");
            let help = "the milter protocol knows no password: use a unix socket or 127.0.0.1, or a firewall";
            section.warn("sockets", message, help);
        }
    }
}

/// `mode`: in octal, as text or as TOML's `0o660`. A plain 660 would be another number.
fn mode_bits(section: &mut Section<'_, '_>) -> Option<u32> {
    section.read("mode", "file mode in octal, as in \"0660\"", |value| match value {
        DeValue::Integer(integer) if integer.radix() == 8 => value::permissions(integer.as_str()),
        DeValue::Integer(integer) => Err(Problem::new(
            format!("{integer} is not written in octal"),
            format!("write \"0{}\"", integer.as_str().trim_start_matches('0')),
        )),
        DeValue::String(text) => value::permissions(text),
        other => Err(wanted("a file mode", other, "as in \"0660\"")),
    })
}

/// `group`: empty for the daemon's own.
fn group(section: &mut Section<'_, '_>) -> Option<Option<String>> {
    section.text("group", "name of a group, or \"\"", |text| match text {
        "" => Ok(None),
        text => value::name(text).map(Some),
    })
}

fn addresses(notes: &Notes, mut section: Section<'_, '_>) -> AddressRules {
    let mut rules = AddressRules::default();
    let domain_or_nothing =
        |text: &str| if text.is_empty() { Ok(String::new()) } else { value::domain(text) };
    set(&mut rules.myorigin, section.text("myorigin", "a domain, or \"\"", domain_or_nothing));
    set(&mut rules.local_domains, section.texts("local_domains", "domains", value::domain));
    let delimiters = section.text("recipient_delimiter", "printable ASCII characters, or \"\"", |text| {
        let fits =
            text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_alphanumeric() && byte != b'@');
        let refusal = || Problem::new(format!("`{text}` cannot divide a local part"), "usually \"+\"");
        fits.then(|| text.bytes().collect()).ok_or_else(refusal)
    });
    set(&mut rules.recipient_delimiter, delimiters);
    let value = section.take("domain_aliases");
    let mut aliases = Section::of(notes, "postfix.domain_aliases", value);
    for (alias, span, real) in aliases.entries() {
        let real = super::reader::string(real.get_ref(), "a domain", "in quotes")
            .and_then(value::domain)
            .map_err(|problem| (real.span(), problem));
        match value::domain(alias)
            .map_err(|problem| (span.clone(), problem))
            .and_then(|alias| Ok((alias, real?)))
        {
            Ok((alias, real)) if alias == real => {
                let found = Diagnostic::error(span, format!("`{alias}` is an alias of itself"));
                notes.push(found.help("write `\"alias.example\" = \"real.example\"`"));
            }
            Ok((alias, real)) => drop(rules.domain_aliases.insert(alias, real)),
            Err((span, problem)) => {
                notes.push(
                    Diagnostic::error(span, format!("`domain_aliases`: {}", problem.message))
                        .help(problem.help),
                );
            }
        }
    }
    section.finish();
    rules
}

fn watch(mut section: Section<'_, '_>) -> Watch {
    let mut watch = Watch::default();
    set(&mut watch.many_recipients, section.count("many_recipients", 2..=100_000));
    set(&mut watch.parts_within, section.duration("parts_within", Duration::ZERO..=hours(1)));
    section.finish();
    watch
}

fn directory(mut section: Section<'_, '_>) -> DirectorySettings {
    let mut directory = DirectorySettings::default();
    set(&mut directory.aliases, section.texts("aliases", "absolute paths", value::absolute_path));
    set(&mut directory.virtuals, section.texts("virtuals", "absolute paths", value::absolute_path));
    set(&mut directory.min_members, section.count("min_members", 2..=1_000_000));
    set(&mut directory.refresh, section.duration("refresh", seconds(1)..=days(1)));
    set(&mut directory.shrink_limit_per_mille, section.read("shrink_limit", "0.0 to 1.0", share));
    section.finish();
    directory
}

/// A share from 0.0 to 1.0, in per mille.
fn share(value: &DeValue<'_>) -> Result<u32, Problem> {
    let text = match value {
        DeValue::Float(float) => float.as_str(),
        DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
        other => return Err(wanted("a fraction", other, "as in 0.5")),
    };
    match text.parse::<f64>() {
        // Between 0 and 1000: the conversion neither truncates nor wraps.
        Ok(share) if (0.0..=1.0).contains(&share) => Ok((share * 1000.0).round() as u32),
        _ => Err(Problem::new(format!("{text} is out of range"), "allowed: 0.0 to 1.0")),
    }
}

fn exempt(mut section: Section<'_, '_>) -> Exempt {
    let mut exempt = Exempt::default();
    let author = |text: &str| value::mail_address(text, false);
    set(&mut exempt.authors, section.texts("authors", "addresses", author));
    set(&mut exempt.networks, section.texts("networks", "networks, as in \"192.0.2.0/24\"", value::network));
    if exempt.networks.iter().any(|network| network.prefix_len() == 0) {
        let help = "name the networks of those who must never wait";
        section.warn("networks", "a network of prefix length 0 exempts every client", help);
    }
    section.finish();
    exempt
}

fn limits(notes: &Notes, mut section: Section<'_, '_>) -> LimitSettings {
    let mut limits = LimitSettings::default();
    let allowed = [0, 1, 2, 3].map(|index| MODES[index]);
    set(&mut limits.mode, section.choice("mode", &allowed));
    let author = section.take("author");
    limits.author = author.and_then(|value| rate(Section::of(notes, "limits.author", Some(value))));
    let organisation = section.take("organisation");
    limits.organisation =
        organisation.and_then(|value| rate(Section::of(notes, "limits.organisation", Some(value))));
    section.finish();
    limits
}

fn rate(mut section: Section<'_, '_>) -> Option<Rate> {
    let copies: RangeInclusive<u64> = 1..=u64::from(u32::MAX);
    let copies = section.count::<u32>("copies", copies).and_then(NonZeroU32::new);
    let per = section.duration("per", seconds(1)..=days(365));
    if section.exists() && !(section.has("copies") && section.has("per")) {
        let help = "write `{ copies = 100_000, per = \"1h\" }`";
        section.error("", "a limit needs `copies` and `per`", help);
    }
    let rate = copies.zip(per).map(|(copies, per)| Rate { copies, per });
    // The bucket refills copy by copy, and counts time in nanoseconds of 64 bits.
    let rate = rate.filter(|rate| {
        let fits = rate.per.as_nanos() >= u128::from(rate.copies.get())
            && rate.per.as_nanos() <= u128::from(u64::MAX);
        if !fits {
            section.error("copies", "more than one copy in a nanosecond", "lower `copies` or raise `per`");
        }
        fits
    });
    section.finish();
    rate
}

fn unknown_lists(mut section: Section<'_, '_>) -> UnknownLists {
    let mut unknown = UnknownLists::default();
    set(&mut unknown.authors, section.count("authors", 2..=20));
    set(&mut unknown.window, section.duration("window", minutes(1)..=hours(24)));
    section.finish();
    unknown
}

fn tables(mut section: Section<'_, '_>) -> Tables {
    const MOST: u64 = 1 << 24;
    let mut tables = Tables::default();
    set(&mut tables.conversations, section.count("conversations", 1024..=MOST));
    set(&mut tables.recipients, section.count("recipients", 1024..=MOST));
    set(&mut tables.known_authors, section.count("known_authors", 1024..=1 << 28));
    set(&mut tables.message_ids, section.count("message_ids", 1024..=MOST));
    section.finish();
    tables
}

fn log(mut section: Section<'_, '_>) -> Log {
    let mut log = Log::default();
    set(&mut log.format, section.choice("format", &FORMATS));
    set(&mut log.level, section.choice("level", &LEVELS));
    section.finish();
    log
}

fn quarantine(mut section: Section<'_, '_>) -> Quarantine {
    let mut quarantine = Quarantine::default();
    set(&mut quarantine.helpers, section.texts("helpers", "absolute paths", value::absolute_path));
    if quarantine.helpers.len() > 8 {
        let message = format!("`helpers`: {} are given", quarantine.helpers.len());
        section.error("helpers", message, "allowed: 0 to 8");
    }
    set(&mut quarantine.release_pace, section.count("release_pace", 1..=1_000_000_000_000));
    set(&mut quarantine.max_age, section.duration("max_age", seconds(1)..=days(30)));
    set(&mut quarantine.max_count, section.count("max_count", 10..=100_000));
    set(&mut quarantine.max_bytes, section.count("max_bytes", 1_000_000..=1_000_000_000_000));
    set(&mut quarantine.reconcile, section.duration("reconcile", seconds(1)..=hours(1)));
    section.finish();
    quarantine
}

fn admin(notes: &Notes, mut section: Section<'_, '_>) -> Admin {
    let mut admin = Admin::default();
    set(&mut admin.socket, section.text("socket", "an absolute path", value::absolute_path));
    set(&mut admin.mode, mode_bits(&mut section));
    set(&mut admin.group, group(&mut section));
    set(&mut admin.users, section.texts("users", "names of users", value::name));
    let http = section.take("http");
    admin.http = admin_http(Section::of(notes, "admin.http", http));
    section.finish();
    admin
}

fn public(mut section: Section<'_, '_>) -> Public {
    let mut public = Public::default();
    set(&mut public.language, section.text("language", "a language, as in \"en\"", value::language));
    public.templates = section.text("templates", "an absolute path", value::absolute_path);
    set(&mut public.time_zone, section.text("time_zone", "a time zone, or \"\"", value::time_zone));
    section.finish();
    public
}

fn admin_http(mut section: Section<'_, '_>) -> AdminHttp {
    let listen = section.text("listen", "a loopback address with its port", value::loopback);
    let mut http = AdminHttp { listen, ..AdminHttp::default() };
    set(&mut http.read_without_token, section.flag("read_without_token"));
    set(&mut http.token_file, section.text("token_file", "an absolute path", value::absolute_path).map(Some));
    set(&mut http.allowed_hosts, section.texts("allowed_hosts", "names of hosts", value::domain));
    if http.allowed_hosts.len() > 16 {
        let message = format!("`allowed_hosts`: {} are given", http.allowed_hosts.len());
        section.error("allowed_hosts", message, "allowed: 0 to 16");
    }
    set(&mut http.max_streams, section.count("max_streams", 1..=10_000));
    if http.listen.is_some() && http.token_file.is_none() && !http.read_without_token {
        let help = "set `token_file`, or `read_without_token = true`";
        section.warn(
            "listen",
            "without a token nobody may ask anything by TCP but whether becalm lives",
            help,
        );
    }
    section.finish();
    http
}

fn daemon(mut section: Section<'_, '_>) -> Daemon {
    let mut daemon = Daemon::default();
    set(&mut daemon.sandbox, section.flag("sandbox"));
    set(&mut daemon.writable, section.texts("writable", "absolute paths", value::absolute_path));
    if daemon.writable.len() > 16 {
        let message = format!("`writable`: {} are given", daemon.writable.len());
        section.error("writable", message, "allowed: 0 to 16");
    }
    section.finish();
    daemon
}

fn state(mut section: Section<'_, '_>) -> State {
    let mut state = State::default();
    set(&mut state.directory, section.text("directory", "an absolute path", value::absolute_path));
    set(&mut state.node, section.text("node", "1 to 63 letters, digits, `-`, `_` and `.`", value::name));
    section.finish();
    state
}

fn journal(mut section: Section<'_, '_>) -> JournalSettings {
    let mut journal = JournalSettings::default();
    set(&mut journal.enabled, section.flag("enabled"));
    journal.directory = section.text("directory", "an absolute path", value::absolute_path);
    set(&mut journal.retention, section.duration("retention", days(1)..=days(365)));
    set(&mut journal.size_mib, section.count("size_mib", 64..=1 << 20));
    section.finish();
    journal
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
