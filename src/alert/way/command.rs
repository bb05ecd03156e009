//! A program of the operator's: no shell, the object on its standard input, and killed when its time is over.

use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, kill_process_group};
use tracing::{debug, info};

use super::{Failure, printable};
use crate::alert::Alert;
use crate::clock::Stopwatch;

/// Of what a program says, for the log.
const MAX_OUTPUT: usize = 4 * 1024;

/// Between two looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// So long the end of what it says is waited for when it has ended itself: what it started may hold its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// EX_TEMPFAIL of sysexits(3): "try again later".
const TRY_AGAIN: i32 = 75;

pub(super) fn run(argv: &[String], alert: &Alert, timeout: Duration) -> Result<(), Failure> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Failure::Never("`command` is empty".to_owned()));
    };
    let text = serde_json::to_string(alert)
        .map_err(|error| Failure::Never(format!("cannot be written as JSON: {error}")))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .envs([
            ("BECALM_EVENT", alert.event.name()),
            ("BECALM_SEVERITY", alert.severity.name()),
            ("BECALM_ID", &alert.id),
            ("BECALM_NODE", &alert.node),
            ("BECALM_TITLE", &alert.title),
            ("BECALM_TEXT", &alert.text),
            ("BECALM_STORM", alert.storm.as_deref().unwrap_or_default()),
            ("BECALM_LIST", alert.list.as_deref().unwrap_or_default()),
            ("BECALM_ABOUT", alert.about.as_deref().unwrap_or_default()),
        ])
        // becalm's own sockets and supervisor are none of its business.
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // What it starts goes with it.
        .process_group(0);
    let mut child = command.spawn().map_err(|error| {
        let help =
            "see the path in `command`, that becalm's user may run it, and becalm's confinement (systemd)";
        Failure::Never(format!("`{program}` cannot be started: {error}; {help}"))
    })?;
    let group = Pid::from_child(&child);
    let input = child.stdin.take();
    let until = timeout.saturating_add(LAST_WORDS);
    let ears = [
        child.stdout.take().map(|pipe| listen(pipe, until)),
        child.stderr.take().map(|pipe| listen(pipe, until)),
    ];
    // A program that does not read must not keep this thread; what is cut short here, it did not want.
    let writer = input.map(|mut input| std::thread::spawn(move || drop(input.write_all(text.as_bytes()))));
    let ended = wait(&mut child, timeout);
    // Also where it ended in time: what it left behind may hold its pipes open.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    let said: Vec<String> = ears.into_iter().flatten().map(Ear::said).collect();
    let said = printable(&said.join(" "), 500);
    match ended {
        Ok(Some(status)) if status.success() => {
            if said.is_empty() {
                debug!(program, id = alert.id, "the command of an alert has run");
            } else {
                info!(program, id = alert.id, said, "the command of an alert has run");
            }
            Ok(())
        }
        Ok(Some(status)) if status.code() == Some(TRY_AGAIN) => {
            Err(Failure::Later(format!("`{program}` asks to be run again (exit code 75): {said}")))
        }
        Ok(Some(status)) => Err(Failure::Never(format!(
            "`{program}` failed ({status}): {said}; exit code 75 would have it run again"
        ))),
        Ok(None) => Err(Failure::Never(format!(
            "`{program}` was killed after {} s; raise `timeout`, or have it start what takes so long by `setsid`, its output elsewhere: {said}",
            timeout.as_secs()
        ))),
        Err(error) => Err(Failure::Later(format!("`{program}` cannot be waited for: {error}"))),
    }
}

/// What is said through a pipe, as far as it has been heard.
struct Ear {
    heard: Arc<Mutex<Vec<u8>>>,
    ended: mpsc::Receiver<()>,
}

/// Listens to the end, or for so long, and keeps the beginning.
fn listen(pipe: impl AsFd + Send + 'static, patience: Duration) -> Ear {
    let watch = Stopwatch::start();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (sender, ended) = mpsc::channel();
    let ear = Ear { heard: Arc::clone(&heard), ended };
    std::thread::spawn(move || {
        let mut part = [0; 1024];
        while let Some(left) = patience.checked_sub(watch.elapsed())
            && let Ok(left) = Timespec::try_from(left)
            && let Ok(1) = retry_on_intr(|| poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)))
            && let Ok(read @ 1..) = retry_on_intr(|| rustix::io::read(&pipe, &mut part))
        {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MAX_OUTPUT - heard.len();
            heard.extend(part.iter().take(read.min(room)));
        }
        // Nobody waits for it any more, perhaps.
        let _ = sender.send(());
    });
    ear
}

impl Ear {
    /// Everything, if it ends soon.
    fn said(self) -> String {
        let _ = self.ended.recv_timeout(LAST_WORDS);
        String::from_utf8_lossy(&self.heard.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// None: its time is over.
fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let watch = Stopwatch::start();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if watch.elapsed() >= timeout {
            return Ok(None);
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Kind, Severity};
    use crate::time::Timestamp;

    #[test]
    fn what_holds_the_output_open_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [ready, end] = ["ready", "end"].map(|name| folder.path().join(name));
        assert!(Command::new("mkfifo").args([&ready, &end]).status().unwrap().success());
        // In a session of its own, which the command waits for, it goes on until this test lets it end.
        let script = r#"setsid sh -c 'echo > "$0"; read line < "$1"' "$0" "$1" & read line < "$0""#;
        let argv = ["sh", "-c", script, ready.to_str().unwrap(), end.to_str().unwrap()].map(str::to_owned);
        let alert = Alert::new(Kind::Test, Severity::Info, Timestamp::default(), "mx1", "1".to_owned());
        assert!(run(&argv, &alert, Duration::from_secs(3600)).is_ok());
        std::fs::write(&end, "end\n").unwrap();
    }
}
