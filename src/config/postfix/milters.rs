//! `smtpd_milters`: its entries, and which of them is becalm.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use super::facts::elements;
use crate::config::{ListenAddress, did_you_mean};

/// What an entry in braces may set (Postfix 3.0 and later); smtpd dies of any other name.
const NAMES: [&str; 5] =
    ["default_action", "connect_timeout", "command_timeout", "content_timeout", "protocol"];

/// One milter of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Milter {
    /// The entry as it stands in the list.
    pub text: String,
    /// `unix:becalm/becalm.sock`, `inet:localhost:8891`.
    pub address: String,
    /// `default_action=accept` and the like.
    pub settings: BTreeMap<String, String>,
    /// The first thing that Postfix does not put up with.
    pub flaw: Option<Flaw>,
}

/// Why the program that reads an entry ends at once, and takes no mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flaw {
    pub what: String,
    pub help: String,
}

impl Flaw {
    fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        Self { what: what.into(), help: help.into() }
    }
}

/// How a milter's address relates to becalm's sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// Leads to this socket.
    Becalm(ListenAddress),
    /// Meant for this socket, but a chrooted smtpd looks for it elsewhere.
    OutsideChroot(ListenAddress),
    /// By its name meant for becalm, which listens elsewhere.
    Misnamed,
    /// Another milter.
    Other,
}

/// The entries of `smtpd_milters` or `non_smtpd_milters`.
pub(super) fn parse(list: &str) -> Vec<Milter> {
    elements(list).into_iter().map(milter).collect()
}

/// As milter_new() of Postfix reads it, but for what comes after a flaw: that is guessed.
fn milter(element: &str) -> Milter {
    let mut milter = Milter {
        text: element.to_owned(),
        address: element.to_owned(),
        settings: BTreeMap::new(),
        flaw: None,
    };
    if !element.starts_with('{') {
        return milter;
    }
    let inner = within_braces(element).unwrap_or_else(|flaw| {
        milter.flaw = Some(flaw);
        element.trim_matches(['{', '}'])
    });
    let mut parts = elements(inner).into_iter();
    milter.address = parts.next().unwrap_or_default().to_owned();
    if milter.address.is_empty() {
        milter.flaw.get_or_insert_with(|| Flaw::new("it has no address", "take it out"));
    }
    for part in parts {
        match setting(part) {
            Ok((name, value)) => drop(milter.settings.insert(name.to_owned(), value.to_owned())),
            Err(flaw) => drop(milter.flaw.get_or_insert(flaw)),
        }
    }
    milter
}

/// `name=value`, or in braces of its own, where blanks may stand around the sign.
fn setting(part: &str) -> Result<(&str, &str), Flaw> {
    let inner = if part.starts_with('{') { within_braces(part)? } else { part };
    let (name, value) = inner.split_once('=').ok_or_else(|| {
        Flaw::new(
            format!("`{inner}` has no value"),
            "write `name=value` without blanks, or in braces of its own: `{ name = value }`",
        )
    })?;
    let name = name.trim();
    if !NAMES.contains(&name) {
        let help = match did_you_mean(name, NAMES) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("it may have {}", NAMES.join(", ")),
        };
        return Err(Flaw::new(format!("`{name}` is no setting of a milter"), help));
    }
    Ok((name, value.trim()))
}

/// What stands between the brace that `text` begins with and the one that it ends with.
fn within_braces(text: &str) -> Result<&str, Flaw> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            let after = text.get(at + 1..).unwrap_or_default();
            return if after.is_empty() {
                Ok(text.get(1..at).unwrap_or_default())
            } else {
                Err(Flaw::new(
                    format!("`{after}` follows its closing brace"),
                    "put a comma or a blank between two milters",
                ))
            };
        }
    }
    Err(Flaw::new("its brace is not closed", "close it with `}`"))
}

/// What `address` leads to, for an smtpd that runs in `queue_directory`, chrooted there or not.
pub(super) fn relation(
    address: &str,
    sockets: &[ListenAddress],
    queue_directory: &Path,
    chrooted: bool,
) -> Relation {
    let named = || if address.contains("becalm") { Relation::Misnamed } else { Relation::Other };
    let Some((kind, rest)) = address.split_once(':') else { return named() };
    match kind {
        "unix" | "local" => {
            let find = |path: &Path| {
                let path = plain(path);
                let is_it =
                    |socket: &&ListenAddress| matches!(socket, ListenAddress::Unix(at) if plain(at) == path);
                sockets.iter().find(is_it).cloned()
            };
            let relative = rest.trim_start_matches('/');
            let seen = if chrooted { queue_directory.join(relative) } else { queue_directory.join(rest) };
            if let Some(socket) = find(&seen) {
                return Relation::Becalm(socket);
            }
            find(Path::new(rest)).map_or_else(named, Relation::OutsideChroot)
        }
        "inet" => {
            let Some((host, port)) = rest.rsplit_once(':') else { return named() };
            let host = host.trim_matches(['[', ']']);
            let is_it = |socket: &&ListenAddress| match socket {
                ListenAddress::Inet { host: bound, port: number } => {
                    port.parse() == Ok(*number) && (bound.is_unspecified() || same_host(host, *bound))
                }
                ListenAddress::Unix(_) => false,
            };
            sockets.iter().find(is_it).cloned().map_or_else(named, Relation::Becalm)
        }
        _ => named(),
    }
}

fn same_host(host: &str, bound: IpAddr) -> bool {
    (host == "localhost" && bound.is_loopback()) || host.parse() == Ok(bound)
}

/// `path` without `.` and doubled slashes.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// becalm's address as smtpd must write it: relative to the queue directory where the socket is in there, since that
/// is right with a chroot and without.
pub(super) fn address_for_postfix(socket: &ListenAddress, queue_directory: &Path) -> String {
    match socket {
        ListenAddress::Unix(path) => match path.strip_prefix(queue_directory) {
            Ok(relative) => format!("unix:{}", relative.display()),
            Err(_) => socket.as_postfix_writes_it(),
        },
        ListenAddress::Inet { .. } => socket.as_postfix_writes_it(),
    }
}

/// becalm's entry with the settings that keep mail flowing when becalm does not.
pub(super) fn recommended_entry(address: &str) -> String {
    format!(
        "{{ {address}, default_action=accept, connect_timeout=2s, command_timeout=5s, content_timeout=10s }}"
    )
}

/// The line of main.cf that leads mail to becalm, after the milters that are there already.
pub fn recommended_line(sockets: &[ListenAddress], queue_directory: &Path, others: &[&str]) -> String {
    let address = sockets.first().map_or_else(
        || "unix:becalm/becalm.sock".to_owned(),
        |socket| address_for_postfix(socket, queue_directory),
    );
    let mut entries: Vec<String> = others.iter().map(|other| (*other).to_owned()).collect();
    entries.push(recommended_entry(&address));
    format!("smtpd_milters = {}", entries.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets() -> Vec<ListenAddress> {
        vec![
            ListenAddress::Unix(PathBuf::from("/var/spool/postfix/becalm/becalm.sock")),
            ListenAddress::Inet { host: "127.0.0.1".parse().unwrap(), port: 8890 },
        ]
    }

    fn seen(address: &str, chrooted: bool) -> Relation {
        relation(address, &sockets(), Path::new("/var/spool/postfix"), chrooted)
    }

    #[test]
    fn entries_have_settings() {
        let milters = parse(
            "inet:localhost:8891, { unix:becalm/becalm.sock, { default_action = accept }, connect_timeout=2s }",
        );
        assert_eq!(milters.len(), 2);
        assert_eq!(milters[0].address, "inet:localhost:8891");
        assert_eq!(milters[1].address, "unix:becalm/becalm.sock");
        assert_eq!(milters[1].settings.get("default_action").map(String::as_str), Some("accept"));
        assert_eq!(milters[1].settings.get("connect_timeout").map(String::as_str), Some("2s"));
        assert_eq!(milters.iter().find_map(|milter| milter.flaw.clone()), None);
    }

    /// Each of these was shown to smtpd 3.7, which said the like and ended.
    #[test]
    fn what_postfix_does_not_put_up_with_is_a_flaw() {
        for (entry, address, what) in [
            ("{ unix:a, default_action = accept }", "unix:a", "`default_action` has no value"),
            ("{ unix:a, default_action=accept, protocl=6 }", "unix:a", "`protocl` is no setting of a milter"),
            ("{ unix:a, default_action=accept", "unix:a", "its brace is not closed"),
            ("{ unix:a, { default_action=accept }", "unix:a", "its brace is not closed"),
            ("{ unix:a }, { unix:b }x", "unix:b", "`x` follows its closing brace"),
            ("{}", "", "it has no address"),
            ("{ä", "ä", "its brace is not closed"),
        ] {
            let milter = parse(entry).pop().unwrap();
            let found = milter.flaw.map(|flaw| flaw.what).unwrap_or_default();
            assert_eq!((milter.address.as_str(), found.as_str()), (address, what), "{entry}");
        }
    }

    #[test]
    fn a_chroot_changes_what_a_path_means() {
        let socket = sockets().remove(0);
        assert_eq!(seen("unix:becalm/becalm.sock", true), Relation::Becalm(socket.clone()));
        assert_eq!(seen("unix:./becalm//becalm.sock", false), Relation::Becalm(socket.clone()));
        assert_eq!(seen("unix:/becalm/becalm.sock", true), Relation::Becalm(socket.clone()));
        let absolute = "unix:/var/spool/postfix/becalm/becalm.sock";
        assert_eq!(seen(absolute, false), Relation::Becalm(socket.clone()));
        assert_eq!(seen(absolute, true), Relation::OutsideChroot(socket));
        assert_eq!(seen("unix:/becalm/becalm.sock", false), Relation::Misnamed);
        assert_eq!(seen("unix:opendkim/opendkim.sock", true), Relation::Other);
    }

    #[test]
    fn hosts_have_several_names() {
        for address in ["inet:localhost:8890", "inet:127.0.0.1:8890"] {
            assert_eq!(seen(address, true), Relation::Becalm(sockets().remove(1)), "{address}");
        }
        for address in ["inet:localhost:8891", "inet:10.0.0.1:8890", "inet:8890", "x"] {
            assert_eq!(seen(address, true), Relation::Other, "{address}");
        }
    }

    #[test]
    fn the_line_to_paste_keeps_other_milters() {
        assert_eq!(
            recommended_line(&sockets(), Path::new("/var/spool/postfix"), &["inet:localhost:8891"]),
            "smtpd_milters = inet:localhost:8891, { unix:becalm/becalm.sock, default_action=accept, \
             connect_timeout=2s, command_timeout=5s, content_timeout=10s }"
        );
    }
}
