//! How a private Postfix is laid out, started and stopped.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

use super::command::Programs;
use super::{Builder, Error, LOOK_AGAIN};
use crate::clock::Stopwatch;

/// How long Postfix's processes may take to end before they are killed.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// A port that was free may be taken before Postfix has it.
const START_ATTEMPTS: u32 = 5;

/// Services that are not there cannot do harm: no smtp, relay, lmtp, pipe, local or virtual.
const SERVICES: &str = "\
pickup    unix  n - n 1     1 pickup
cleanup   unix  n - n -     0 cleanup
qmgr      unix  n - n 300   1 qmgr
rewrite   unix  - - n -     - trivial-rewrite
bounce    unix  - - n -     0 bounce
defer     unix  - - n -     0 bounce
trace     unix  - - n -     0 bounce
verify    unix  - - n -     1 verify
flush     unix  n - n 1000? 0 flush
proxymap  unix  - - n -     - proxymap
proxywrite unix - - n -     1 proxymap
showq     unix  n - n -     - showq
error     unix  - - n -     - error
retry     unix  - - n -     - error
discard   unix  - - n -     - discard
anvil     unix  - - n -     1 anvil
postlog   unix-dgram n - n - 1 postlogd
";

/// Nothing leaves the machine, every recipient is taken, and nobody is slowed down.
const SETTINGS: [(&str, &str); 25] = [
    ("enable_long_queue_ids", "yes"),
    ("inet_interfaces", "loopback-only"),
    ("inet_protocols", "ipv4"),
    ("mynetworks", "127.0.0.0/8"),
    ("myhostname", "mail.example.org"),
    ("myorigin", "example.org"),
    ("mydestination", "example.org"),
    ("recipient_delimiter", "+"),
    ("local_recipient_maps", ""),
    ("alias_maps", ""),
    ("alias_database", ""),
    ("default_transport", "discard:"),
    ("local_transport", "discard:"),
    ("relay_transport", "discard:"),
    ("virtual_transport", "discard:"),
    ("smtpd_relay_restrictions", "permit_mynetworks, reject"),
    ("smtpd_peername_lookup", "no"),
    ("smtpd_client_connection_count_limit", "0"),
    ("smtpd_error_sleep_time", "0"),
    ("smtpd_soft_error_limit", "10000"),
    ("smtpd_hard_error_limit", "10000"),
    ("smtpd_junk_command_limit", "10000"),
    ("in_flow_delay", "0"),
    ("notify_classes", ""),
    ("biff", "no"),
];

/// Ends Postfix when the process that started it is gone without having done so: killed, or interrupted at a
/// terminal. A shell that reads from a pipe, in a process group of its own; the pipe's other end closes with
/// its owner.
pub(super) struct Keeper(Child);

/// Run by the keeper's shell: `$1` is the directory with everything in it.
const KEEPER: &str = r#"
read -r _ && exit 0
trap '' HUP INT TERM
for process in /proc/[0-9]*; do
    case "$(readlink "$process/cwd")" in
        "$1/queue" | "$1/queue (deleted)") kill "${process#/proc/}" ;;
    esac
done
rm -rf -- "$1"
"#;

impl Keeper {
    fn hire(home: &Path) -> Result<Self, Error> {
        Command::new("/bin/sh")
            .args(["-c", KEEPER, "becalm-keeper"])
            .arg(home)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|source| Error::System { what: "/bin/sh".to_owned(), source })
    }

    /// It is not needed any more.
    pub(super) fn dismiss(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // If it is gone already, so be it.
            let _ = pipe.write_all(b"dismissed\n");
        }
        let _ = self.0.wait();
    }
}

/// Where main.cf and master.cf are.
pub(super) fn config_directory(home: &Path) -> PathBuf {
    home.join("config")
}

/// Postfix's `queue_directory`.
pub(super) fn queue_directory(home: &Path) -> PathBuf {
    home.join("queue")
}

/// The log so far; empty if there is none yet.
pub(super) fn log(home: &Path) -> String {
    fs::read(home.join("maillog")).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

/// The last lines of the log, for an error message.
pub(super) fn log_tail(home: &Path) -> String {
    let log = log(home);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Lays everything out and starts master(8). Returns the directory, smtpd's port, and the keeper.
pub(super) fn start(programs: &Programs, builder: &Builder) -> Result<(TempDir, u16, Keeper), Error> {
    let mut attempt = 1;
    loop {
        let home =
            lay_out(programs).map_err(|source| system("cannot make a directory for Postfix", source))?;
        let port = free_port().map_err(|source| system("no free port on 127.0.0.1", source))?;
        let config = config_directory(home.path());
        fs::write(config.join("main.cf"), main_cf(programs, builder, home.path()))
            .and_then(|()| fs::write(config.join("master.cf"), master_cf(builder, port)))
            .map_err(|source| system("cannot write Postfix's configuration", source))?;
        let mut keeper = Keeper::hire(home.path())?;
        let started = programs
            .run("postfix", &["-c", &config.to_string_lossy(), "start"], None, "")
            .map_err(|error| with_log(error, home.path()));
        match started {
            Ok(_) => return Ok((home, port, keeper)),
            Err(error) => {
                let port_was_taken = log(home.path()).contains("Address already in use");
                stop(home.path());
                keeper.dismiss();
                if !port_was_taken || attempt == START_ATTEMPTS {
                    return Err(error);
                }
                attempt += 1;
            }
        }
    }
}

/// Ends all processes of the instance: politely, then by force.
pub(super) fn stop(home: &Path) {
    let queue = queue_directory(home);
    for process in processes_in(&queue) {
        // Gone in this very moment is as good.
        let _ = rustix::process::kill_process(process, Signal::TERM);
    }
    let watch = Stopwatch::start();
    loop {
        let left = processes_in(&queue);
        if left.is_empty() {
            return;
        }
        if watch.elapsed() > STOP_PATIENCE {
            for process in left {
                let _ = rustix::process::kill_process(process, Signal::KILL);
            }
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn system(what: &str, source: io::Error) -> Error {
    Error::System { what: what.to_owned(), source }
}

/// `postfix start` says little; the log says why.
fn with_log(error: Error, home: &Path) -> Error {
    match error {
        Error::Command { command, output } => {
            Error::Command { command, output: format!("{output}\n{}", log_tail(home)) }
        }
        error => error,
    }
}

/// A directory that Postfix's user can look into, with what `postfix check` does not make by itself.
fn lay_out(programs: &Programs) -> io::Result<TempDir> {
    let home = tempfile::Builder::new()
        .prefix("becalm-postfix-")
        .permissions(Permissions::from_mode(0o755))
        // Processes are known by the true name of their directory.
        .tempdir_in(std::env::temp_dir().canonicalize()?)?;
    // The permissions above are subject to the umask.
    fs::set_permissions(home.path(), Permissions::from_mode(0o755))?;
    for directory in [config_directory(home.path()), queue_directory(home.path()), home.path().join("data")] {
        fs::create_dir(&directory)?;
        fs::set_permissions(&directory, Permissions::from_mode(0o755))?;
    }
    let owner = programs.mail_owner()?;
    std::os::unix::fs::chown(home.path().join("data"), Some(owner), None)?;
    Ok(home)
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn main_cf(programs: &Programs, builder: &Builder, home: &Path) -> String {
    let home = home.display();
    let mut settings = vec![
        ("compatibility_level", programs.compatibility.to_owned()),
        ("queue_directory", format!("{home}/queue")),
        ("data_directory", format!("{home}/data")),
        ("maillog_file", format!("{home}/maillog")),
        ("maillog_file_prefixes", home.to_string()),
    ];
    settings.extend(SETTINGS.map(|(name, value)| (name, value.to_owned())));
    if let Some(milter) = &builder.milter {
        let mut milter = format!("{{ {milter}");
        for (name, value) in &builder.milter_settings {
            milter.push_str(&format!(", {name}={value}"));
        }
        milter.push_str(" }");
        settings.push(("smtpd_milters", milter.clone()));
        if builder.non_smtpd {
            settings.push(("non_smtpd_milters", milter));
        }
    }
    // Postfix warns of every name that comes twice.
    settings.retain(|(name, _)| !builder.settings.iter().any(|(own, _)| own == name));
    settings.extend(builder.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
    settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
}

fn master_cf(builder: &Builder, port: u16) -> String {
    let chroot = if builder.chroot { 'y' } else { 'n' };
    let mut text = format!("127.0.0.1:{port} inet n - {chroot} - - smtpd\n");
    for (name, value) in &builder.smtpd {
        text.push_str(&format!("  -o {{ {name} = {value} }}\n"));
    }
    text.push_str(SERVICES);
    for line in &builder.services {
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Every process of Postfix's works in its queue directory: nothing else tells two instances apart.
fn processes_in(queue: &Path) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| pid(entry.file_name().to_str()?))
        .filter(|process| works_in(*process, queue))
        .collect()
}

fn works_in(process: Pid, queue: &Path) -> bool {
    let works_in = fs::read_link(format!("/proc/{}/cwd", process.as_raw_nonzero()));
    // Somebody may have cleaned up behind our back: proc_pid_cwd(5) says so after the name.
    works_in
        .is_ok_and(|cwd| cwd == queue || cwd.to_string_lossy() == format!("{} (deleted)", queue.display()))
}

fn pid(text: &str) -> Option<Pid> {
    Pid::from_raw(text.trim().parse().ok()?)
}
