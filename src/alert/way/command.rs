//! A program of the operator's: no shell, the object on its standard input, and killed when its time is over.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tracing::{debug, info};

use super::{Failure, printable};
use crate::alert::Alert;
use crate::clock::Stopwatch;

/// Of what a program says, for the log.
const MAX_OUTPUT: u64 = 4 * 1024;

/// Between two looks whether it has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

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
    let outputs = [child.stdout.take().map(reader), child.stderr.take().map(reader)];
    // A program that does not read must not keep this thread; what is cut short here, it did not want.
    let writer = input.map(|mut input| std::thread::spawn(move || drop(input.write_all(text.as_bytes()))));
    let ended = wait(&mut child, timeout);
    // Also where it ended in time: what it left behind holds its pipes open.
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    let said: Vec<String> = outputs.into_iter().flatten().filter_map(|thread| thread.join().ok()).collect();
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
            "`{program}` was killed after {} s; raise `timeout`, or let it do its work in the background: {said}",
            timeout.as_secs()
        ))),
        Err(error) => Err(Failure::Later(format!("`{program}` cannot be waited for: {error}"))),
    }
}

/// Reads to the end, and keeps the beginning.
fn reader(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let _ = pipe.by_ref().take(MAX_OUTPUT).read_to_end(&mut text);
        let _ = std::io::copy(&mut pipe, &mut std::io::sink());
        String::from_utf8_lossy(&text).into_owned()
    })
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
