//! The configuration: one TOML file → a checked [`Config`].
//!
//! ```text
//! text ──toml──▶ table with places ──file──▶ Config        every value is within its range from here on
//!                                   └──────▶ Report        what is wrong, where, and the remedy: all of it
//! default.toml: every setting with its documentation; the tests prove that it says what the program uses
//! postfix/:     what Postfix's own configuration must be for becalm to see the mail
//! ```
//!
//! Nobody below the daemon reads this: modules define their own settings, and this one fills them.

mod admin;
mod alerts;
mod default;
mod diagnostic;
mod file;
mod policies;
pub mod postfix;
mod reader;
mod rules;
mod value;

use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

pub use self::admin::{Admin, AdminHttp};
pub use self::default::DEFAULT_TEXT;
pub use self::diagnostic::{Diagnostic, Report, Severity, did_you_mean, line_column};
pub use self::policies::Policies;
pub use self::value::{parse_duration, show_duration};
use crate::alert::settings::{AlertSettings, NoticeSettings};
use crate::directory::settings::DirectorySettings;
use crate::journal::settings::JournalSettings;
use crate::mail::address::AddressRules;
use crate::storm::limits::LimitSettings;

/// Where the file is looked for unless the command line says otherwise.
pub const DEFAULT_PATH: &str = "/etc/becalm/becalm.toml";

/// A hundred thousand lists fit; a wrong file (a mailbox, a device) is refused before it fills the memory.
const MAX_FILE: u64 = 32 * 1024 * 1024;

/// Everything an operator can set, checked. The default observes and touches no mail.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Where Postfix connects.
    pub listen: Listen,
    /// How this site's Postfix rewrites addresses.
    pub addresses: AddressRules,
    /// Which mail is looked at closely.
    pub watch: Watch,
    /// Sources of lists and members.
    pub directory: DirectorySettings,
    /// Thresholds and verdicts, by list and class.
    pub policies: Policies,
    /// Who is never judged.
    pub exempt: Exempt,
    /// Rate limits in copies.
    pub limits: LimitSettings,
    /// When an unknown address is reported as a likely list.
    pub unknown_lists: UnknownLists,
    /// Sizes of the tables: all memory is taken at start.
    pub tables: Tables,
    /// What is logged and how.
    pub log: Log,
    /// What becomes of held mail.
    pub quarantine: Quarantine,
    /// The operators' socket.
    pub admin: Admin,
    /// The status for everyone.
    pub public: Public,
    /// The process.
    pub daemon: Daemon,
    /// What outlives a restart.
    pub state: State,
    /// The memory that outlives a restart.
    pub journal: JournalSettings,
    /// Who is told what becalm sees.
    pub alerts: AlertSettings,
    /// What the authors of held mail are told.
    pub notice: NoticeSettings,
}

/// Who says where becalm listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenBy {
    /// The configuration, or its default.
    File,
    /// `--listen`.
    CommandLine,
    /// systemd, which opened the sockets itself: their mode and group are its business, too.
    Supervisor,
}

/// Where and how Postfix is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// One to sixteen.
    pub sockets: Vec<ListenAddress>,
    /// Who says which sockets those are.
    pub given_by: GivenBy,
    /// Permission bits of the unix sockets.
    pub mode: u32,
    /// Group of the unix sockets; `None`: that of the daemon.
    pub group: Option<String>,
    /// Connections at once; one more is closed at once. 1 to 100,000.
    pub max_connections: usize,
    /// How long a connection may be silent between messages. 10 s to 24 h.
    pub idle_timeout: Duration,
    /// How long a connection may be silent within a message. 10 s to 24 h.
    pub message_timeout: Duration,
    /// How long a packet that has begun may take to arrive, and a reply to be taken. 1 s to 10 min.
    pub packet_timeout: Duration,
    /// How long a daemon that stops, or was taken over, serves the sessions that are open as ever. 0 to 10 min.
    pub drain: Duration,
    /// How long a stopping daemon then refuses their watched mail and accepts the other. 0 to 10 min.
    pub linger: Duration,
    /// The same for one that was taken over. 0 to 24 h.
    pub takeover_linger: Duration,
    /// Worker threads; 0: one a core. At most 1,024.
    pub threads: usize,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            sockets: vec![ListenAddress::Unix(PathBuf::from("/var/spool/postfix/becalm/becalm.sock"))],
            given_by: GivenBy::File,
            mode: 0o660,
            group: Some("postfix".to_owned()),
            max_connections: 500,
            idle_timeout: Duration::from_secs(600),
            message_timeout: Duration::from_secs(3600),
            packet_timeout: Duration::from_secs(10),
            drain: Duration::from_secs(20),
            linger: Duration::from_secs(60),
            takeover_linger: Duration::from_secs(3600),
            threads: 0,
        }
    }
}

/// An address that the daemon binds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenAddress {
    /// A unix socket; the path is absolute.
    Unix(PathBuf),
    /// TCP.
    Inet {
        /// An address of this machine.
        host: IpAddr,
        /// 1 to 65535.
        port: u16,
    },
}

impl ListenAddress {
    /// As Postfix's `smtpd_milters` writes it: `inet:HOST:PORT`, `unix:PATH`. The path is the host's: a chrooted
    /// smtpd needs it relative to the queue directory, see [`postfix`].
    pub fn as_postfix_writes_it(&self) -> String {
        match self {
            Self::Unix(path) => format!("unix:{}", path.display()),
            Self::Inet { host, port } => format!("inet:{}", SocketAddr::new(*host, *port)),
        }
    }
}

/// As this file writes it: `unix:PATH`, `inet:PORT@HOST`.
impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Inet { host, port } => write!(f, "inet:{port}@{host}"),
        }
    }
}

/// Which mail is looked at closely, beside mail to a list of the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watch {
    /// Recipients in one transaction. 2 to 100,000.
    pub many_recipients: u32,
    /// A message by the same client and envelope sender within this time of a watched one may be another part
    /// of it. 0 to 1 h.
    pub parts_within: Duration,
}

impl Default for Watch {
    fn default() -> Self {
        Self { many_recipients: 50, parts_within: Duration::from_secs(120) }
    }
}

/// Who is never judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exempt {
    /// Addresses in lower case; they count only for authenticated mail, since an envelope sender can be forged.
    pub authors: Vec<String>,
    /// Client networks.
    pub networks: Vec<IpNet>,
}

/// When an address that the directory does not know is reported as a likely list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLists {
    /// Different authors within the window. 2 to 20.
    pub authors: u32,
    /// 1 min to 24 h.
    pub window: Duration,
}

impl Default for UnknownLists {
    fn default() -> Self {
        Self { authors: 20, window: Duration::from_secs(3600) }
    }
}

/// Entries of each table, all 1,024 or more; rounded up to a power of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tables {
    /// Conversations followed at once. At most 16,777,216.
    pub conversations: usize,
    /// Unknown recipient addresses counted at once. At most 16,777,216.
    pub recipients: usize,
    /// Pairs of list and author that are remembered. At most 268,435,456.
    pub known_authors: usize,
    /// Message-IDs that are remembered. At most 16,777,216.
    pub message_ids: usize,
}

impl Default for Tables {
    fn default() -> Self {
        Self { conversations: 65_536, recipients: 131_072, known_authors: 1_048_576, message_ids: 262_144 }
    }
}

/// What is logged and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where it goes.
    pub format: LogFormat,
    /// The least important that is still logged.
    pub level: tracing::Level,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: tracing::Level::INFO }
    }
}

/// Where the log goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines on standard error.
    #[default]
    Text,
    /// One JSON object a line on standard error.
    Json,
    /// systemd's journal, with fields.
    Journald,
}

/// What becomes of held mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The helpers' sockets, one for each Postfix that becalm filters for, at most 8. Without any, nothing leaves
    /// the hold queue by itself.
    pub helpers: Vec<PathBuf>,
    /// Copies a minute in which suspicions that calmed are released. 1 to 10^12.
    pub release_pace: u64,
    /// At this age held mail is returned to its sender. 1 s to 30 days.
    pub max_age: Duration,
    /// So many messages are held at most. 10 to 100,000.
    pub max_count: usize,
    /// So many bytes are held at most. 1 MB to 1 TB.
    pub max_bytes: u64,
    /// How often the hold queue is compared with what is known. 1 s to 1 h.
    pub reconcile: Duration,
}

impl Default for Quarantine {
    fn default() -> Self {
        Self {
            helpers: vec![PathBuf::from("/run/becalm-helper/helper.sock")],
            release_pace: 100_000,
            max_age: Duration::from_secs(3 * 86_400),
            max_count: 20_000,
            max_bytes: 2_000_000_000,
            reconcile: Duration::from_secs(60),
        }
    }
}

/// The status for everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// The language where a reader asks for none that there is.
    pub language: String,
    /// A folder with an operator's own sentences.
    pub templates: Option<PathBuf>,
    /// In which times are shown (IANA's name); empty: this machine's own.
    pub time_zone: String,
}

impl Default for Public {
    fn default() -> Self {
        Self { language: "en".to_owned(), templates: None, time_zone: String::new() }
    }
}

/// The process itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// It gives up every right to write beyond its own folders, where the kernel has Landlock.
    pub sandbox: bool,
    /// Folders that what it starts may write to; at most 16.
    pub writable: Vec<PathBuf>,
}

impl Default for Daemon {
    fn default() -> Self {
        Self { sandbox: true, writable: Vec::new() }
    }
}

/// What outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Holds the key (`key`), the flag that turns enforcement off (`observe-only`), and the journal unless that has a
    /// place of its own.
    pub directory: PathBuf,
    /// This machine's name in events; [`Config::load`] fills in the host's name where the file gives none.
    pub node: String,
}

impl Default for State {
    fn default() -> Self {
        Self { directory: PathBuf::from("/var/lib/becalm"), node: String::new() }
    }
}

impl Config {
    /// Checks `text`; `file` is the name it goes by in remarks. The report that comes with a good configuration
    /// holds warnings only.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<(Self, Report), Report> {
        file::parse(file, text)
    }

    /// Reads and checks the file at `path`. A file that is not there is an error only where it is `required`;
    /// else the defaults hold.
    ///
    /// # Errors
    /// As [`Config::parse`]; also where the file cannot be read or has more than 32 MiB.
    pub fn load(path: &Path, required: bool) -> Result<(Self, Report), Report> {
        let file = path.display().to_string();
        let text = match read_bounded(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => String::new(),
            Err(error) => return Err(unreadable(file, &error)),
        };
        let (mut config, report) = Self::parse(&file, &text)?;
        if config.state.node.is_empty() {
            config.state.node = host_name();
        }
        Ok((config, report))
    }

    /// The journal's folder.
    pub fn journal_folder(&self) -> PathBuf {
        self.journal.directory.clone().unwrap_or_else(|| self.state.directory.join("journal"))
    }

    /// The operators' socket and the state folder, of a file that may have mistakes elsewhere. None where it
    /// cannot be read, or has a mistake there.
    pub fn whereabouts(path: &Path) -> Option<(Admin, State)> {
        file::whereabouts(&read_bounded(path).ok()?)
    }

    /// True where some list's mail may be held, refused or dropped.
    pub fn enforces(&self) -> bool {
        self.policies.enforces() || self.limits_enforce()
    }

    /// The settings that differ in `new` and that a running daemon cannot take over: they wait for a restart.
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let (listen, tables, admin) = (&self.listen, &self.tables, &self.admin);
        let differs = [
            // What the file says of them is not used, now or after a restart.
            ("listen.sockets", listen.given_by == GivenBy::File && listen.sockets != new.listen.sockets),
            ("listen.mode", listen.given_by != GivenBy::Supervisor && listen.mode != new.listen.mode),
            ("listen.group", listen.given_by != GivenBy::Supervisor && listen.group != new.listen.group),
            ("listen.threads", listen.threads != new.listen.threads),
            ("tables.conversations", tables.conversations != new.tables.conversations),
            ("tables.recipients", tables.recipients != new.tables.recipients),
            ("tables.known_authors", tables.known_authors != new.tables.known_authors),
            ("tables.message_ids", tables.message_ids != new.tables.message_ids),
            ("log.format", self.log.format != new.log.format),
            ("log.level", self.log.level != new.log.level),
            ("admin.socket", admin.socket != new.admin.socket),
            ("admin.mode", admin.mode != new.admin.mode),
            ("admin.group", admin.group != new.admin.group),
            ("admin.users", admin.users != new.admin.users),
            ("admin.http.listen", admin.http.listen != new.admin.http.listen),
            ("admin.http.max_streams", admin.http.max_streams != new.admin.http.max_streams),
            ("daemon.sandbox", self.daemon.sandbox != new.daemon.sandbox),
            ("daemon.writable", self.daemon.writable != new.daemon.writable),
            ("state.directory", self.state.directory != new.state.directory),
            ("state.node", self.state.node != new.state.node),
            ("journal", self.journal != new.journal),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }

    fn limits_enforce(&self) -> bool {
        use crate::storm::policy::Mode;
        let set = self.limits.author.is_some() || self.limits.organisation.is_some();
        set && self.limits.mode != Mode::Observe
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it has more than 32 MiB"));
    }
    Ok(text)
}

fn unreadable(file: String, error: &std::io::Error) -> Report {
    let help = match error.kind() {
        std::io::ErrorKind::NotFound => {
            Some("`becalm config --default` prints a file to begin with".to_owned())
        }
        std::io::ErrorKind::InvalidData => Some("the file must be UTF-8 text".to_owned()),
        _ => None,
    };
    let found = Diagnostic {
        severity: Severity::Error,
        message: format!("the file cannot be read: {error}"),
        span: None,
        label: None,
        help,
    };
    Report { file, text: String::new(), diagnostics: vec![found] }
}

fn host_name() -> String {
    // Not by /proc/sys, which systemd hides (ProcSubset=pid).
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        Config::parse("becalm.toml", text).unwrap_or_else(|report| panic!("{}", report.render(false))).0
    }

    #[test]
    fn an_empty_file_is_the_default_and_observes() {
        let config = parse("");
        assert_eq!(config, Config::default());
        assert!(!config.enforces());
    }

    #[test]
    fn a_missing_file_is_an_error_only_where_it_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("becalm.toml");
        let (config, _) = Config::load(&path, false).unwrap();
        assert!(!config.state.node.is_empty());
        let report = Config::load(&path, true).unwrap_err();
        assert!(report.to_string().contains("cannot be read"), "{report}");
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        let report = Config::load(&path, false).unwrap_err();
        assert!(report.to_string().contains("UTF-8"), "{report}");
    }

    #[test]
    fn a_reload_names_what_waits_for_a_restart() {
        let old = Config::default();
        assert_eq!(old.needs_restart(&old), Vec::<&str>::new());
        let new = parse(
            "listen.threads = 2\nlisten.max_connections = 9\nlisten.sockets = ['inet:1@::1']\n\
             tables.message_ids = 2048\nstorm.budget = 5",
        );
        assert_eq!(old.needs_restart(&new), ["listen.sockets", "listen.threads", "tables.message_ids"]);
        // What is not used can wait for ever.
        for (given_by, waits) in [(GivenBy::CommandLine, &["listen.mode"][..]), (GivenBy::Supervisor, &[])] {
            let mut given = Config::default();
            given.listen.given_by = given_by;
            let mut new = Config::default();
            new.listen.sockets.clear();
            new.listen.mode = 0o600;
            assert_eq!(given.needs_restart(&new), waits);
        }
    }

    #[test]
    fn enforcement_is_noticed_wherever_it_is_turned_on() {
        for text in [
            "verdict.mode = 'hold'",
            "class.big.mode = 'reject'",
            "[[list]]\naddress = 'all@example.org'\nmode = 'defer'",
            "[limits]\nmode = 'hold'\nauthor = { copies = 5, per = '1h' }",
        ] {
            assert!(parse(text).enforces(), "{text}");
        }
        assert!(!parse("[limits]\nmode = 'hold'").enforces());
    }
}
