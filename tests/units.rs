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
        ]
    );
    assert_eq!(one.len(), turns.len());
}

/// What an operator gets on a bare machine: the program, its manual, and a user and folders that fit together.
#[test]
fn an_installation_is_whole_and_can_be_repeated() {
    use std::os::unix::fs::MetadataExt as _;
    let there = tempfile::tempdir().unwrap();
    let root = there.path();
    for folder in ["etc", "var/spool/postfix"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\npostfix:x:123:124::/:/bin/false\n")
        .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\npostfix:x:124:\n").unwrap();
    let run = |program: &mut Command| {
        let output = program.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let install = || {
        run(Command::new(folder().join("../install"))
            .env("BECALM", env!("CARGO_BIN_EXE_becalm"))
            .env("DESTDIR", root))
    };
    install();
    install();
    assert!(!root.join("etc/becalm/becalm.toml").exists(), "a configuration is the operator's");
    for file in
        ["usr/local/sbin/becalm", "usr/local/share/man/man1/becalm-run.1", "etc/bash_completion.d/becalm"]
    {
        assert!(root.join(file).metadata().unwrap().len() > 0, "{file}");
    }

    // Where a distribution keeps its own.
    let package = tempfile::tempdir().unwrap();
    run(Command::new(folder().join("../install"))
        .env("BECALM", env!("CARGO_BIN_EXE_becalm"))
        .env("DESTDIR", package.path())
        .env("PREFIX", "/usr"));
    assert!(!package.path().join("etc").exists() && !package.path().join("usr/local").exists());
    for unit in UNITS {
        let text = std::fs::read_to_string(package.path().join("usr/lib/systemd/system").join(unit)).unwrap();
        assert!(!text.contains("/usr/local"), "{unit}");
        assert_eq!(text.contains("ExecStart=/usr/sbin/becalm "), unit.ends_with(".service"), "{unit}");
    }

    let mut at_root = std::ffi::OsString::from("--root=");
    at_root.push(root);
    run(Command::new("systemd-sysusers").arg(&at_root).arg("becalm.conf"));
    run(Command::new("systemd-tmpfiles").arg(&at_root).args(["--create", "becalm.conf"]));
    let users = std::fs::read_to_string(root.join("etc/passwd")).unwrap();
    let user = users.lines().find(|line| line.starts_with("becalm:")).expect("a user");
    let uid: u32 = user.split(':').nth(2).unwrap().parse().unwrap();
    let groups = std::fs::read_to_string(root.join("etc/group")).unwrap();
    assert!(groups.contains("postfix:x:124:becalm"), "it may give its socket to Postfix: {groups}");
    let folder = |path: &str| {
        let about = root.join(path).metadata().unwrap();
        (about.uid(), about.gid(), about.mode() & 0o7777)
    };
    let (owner, _, mode) = folder("var/lib/becalm");
    assert_eq!((owner, mode), (uid, 0o700));
    assert_eq!(folder("var/spool/postfix/becalm"), (uid, 124, 0o750));
}
