//! systemd's own judgement of the units, without a systemd that runs.

use std::path::Path;
use std::process::Command;

const UNITS: [&str; 5] =
    ["becalm.service", "becalm@.service", "becalm.socket", "becalm-helper.service", "becalm-helper.socket"];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/systemd"))
}

fn analyze(arguments: &[&str], units: &[&Path]) -> String {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .args(units)
        .env("LC_ALL", "C.UTF-8")
        .env("SYSTEMD_COLORS", "0")
        .output()
        .expect("systemd-analyze can be run: apt-get install systemd, or use tests/run");
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

/// What systemd thinks the service could still do: 0 nothing, 10 everything.
fn exposure(unit: &str) -> f64 {
    let said = analyze(&["security", "--offline=true", "--no-pager"], &[&folder().join(unit)]);
    assert!(!said.contains("ignoring"), "{said}");
    let figure = said
        .rsplit("Overall exposure level for ")
        .next()
        .and_then(|rest| rest.split_once(": ").and_then(|(_, figure)| figure.split_whitespace().next()));
    figure.and_then(|figure| figure.parse().ok()).unwrap_or_else(|| panic!("no figure: {said}"))
}

#[test]
fn the_daemon_can_do_little_and_the_helper_not_much_more() {
    for unit in ["becalm.service", "becalm@.service"] {
        let figure = exposure(unit);
        assert!(figure <= 1.5, "{unit}: {figure}");
    }
    // postsuper works for root alone, on files that are Postfix's.
    let figure = exposure("becalm-helper.service");
    assert!(figure <= 1.7, "{figure}");
}

#[test]
fn systemd_understands_every_line() {
    // systemd looks for the program; here it is the one under test.
    let there = tempfile::tempdir().unwrap();
    for unit in UNITS {
        let text = std::fs::read_to_string(folder().join(unit)).unwrap();
        let text = text.replace("/usr/local/sbin/becalm", env!("CARGO_BIN_EXE_becalm"));
        std::fs::write(there.path().join(unit), text).unwrap();
    }
    for unit in UNITS {
        let unit = there.path().join(unit.replace("@.", "@a."));
        let said = analyze(&["verify", "--man=no", "--recursive-errors=no"], &[&unit]);
        assert_eq!(said, "", "{}", unit.display());
    }
}

#[test]
fn the_two_ways_to_run_the_daemon_differ_in_little() {
    let read = |unit: &str| std::fs::read_to_string(folder().join(unit)).unwrap();
    let settings = |unit: &str| -> Vec<String> {
        read(unit)
            .lines()
            .filter(|line| line.contains('=') && !line.starts_with('#'))
            .map(str::to_owned)
            .collect()
    };
    let (one, turns) = (settings("becalm.service"), settings("becalm@.service"));
    let own: Vec<_> = turns.iter().filter(|line| !one.contains(line)).map(String::as_str).collect();
    assert_eq!(
        own,
        [
            "Description=becalm, a milter that stops reply-all storms (%i)",
            "ExecStart=/usr/local/sbin/becalm run --takeover",
            "RuntimeDirectoryPreserve=yes",
        ]
    );
    assert_eq!(one.len(), turns.len());
}
