//! Asking the Postfix of this machine, and looking at the sockets through which it reaches becalm.

use std::ffi::OsStr;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::config::postfix::{self, Facts, Finding, Identity, Node, PARAMETERS};
use crate::config::{Config, ListenAddress};

/// How long TCP may take to answer: as long as Postfix waits where it is set up as documented.
const PATIENCE: Duration = Duration::from_secs(2);

/// Everything that is to be said about the Postfix whose configuration is in `folder`.
pub(super) fn examine(folder: Option<&Path>, config: &Config) -> Vec<Finding> {
    let facts = match ask_postfix(folder) {
        Ok(facts) => facts,
        Err(error) => {
            let open = |path: &Path| std::fs::File::open(path).map(drop);
            let help = remedy(&error, &configuration(folder), open);
            return vec![Finding::error("postconf", format!("{error:#}"), help)];
        }
    };
    let mut findings = postfix::examine(&facts, config);
    findings.extend(examine_sockets(&facts, config));
    findings
}

/// `queue_directory` of the Postfix that is checked.
pub(super) fn queue_directory(config: Option<&Path>) -> Option<String> {
    let mut postconf = Command::new("postconf");
    if let Some(config) = config {
        postconf.arg("-c").arg(config);
    }
    let output = postconf.args(["-x", "-h", "queue_directory"]).output().ok()?;
    let queue = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !queue.is_empty()).then_some(queue)
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

/// What may help against `error` of [`ask_postfix`]. Postfix tells its failures apart by text alone, so its files in
/// `folder` are asked: `open` tries one.
fn remedy(error: &anyhow::Error, folder: &Path, open: impl Fn(&Path) -> io::Result<()>) -> String {
    let missing = "run this where Postfix is installed, or leave its configuration out with --no-postfix";
    if error.downcast_ref::<io::Error>().is_some() {
        return missing.to_owned();
    }
    let closed = ["main.cf", "master.cf"].iter().find_map(|file| open(&folder.join(file)).err());
    match closed.map(|error| error.kind()) {
        Some(io::ErrorKind::NotFound) => missing.to_owned(),
        Some(io::ErrorKind::PermissionDenied) => "run this as root".to_owned(),
        _ => format!("mend that line; `postfix -c {} check` shows what else is wrong", folder.display()),
    }
}

/// The folder that `postconf` reads.
fn configuration(folder: Option<&Path>) -> PathBuf {
    let built_in = || output("postconf", &["-d", "-h", "config_directory"].map(OsStr::new)).ok();
    let of_environment = || std::env::var_os("MAIL_CONFIG").map(PathBuf::from);
    folder
        .map(Path::to_owned)
        .or_else(of_environment)
        .or_else(|| built_in().map(|folder| PathBuf::from(folder.trim())))
        .unwrap_or_else(|| PathBuf::from("/etc/postfix"))
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
    let output = command.output().with_context(|| format!("`{program}` cannot be run"))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        let last = complaint.lines().last().unwrap_or("it gave no reason");
        anyhow::bail!("`{program}` failed: {last}");
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The sockets through which Postfix reaches becalm, or would.
fn examine_sockets(facts: &Facts, config: &Config) -> Vec<Finding> {
    let mut used = postfix::used_sockets(facts, config);
    if used.is_empty() {
        used.extend(config.listen.sockets.iter().map(|socket| (socket.clone(), false)));
    }
    let mut findings = Vec::new();
    for (socket, chrooted) in used {
        let found = match &socket {
            ListenAddress::Unix(path) => examine_unix(path, chrooted, facts, config),
            ListenAddress::Inet { host, port } => vec![listens(&socket.to_string(), *host, *port)],
        };
        for finding in found {
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    findings
}

fn examine_unix(path: &Path, chrooted: bool, facts: &Facts, config: &Config) -> Vec<Finding> {
    let who = match identity(facts.main("mail_owner")) {
        Ok(who) => who,
        Err(error) => {
            let help = "see that the user exists and `id` can be run";
            return vec![Finding::error("mail_owner", format!("{error:#}"), help)];
        }
    };
    let queue_directory = Path::new(facts.main("queue_directory"));
    let root = if path.starts_with(queue_directory) { queue_directory } else { Path::new("/") };
    postfix::examine_socket(path, root, chrooted, &who, &config.listen, look)
}

/// Whether anything takes connections there.
fn listens(topic: &str, host: IpAddr, port: u16) -> Finding {
    // Who listens on all addresses listens on this machine's own.
    let host = match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    match TcpStream::connect_timeout(&SocketAddr::new(host, port), PATIENCE) {
        Ok(_) => Finding::ok(topic, "takes connections"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Finding::warning(
            topic,
            "nothing listens there: becalm is not running",
            "start becalm; until then Postfix takes its default action",
        ),
        Err(error) => Finding::warning(
            topic,
            format!("nothing can be reached there: {error}"),
            "see that this machine has that address, and that no firewall is in the way",
        ),
    }
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
    use super::super::render;
    use super::*;
    use crate::config::Severity;

    #[test]
    fn the_name_of_the_origin_may_stand_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mailname");
        std::fs::write(&file, "example.org\nmore\n").unwrap();
        let mut facts = Facts::parse(&format!("myorigin = {}", file.display()), "", "");
        resolve_origin(&mut facts);
        assert_eq!(facts.main("myorigin"), "example.org");
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
            let found = examine(Some(self.folder.path()), &self.config);
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
    fn a_port_where_nothing_listens_is_warned_of() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "0.0.0.0"] {
            let text = format!("listen.sockets = ['inet:{port}@{host}']");
            let (config, _) = Config::parse("becalm.toml", &text).unwrap();
            let found = examine_sockets(&Facts::default(), &config);
            assert_eq!(found, [Finding::ok(format!("inet:{port}@{host}"), "takes connections")]);
        }
        drop(listener);
        let found = listens("inet", Ipv4Addr::LOCALHOST.into(), port);
        assert_eq!(found.severity, Severity::Warning);
        assert!(found.message.contains("becalm is not running"), "{found:?}");
    }

    #[test]
    fn a_folder_without_postfix_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let found = examine(Some(folder.path()), &Config::default());
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].severity, found[0].topic.as_str()), (Severity::Error, "postconf"));
        assert!(found[0].help.as_deref().unwrap().contains("--no-postfix"), "{found:?}");
    }

    #[test]
    fn a_line_that_postfix_does_not_understand_is_to_be_mended() {
        for (main, master, place) in
            [("\nno sign\n", "", "main.cf, line 5"), ("\n", "smtp inet n\n", "master.cf: line 1")]
        {
            let Some(site) = Site::new(main, master) else { return };
            let complaints = site.complaints();
            assert!(complaints.contains(place) && complaints.contains("mend that line"), "{complaints}");
            assert!(!complaints.contains("--no-postfix"), "{complaints}");
        }
    }

    #[test]
    fn what_only_root_may_read_is_asked_for_as_root() {
        let failed = anyhow::anyhow!("`postconf` failed");
        let open = |kind: io::ErrorKind| move |_: &Path| Err(io::Error::from(kind));
        let folder = Path::new("/etc/postfix");
        assert_eq!(remedy(&failed, folder, open(io::ErrorKind::PermissionDenied)), "run this as root");
        let gone = io::Error::from(io::ErrorKind::NotFound);
        let not_run = Err::<(), _>(gone).context("`postconf` cannot be run").unwrap_err();
        assert!(remedy(&not_run, folder, |_| Ok(())).contains("where Postfix is installed"));
    }
}
