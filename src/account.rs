//! Users and groups of this machine, by name: getent knows every one of them (files, LDAP).

use std::io;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A directory server that does not answer for so long must not keep an operator waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of a group.
pub(crate) fn group_id(group: &str) -> io::Result<u32> {
    look_up("group", group)
}

/// The number of a user.
pub(crate) fn user_id(user: &str) -> io::Result<u32> {
    look_up("passwd", user)
}

/// The name of a user; the number where it has none.
pub(crate) fn user_name(user: u32) -> String {
    let line = getent("getent", "passwd", &user.to_string(), PATIENCE).unwrap_or_default();
    match line.split(':').next() {
        Some(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => user.to_string(),
    }
}

fn look_up(database: &str, name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let line = getent("getent", database, name, PATIENCE)?;
    let number = line.split(':').nth(2).and_then(|number| number.parse().ok());
    number
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no entry for {name} in {database}")))
}

/// What getent(1) says of an entry; nothing if there is none.
fn getent(program: &str, database: &str, name: &str, patience: Duration) -> io::Result<String> {
    let mut command = Command::new(program);
    command.args([database, "--", name]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let (sender, receiver) = mpsc::channel();
    // The receiver is gone when this takes too long; nobody wants the answer then.
    std::thread::Builder::new().spawn(move || sender.send(child.wait_with_output()))?;
    match receiver.recv_timeout(patience) {
        Ok(output) => Ok(String::from_utf8_lossy(&output?.stdout).into_owned()),
        Err(_) => {
            // Where it ends at this very moment, its number is not given to another one so soon.
            let _ = kill_process(pid, Signal::KILL);
            let why = format!("{program} has not told of {name} in {database} for {patience:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known_and_who_is_not_keeps_his_number() {
        assert_eq!((user_name(0).as_str(), user_id("root").unwrap()), ("root", 0));
        assert_eq!(user_name(4_000_000_000), "4000000000");
        assert_eq!(group_id("no such group").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        // Nobody ever writes into it.
        let error = getent("cat", fifo.to_str().unwrap(), "jo", Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    }
}
