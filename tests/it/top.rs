//! The live view in a terminal of its own (`script` of util-linux).

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::harness::{Becalm, wait_until};

#[test]
fn it_shows_the_daemon_and_leaves_the_terminal_as_it_was() {
    let becalm = Becalm::start("");
    let once = becalm.command(&["top", "--once"]);
    assert!(once.contains("Calm: no storm") && once.lines().count() == 24, "{once}");

    let home = becalm.home().display();
    let line = format!(
        "stty rows 24 cols 80; stty -a > {home}/before; {} top --socket {home}/admin.sock; echo $? > {home}/code; \
         stty -a > {home}/after",
        env!("CARGO_BIN_EXE_becalm")
    );
    for end in ["q", "control-c"] {
        let mut child = Command::new("script")
            .args(["-qfec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (util-linux) is there");
        let mut seen = Vec::new();
        let mut out = child.stdout.take().unwrap();
        let mut chunk = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains("Calm: no storm") {
            let read = out.read(&mut chunk).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&chunk[..read]);
        }
        if end == "q" {
            child.stdin.as_mut().unwrap().write_all(b"q").unwrap();
        } else {
            child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
        }
        out.read_to_end(&mut seen).unwrap();
        wait_until("the terminal is given back", || child.try_wait().unwrap());
        let seen = String::from_utf8_lossy(&seen);
        assert!(seen.contains("\u{1b}[?1049h") && seen.contains("\u{1b}[?1049l"), "{seen:?}");
        assert!(!seen.contains("\u{1b}[31m") && !seen.contains("\u{1b}[38;5"), "no colours: {seen:?}");
        let read = |name: &str| std::fs::read_to_string(becalm.home().join(name)).unwrap();
        assert_eq!(read("before"), read("after"));
        assert_eq!(read("code").trim(), "0");
    }
}
