//! A new configuration while mail flows, and the switch that turns everything to observe.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Letter, Site, TOUCHY, person, queued, start_storm, wait_until};

const ALL: &str = "all@example.org";

/// Ends the load, however the test ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_reload_under_load_loses_nothing_and_applies_to_the_storm_under_way() {
    let site = Site::new(&format!("[[list]]\naddress = '{ALL}'\n{TOUCHY}"));
    start_storm(&site, ALL);
    let (stop, round) = (AtomicBool::new(false), [AtomicUsize::new(0), AtomicUsize::new(0)]);
    let sent: Vec<(String, bool)> = std::thread::scope(|scope| {
        let clients: Vec<_> = round
            .iter()
            .enumerate()
            .map(|(thread, rounds)| {
                let (site, stop) = (&site, &stop);
                scope.spawn(move || {
                    let mut sent = Vec::new();
                    let mut client = site.client();
                    while !stop.load(Ordering::Relaxed) {
                        let n = rounds.load(Ordering::Relaxed);
                        let list = n % 2 == 0;
                        let to = if list { ALL } else { "friend@example.org" };
                        let letter = Letter::new(&person(n), &format!("t{thread}n{n}"));
                        sent.push((queued(&letter.send(&mut client, &[to])), list));
                        rounds.store(n + 1, Ordering::Relaxed);
                    }
                    sent
                })
            })
            .collect();
        let _stop = StopAtEnd(&stop);
        // Mail is under way before and after each step.
        let flow = || {
            let before = round.each_ref().map(|rounds| rounds.load(Ordering::Relaxed));
            wait_until("mail flows", || {
                let now = round.each_ref().map(|rounds| rounds.load(Ordering::Relaxed));
                (0..2).all(|n| now[n] >= before[n] + 4).then_some(())
            });
        };
        flow();
        assert_eq!(site.becalm.status().counts.held, 0);

        site.becalm.rewrite(|config| format!("{config}mode = 'hodl'\n"));
        assert!(!site.becalm.reload(), "a bad file");
        let why = site.becalm.status().reload.expect("there was a reload");
        assert!(why.contains("hodl") && why.contains("becalm.toml"), "{why}");
        flow();
        assert_eq!(site.becalm.status().counts.held, 0, "and changes nothing");
        assert_eq!(site.becalm.lists().lists[0].mode, "observe");

        site.becalm.rewrite(|config| format!("{config}mode = 'hold'\n"));
        assert!(site.becalm.reload());
        assert_eq!(site.becalm.status().reload.as_deref(), Some("ok"));
        flow();
        assert!(site.becalm.status().counts.held > 0, "the storm goes on, and is held now");
        assert_eq!(site.becalm.lists().lists[0].phase, "storm");
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });

    let fates = site.fates();
    let mut held = 0;
    for (id, list) in &sent {
        assert!(fates.is_delivered(id) != fates.held.contains(id), "{id} is in one place, and only one");
        assert!(*list || fates.is_delivered(id), "ordinary mail is never held");
        held += u64::from(fates.held.contains(id));
    }
    let counts = site.becalm.status().counts;
    assert_eq!(counts.held, held);
    assert_eq!(counts.messages, sent.len() as u64 + 2);
    assert_eq!((counts.failed_open, counts.sessions_failed), (0, 0));
}

#[test]
fn some_settings_wait_for_a_restart_and_the_rest_does_not() {
    let site = Site::new(&format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"));
    site.becalm.rewrite(|config| {
        config.replace("becalm.sock", "elsewhere.sock")
            + "[[list]]\naddress = 'new@example.org'\nmembers = 5_000_000\n"
    });
    assert!(site.becalm.reload());
    let line = site.becalm.wait_for_log("wait for a restart");
    assert!(line.contains("listen.sockets"), "{line}");
    let lists: Vec<String> = site.becalm.lists().lists.into_iter().map(|list| list.address).collect();
    assert_eq!(lists, ["new@example.org", ALL]);
    let [_, second] = start_storm(&site, ALL);
    assert!(site.fates().held.contains(&queued(&second)), "Postfix still finds it where it was");
}

#[test]
fn observe_on_and_off() {
    let site = Site::new(&format!("[verdict]\nmode = 'reject'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"));
    start_storm(&site, ALL);
    let mut number = 0;
    let mut send = || {
        number += 1;
        site.send(&Letter::new(&person(number), &format!("m{number}")), &[ALL]).code
    };
    assert_eq!(send(), 550);
    let said = site.becalm.command(&["observe", "on"]);
    assert!(said.contains("from now on"), "{said}");
    assert!(site.becalm.status().observing);
    assert_eq!(send(), 250);
    assert!(site.becalm.command(&["status"]).contains("OBSERVING"));
    assert_eq!(site.becalm.status().counts.observed, 1);
    site.becalm.command(&["observe", "off"]);
    assert_eq!(send(), 550);

    // It outlives a restart. Who threw it is written down.
    site.becalm.command(&["observe", "on"]);
    let Site { postfix, becalm, .. } = site;
    let becalm = becalm.restart();
    assert!(becalm.status().observing);
    drop(postfix);
    let audit = std::fs::read_to_string(becalm.home().join("audit.log")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let acts: Vec<_> = lines.iter().map(|line| (&line["user"], &line["act"], line["on"].as_bool())).collect();
    let (root, observe) = (Value::from("root"), Value::from("observe"));
    assert_eq!(acts, [true, false, true].map(|on| (&root, &observe, Some(on))), "{audit}");

    // It works on a becalm that does not answer, and then it is not.
    becalm.command(&["observe", "off"]);
    becalm.signal(Signal::STOP);
    let output = becalm.try_command(&["observe", "on"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not in the audit log"), "{output:?}");
    becalm.signal(Signal::CONT);
    wait_until("becalm sees the switch", || becalm.status().observing.then_some(()));
}
