//! Single values of the file: text and numbers into checked types.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use jiff::SpanRelativeTo;

use super::ListenAddress;
use super::diagnostic::did_you_mean;

/// Why a value is refused, and the remedy. Where it stands is known to the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub message: String,
    pub help: String,
}

impl Problem {
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// Longest address of SMTP: 64 of local part, `@`, 255 of domain (RFC 5321, 4.5.3.1).
const MAX_ADDRESS: usize = 320;
/// A reply line of SMTP is at most 512 bytes with its codes (RFC 5321, 4.5.3.1.5).
const MAX_TEMPLATE: usize = 400;
/// `sun_path` of a Linux socket address, less its NUL.
const MAX_SOCKET_PATH: usize = 107;

/// `10m`, `1h 30m`, `2 days`: jiff's friendly format; a day has 24 hours.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    const HELP: &str = "write a number with its unit, as in \"90s\", \"10m\", \"1h 30m\" or \"30d\"";
    let span: jiff::Span =
        text.parse().map_err(|_| Problem::new(format!("`{text}` is not a length of time"), HELP))?;
    let signed = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| {
        Problem::new(format!("`{text}` has no fixed length"), "use days: months and years differ in length")
    })?;
    Duration::try_from(signed)
        .map_err(|_| Problem::new(format!("`{text}` is less than nothing"), "leave out the minus sign"))
}

/// A length of time from the command line.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|problem| format!("{}: {}", problem.message, problem.help))
}

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn minutes(minutes: u64) -> Duration {
    seconds(60 * minutes)
}

pub(super) const fn hours(hours: u64) -> Duration {
    minutes(60 * hours)
}

pub(super) const fn days(days: u64) -> Duration {
    hours(24 * days)
}

/// A length of time as the file writes it, in the largest units that fit: `1h 30m`.
pub fn show_duration(duration: Duration) -> String {
    let mut out = String::new();
    let mut rest = duration.as_secs();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        // Up to two days in hours: "24h" is how the field says it.
        if unit == "d" && rest < 2 * 86_400 {
            continue;
        }
        if rest >= seconds {
            if !out.is_empty() {
                out.push(' ');
            }
            out.push_str(&format!("{}{unit}", rest / seconds));
            rest %= seconds;
        }
    }
    if duration.subsec_millis() > 0 {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(&format!("{}ms", duration.subsec_millis()));
    }
    if out.is_empty() { "0s".to_owned() } else { out }
}

/// A number with underscores between its thousands, as TOML allows them.
pub fn show_count(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

/// Permission bits in octal: `0660`.
pub(super) fn permissions(text: &str) -> Result<u32, Problem> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8).ok().filter(|bits| *bits <= 0o777 && !digits.starts_with('+')).ok_or_else(
        || Problem::new(format!("`{text}` is not a file mode"), "write it in octal, as in \"0660\""),
    )
}

/// `127.0.0.1:8025`, `[::1]:8025`: TCP that cannot be reached from elsewhere.
pub(super) fn loopback(text: &str) -> Result<SocketAddr, Problem> {
    let address: SocketAddr = text.parse().map_err(|_| {
        Problem::new(
            format!("`{text}` is not an address with a port"),
            "write \"127.0.0.1:8025\" or \"[::1]:8025\"",
        )
    })?;
    if !address.ip().is_loopback() {
        return Err(Problem::new(
            format!(
                "`{address}` can be reached from other machines, and what is sent there is not encrypted"
            ),
            "listen on 127.0.0.1 or ::1; for others, put a web server with TLS and its own log-in before it",
        ));
    }
    Ok(address)
}

/// For the command line.
impl std::str::FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        listen_address(text).map_err(|problem| format!("{}; {}", problem.message, problem.help))
    }
}

/// `unix:PATH`, `inet:PORT@HOST`, or as Postfix writes it, `inet:HOST:PORT`.
pub(super) fn listen_address(text: &str) -> Result<ListenAddress, Problem> {
    const HELP: &str = "write \"unix:/path/to/socket\" or \"inet:PORT@HOST\"";
    let Some((kind, rest)) = text.split_once(':') else {
        let help = if text.starts_with('/') { format!("write \"unix:{text}\"") } else { HELP.to_owned() };
        return Err(Problem::new(format!("`{text}` is not an address to listen on"), help));
    };
    match kind {
        "unix" | "local" => {
            let path = absolute_path(rest)?;
            if rest.len() > MAX_SOCKET_PATH {
                return Err(Problem::new(
                    format!("the path of the socket is {} bytes long", rest.len()),
                    format!("a unix socket's path has at most {MAX_SOCKET_PATH} bytes"),
                ));
            }
            Ok(ListenAddress::Unix(path))
        }
        "inet" | "inet6" => {
            let (port, host) = match rest.split_once('@') {
                Some((port, host)) => (port, host),
                None => match rest.rsplit_once(':') {
                    Some((host, port)) => (port, host),
                    None => return Err(Problem::new("no host is given", "write \"inet:PORT@127.0.0.1\"")),
                },
            };
            let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                Problem::new(format!("`{port}` is not a port"), "a port is a number from 1 to 65535")
            })?;
            Ok(ListenAddress::Inet { host: host_address(host)?, port })
        }
        _ => Err(Problem::new(format!("`{kind}:` is no kind of socket"), HELP)),
    }
}

fn host_address(host: &str) -> Result<IpAddr, Problem> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    bare.parse().map_err(|_| {
        Problem::new(
            format!("`{host}` is not an address of this machine"),
            "write an IP address or `localhost`: names are not looked up",
        )
    })
}

/// A path that does not depend on where the daemon was started.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, Problem> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err(Problem::new(format!("`{text}` is not an absolute path"), "begin it with `/`"));
    }
    if path.components().any(|part| part == Component::ParentDir) || text.contains('\0') {
        return Err(Problem::new(format!("`{text}` is not a plain path"), "write it without `..`"));
    }
    Ok(path.to_owned())
}

/// A client network; a bare address is a network of one.
pub(super) fn network(text: &str) -> Result<IpNet, Problem> {
    let net = match (text.parse::<IpNet>(), text.parse::<IpAddr>()) {
        (Ok(net), _) => net,
        (_, Ok(address)) => IpNet::from(address),
        _ => {
            return Err(Problem::new(
                format!("`{text}` is not a network"),
                "write it as in \"192.0.2.0/24\" or \"2001:db8::/32\"",
            ));
        }
    };
    if net.addr() != net.network() {
        return Err(Problem::new(
            format!("`{text}` has bits set beyond its prefix"),
            format!("write \"{}\", or \"{}\" for this one host", net.trunc(), net.addr()),
        ));
    }
    Ok(net)
}

/// The text of a reply: one line of ASCII, with no other placeholders than `{list}`, `{members}` and `{retry}`.
pub(super) fn template(text: &str) -> Result<String, Problem> {
    if text.trim().is_empty() {
        return Err(Problem::new("the text is empty", "say why the mail is not taken and what to do"));
    }
    if text.len() > MAX_TEMPLATE {
        return Err(Problem::new(
            format!("the text is {} bytes long", text.len()),
            format!("keep it within {MAX_TEMPLATE} bytes: a reply of SMTP is one line of 512"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Problem::new("the text has a line break or another control character", "write one line"));
    }
    if let Some(foreign) = text.chars().find(|c| !c.is_ascii()) {
        return Err(Problem::new(
            format!("the text has `{foreign}`, which no reply of SMTP can carry: the sender would read `?`"),
            "write it in ASCII (RFC 5321, 4.2)",
        ));
    }
    placeholders(
        text,
        &["list", "members", "retry"],
        "`{list}`, `{members}` and `{retry}` are filled in; no other braces",
    )?;
    Ok(text.to_owned())
}

/// A text with no other placeholders than `known`, as `help` says.
pub(super) fn placeholders(text: &str, known: &[&'static str], help: &str) -> Result<(), Problem> {
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let tail = &rest[at..];
        let Some((name, after)) = tail.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
            return Err(Problem::new("a brace without its partner", help));
        };
        if !known.contains(&name) {
            let help = did_you_mean(name, known.iter().copied())
                .map_or_else(|| help.to_owned(), |near| format!("did you mean `{{{near}}}`?"));
            return Err(Problem::new(format!("nothing is known as `{{{name}}}`"), help));
        }
        rest = after;
    }
    Ok(())
}

/// The address of a list or an author, in lower case; `*` may stand in it where `pattern` is set.
pub(super) fn mail_address(text: &str, pattern: bool) -> Result<String, Problem> {
    let help = if pattern {
        "write `local@domain`; `*` stands for any characters"
    } else {
        "write `local@domain`, without `<>` and without `*`"
    };
    let refuse = |why: &str| Err(Problem::new(format!("`{text}` {why}"), help));
    if text.len() > MAX_ADDRESS {
        return Err(Problem::new(
            format!("an address of {} bytes", text.len()),
            format!("an address has at most {MAX_ADDRESS} bytes"),
        ));
    }
    let (local, domain) = text.rsplit_once('@').unwrap_or((text, "-"));
    if local.is_empty() || domain.is_empty() {
        return refuse("is not an address");
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';')) {
        return refuse("has characters that no list's address has");
    }
    if !pattern && text.contains('*') {
        return refuse("is a pattern");
    }
    Ok(text.to_lowercase())
}

/// A domain, in lower case and without the root's dot.
pub(super) fn domain(text: &str) -> Result<String, Problem> {
    let name = text.strip_suffix('.').unwrap_or(text);
    // RFC 1035, 2.3.4: 255 octets with the lengths of its labels.
    let fits = !name.is_empty() && name.len() <= 253;
    let literal = name.starts_with('[') && name.ends_with(']');
    let plain = name.split('.').all(|label| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_')
    });
    if fits && (literal || plain) {
        return Ok(name.to_lowercase());
    }
    let help = if text.starts_with('/') || text.contains(':') {
        "name the domains themselves: becalm does not read Postfix's tables for this"
    } else {
        "write it as in \"example.org\""
    };
    Err(Problem::new(format!("`{text}` is not a domain"), help))
}

/// What everybody may know a list as: no address, one line.
pub(super) fn public_name(text: &str) -> Result<String, Problem> {
    let name = text.trim();
    if !(1..=100).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return Err(Problem::new("this is no name for the public", "use 1 to 100 characters on one line"));
    }
    if name.contains('@') {
        let help = "name it as people speak of it: addresses of lists are no business of the public";
        return Err(Problem::new(format!("`{name}` looks like an address"), help));
    }
    Ok(name.to_owned())
}

/// A language: the name of a template's file without `.toml`.
pub(super) fn language(text: &str) -> Result<String, Problem> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if plain && (2..=35).contains(&text.len()) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(Problem::new(format!("`{text}` is not a language"), "as in \"en\" or \"pt-br\""))
    }
}

/// A time zone of this machine; empty: the machine's own.
pub(super) fn time_zone(text: &str) -> Result<String, Problem> {
    if text.is_empty() || jiff::tz::TimeZone::get(text).is_ok() {
        return Ok(text.to_owned());
    }
    let help = "as in \"Europe/Vienna\"; they are in /usr/share/zoneinfo (Debian's package tzdata)";
    Err(Problem::new(format!("this machine knows no time zone `{text}`"), help))
}

/// A name of letters, digits, `-`, `_` and `.`: of a class, a node, a user or a group.
pub(super) fn name(text: &str) -> Result<String, Problem> {
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if plain && (1..=63).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err(Problem::new(format!("`{text}` is not a name"), "use 1 to 63 letters, digits, `-`, `_` and `.`"))
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Problem> {
    if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
    let help = match did_you_mean(text, words.iter().copied()) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => format!("one of \"{}\"", words.join("\", \"")),
    };
    Err(Problem::new(format!("\"{text}\" is not a choice here"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown_alike() {
        for (text, seconds, shown) in [
            ("10m", 600, "10m"),
            ("1h 30m", 5400, "1h 30m"),
            ("24h", 86_400, "24h"),
            ("1 day", 86_400, "24h"),
            ("30d", 30 * 86_400, "30d"),
            ("1w", 7 * 86_400, "7d"),
            ("0s", 0, "0s"),
        ] {
            let read = duration(text).unwrap();
            assert_eq!(read.as_secs(), seconds, "{text}");
            assert_eq!(show_duration(read), shown);
            assert_eq!(duration(shown).unwrap(), read);
        }
        assert_eq!(show_duration(duration("1s 5ms").unwrap()), "1s 5ms");
        for bad in ["", "10", "soon", "-5m", "1mo", "1y", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sockets_are_read_in_both_spellings() {
        let unix = listen_address("unix:/run/b.sock").unwrap();
        assert_eq!(unix.to_string(), "unix:/run/b.sock");
        for text in ["inet:8890@localhost", "inet:127.0.0.1:8890", "inet:localhost:8890"] {
            assert_eq!(listen_address(text).unwrap().to_string(), "inet:8890@127.0.0.1", "{text}");
        }
        let six = listen_address("inet6:8890@[::1]").unwrap();
        assert_eq!(six.to_string(), "inet:8890@::1");
        assert_eq!(six.as_postfix_writes_it(), "inet:[::1]:8890");
        assert_eq!(listen_address(&six.as_postfix_writes_it()).unwrap(), six);
        let long = format!("unix:/{}", "x".repeat(107));
        for bad in
            ["", "/run/b.sock", "unix:b.sock", "inet:8890", "inet:0@::1", "inet:1@mx", "tcp:1@::1", &long]
        {
            assert!(listen_address(bad).is_err(), "{bad}");
        }
        assert_eq!(listen_address("/run/b.sock").unwrap_err().help, "write \"unix:/run/b.sock\"");
    }

    #[test]
    fn file_modes_are_octal() {
        assert_eq!(permissions("0660"), Ok(0o660));
        assert_eq!(permissions("0o600"), Ok(0o600));
        for bad in ["", "888", "7777", "+660", "rw"] {
            assert!(permissions(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn networks_must_be_exact() {
        assert_eq!(network("192.0.2.1").unwrap().to_string(), "192.0.2.1/32");
        assert_eq!(
            network("10.1.2.3/8").unwrap_err().help,
            "write \"10.0.0.0/8\", or \"10.1.2.3\" for this one host"
        );
        assert!(network("10.0.0.0/40").is_err());
    }

    #[test]
    fn templates_know_three_placeholders() {
        assert!(template("{list} reaches {members}: {retry}").is_ok());
        assert_eq!(template("{lists}").unwrap_err().help, "did you mean `{list}`?");
        let refused = template("für {list}").unwrap_err();
        assert!(refused.message.contains("`ü`") && refused.help.contains("ASCII"), "{refused:?}");
        for bad in ["", " ", "a\nb", "{", "}", "{list", "{}", &"x".repeat(401)] {
            assert!(template(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_and_domains() {
        assert_eq!(mail_address("All@Example.ORG", false).unwrap(), "all@example.org");
        assert_eq!(mail_address("*-all@*", true).unwrap(), "*-all@*");
        assert_eq!(mail_address("staff", true).unwrap(), "staff");
        for bad in ["", "@x", "x@", "a b@c", "<a@b>", "*@b", &"x".repeat(321)] {
            assert!(mail_address(bad, false).is_err(), "{bad}");
        }
        assert_eq!(domain("Example.Org.").unwrap(), "example.org");
        for bad in ["", ".", "a..b", "hash:/etc/x", "/etc/x", "a b"] {
            assert!(domain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!(show_count(0), "0");
        assert_eq!(show_count(999), "999");
        assert_eq!(show_count(1_234_567), "1_234_567");
    }
}
