//! `becalm check`: becalm's configuration and Postfix's, what is wrong with them, and the remedies.

use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use serde_json::{Value, json};

use crate::alert::settings::Means;
use crate::config::postfix::{self, Facts, Finding, Identity, Node, PARAMETERS};
use crate::config::{Config, DEFAULT_PATH, ListenAddress, Report, Severity};
use crate::daemon::site;
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
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let (report, findings) = match Config::load(path, args.config.is_some()) {
        Ok((config, report)) => {
            let mut findings = sources(&config);
            findings.extend(secrets(&config));
            findings.extend(alert_files(&config));
            findings.extend(public_templates(&config));
            if !args.no_postfix {
                findings.extend(examine_postfix(args.postfix_config.as_deref(), &config));
                findings.extend(helpers(&config, queue_directory(args.postfix_config.as_deref())));
            }
            (report, findings)
        }
        // Postfix is compared with settings: there are none.
        Err(report) => (report, Vec::new()),
    };
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

/// `queue_directory` of the Postfix that is checked.
fn queue_directory(config: Option<&Path>) -> Option<String> {
    let mut postconf = Command::new("postconf");
    if let Some(config) = config {
        postconf.arg("-c").arg(config);
    }
    let output = postconf.args(["-x", "-h", "queue_directory"]).output().ok()?;
    let queue = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !queue.is_empty()).then_some(queue)
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

/// Files of the directory that cannot be read.
fn sources(config: &Config) -> Vec<Finding> {
    let files = config.directory.aliases.iter().chain(&config.directory.virtuals);
    files
        .filter_map(|file| {
            let error = std::fs::File::open(file).err()?;
            let help =
                "mend its path in [directory], or its permissions: becalm's own user must be able to read it";
            Some(Finding::error(file.display().to_string(), format!("cannot be read: {error}"), help))
        })
        .collect()
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

fn examine_postfix(folder: Option<&Path>, config: &Config) -> Vec<Finding> {
    let facts = match ask_postfix(folder) {
        Ok(facts) => facts,
        Err(error) => {
            let help =
                "run this where Postfix is installed, or leave its configuration out with --no-postfix";
            return vec![Finding::error("postconf", format!("{error:#}"), help)];
        }
    };
    let mut findings = postfix::examine(&facts, config);
    findings.extend(examine_sockets(&facts, config));
    findings
}

/// Asks Postfix's own `postconf`, which reads and changes nothing here.
fn ask_postfix(folder: Option<&Path>) -> anyhow::Result<Facts> {
    let postconf = |arguments: &[&str]| {
        let mut all: Vec<&OsStr> = Vec::new();
        if let Some(folder) = folder {
            all.extend([OsStr::new("-c"), folder.as_os_str()]);
        }
        all.extend(arguments.iter().map(OsStr::new));
        output("postconf", &all)
    };
    let main = postconf(&[&["-x"], PARAMETERS].concat())?;
    let mut facts = Facts::parse(&main, &postconf(&["-M"])?, &postconf(&["-P", "-x"])?);
    resolve_origin(&mut facts);
    Ok(facts)
}

/// `myorigin` may name a file whose first line is the domain (postconf(5); Debian's /etc/mailname).
fn resolve_origin(facts: &mut Facts) {
    let Some(origin) = facts.main.get_mut("myorigin").filter(|origin| origin.starts_with('/')) else {
        return;
    };
    // A domain has 253 characters; a line of a wrong file need not be read to its end.
    let mut text = String::new();
    let read = std::fs::File::open(&*origin).and_then(|file| file.take(4096).read_to_string(&mut text));
    if read.is_ok() {
        *origin = text.lines().next().unwrap_or_default().trim().to_owned();
    }
}

/// What `program` prints; it is looked for where Postfix's programs are, too: cron's PATH has no /usr/sbin.
fn output(program: &str, arguments: &[&OsStr]) -> anyhow::Result<String> {
    // An empty PATH must not become one that begins with the current folder.
    let path = std::env::var("PATH")
        .ok()
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/usr/bin:/bin".to_owned());
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin:/usr/local/sbin")).env("LC_ALL", "C");
    let output = command.output().map_err(|error| anyhow::anyhow!("`{program}` cannot be run: {error}"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().last().unwrap_or("it gave no reason");
        anyhow::bail!("`{program}` failed: {last}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The unix sockets through which Postfix reaches becalm, or would.
fn examine_sockets(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut used = postfix::used_sockets(facts, config);
    if used.is_empty() {
        used.extend(config.listen.sockets.iter().map(|socket| (socket.clone(), false)));
    }
    let queue_directory = Path::new(facts.main("queue_directory"));
    let mut findings = Vec::new();
    for (socket, chrooted) in used {
        let ListenAddress::Unix(path) = socket else { continue };
        let who = match identity(facts.main("mail_owner")) {
            Ok(who) => who,
            Err(error) => {
                let help = "see that the user exists and `id` can be run";
                findings.push(Finding::error("mail_owner", format!("{error:#}"), help));
                continue;
            }
        };
        let root = if path.starts_with(queue_directory) { queue_directory } else { Path::new("/") };
        for finding in postfix::examine_socket(&path, root, chrooted, &who, &config.listen, look) {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

/// User and groups of `name`, as the system's databases know them.
fn identity(name: &str) -> anyhow::Result<Identity> {
    let name = if name.is_empty() { "postfix" } else { name };
    anyhow::ensure!(!name.starts_with('-'), "`{name}` is not the name of a user");
    let id = |option: &str| output("id", &[OsStr::new(option), OsStr::new(name)]);
    Ok(Identity {
        name: name.to_owned(),
        uid: id("-u")?.trim().parse()?,
        gids: id("-G")?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?,
        groups: id("-Gn")?.split_whitespace().map(str::to_owned).collect(),
    })
}

fn look(path: &Path) -> std::io::Result<Node> {
    let link = std::fs::symlink_metadata(path)?.is_symlink();
    let metadata = std::fs::metadata(path)?;
    Ok(Node {
        link,
        socket: metadata.file_type().is_socket(),
        folder: metadata.is_dir(),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mode: metadata.mode() & 0o7777,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_the_origin_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mailname");
        std::fs::write(&file, "example.org\nmore\n").unwrap();
        let mut facts = Facts::parse(&format!("myorigin = {}", file.display()), "", "");
        resolve_origin(&mut facts);
        assert_eq!(facts.main("myorigin"), "example.org");
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

    /// A Postfix of our own, asked through the real `postconf`, which only reads.
    struct Site {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl Site {
        /// `None` where this machine has no Postfix.
        fn new(main: &str, master: &str) -> Option<Self> {
            if output("postconf", &[OsStr::new("-d"), OsStr::new("mail_version")]).is_err() {
                tell!("skipped: there is no postconf on this machine");
                return None;
            }
            let folder = tempfile::tempdir().unwrap();
            let queue = folder.path().join("queue");
            std::fs::create_dir_all(queue.join("becalm")).unwrap();
            let owner = output("id", &[OsStr::new("-un")]).unwrap();
            let common = format!(
                "compatibility_level = 3.6\nqueue_directory = {}\nmail_owner = {owner}",
                queue.display()
            );
            std::fs::write(folder.path().join("main.cf"), format!("{common}{main}")).unwrap();
            std::fs::write(folder.path().join("master.cf"), master).unwrap();
            let text = format!("listen.sockets = ['unix:{}/becalm/becalm.sock']", queue.display());
            let config = Config::parse("becalm.toml", &text).unwrap().0;
            Some(Self { folder, config })
        }

        fn socket(&self) -> PathBuf {
            self.folder.path().join("queue/becalm/becalm.sock")
        }

        fn complaints(&self) -> String {
            let found = examine_postfix(Some(self.folder.path()), &self.config);
            render(
                &found.into_iter().filter(|finding| finding.severity > Severity::Ok).collect::<Vec<_>>(),
                false,
            )
        }
    }

    const GOOD: &str = "
recipient_delimiter =
mydestination =
myorigin =
alias_maps =
enable_long_queue_ids = yes
my_milters = { unix:becalm/becalm.sock, default_action=accept,
    connect_timeout=2s, command_timeout=5s, content_timeout=10s }
smtpd_milters = $my_milters
";

    #[test]
    fn a_real_postconf_is_understood() {
        let master = "smtp inet n - y - 20 smtpd\n  -o content_filter=\n  -o smtpd_milters=$my_milters\n\
                      127.0.0.1:10025 inet n - n - 0 smtpd\n  -o receive_override_options=no_milters\n";
        let Some(site) = Site::new(GOOD, master) else { return };
        assert!(site.complaints().contains("becalm is not running"), "{}", site.complaints());
        let _listener = std::os::unix::net::UnixListener::bind(site.socket()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o660);
        std::fs::set_permissions(site.socket(), mode).unwrap();
        assert_eq!(site.complaints(), "");
    }

    #[test]
    fn a_real_postconf_shows_what_is_wrong() {
        let master = "smtp inet n - y - 900 smtpd\n\
                      submission inet n - y - - smtpd\n  -o smtpd_milters=\n\
                      smtps inet n - y - - smtpd\n  -o smtpd_proxy_filter=127.0.0.1:10026\n";
        let main =
            "\nsmtpd_milters = inet:localhost:1 { unix:becalm/becalm.sock, connect_timeout=2s } unix:z\n";
        let Some(site) = Site::new(main, master) else { return };
        let complaints = site.complaints();
        for words in [
            "error: smtp/inet: becalm is not the last milter",
            "never shown to unix:z",
            "(default_action=tempfail)",
            "(command_timeout=30s, content_timeout=300s)",
            "error: submission/inet: smtpd without becalm",
            "error: smtps/inet: a before-queue proxy",
            "up to 900 smtpd processes",
            "warning: main.cf: short queue ids",
            "warning: main.cf: mydestination differs",
        ] {
            assert!(complaints.contains(words), "{words}: {complaints}");
        }
    }

    #[test]
    fn a_folder_without_postfix_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let found = examine_postfix(Some(folder.path()), &Config::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].severity, found[0].topic.as_str()), (Severity::Error, "postconf"));
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
