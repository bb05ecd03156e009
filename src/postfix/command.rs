//! Postfix's programs, run with a bound on their time.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use super::{COMMAND_PATIENCE, Error};

/// Where distributions put `postfix`, beside the search path: sudo's and an ordinary user's leave `sbin` out
/// sometimes.
const PLACES: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/lib/postfix/sbin"];

/// What a program said before it ended well.
pub(super) struct Said {
    /// Standard output.
    pub(super) out: String,
    /// Standard error.
    pub(super) err: String,
}

/// Postfix's command directory.
pub(super) struct Programs {
    directory: PathBuf,
    /// `compatibility_level` of this version, so that it does not warn about defaults.
    pub(super) compatibility: &'static str,
}

impl Programs {
    /// Looks for them; says what is missing.
    pub(super) fn find() -> Result<Self, Error> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directory = std::env::split_paths(&path)
            .chain(PLACES.map(PathBuf::from))
            .find(|directory| directory.join("postfix").is_file())
            .ok_or(Error::NotInstalled { program: "postfix" })?;
        if !rustix::process::geteuid().is_root() {
            return Err(Error::NotRoot);
        }
        let mut programs = Self { directory, compatibility: "2" };
        let version = programs.run("postconf", &["-d", "-h", "mail_version"], None, "")?;
        let version = version.out.trim();
        programs.compatibility = match numbers(version) {
            (3, 6..) | (4.., _) => "3.6",
            (3, 4..) => "2",
            _ => return Err(Error::TooOld { version: version.to_owned() }),
        };
        Ok(programs)
    }

    /// The user that Postfix's processes run as.
    pub(super) fn mail_owner(&self) -> io::Result<u32> {
        let owner = self.run("postconf", &["-d", "-h", "mail_owner"], None, "").map_err(io::Error::other)?;
        crate::account::user_id(owner.out.trim())
    }

    /// The full name of a program.
    fn path(&self, program: &'static str) -> PathBuf {
        self.directory.join(program)
    }

    /// Runs a program to its end. An error says `log` too.
    pub(super) fn run(
        &self,
        program: &'static str,
        arguments: &[&str],
        input: Option<&[u8]>,
        log: &str,
    ) -> Result<Said, Error> {
        let command = || format!("{program} {}", arguments.join(" "));
        let system = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Error::NotInstalled { program },
            _ => Error::System { what: command(), source },
        };
        let mut child = Command::new(self.path(program))
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(system)?;
        let pid = rustix::process::Pid::from_child(&child);
        let stdin = child.stdin.take();
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            // The receiver is gone when this took too long; nobody wants the outcome then.
            let _ = sender.send(child.wait_with_output());
        });
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // Who stops reading says why by its exit status.
            let _ = stdin.write_all(input);
        }
        let Ok(output) = receiver.recv_timeout(COMMAND_PATIENCE) else {
            // Not reaped yet, or the thread would have sent: the number is still this process's.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            return Err(Error::Timeout { what: command(), patience: COMMAND_PATIENCE, log: log.to_owned() });
        };
        let Output { status, stdout, stderr } = output.map_err(system)?;
        if status.success() {
            let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
            return Ok(Said { out: text(stdout), err: text(stderr) });
        }
        let said = String::from_utf8_lossy(&stderr);
        Err(Error::Command { command: command(), output: format!("{status}: {}\n{log}", said.trim()) })
    }
}

/// Major and minor number of a version.
fn numbers(version: &str) -> (u32, u32) {
    let mut parts = version.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::numbers;

    #[test]
    fn reads_versions() {
        assert_eq!(numbers("3.7.11"), (3, 7));
        assert_eq!(numbers("3.11-20250601"), (3, 11));
        assert_eq!(numbers("?"), (0, 0));
    }
}
