//! Who may know whom, held to be true.
//!
//! The picture is in the documentation of the crate (`src/lib.rs`); here it is data. Every path to one of our
//! modules is read, in `use` lines and written out, and one that goes another way fails with its file and line.
//! The modules that do no I/O are held to that too.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// What each module may use. The innermost rule that fits a file is the one for it; what a rule allows, it
/// allows with everything below. A module may always use itself and [`EVERYBODYS`].
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    (
        "cli",
        &[
            "daemon",
            // `check` looks whether a group is there.
            "account",
            // `alert test` delivers by itself.
            "alert",
            // The commands start a daemon or ask one; these are its settings, its answers and its clock.
            "admin",
            "config",
            "clock",
            "directory",
            "telemetry::log",
            "storm::policy",
            "storm::state",
            "replay",
            "postfix",
            "load",
            "public",
            "quarantine::helper",
            // `check` looks whether the helper answers.
            "quarantine::client",
            // `key rotate` writes the file that daemon and helper read.
            "quarantine::keyfile",
            "quarantine::keys",
            // `demo` plays Postfix's part.
            "milter",
        ],
    ),
    (
        "daemon",
        &[
            "account",
            "admin",
            "alert",
            "clock",
            "config",
            "directory",
            "engine",
            "journal",
            "mail",
            "milter",
            "public",
            "quarantine",
            "storm",
            "telemetry",
            "window",
        ],
    ),
    (
        "engine",
        &[
            "directory::List",
            "directory::ListId",
            "directory::Snapshot",
            "directory::snapshot",
            "journal::event",
            "journal::record",
            "mail",
            "storm",
            "window",
        ],
    ),
    (
        "replay",
        &[
            "directory::snapshot",
            "engine",
            "journal::event",
            "mail",
            "storm::detector",
            "storm::limits",
            "storm::policy",
            "storm::state",
        ],
    ),
    ("storm", &["mail", "window"]),
    ("window", &[]),
    ("mail", &[]),
    ("milter", &[]),
    ("directory", &["mail"]),
    // Decides from events; letters carry becalm's mark.
    ("alert", &["journal::event", "quarantine::mark"]),
    ("alert::post", &["alert", "clock"]),
    ("alert::way", &["alert", "clock", "quarantine::mark"]),
    ("quarantine", &[]),
    // The root side of becalm: a process of its own.
    ("quarantine::helper", &["account", "clock", "quarantine", "telemetry::gate"]),
    ("journal", &[]),
    ("telemetry", &[]),
    ("admin", &["journal::event", "public", "telemetry::counters", "telemetry::metrics"]),
    ("public", &[]),
    (
        "config",
        &[
            "alert::Kind",
            "alert::settings",
            "directory::settings",
            "journal::settings",
            "mail::AddressRules",
            "mail::address",
            "storm::limits",
            "storm::policy",
        ],
    ),
    // A private Postfix, for `demo`, benches and tests.
    ("postfix", &["account", "clock"]),
    // The load for `bench`, and for the benches.
    ("load", &["clock", "milter"]),
    ("account", &[]),
    ("clock", &[]),
    ("time", &[]),
    ("sync", &[]),
    ("lib", &[]),
];

/// Data, and the switch between std's atomics and loom's.
const EVERYBODYS: &[&str] = &["time", "sync"];

/// Modules that do no I/O, read no clock and no configuration, tests apart; and where in them this is not so.
const PURE: &[&str] = &[
    "alert::notice",
    "alert::settings",
    "alert::watch",
    "milter",
    "mail",
    "window",
    "storm",
    "engine",
    "journal::codec",
    "journal::event",
    "load::conversation",
    "load::mail",
    "load::outcome",
    "load::schedule",
    "load::spread",
    "journal::frame",
    "journal::record",
    "journal::settings",
    "journal::stamp",
    "quarantine::keys",
    "quarantine::ledger",
    "quarantine::mark",
    "quarantine::pace",
    "quarantine::passed",
    "quarantine::protocol",
    "quarantine::queue_file",
    "quarantine::queue_id",
    "public",
    "directory::content",
    "directory::parse",
    "directory::pattern",
    "directory::resolve",
    "directory::settings",
    "directory::snapshot",
    "replay::course",
    "replay::date",
    "replay::header",
    "replay::judge",
    "replay::ledger",
    "replay::letter",
    "replay::mbox",
    "replay::near",
    "replay::report",
    "replay::rival",
    "replay::run",
    "replay::scenario",
    "replay::stage",
    "replay::tune",
    "time",
];

/// What a pure module does not import.
const IMPURE: &[&str] = &[
    "tokio",
    "std::env",
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "crate::clock",
    "crate::config",
    "crate::directory::refresh",
    "crate::directory::source",
];

/// ... and what it may all the same: addresses and names are data.
const PURE_AFTER_ALL: &[&str] =
    &["std::net::IpAddr", "std::net::Ipv4Addr", "std::net::Ipv6Addr", "std::os::unix::ffi"];

#[test]
fn modules_know_only_whom_they_may() {
    let complaints = check(&sources());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_rule_is_about_something() {
    let sources = sources();
    let exists = |path: &str| {
        sources.iter().any(|source| starts_with(&source.module, path))
            // An item that a module re-exports.
            || path.rsplit("::").next().is_some_and(|item| item.starts_with(char::is_uppercase))
    };
    let rules = DIRECTIONS.iter().flat_map(|(module, allowed)| allowed.iter().chain([module]));
    let named = rules.chain(EVERYBODYS).chain(PURE).copied();
    let of_ours = IMPURE.iter().filter_map(|path| path.strip_prefix("crate::"));
    for path in named.chain(of_ours) {
        assert!(exists(path), "{path} is in a rule and nowhere else");
    }
}

/// A file of the crate.
struct Source {
    /// As it is reported: `src/engine/mod.rs`.
    file: String,
    /// `engine`, `milter::mta::answer`; `main` and `lib` for the roots.
    module: String,
    text: String,
}

/// All of `src`.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let file = path.strip_prefix(root).unwrap().to_str().unwrap();
                sources.push(Source::new(file, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(sources.len() > 50, "the crate has more files than {}", sources.len());
    sources.sort_by(|a, b| a.file.cmp(&b.file));
    sources
}

impl Source {
    fn new(file: &str, text: String) -> Self {
        let path = file.trim_start_matches("src/").trim_end_matches(".rs");
        let module = path.trim_end_matches("/mod").replace('/', "::");
        Self { file: file.to_owned(), module, text }
    }

    /// Whether all of it is a test.
    fn is_test(&self, test_modules: &BTreeSet<String>) -> bool {
        self.module.split("::").any(|part| part == "tests" || part.ends_with("_tests"))
            || test_modules.iter().any(|module| starts_with(&self.module, module))
    }
}

/// Every path that goes where it may not, as `file:line: complaint`.
fn check(sources: &[Source]) -> Vec<String> {
    let scans: Vec<Scan> = sources.iter().map(scan).collect();
    let test_modules = scans.iter().flat_map(|scan| scan.test_modules.iter().cloned()).collect();
    let mut complaints = Vec::new();
    for (source, scan) in sources.iter().zip(&scans) {
        let rule = DIRECTIONS.iter().filter(|(module, _)| starts_with(&source.module, module));
        let Some((module, allowed)) = rule.max_by_key(|(module, _)| module.len()) else {
            complaints.push(format!("{}:1: no rule says what {} may use", source.file, source.module));
            continue;
        };
        let is_test = source.is_test(&test_modules);
        let pure = PURE.iter().any(|pure| starts_with(&source.module, pure));
        for found in &scan.paths {
            let mut complain = |why: &str| {
                complaints.push(format!("{}:{}: {}: {why}", source.file, found.line, found.path));
            };
            if let Some(ours) = found.path.strip_prefix("crate::") {
                let may = allowed.iter().chain(EVERYBODYS).chain([module]);
                // `use crate::directory;` reaches all of it, `use crate::*` everything.
                if !may.copied().any(|may| starts_with(ours, may)) {
                    complain(&format!("{module} may not use this"));
                }
            }
            if pure && !is_test && !found.in_test {
                // A parent of what is impure, or all that is in it, is a way to it.
                let reaches =
                    |impure: &str| starts_with(&found.path, impure) || starts_with(impure, &found.path);
                let excused = PURE_AFTER_ALL.iter().any(|path| starts_with(&found.path, path));
                let own = found.path == format!("crate::{module}");
                if !excused && !own && IMPURE.iter().any(|impure| reaches(impure)) {
                    complain("a pure module may not use this");
                }
            }
        }
    }
    complaints
}

/// Whether `path` is `prefix` or lies below it.
fn starts_with(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// What a file uses.
#[derive(Default)]
struct Scan {
    paths: Vec<Found>,
    /// Modules that it declares for tests only.
    test_modules: Vec<String>,
}

struct Found {
    line: usize,
    /// From `crate`, `std` or `tokio` on. A glob ends with what it opens.
    path: String,
    in_test: bool,
}

/// Reads the paths of a file: `use` trees taken apart, `super` and `self` resolved.
fn scan(source: &Source) -> Scan {
    let tokens = tokens(&source.text);
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut scan = Scan::default();
    let root: Vec<String> = match source.module.as_str() {
        "main" | "lib" => Vec::new(),
        module => module.split("::").map(str::to_owned).collect(),
    };
    // Modules written out in the file: name, depth of braces, whether for tests.
    let mut inline: Vec<(String, usize, bool)> = Vec::new();
    let mut depth = 0;
    let mut test_attribute = false;
    let mut at = 0;
    while at < tokens.len() {
        let in_test = inline.iter().any(|(_, _, test)| *test);
        match word(at) {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.pop_if(|(_, opened, _)| *opened == depth);
            }
            "#" if word(at + 1) == "[" => {
                let end = (at..tokens.len()).find(|at| word(*at) == "]").unwrap_or(tokens.len());
                let says = |what: &str| (at..end).any(|at| word(at) == what);
                test_attribute |= says("cfg") && says("test");
                at = end + 1;
                continue;
            }
            "mod" if word(at + 2) == "{" => {
                inline.push((word(at + 1).to_owned(), depth, test_attribute));
                depth += 1;
                at += 3;
                test_attribute = false;
                continue;
            }
            "mod" if word(at + 2) == ";" && test_attribute => {
                let inner = inline.iter().map(|(name, ..)| name.clone());
                let path = root.iter().cloned().chain(inner).chain([word(at + 1).to_owned()]);
                scan.test_modules.push(path.collect::<Vec<_>>().join("::"));
            }
            // Not the end of a longer path: `a::std` is none of these.
            first @ ("crate" | "becalm" | "super" | "self" | "std" | "core" | "tokio")
                if word(at + 1) == "::" && (at == 0 || word(at - 1) != "::") =>
            {
                let mut base: Vec<String> = vec!["crate".to_owned()];
                let here = root.iter().cloned().chain(inline.iter().map(|(name, ..)| name.clone()));
                match first {
                    "crate" | "becalm" => {}
                    "super" | "self" => {
                        base.extend(here);
                        if first == "super" {
                            base.pop();
                        }
                    }
                    "core" => base = vec!["std".to_owned()],
                    outside => base = vec![outside.to_owned()],
                }
                at = tree(&tokens, at + 2, base, in_test, &mut scan.paths);
                continue;
            }
            _ => {}
        }
        if !matches!(word(at), "pub" | "(" | ")" | "crate") {
            test_attribute = false;
        }
        at += 1;
    }
    scan
}

/// Reads what follows `base::`; returns where it ends.
fn tree(
    tokens: &[Token],
    mut at: usize,
    mut base: Vec<String>,
    in_test: bool,
    found: &mut Vec<Found>,
) -> usize {
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        match word(at) {
            "{" => {
                at += 1;
                while at < tokens.len() && word(at) != "}" {
                    at =
                        if word(at) == "," { at + 1 } else { tree(tokens, at, base.clone(), in_test, found) };
                }
                return at + 1;
            }
            "super" => drop(base.pop()),
            "self" | "*" => {}
            name if name.starts_with(|c: char| c.is_alphanumeric() || c == '_') => base.push(name.to_owned()),
            // `::<` and the like: what follows is another matter.
            _ => {
                found.push(Found { line, path: base.join("::"), in_test });
                return at;
            }
        }
        at += 1;
        if word(at) == "::" {
            at += 1;
            continue;
        }
        found.push(Found { line, path: base.join("::"), in_test });
        // `{a as b, c}`: a name given is no path.
        return if word(at) == "as" { at + 2 } else { at };
    }
}

struct Token {
    text: String,
    line: usize,
}

/// Words, `::` and single signs; without comments, strings and characters.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let char = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let begin = at;
        let mut text = String::new();
        match char(at) {
            '/' if char(at + 1) == '/' => {
                while at < chars.len() && char(at) != '\n' {
                    at += 1;
                }
            }
            '/' if char(at + 1) == '*' => at = after_comment(&chars, at),
            '"' => at = after_string(&chars, at),
            // A lifetime, or a character.
            '\'' => {
                at += match (char(at + 1), char(at + 2)) {
                    ('\\', _) => {
                        (3..).find(|n| char(at + n) == '\'' || at + n >= chars.len()).unwrap_or(3) + 1
                    }
                    (_, '\'') => 3,
                    _ => 1,
                };
            }
            c if is_word(c) => {
                while is_word(char(at)) {
                    text.push(char(at));
                    at += 1;
                }
                if matches!(text.as_str(), "r" | "br" | "cr") && matches!(char(at), '"' | '#') {
                    let hashes = (at..).take_while(|at| char(*at) == '#').count();
                    // `r#type` is a word, not a string.
                    if char(at + hashes) == '"' {
                        let close: Vec<char> =
                            std::iter::once('"').chain(std::iter::repeat_n('#', hashes)).collect();
                        let inside = at + hashes + 1;
                        let length = chars.get(inside..).unwrap_or_default().windows(close.len());
                        at = inside + length.take_while(|window| *window != close).count() + close.len();
                        text.clear();
                    }
                }
            }
            ':' if char(at + 1) == ':' => {
                text.push_str("::");
                at += 2;
            }
            c => {
                if !c.is_whitespace() {
                    let _ = write!(text, "{c}");
                }
                at += 1;
            }
        }
        if !text.is_empty() {
            tokens.push(Token { text, line });
        }
        line += chars.get(begin..at).unwrap_or_default().iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Comments nest.
fn after_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars.get(at), chars.get(at + 1)) {
            (Some('/'), Some('*')) => (depth, at) = (depth + 1, at + 2),
            (Some('*'), Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn after_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while let Some(c) = chars.get(at) {
        match c {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    at
}

/// The checker must be able to fail.
mod checker {
    use super::*;

    fn complaints(file: &str, text: &str) -> Vec<String> {
        check(&[Source::new(file, text.to_owned())])
    }

    fn fine(file: &str, text: &str) {
        assert_eq!(complaints(file, text), [""; 0], "{file}: {text}");
    }

    #[track_caller]
    fn wrong(file: &str, text: &str, place: &str) {
        let complaints = complaints(file, text);
        assert!(!complaints.is_empty(), "{file}: {text}");
        for complaint in complaints {
            assert!(complaint.starts_with(&format!("{file}:{place}: ")), "{complaint}");
        }
    }

    #[test]
    fn what_the_picture_allows_is_fine() {
        fine("src/engine/judging.rs", "use crate::directory::snapshot::{List, ListId};\nuse crate::storm;");
        fine("src/engine/mod.rs", "use crate::{mail, window::{Cache, Table}, time::*};");
        fine("src/milter/mta.rs", "use crate::milter::frame;\nuse super::reply;\nuse super::super::time;");
        fine("src/main.rs", "fn main() { becalm::cli::main() }");
        fine("src/daemon/mod.rs", "use std::fs; use tokio::net;");
        fine("src/mail/mod.rs", "use std::net::{IpAddr, Ipv6Addr}; use std::time::Duration;");
    }

    #[test]
    fn what_goes_up_or_across_is_named_by_its_line() {
        wrong("src/storm/detector.rs", "//! Doc.\n\nuse crate::engine::Engine;", "3");
        wrong("src/storm/detector.rs", "use crate::milter;", "1");
        wrong("src/milter/frame.rs", "fn f() {\n    crate::storm::detector::f();\n}", "2");
        wrong("src/engine/mod.rs", "use crate::directory;", "1");
        wrong("src/engine/mod.rs", "use crate::directory::refresh::Directory;", "1");
        wrong("src/engine/mod.rs", "use crate::*;", "1");
        wrong(
            "src/engine/mod.rs",
            "use crate::{\n    mail,\n    storm::{self, policy::Mode},\n    journal::{event, redis},\n};",
            "4",
        );
        wrong("src/window/cells.rs", "use super::super::mail::Head;", "1");
        wrong("src/window/mod.rs", "use super::mail::Head;", "1");
        wrong("src/window/mod.rs", "mod inner {\n  use super::super::{\n  mail};\n}", "3");
        wrong("src/config/mod.rs", "use crate::storm::detector::Detector;", "1");
        wrong("src/main.rs", "use becalm::daemon::Daemon;", "1");
        wrong("src/mail/mod.rs", "fn f() -> Vec<crate::window::Tally> { Vec::new() }", "1");
    }

    #[test]
    fn names_of_modules_within_modules_are_their_own() {
        fine("src/window/mod.rs", "mod mail { pub struct Head; }\nmod b { use super::mail::Head; }");
        fine("src/storm/mod.rs", "mod engine;\nuse self::engine::Part;");
    }

    #[test]
    fn pure_modules_do_no_io() {
        for text in [
            "use std::fs;",
            "use std::{fmt, fs::File};",
            "use std::net::{IpAddr, TcpStream};",
            "use std::net;",
            "use std::net::*;",
            "use std::time::{Duration, Instant};",
            "use std::time;",
            "fn f() { std::time::SystemTime::now(); }",
            "fn f() { std::fs::read(\"x\"); }",
            "use tokio::sync::Mutex;",
            "use std::thread;",
        ] {
            wrong("src/mail/address.rs", text, "1");
            wrong("src/directory/snapshot.rs", text, "1");
        }
        wrong("src/directory/snapshot.rs", "use super::source::Source;", "1");
        wrong("src/directory/resolve/graph.rs", "use super::super::refresh::Directory;", "1");
        fine("src/directory/refresh.rs", "use std::fs;\nuse super::source::Source;");
    }

    #[test]
    fn tests_may_read_files_but_keep_the_direction() {
        fine("src/mail/address.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}");
        fine("src/mail/address/tests.rs", "use std::fs;");
        fine("src/mail/address_tests.rs", "use std::fs;");
        wrong("src/mail/address.rs", "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nuse std::fs;", "5");
        wrong("src/mail/address/tests.rs", "use crate::engine::Engine;", "1");
        let declared = [
            Source::new(
                "src/window/mod.rs",
                "#[cfg(all(test, becalm_loom))]\npub(crate) mod loom;".to_owned(),
            ),
            Source::new("src/window/loom.rs", "use std::thread;".to_owned()),
        ];
        assert_eq!(check(&declared), [""; 0]);
    }

    #[test]
    fn comments_and_strings_are_no_code() {
        fine(
            "src/mail/mod.rs",
            "//! [`crate::engine`]\n/* use crate::engine; /* std::fs */ */ // std::fs::read",
        );
        fine(
            "src/mail/mod.rs",
            r##"const A: &str = "crate::engine::\" std::fs::read"; const B: &[u8] = br#"" std::fs::"#;"##,
        );
        wrong(
            "src/mail/mod.rs",
            "const A: char = '\"';\nfn f<'a>(_: &'a str) { std::fs::read('\\''); }",
            "2",
        );
        wrong("src/mail/mod.rs", "const A: &str = r\"\\\";\nuse crate::engine;", "2");
        wrong("src/mail/mod.rs", "const A: &str = \"\n\n\";\nuse crate::engine;", "4");
    }

    #[test]
    fn a_module_without_a_rule_is_named() {
        assert_eq!(complaints("src/novelty/mod.rs", "").len(), 1);
    }
}
