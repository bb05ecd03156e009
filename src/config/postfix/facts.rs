//! The output of `postconf`, parsed.

use std::collections::BTreeMap;

/// What is asked of `postconf -x`: every parameter that [`super::examine()`] looks at.
pub const PARAMETERS: &[&str] = &[
    "alias_maps",
    "compatibility_level",
    "content_filter",
    "default_process_limit",
    "enable_long_queue_ids",
    "inet_interfaces",
    "mail_owner",
    "mail_version",
    "milter_command_timeout",
    "milter_connect_timeout",
    "milter_content_timeout",
    "milter_default_action",
    "milter_protocol",
    "mydestination",
    "myhostname",
    "myorigin",
    "non_smtpd_milters",
    "queue_directory",
    "receive_override_options",
    "recipient_delimiter",
    "smtpd_milter_maps",
    "smtpd_milters",
    "smtpd_proxy_filter",
    "smtpd_timeout",
    "virtual_alias_domains",
    "virtual_alias_maps",
];

/// What Postfix is set to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Parameters of main.cf with their values, `$name` replaced.
    pub main: BTreeMap<String, String>,
    /// Lines of master.cf.
    pub services: Vec<Service>,
}

/// One service of master.cf.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// First column: `smtp`, `127.0.0.1:10025`.
    pub name: String,
    /// Second column: `inet`, `unix`, `pass`.
    pub kind: String,
    /// Fifth column: `y`, `n` or `-`.
    pub chroot: String,
    /// Seventh column: a number or `-`.
    pub maxproc: String,
    /// Eighth column: `smtpd`.
    pub command: String,
    /// `-o name=value`, `$name` replaced.
    pub overrides: BTreeMap<String, String>,
}

impl Facts {
    /// Parses what `postconf -x NAME…`, `postconf -M` and `postconf -P -x` print. Lines that are none are skipped.
    pub fn parse(main: &str, master: &str, overrides: &str) -> Self {
        let mut services: Vec<Service> = master.lines().filter_map(service).collect();
        for (path, value) in overrides.lines().filter_map(assignment) {
            // A name may hold slashes (a unix service in a folder), a type and a parameter do not.
            let mut parts = path.rsplitn(3, '/');
            let (Some(parameter), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            for service in services.iter_mut().filter(|service| service.name == name && service.kind == kind)
            {
                service.overrides.insert(parameter.to_owned(), value.to_owned());
            }
        }
        let main = main.lines().filter_map(assignment);
        Self { main: main.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), services }
    }

    /// The value of `parameter`; empty where this Postfix does not know it.
    pub fn main(&self, parameter: &str) -> &str {
        self.main.get(parameter).map_or("", String::as_str)
    }

    /// The value of `parameter` as `service` sees it.
    pub fn effective<'a>(&'a self, service: &'a Service, parameter: &str) -> &'a str {
        service.overrides.get(parameter).map_or_else(|| self.main(parameter), String::as_str)
    }

    /// Every service that takes mail over SMTP.
    pub fn smtpds(&self) -> impl Iterator<Item = &Service> {
        self.services.iter().filter(|service| service.command == "smtpd")
    }

    /// Whether `service` runs chrooted in the queue directory (master(5): `-` is `n`, but `y` where
    /// `compatibility_level` is below 1).
    pub fn chrooted(&self, service: &Service) -> bool {
        match service.chroot.as_str() {
            "y" => true,
            "n" => false,
            _ => self.main("compatibility_level").trim() == "0",
        }
    }

    /// Whether only this machine can reach `service`.
    pub fn loopback(&self, service: &Service) -> bool {
        let host = service.name.rsplit_once(':').map(|(host, _)| host.trim_matches(['[', ']']));
        match host {
            Some("") | None => {
                service.kind == "inet"
                    && matches!(self.main("inet_interfaces"), "loopback-only" | "localhost")
            }
            Some(host) => {
                host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback())
            }
        }
    }

    /// How many processes of `service` run at most; `None`: without limit.
    pub fn processes(&self, service: &Service) -> Option<u64> {
        let number = match service.maxproc.as_str() {
            "-" => self.main("default_process_limit"),
            number => number,
        };
        number.trim().parse().ok().filter(|number| *number > 0)
    }
}

impl Service {
    /// `smtp/inet`, as postconf calls it.
    pub fn title(&self) -> String {
        format!("{}/{}", self.name, self.kind)
    }
}

/// `name = value`; the value may be empty.
fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| (name, value.trim()))
}

/// A line of `postconf -M`: eight columns, then arguments.
fn service(line: &str) -> Option<Service> {
    let columns: Vec<&str> = line.split_whitespace().take(8).collect();
    let [name, kind, _private, _unprivileged, chroot, _wakeup, maxproc, command] = columns.as_slice() else {
        return None;
    };
    Some(Service {
        name: (*name).to_owned(),
        kind: (*kind).to_owned(),
        chroot: (*chroot).to_owned(),
        maxproc: (*maxproc).to_owned(),
        command: (*command).to_owned(),
        overrides: BTreeMap::new(),
    })
}

/// The elements of a list of main.cf: divided by commas and blanks, but not within braces.
pub(super) fn elements(list: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut depth, mut start) = (0_usize, None);
    for (at, byte) in list.bytes().enumerate() {
        let divides = depth == 0 && (byte == b',' || byte.is_ascii_whitespace());
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if divides {
            out.extend(start.take().and_then(|start: usize| list.get(start..at)));
        } else if start.is_none() {
            start = Some(at);
        }
    }
    out.extend(start.and_then(|start| list.get(start..)));
    out
}

/// A length of time of main.cf in seconds: `30s`, `5m`; without a unit, seconds.
pub(super) fn time(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "\
smtp       inet  n       -       y       -       -       smtpd
127.0.0.1:10025 inet n   -       n       -       0       smtpd -o receive_override_options=no_milters
[::1]:10026 inet n       -       -       -       7       smtpd
pickup     unix  n       -       y       60      1       pickup
";

    #[test]
    fn reads_what_postconf_prints() {
        let facts = Facts::parse(
            "smtpd_milters =\nmydestination = a, b=c\npostconf: warning\ndefault_process_limit = 100\n",
            MASTER,
            "127.0.0.1:10025/inet/receive_override_options = no_milters\n[::1]:10026/inet/smtpd_milters =\nx = y\n",
        );
        assert_eq!(facts.main("mydestination"), "a, b=c");
        let smtpds: Vec<_> = facts.smtpds().map(Service::title).collect();
        assert_eq!(smtpds, ["smtp/inet", "127.0.0.1:10025/inet", "[::1]:10026/inet"]);
        let [smtp, filter, six, _] = facts.services.as_slice() else { panic!("{facts:?}") };
        assert_eq!(facts.effective(filter, "receive_override_options"), "no_milters");
        assert_eq!(six.overrides.get("smtpd_milters").map(String::as_str), Some(""));
        assert!(facts.chrooted(smtp) && !facts.chrooted(filter) && !facts.chrooted(six));
        assert!(!facts.loopback(smtp) && facts.loopback(filter) && facts.loopback(six));
        assert_eq!(
            (facts.processes(smtp), facts.processes(filter), facts.processes(six)),
            (Some(100), None, Some(7))
        );
    }

    #[test]
    fn an_old_compatibility_level_turns_the_chroot_on() {
        let facts = Facts::parse("compatibility_level = 0", "a inet n - - - - smtpd", "");
        assert!(facts.chrooted(&facts.services[0]));
    }

    #[test]
    fn lists_are_divided_outside_of_braces() {
        assert_eq!(elements("a, { b, c=d }  e,,"), ["a", "{ b, c=d }", "e"]);
        assert_eq!(elements(" { a { b, c }"), ["{ a { b, c }"]);
        assert_eq!(elements(""), Vec::<&str>::new());
        assert_eq!(elements("ä, ö}"), ["ä", "ö}"]);
    }

    #[test]
    fn times_have_units() {
        assert_eq!([time("30"), time("5m"), time("1d")], [Some(30), Some(300), Some(86_400)]);
        assert_eq!([time(""), time("x"), time("3y"), time("99999999999999999999s")], [None; 4]);
        assert_eq!(time("18446744073709551615w"), None);
    }
}
