//! `becalm replay` as a command.

use std::process::Output;

use serde_json::Value;

const BECALM: &str = env!("CARGO_BIN_EXE_becalm");

fn replay(arguments: &[&str]) -> Output {
    // No configuration of this machine: an empty one gives the defaults.
    std::process::Command::new(BECALM)
        .args(["replay", "--config", "/dev/null"])
        .args(arguments)
        .output()
        .expect("becalm can be run")
}

fn json(arguments: &[&str]) -> Value {
    let output = replay(&[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

#[test]
fn a_storm_that_happened_is_stopped() {
    let report = json(&["--scenario", "nhs-2016", "--seed", "3"]);
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("{name}: {report}"));
    assert!(number("copies_with") <= 3_400_000);
    assert_eq!(number("copies_without"), number("messages") * 840_000);
    assert_eq!(number("messages"), number("list_messages"));
    assert!(number("conversations") > 1 && number("messages_held_for_good") > 100);
    for name in ["messages_delayed", "delay_p99_s", "delay_max_s"] {
        assert!(report[name].is_number(), "{name}");
    }
    let storm = &report["storms"][0];
    for name in ["replies_delivered", "replies_held", "copies_delivered"] {
        assert!(storm[name].is_u64(), "{name}");
    }
    assert_eq!(storm["list"], "nhs-2016@staff.example");
    assert!(storm["conversation"].is_string());
    let time = |name: &str| storm[name].as_str().and_then(|time| time.parse::<jiff::Timestamp>().ok());
    assert!(time("started") < time("ended") && time("started").is_some(), "{storm}");
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    // As in `becalm replay … 2>&1 | head -1`.
    for arguments in [&["--scenario", "small"][..], &["--scenario", "small", "--json"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let status = std::process::Command::new(BECALM)
            .args(["replay", "--config", "/dev/null"])
            .args(arguments)
            .stdout(writer.try_clone().expect("another end of it"))
            .stderr(writer)
            .status()
            .expect("becalm can be run");
        assert_eq!(status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn a_seed_gives_the_same_report_again_and_many_give_their_spread() {
    let arguments = ["--scenario", "small", "--seed", "4"];
    assert_eq!(json(&arguments), json(&arguments));
    let summary = json(&["--scenario", "small", "--seeds", "5"]);
    assert_eq!(summary["seeds"], 5);
    assert!(summary["copies_with"]["median"].as_u64() <= summary["copies_with"]["worst"].as_u64());
}

#[test]
fn mail_of_several_places_is_played_as_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let mbox = folder.path().join("mbox");
    let mail = folder.path().join("mail");
    std::fs::create_dir(&mail).expect("a folder in it");
    let message = "Date: Mon, 29 Apr 2019 00:01:27 +0000\nTo: all@x.example\nSubject: x\n\nbody\n";
    std::fs::write(&mbox, format!("From a@x.example Mon Apr 29 00:01:27 2019\n{message}")).expect("an mbox");
    std::fs::write(mail.join("1.eml"), message).expect("a message");
    std::fs::write(mail.join("2.eml"), [0xff, 0, 1]).expect("no message");
    let (mbox, mail) = (mbox.display().to_string(), mail.display().to_string());
    let lists = ["--list", "all@x.example=500", "--list", "other@x.example=5"];
    let report = json(&[&["--mbox", &mbox, "--folder", &mail][..], &lists].concat());
    assert_eq!((report["messages"].as_u64(), report["list_messages"].as_u64()), (Some(2), Some(2)));
    assert_eq!(report["copies_without"], 1000);
    assert_eq!(report["skipped"]["no header fields"], 1);
}

#[test]
fn what_cannot_be_played_is_said_with_its_remedy() {
    // It can be opened, and not be read.
    let broken = replay(&["--mbox", "/proc/self/mem", "--list", "all@x.example=10"]);
    let said = String::from_utf8_lossy(&broken.stderr);
    assert!(!broken.status.success() && said.contains("cannot read /proc/self/mem"), "{said}");
    for (arguments, expected) in [
        (&["--scenario", "nhs-2061"][..], "--scenario list"),
        (&[], "--mbox"),
        (&["--mbox", "/nowhere/mbox", "--list", "a@b=5"], "/nowhere/mbox"),
        (&["--mbox", "/", "--list", "a@b=5"], "--folder"),
        (&["--mbox", "/dev/null"], "--list ADDRESS=MEMBERS"),
        (&["--list", "a@b"], "all@example.org=5000"),
        (&["--seeds", "3"], "--scenario"),
        (&["--scenario", "small", "--list", "all@x.example=5"], "--list is for mail that is read"),
        (&["--scenario", "small", "--arrival", "date"], "--arrival is for mail that is read"),
    ] {
        let output = replay(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(expected), "{arguments:?}: {error}");
    }
    let names = replay(&["--scenario", "list"]);
    assert!(String::from_utf8_lossy(&names.stdout).contains("nhs-2016"));
}
