//! `becalm check`: becalm's configuration and Postfix's, what is wrong with them, and the remedies.

mod postfix;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::account;
use crate::alert::settings::Means;
use crate::clock::Clock;
use crate::config::postfix::Finding;
use crate::config::{Config, DEFAULT_PATH, Diagnostic, ListenAddress, Report, Severity};
use crate::daemon::site;
use crate::directory::Directory;
use crate::quarantine::client::Client;

/// Arguments of `becalm check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// becalm's configuration file. Without it, /etc/becalm/becalm.toml, or the defaults where there is none.
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Postfix's configuration folder. Without it, the one Postfix was built with.
    #[arg(long, value_name = "DIR")]
    pub postfix_config: Option<PathBuf>,
    /// Check becalm's file alone.
    #[arg(long, conflicts_with = "postfix_config")]
    pub no_postfix: bool,
    /// Print JSON for programs.
    #[arg(long)]
    pub json: bool,
}

/// Checks, and prints what was found: exit code 0 where nothing is an error, else 1.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let (report, findings) = examine(args);
    let counts = Counts::of(&report, &findings);
    if args.json {
        let text = serde_json::to_string_pretty(&to_json(&report, &findings, &counts))?;
        super::print(&format!("{text}\n"))?;
    } else {
        let color = super::color();
        super::print(&format!("{}{}{counts}\n", report.render(color), render(&findings, color)))?;
    }
    Ok(if counts.errors > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is to be said about the file, with the places in it; and about all that stands elsewhere.
fn examine(args: &Args) -> (Report, Vec<Finding>) {
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let (config, mut report) = match Config::load(path, args.config.is_some()) {
        Ok(loaded) => loaded,
        // The rest is compared with settings: there are none.
        Err(report) => return (report, Vec::new()),
    };
    report.add(groups(&config, &report));
    let (stale, mut findings) = sources(&config, &report);
    report.add(stale);
    findings.extend(secrets(&config));
    findings.extend(alert_files(&config));
    findings.extend(public_templates(&config));
    if !args.no_postfix {
        let folder = args.postfix_config.as_deref();
        findings.extend(postfix::examine(folder, &config));
        findings.extend(helpers(&config, postfix::queue_directory(folder)));
    }
    (report, findings)
}

/// How many remarks of each kind there are.
struct Counts {
    errors: usize,
    warnings: usize,
}

impl Counts {
    fn of(report: &Report, findings: &[Finding]) -> Self {
        let severities = report.diagnostics.iter().map(|diagnostic| diagnostic.severity);
        let all: Vec<_> = severities.chain(findings.iter().map(|finding| finding.severity)).collect();
        let count = |wanted| all.iter().filter(|severity| **severity == wanted).count();
        Self { errors: count(Severity::Error), warnings: count(Severity::Warning) }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = |count| if count == 1 { "" } else { "s" };
        let Self { errors, warnings } = *self;
        write!(f, "{errors} error{}, {warnings} warning{}", plural(errors), plural(warnings))
    }
}

fn render(findings: &[Finding], color: bool) -> String {
    let mut out = String::new();
    for finding in findings {
        let name = finding.severity.name();
        let paint = match finding.severity {
            Severity::Ok => "\x1b[32m",
            Severity::Warning => "\x1b[1;33m",
            Severity::Error => "\x1b[1;31m",
        };
        let (on, off) = if color { (paint, "\x1b[0m") } else { ("", "") };
        out.push_str(&format!(
            "{on}{name}{off}: {}: {}\n",
            printable(&finding.topic),
            printable(&finding.message)
        ));
        if let Some(help) = &finding.help {
            for (index, line) in help.lines().enumerate() {
                let lead = if index == 0 { "  = help: " } else { "          " };
                out.push_str(&format!("{lead}{}\n", printable(line)));
            }
        }
    }
    if !findings.is_empty() {
        out.push('\n');
    }
    out
}

/// What stands in Postfix's files must not command the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn to_json(report: &Report, findings: &[Finding], counts: &Counts) -> Value {
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| {
            json!({
                "severity": finding.severity.name(),
                "topic": finding.topic,
                "message": finding.message,
                "help": finding.help,
            })
        })
        .collect();
    json!({ "errors": counts.errors, "warnings": counts.warnings, "file": report.to_json(), "findings": findings })
}

/// Does each helper answer, and is one of them that of the Postfix that is checked (whose queue this is)?
fn helpers(config: &Config, queue: Option<String>) -> Vec<Finding> {
    let sockets = &config.quarantine.helpers;
    let mut findings = Vec::new();
    let mut queues = Vec::new();
    for socket in sockets {
        let topic = format!("helper {}", socket.display());
        match Client::connect(socket) {
            Ok(client) => {
                let hello = client.hello();
                if !hello.long_queue_ids {
                    let message =
                        "its Postfix has short queue ids: it refuses every act, and held mail stays on hold";
                    let help = "postconf -e enable_long_queue_ids=yes && postfix reload";
                    findings.push(Finding::error(topic, message.to_owned(), help));
                }
                queues.push(hello.queue_directory.clone());
            }
            Err(error) => {
                let message = format!("{error}: held mail is not released or returned by becalm");
                let help = "systemctl enable --now becalm-helper.socket, or run `becalm helper` as root; \
                            run this check as root or as the daemon's user; without helpers, set \
                            [quarantine] helpers = []";
                findings.push(Finding::warning(topic, message, help));
            }
        }
    }
    if let Some(queue) = queue
        && queues.len() == sockets.len()
        && !queues.is_empty()
        && !queues.contains(&queue)
    {
        let message = format!("no helper is that of this Postfix ({queue}), but of {}", queues.join(", "));
        let help =
            "start one for it (`becalm helper --config-dir`), and name its socket in [quarantine] helpers";
        findings.push(Finding::error("helpers".to_owned(), message, help));
    }
    findings
}

/// Groups that this machine does not have, so that no socket can be given to them.
fn groups(config: &Config, report: &Report) -> Vec<Diagnostic> {
    let unix = config.listen.sockets.iter().any(|socket| matches!(socket, ListenAddress::Unix(_)));
    let listen = config.listen.group.as_deref().filter(|_| unix);
    let sections = [
        ("listen", listen, "becalm cannot start where it opens its sockets itself"),
        ("admin", config.admin.group.as_deref(), "operators have no socket to ask at"),
    ];
    sections
        .into_iter()
        .filter_map(|(section, group, so)| {
            let error = account::group_id(group?).err()?;
            let found = if error.kind() == std::io::ErrorKind::NotFound {
                Diagnostic::error(0..0, format!("`group`: {error}: {so}"))
            } else {
                Diagnostic::warning(0..0, format!("`group`: {error}"))
            };
            let found = found.help(format!("create the group, or name another in [{section}]"));
            Some(Diagnostic { span: report.place(section, "group", 0), ..found })
        })
        .collect()
}

/// What the daemon would say of the directory's sources: they are read as it reads them. Which of them it cannot use,
/// and what it skips in the others.
fn sources(config: &Config, report: &Report) -> (Vec<Diagnostic>, Vec<Finding>) {
    let settings = &config.directory;
    let files = [("aliases", "aliases", &settings.aliases), ("virtuals", "virtual", &settings.virtuals)];
    let place = |name: &str| {
        files.into_iter().find_map(|(key, kind, paths)| {
            let item = paths.iter().position(|path| name == format!("{kind} {}", path.display()))?;
            report.place("directory", key, item)
        })
    };
    let now = Clock::system().now();
    let directory = Directory::load(settings.clone(), config.addresses.clone(), now);
    let (mut stale, mut skipped) = (Vec::new(), Vec::new());
    for source in directory.snapshot().sources() {
        if let Some(why) = &source.stale {
            // What this user may not read, becalm's may.
            let found = if why.contains("ermission denied") && !rustix::process::geteuid().is_root() {
                let help = "run this as root or as becalm's own user, which must be able to read it";
                Diagnostic::warning(0..0, why.clone()).help(help)
            } else {
                let help = "mend the file, or its path here; becalm's own user must be able to read it";
                Diagnostic::error(0..0, format!("lists are missing: {why}")).help(help)
            };
            stale.push(Diagnostic { span: place(&source.name), ..found });
        }
        // Why it is stale may be one of them.
        let news = source.warnings.iter().filter(|warning| source.stale.as_ref() != Some(*warning));
        skipped.extend(news.map(|warning| Finding {
            // Each has its place and its remedy in it.
            severity: Severity::Warning,
            ..Finding::ok(&source.name, warning)
        }));
    }
    (stale, skipped)
}

/// Becalm's own secrets that others can reach. What is not there yet, becalm makes, or says itself.
fn secrets(config: &Config) -> Vec<Finding> {
    let state = &config.state.directory;
    let key = site::key_path(&config.state);
    let ring = key.with_extension("ring");
    let token = config.admin.http.token_file.as_deref();
    let own = [(state.as_path(), 0o022, "0700"), (&key, 0o077, "0600"), (&ring, 0o077, "0600")];
    let own = own.into_iter().chain(token.map(|token| (token, 0o007, "0640")));
    let mut found = Vec::new();
    for (path, forbidden, right) in own {
        let Ok(about) = std::fs::metadata(path) else { continue };
        if about.mode() & forbidden != 0 {
            found.push(Finding::error(
                path.display().to_string(),
                format!("others can reach it (mode {:04o})", about.mode() & 0o7777),
                format!("chmod {right} {}", path.display()),
            ));
        }
    }
    found
}

/// Files and programs of alerts that are not there.
fn alert_files(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for way in &config.alerts.ways {
        let secret = match &way.means {
            Means::Webhook { token_file, .. } => token_file.as_deref(),
            Means::Mail(mail) => mail.password_file.as_deref(),
            Means::Command { argv } => {
                let program = argv.first().map_or("", String::as_str);
                let runs = std::fs::metadata(program).map(|file| file.is_file() && file.mode() & 0o111 != 0);
                if !runs.unwrap_or(false) {
                    let help = "mend its path in `command`, or `chmod +x` it; `becalm alert test` tries it";
                    let topic = format!("[[alert]] {}", way.name);
                    found.push(Finding::error(
                        topic,
                        format!("`{program}` is not a program that can be run"),
                        help,
                    ));
                }
                None
            }
        };
        let Some(file) = secret else { continue };
        let topic = file.display().to_string();
        match std::fs::metadata(file) {
            Err(error) => {
                let help =
                    format!("[[alert]] {} needs it: one line, readable by becalm's own user", way.name);
                found.push(Finding::error(topic, format!("cannot be read: {error}"), help));
            }
            Ok(file) if file.mode() & 0o004 != 0 => {
                let help = "chmod 640, with the group that becalm runs with";
                found.push(Finding::warning(topic, "every user of this machine can read this secret", help));
            }
            Ok(_) => {}
        }
    }
    found
}

fn public_templates(config: &Config) -> Vec<Finding> {
    let (_, problems) = crate::daemon::public_templates(&config.public);
    let help =
        "mend the file: the shipped ones, in src/public/templates of becalm's source, show what it takes";
    problems.into_iter().map(|problem| Finding::error("[public]", problem, help)).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// What check says of `text`, from line 2 on, in a file DIR/becalm.toml.
    fn remarks(folder: &Path, text: &str) -> String {
        let file = folder.join("becalm.toml");
        // What this machine's becalm has is none of it.
        std::fs::write(&file, format!("state.directory = '{}'\n{text}", folder.display())).unwrap();
        let args = Args { config: Some(file), postfix_config: None, no_postfix: true, json: false };
        let (report, findings) = examine(&args);
        format!("{report}\n{}", render(&findings, false)).replace(&*folder.to_string_lossy(), "DIR")
    }

    #[test]
    fn a_group_that_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let remarks = |text: &str| remarks(folder.path(), text);
        assert_eq!(remarks("listen.group = 'root'\nadmin.group = '0'"), "\n");
        insta::assert_snapshot!(remarks("listen.group = 'becalm-none'\n[admin]\ngroup = 'becalm-none'"), @r"
        DIR/becalm.toml:2:16: error: `group`: no entry for becalm-none in group: becalm cannot start where it opens its sockets itself (create the group, or name another in [listen])
        DIR/becalm.toml:4:9: error: `group`: no entry for becalm-none in group: operators have no socket to ask at (create the group, or name another in [admin])
        ");
        // TCP has no group.
        let tcp = "listen.group = 'becalm-none'\nlisten.sockets = ['inet:8890@127.0.0.1']";
        assert_eq!(remarks(tcp), "\n");
    }

    #[test]
    fn sources_are_read_as_the_daemon_reads_them() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display();
        let aliases =
            format!("old: :include:{dir}/gone\nall: a, \"b\nno colon\n:include:/x\nteam: a, b, c\n");
        std::fs::write(folder.path().join("aliases"), aliases).unwrap();
        // Whoever opens a pipe to read it waits for a writer.
        assert!(Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
        let text = format!(
            "listen.group = ''\n[directory]\naliases = [\n'{dir}/aliases',\n'{dir}/pipe',\n]\n\
             virtuals = [\n'{dir}',\n'{dir}/none',\n]\n"
        );
        insta::assert_snapshot!(remarks(folder.path(), &text), @r"
        DIR/becalm.toml:5:1: error: lists are missing: DIR/aliases:1: DIR/gone cannot be read: No such file or directory (os error 2) (mend the file, or its path here; becalm's own user must be able to read it)
        DIR/becalm.toml:6:1: error: lists are missing: DIR/pipe is not a regular file (mend the file, or its path here; becalm's own user must be able to read it)
        DIR/becalm.toml:9:1: error: lists are missing: DIR is not a regular file (mend the file, or its path here; becalm's own user must be able to read it)
        DIR/becalm.toml:10:1: error: lists are missing: DIR/none cannot be read: No such file or directory (os error 2) (mend the file, or its path here; becalm's own user must be able to read it)
        warning: aliases DIR/aliases: DIR/aliases:2: a quote or bracket is not closed on its line
        warning: aliases DIR/aliases: DIR/aliases:3: not in `name: value` form; is this a virtual(5) file?
        warning: aliases DIR/aliases: DIR/aliases:4: an entry without a name
        ");
    }

    #[test]
    fn a_secret_that_others_can_reach_is_found() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.state.directory = folder.path().to_owned();
        config.admin.http.token_file = Some(folder.path().join("token"));
        let allow = |file: &str, mode| {
            let path = folder.path().join(file);
            if !file.is_empty() {
                std::fs::write(&path, "x").unwrap();
            }
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        assert_eq!(secrets(&config).len(), 0, "what is not there is no secret");
        for (file, mode) in [("", 0o700), ("key", 0o600), ("key.ring", 0o600), ("token", 0o640)] {
            allow(file, mode);
        }
        assert_eq!(secrets(&config).len(), 0);
        for (file, mode) in [("", 0o770), ("key", 0o640), ("key.ring", 0o604), ("token", 0o644)] {
            allow(file, mode);
        }
        assert_eq!(secrets(&config).len(), 4);
    }

    #[test]
    fn findings_cannot_command_the_terminal() {
        let found = [Finding::warning("main.cf", "a\x1b[31mb", "one\ntwo")];
        let text = render(&found, false);
        assert_eq!(text, "warning: main.cf: a\u{fffd}[31mb\n  = help: one\n          two\n\n");
    }

    #[test]
    fn remarks_are_counted_and_named() {
        let report = Report { file: "f".to_owned(), text: String::new(), diagnostics: Vec::new() };
        let found = [Finding::ok("a", "b"), Finding::error("a", "b", "c"), Finding::warning("a", "b", "c")];
        let counts = Counts::of(&report, &found);
        assert_eq!(counts.to_string(), "1 error, 1 warning");
        assert_eq!(to_json(&report, &found, &counts)["findings"][1]["help"], "c");
    }
}
