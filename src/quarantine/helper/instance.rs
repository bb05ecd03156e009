//! One Postfix: where its programs and its queue are, and the programs run, with a bound on their time.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use super::refusal;
use crate::quarantine::protocol::{Reason, Refusal};
use crate::quarantine::queue_id::QueueId;

/// Where `postconf` may be; it knows where the others are.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/lib/postfix/sbin", "/opt/postfix/sbin"];

/// For one of Postfix's programs. They take milliseconds; the disk of a mail server in a storm may be slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a program says about one message has a hundred bytes.
const MAX_OUTPUT: u64 = 64 * 1024;

/// How often, and how many times, it is looked whether the queue manager has taken a message up: a fifth of a
/// second, after which another may overtake it.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
const LOOKS: u32 = 200;

/// What postsuper is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verb {
    flag: &'static str,
    /// Where the message must be.
    pub(super) queues: &'static [&'static str],
    /// What postsuper says when it has done it.
    says: &'static str,
    /// The version that has it.
    since: (u32, u32),
    /// Does the message leave the hold queue?
    pub(super) leaves: bool,
}

pub(super) const RELEASE: Verb =
    Verb { flag: "-H", queues: &["hold"], says: "released from hold", since: (2, 0), leaves: true };
pub(super) const RETURN: Verb =
    Verb { flag: "-f", queues: &["hold"], says: "released from hold", since: (3, 5), leaves: true };
/// Into the queue anew, under another queue id: with those recipients that are left.
pub(super) const REQUEUE: Verb =
    Verb { flag: "-r", queues: &["hold"], says: "requeued", since: (2, 0), leaves: false };
pub(super) const HOLD: Verb = Verb {
    flag: "-h",
    queues: &["incoming", "active", "deferred"],
    says: "placed on hold",
    since: (2, 0),
    leaves: false,
};

/// Postfix is not as it must be.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// No postconf.
    #[error("Postfix is not installed: postconf is in none of {}", PLACES.join(", "))]
    NotInstalled,
    /// Somebody else could change what root runs.
    #[error("{path} must be root's, and writable by nobody else: {why}")]
    Unsafe {
        /// What.
        path: PathBuf,
        /// In which way it is not.
        why: String,
    },
    /// postconf fails.
    #[error("{0}")]
    Postconf(String),
}

/// When main.cf was written last; none where it cannot be told.
pub(super) fn written(config: &Path) -> Option<SystemTime> {
    std::fs::metadata(config.join("main.cf")).and_then(|about| about.modified()).ok()
}

/// A Postfix.
pub(super) struct Instance {
    config: PathBuf,
    postsuper: PathBuf,
    postqueue: PathBuf,
    pub(super) queue: PathBuf,
    pub(super) version: String,
    pub(super) long_queue_ids: bool,
    /// Free bytes below which smtpd takes no mail.
    pub(super) min_free: u64,
}

impl Instance {
    /// Asks `postconf`.
    pub(super) fn find(config: &Path) -> Result<Self, InstanceError> {
        let config = config
            .canonicalize()
            .map_err(|error| InstanceError::Unsafe { path: config.to_owned(), why: error.to_string() })?;
        check_owner(&config)?;
        check_owner(&config.join("main.cf"))?;
        let postconf =
            PLACES.iter().map(|place| Path::new(place).join("postconf")).find(|path| path.is_file());
        let postconf = postconf.ok_or(InstanceError::NotInstalled)?;
        check_owner(&postconf)?;
        let names = [
            "command_directory",
            "queue_directory",
            "mail_version",
            "enable_long_queue_ids",
            "queue_minfree",
            "message_size_limit",
        ];
        let config_argument = config.to_string_lossy();
        let arguments: Vec<&str> = ["-c", &*config_argument, "-x"].into_iter().chain(names).collect();
        let (status, said) =
            run(&postconf, &arguments, b"", Stream::Output).map_err(InstanceError::Postconf)?;
        let values: BTreeMap<&str, &str> = said
            .lines()
            .filter_map(|line| line.split_once('=').map(|(name, value)| (name.trim(), value.trim())))
            .collect();
        let value = |name: &str| {
            values.get(name).copied().ok_or_else(|| {
                InstanceError::Postconf(format!("postconf ({status}) does not tell {name}: {said}"))
            })
        };
        let commands = Path::new(value("command_directory")?);
        let (postsuper, postqueue) = (commands.join("postsuper"), commands.join("postqueue"));
        check_owner(&postsuper)?;
        check_owner(&postqueue)?;
        let bytes = |name| Ok::<u64, InstanceError>(value(name)?.parse().unwrap_or(0));
        let (min_free, largest) = (bytes("queue_minfree")?, bytes("message_size_limit")?);
        Ok(Self {
            postsuper,
            postqueue,
            queue: PathBuf::from(value("queue_directory")?),
            version: value("mail_version")?.to_owned(),
            long_queue_ids: value("enable_long_queue_ids")? == "yes",
            // As smtpd(8) reckons.
            min_free: min_free.max(largest.saturating_add(largest / 2)),
            config,
        })
    }

    /// Refuses what this version cannot do.
    pub(super) fn supports(&self, verb: Verb) -> Result<(), Refusal> {
        let (major, minor) = verb.since;
        if numbers(&self.version) >= verb.since {
            return Ok(());
        }
        Err(refusal(
            Reason::Unsupported,
            format!(
                "Postfix {} cannot do this: `postsuper {}` came with {major}.{minor}",
                self.version, verb.flag
            ),
        ))
    }

    /// Has postsuper act upon one message; returns what it said of it.
    pub(super) fn postsuper(&self, verb: Verb, id: &QueueId) -> Result<Vec<String>, Refusal> {
        let config = self.config.to_string_lossy();
        let mut arguments = vec!["-c", &*config, verb.flag, "-"];
        arguments.extend(verb.queues);
        let failed = |message| refusal(Reason::Failed, message);
        let line = format!("{id}\n");
        let (status, said) =
            run(&self.postsuper, &arguments, line.as_bytes(), Stream::Error).map_err(failed)?;
        let about = format!("{id}: ");
        let lines = said.lines().filter_map(|line| line.split_once(&about)).map(|(_, what)| what.to_owned());
        let lines: Vec<String> = lines.collect();
        match lines.iter().any(|line| line == verb.says) {
            true => Ok(lines),
            // An unknown id is no failure to postsuper.
            false if status.success() && lines.is_empty() => {
                Err(refusal(Reason::NotFound, format!("{id} has left {}", verb.queues.join(", "))))
            }
            false => Err(failed(format!("postsuper ({status}): {}", said.trim()))),
        }
    }

    /// Has the queue manager take up this one message at once, and waits until it has.
    pub(super) fn deliver(&self, id: &QueueId) -> Result<(), String> {
        let config = self.config.to_string_lossy();
        let arguments = ["-c", &*config, "-i", id.as_str()];
        let (status, said) = run(&self.postqueue, &arguments, b"", Stream::Error)?;
        if !status.success() {
            return Err(format!("postqueue ({status}): {}", said.trim()));
        }
        let incoming = self.queue.join("incoming");
        for _ in 0..LOOKS {
            if !id.places().any(|place| incoming.join(place).exists()) {
                return Ok(());
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err("the queue manager has not taken it up yet".to_owned())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

/// Runs a program to its end, and returns what it said on one of its streams. An error says that it could not be
/// run, or took too long.
fn run(
    program: &Path,
    arguments: &[&str],
    input: &[u8],
    stream: Stream,
) -> Result<(ExitStatus, String), String> {
    let name = program.display();
    let pipe_if = |yes| if yes { Stdio::piped() } else { Stdio::null() };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(pipe_if(stream == Stream::Output))
        .stderr(pipe_if(stream == Stream::Error))
        .spawn()
        .map_err(|error| format!("cannot run {name}: {error}"))?;
    let pid = rustix::process::Pid::from_child(&child);
    let mut stdin = child.stdin.take();
    let pipe: Option<Box<dyn Read + Send>> = match stream {
        Stream::Output => child.stdout.take().map(|pipe| Box::new(pipe) as _),
        Stream::Error => child.stderr.take().map(|pipe| Box::new(pipe) as _),
    };
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut said = Vec::new();
        let read = pipe.map_or(Ok(0), |pipe| pipe.take(MAX_OUTPUT).read_to_end(&mut said));
        let ended = child.wait();
        // The receiver is gone when this took too long; nobody wants the outcome then.
        let _ = sender.send(read.and(ended).map(|status| (status, said)));
    });
    if let Some(stdin) = &mut stdin {
        // One line: it fits into the pipe. Who stops reading says why by its exit status.
        let _ = stdin.write_all(input);
    }
    drop(stdin);
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok((status, said))) => Ok((status, String::from_utf8_lossy(&said).into_owned())),
        Ok(Err(error)) => Err(format!("{name}: {error}")),
        Err(_) => {
            // Not reaped yet, or the thread would have sent: the number is still this process's.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            Err(format!("{name} took longer than {PATIENCE:?}"))
        }
    }
}

/// What root runs or reads must be root's alone.
fn check_owner(path: &Path) -> Result<(), InstanceError> {
    let unsafe_because = |why: String| InstanceError::Unsafe { path: path.to_owned(), why };
    let about = std::fs::metadata(path).map_err(|error: io::Error| unsafe_because(error.to_string()))?;
    if about.uid() != 0 {
        return Err(unsafe_because(format!("it belongs to user {}", about.uid())));
    }
    if about.mode() & 0o022 != 0 {
        return Err(unsafe_because(format!("its mode is {:o}", about.mode() & 0o7777)));
    }
    Ok(())
}

/// Major and minor number of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_postfix_is_not_asked_for_what_it_cannot_do() {
        let postfix = |version: &str| Instance {
            config: PathBuf::new(),
            postsuper: PathBuf::new(),
            postqueue: PathBuf::new(),
            queue: PathBuf::new(),
            version: version.to_owned(),
            long_queue_ids: true,
            min_free: 0,
        };
        let refused = postfix("3.4.13").supports(RETURN).unwrap_err();
        assert_eq!(refused.reason, Reason::Unsupported);
        assert!(refused.message.contains("`postsuper -f` came with 3.5"), "{refused}");
        for (version, verb) in
            [("3.4.13", RELEASE), ("3.5.0", RETURN), ("3.11-20250601", RETURN), ("4.0", HOLD)]
        {
            assert_eq!(postfix(version).supports(verb), Ok(()), "{version}");
        }
    }

    #[test]
    fn programs_are_run_with_nothing_but_what_they_are_given() {
        assert!(run(Path::new("/nonexistent/postsuper"), &[], b"", Stream::Error).is_err());
        let (status, said) =
            run(Path::new("/bin/sh"), &["-c", "cat >&2; exit 3"], b"x\n", Stream::Error).unwrap();
        assert_eq!((status.code(), said.as_str()), (Some(3), "x\n"));
        let (_, said) = run(Path::new("/usr/bin/env"), &[], b"", Stream::Output).unwrap();
        assert_eq!(said, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\n", "nothing else of the environment");
    }
}
