//! What Postfix knows about this site and becalm must know too: its domains, its delimiter, its alias files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Finding;
use super::facts::{Facts, elements};
use crate::config::Config;

/// Compares the sections `[postfix]` and `[directory]` with Postfix.
pub(super) fn examine(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    found.extend(origin(facts, config));
    found.extend(local_domains(facts, config));
    found.extend(delimiter(facts, config));
    found.extend(virtual_domains(facts, config));
    found.extend(tables(facts, "alias_maps", "aliases", &config.directory.aliases));
    found.extend(tables(facts, "virtual_alias_maps", "virtuals", &config.directory.virtuals));
    found
}

fn differs(parameter: &str, line: String) -> Finding {
    let message = format!("{parameter} differs: lists would not be known under all their spellings");
    Finding::warning("main.cf", message, format!("becalm.toml: [postfix]\n{line}"))
}

fn origin(facts: &Facts, config: &Config) -> Option<Finding> {
    let origin = facts.main("myorigin").to_lowercase();
    // A file's name: the command reads the file; what is left here could not be read.
    let comparable = !origin.is_empty() && !origin.starts_with('/');
    (comparable && origin != config.addresses.myorigin)
        .then(|| differs("myorigin", format!("myorigin = {}", quoted(&origin))))
}

fn local_domains(facts: &Facts, config: &Config) -> Option<Finding> {
    let mut domains = plain_domains(facts.main("mydestination"));
    let ours: BTreeSet<_> = config.addresses.local_domains.iter().collect();
    if domains.iter().collect::<BTreeSet<_>>() == ours {
        return None;
    }
    // The first is how becalm writes all of them: it should be the one that bare addresses get.
    let origin = facts.main("myorigin").to_lowercase();
    domains.sort_by_key(|domain| *domain != origin);
    let list: Vec<_> = domains.iter().map(|domain| quoted(domain)).collect();
    Some(differs("mydestination", format!("local_domains = [{}]", list.join(", "))))
}

fn delimiter(facts: &Facts, config: &Config) -> Option<Finding> {
    let delimiter = facts.main("recipient_delimiter");
    let ours = &config.addresses.recipient_delimiter;
    (delimiter.bytes().collect::<BTreeSet<_>>() != *ours)
        .then(|| differs("recipient_delimiter", format!("recipient_delimiter = {}", quoted(delimiter))))
}

fn virtual_domains(facts: &Facts, config: &Config) -> Vec<Finding> {
    plain_domains(facts.main("virtual_alias_domains"))
        .into_iter()
        .filter(|domain| config.addresses.local_domains.contains(domain))
        .map(|domain| {
            let message = format!("`{domain}` is a virtual alias domain, not a local one");
            Finding::warning("main.cf", message, "becalm.toml: [postfix] take it out of `local_domains`")
        })
        .collect()
}

/// The names in a list of domains, in lower case, each once; tables and files are left out.
fn plain_domains(list: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for element in elements(list) {
        let domain = element.to_lowercase();
        if !element.contains(['/', ':']) && !out.contains(&domain) {
            out.push(domain);
        }
    }
    out
}

/// Alias tables that becalm could read and is not told of; and those it cannot read.
fn tables(facts: &Facts, parameter: &str, key: &str, listed: &[PathBuf]) -> Vec<Finding> {
    /// Tables that are made from a text file of the same name.
    const FROM_TEXT: [&str; 7] = ["hash", "btree", "lmdb", "cdb", "dbm", "sdbm", "texthash"];
    let mut missing = Vec::new();
    let mut foreign = Vec::new();
    for element in elements(facts.main(parameter)) {
        let table = element.strip_prefix("proxy:").unwrap_or(element);
        let Some((kind, path)) = table.split_once(':') else { continue };
        let readable = FROM_TEXT.contains(&kind) && path.starts_with('/');
        if !readable && !foreign.contains(&kind) {
            foreign.push(kind);
        } else if readable && !listed.iter().any(|file| file == Path::new(path)) {
            missing.push(path);
        }
    }
    let mut found = Vec::new();
    if !missing.is_empty() {
        let files: Vec<_> = listed
            .iter()
            .filter_map(|file| file.to_str())
            .chain(missing.iter().copied())
            .map(quoted)
            .collect();
        found.push(Finding::warning(
            "main.cf",
            format!(
                "{parameter} has {}, which becalm does not read: lists in there are unknown to it",
                missing.join(", ")
            ),
            format!("becalm.toml: [directory]\n{key} = [{}]", files.join(", ")),
        ));
    }
    if !foreign.is_empty() {
        let message = format!(
            "{parameter} has tables of type {}: name the lists in there with [[list]]",
            foreign.join(", ")
        );
        found.push(Finding::ok("main.cf", message));
    }
    found
}

/// As a string of TOML.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    fn found(main: &str, becalm: &str) -> Vec<(Severity, String)> {
        let (config, _) = Config::parse("", becalm).unwrap();
        examine(&Facts::parse(main, "", ""), &config)
            .into_iter()
            .map(|finding| (finding.severity, finding.help.unwrap_or(finding.message)))
            .collect()
    }

    #[test]
    fn what_is_alike_is_not_mentioned() {
        let main = "myorigin = Example.org\nmydestination = localhost, example.org, hash:/etc/d, localhost\n\
                    recipient_delimiter = +\nalias_maps = hash:/etc/aliases\n";
        let becalm = "[postfix]\nmyorigin = 'example.org'\nlocal_domains = ['example.org', 'localhost']\n\
                      recipient_delimiter = '+'\n[directory]\naliases = ['/etc/aliases']";
        assert_eq!(found(main, becalm), vec![]);
        assert_eq!(found("", ""), vec![]);
    }

    #[test]
    fn what_differs_comes_with_the_line_to_paste() {
        let main = "myorigin = example.org\nmydestination = mx.example.org, , Example.org\nrecipient_delimiter = +\n\
                    virtual_alias_maps = proxy:hash:/etc/v, ldap:/etc/l.cf\nalias_maps = hash:/etc/a, lmdb:/etc/b\n";
        let lines: Vec<_> =
            found(main, "directory.aliases = ['/etc/a']").into_iter().map(|(_, help)| help).collect();
        assert_eq!(
            lines,
            [
                "becalm.toml: [postfix]\nmyorigin = \"example.org\"",
                "becalm.toml: [postfix]\nlocal_domains = [\"example.org\", \"mx.example.org\"]",
                "becalm.toml: [postfix]\nrecipient_delimiter = \"+\"",
                "becalm.toml: [directory]\naliases = [\"/etc/a\", \"/etc/b\"]",
                "becalm.toml: [directory]\nvirtuals = [\"/etc/v\"]",
                "virtual_alias_maps has tables of type ldap: name the lists in there with [[list]]",
            ]
        );
    }

    #[test]
    fn the_lines_to_paste_are_what_was_asked_for() {
        let main =
            "myorigin = example.org\nmydestination = mx.example.org, example.org\nrecipient_delimiter = +\n";
        let pasted: Vec<_> =
            found(main, "").into_iter().map(|(_, help)| help.replace("becalm.toml: ", "")).collect();
        let text = format!("[postfix]\n{}", pasted.join("\n").replace("[postfix]\n", ""));
        assert_eq!(found(main, &text), vec![]);
    }

    #[test]
    fn a_virtual_domain_is_no_local_one() {
        let found = found(
            "virtual_alias_domains = v.example\nmydestination = v.example",
            "postfix.local_domains = ['v.example']",
        );
        assert_eq!(
            found,
            [(Severity::Warning, "becalm.toml: [postfix] take it out of `local_domains`".to_owned())]
        );
    }
}
