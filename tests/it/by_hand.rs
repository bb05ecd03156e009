//! Storms, ended and begun by operators.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Letter, Site, TOUCHY, person, queued, start_storm};

const ALL: &str = "all@example.org";
const SMALL: &str = "small@example.org";
const TEAM: &str = "team@example.org";

fn config() -> String {
    format!(
        "[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}[[list]]\naddress = '{SMALL}'\nmembers = 50
         [[list]]\naddress = '{TEAM}'\nmembers = 50
         [[list]]\naddress = 'alarm@example.org'\nmembers = 50\nnever_hold = true\n"
    )
}

#[test]
fn an_operator_ends_a_storm() {
    let site = Site::new(&config());
    let [_, held] = start_storm(&site, ALL).map(|reply| queued(&reply));
    let storm = site.becalm.storms().storms.remove(0).storm;
    let text = site.becalm.command(&["storms", "show", &storm]);
    assert!(text.contains("still open") && text.contains("1 messages by 1 authors, 840000 copies"), "{text}");

    let text = site.becalm.command(&["storms", "end", &storm]);
    assert!(text.contains(&format!("storm {storm} is over: {ALL} is open")), "{text}");
    assert!(text.contains("1 messages to it stay on hold"), "{text}");
    // It is over at once, and stays so; what was held is held.
    let passed = queued(&site.send(&Letter::new(&person(7), "late").answers("root-all-example.org"), &[ALL]));
    let fates = site.fates();
    assert!(fates.is_delivered(&passed) && fates.held.contains(&held), "{fates:?}");
    let json: Value =
        serde_json::from_str(&site.becalm.command(&["storms", "show", &storm, "--json"])).unwrap();
    assert_eq!(
        (&json["on_hold"]["messages"], &json["storm"]["held"], &json["open"]),
        (&1.into(), &1.into(), &Value::Null)
    );
    let site = site.restarted();
    let storms = site.becalm.storms();
    assert!(storms.open.is_empty() && storms.storms[0].ended.is_some(), "{storms:?}");
}

#[test]
fn an_operator_closes_a_list_and_a_restart_knows() {
    let site = Site::new(&config());
    let text =
        site.becalm.command(&["storms", "start", SMALL, "--for", "1h", "--reason", "a mistake in the memo"]);
    assert!(text.contains("small@example.org is closed until"), "{text}");
    let first = queued(&site.send(&Letter::new(&person(1), "one"), &[SMALL]));
    assert!(site.fates().held.contains(&first));
    let json = site.becalm.command(&[
        "storms",
        "start",
        TEAM,
        "--conversation",
        "<memo@example.org>",
        "--for",
        "30m",
        "--json",
    ]);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["list"], &json["storm"]), (&TEAM.into(), &Value::Null));
    let site = site.restarted();
    let [open] = &site.becalm.storms().open[..] else { panic!("{:?}", site.becalm.storms()) };
    assert_eq!((open.list.as_deref(), open.closed_until.is_some()), (Some(SMALL), true));
    let more = [
        queued(&site.send(&Letter::new(&person(2), "two"), &[SMALL])),
        queued(&site.send(&Letter::new(&person(3), "three").answers("memo"), &[TEAM])),
    ];
    let other = queued(&site.send(&Letter::new(&person(4), "four"), &[TEAM]));
    let fates = site.fates();
    assert!(more.iter().all(|id| fates.held.contains(id)), "{fates:?}");
    assert!(fates.is_delivered(&other), "another conversation");

    // Refused with a reason, for the list and for the user; all of it is in the audit log.
    let refuse = |command: &mut Command, words: &str| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{said}");
    };
    let socket = site.becalm.home().join("admin.sock");
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let program = site.becalm.home().join("becalm");
    std::fs::copy(env!("CARGO_BIN_EXE_becalm"), &program).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).arg("--socket").arg(&socket);
        command
    };
    refuse(&mut command(&["storms", "start", "alarm@example.org", "--for", "1h"]), "never held");
    refuse(&mut command(&["storms", "start", SMALL, "--for", "90d"]), "30 days");
    refuse(&mut command(&["storms", "end", "nobody@example.org"]), "neither a list nor a storm");
    refuse(&mut command(&["storms", "show", "x"]), "no storm that becalm remembers");
    refuse(command(&["storms", "end", SMALL]).uid(65_534).gid(65_534), "user 65534 may not ask");
    let audit = std::fs::read_to_string(site.becalm.home().join("audit.log")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let asked: Vec<_> = lines.iter().filter_map(|line| line["storms"]["ask"].as_str()).collect();
    assert_eq!(asked, ["close", "close", "close", "close", "end_storm"], "{audit}");
    assert_eq!(lines[0]["storms"]["reason"], "a mistake in the memo");
    assert!(
        lines[1]["storms"]["Ok"]["storm"].is_string() && lines[5]["storms"]["Err"].is_string(),
        "{audit}"
    );
    assert!(lines.iter().all(|line| line["user"] == "root" && line["at"].is_string()), "{audit}");
}

#[test]
fn a_storm_among_many_recipients_has_a_name_to_be_worked_with() {
    let config =
        "[verdict]\nmode = 'hold'\n[storm]\nfree = 1\nstorm_min = 2\nmax = 2\n[watch]\nmany_recipients = 5\n";
    let site = Site::new(config);
    let friends: Vec<String> = (100..105).map(person).collect();
    let friends: Vec<&str> = friends.iter().map(String::as_str).collect();
    let answer = |n| {
        let letter = Letter::new(&person(n), &format!("answer-{n}")).answers("root");
        queued(&site.send(&letter, &friends))
    };
    let [passed, tripped, later] = [1, 2, 3].map(answer);
    let fates = site.fates();
    assert!(fates.is_delivered(&passed), "{fates:?}");
    assert!(fates.held.contains(&tripped) && fates.held.contains(&later), "{fates:?}");

    let [open] = &site.becalm.storms().open[..] else { panic!("{:?}", site.becalm.storms()) };
    assert_eq!((&open.list, open.members, open.held), (&None, 5, 2));
    let storm = open.storm.clone().expect("it has a name");
    let listed = site.becalm.command(&["quarantine", "list", "--storm", &storm]);
    assert!(listed.contains(&tripped) && listed.contains(&later), "{listed}");
    let shown = site.becalm.command(&["storms", "show", &storm]);
    assert!(shown.contains("none: many recipients, 5 members") && shown.contains("still open"), "{shown}");

    // Killed and started again, it is the same storm; and it is over when an operator says so.
    let site = site.restarted();
    assert_eq!(site.becalm.storms().open[0].storm.as_ref(), Some(&storm));
    let said = site.becalm.command(&["storms", "end", &storm]);
    assert!(said.contains(&format!("storm {storm} is over: the conversation is open")), "{said}");
    let storms = site.becalm.storms();
    assert!(storms.open.is_empty() && storms.storms[0].ended.is_some(), "{storms:?}");
    let late = queued(&site.send(&Letter::new(&person(4), "late").answers("root"), &friends));
    assert!(site.fates().is_delivered(&late));
}
