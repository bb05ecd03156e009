//! Held mail: what goes by itself, what stays, what operators do, and what becalm knows of it after all that.

use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::Command;

use becalm::admin::api::HeldInfo;
use becalm::postfix::Postfix;
use serde_json::Value;

use crate::harness::{
    Becalm, Helper, Letter, Mailbox, PATIENCE, Site, TOUCHY, fates, person, queued, start, start_storm,
    wait_until,
};

const ALL: &str = "all@example.org";
/// The second person who writes to it is under suspicion, the tenth makes a storm.
const WARY: &str = "members = 840_000\nfree = 1\nstorm_min = 10\nlist_factor = 1\n";

fn storm_config(more: &str) -> String {
    format!("{more}\n[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}")
}

fn held(site: &Site) -> Vec<HeldInfo> {
    let json: Value = serde_json::from_str(&site.becalm.command(&["quarantine", "list", "--json"])).unwrap();
    serde_json::from_value(json["messages"].clone()).unwrap()
}

fn ids(messages: &[HeldInfo]) -> Vec<&str> {
    messages.iter().map(|item| item.queue_id.as_str()).collect()
}

/// Queue ids in the order in which Postfix's queue manager took them up, since they were released.
fn taken_up(site: &Site) -> Vec<String> {
    let log = site.postfix.log();
    let released: BTreeSet<&str> = log
        .lines()
        .filter_map(|line| line.strip_suffix(": released from hold")?.rsplit(' ').next())
        .collect();
    let active = log.lines().filter(|line| line.ends_with("(queue active)"));
    let ids = active.filter_map(|line| line.split_once("]: ")?.1.split(':').next());
    ids.filter(|id| released.contains(id)).map(str::to_owned).collect()
}

#[test]
fn suspicions_that_calm_down_are_released_in_order_and_their_authors_are_known() {
    let site = Site::new(&format!(
        "quarantine.release_pace = 1_000_000_000\n[verdict]\nmode = 'hold'\n[storm]\ndelay = '1s'\nknown_after = '0s'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    let mut client = site.client();
    let root = queued(&Letter::new(&person(0), "root").send(&mut client, &[ALL]));
    let suspects: Vec<String> = (1..6)
        .map(|n| queued(&Letter::new(&person(n), &format!("a{n}")).answers("root").send(&mut client, &[ALL])))
        .collect();
    // Without a helper they stay, long after their time, and status says why.
    let status = site.becalm.status().quarantine;
    assert_eq!((status.held, status.waiting, status.copies), (5, 5, 5 * 840_000));
    let missed = wait_until("the helper is missed", || {
        site.becalm.status().quarantine.helpers.pop().filter(|helper| helper.state == "down")
    });
    assert!(missed.error.as_ref().is_some_and(|why| why.contains("helper.sock")), "{missed:?}");
    assert!(site.becalm.command(&["status"]).contains("HELPER DOWN since"));
    assert_eq!(site.fates().held, suspects.iter().cloned().collect());

    // It comes, and becalm catches up.
    let helper = Helper::start(&site.postfix, &site.becalm);
    for id in &suspects {
        assert!(site.delivered_text(id).contains("reason=suspicion"));
    }
    assert_eq!(taken_up(&site), suspects);
    let fates = site.fates();
    assert!(fates.held.is_empty() && fates.recipients(&root) == [ALL], "{fates:?}");
    wait_until("the ledger is empty", || (site.becalm.status().quarantine.held == 0).then_some(()));
    assert_eq!(site.becalm.status().counts.released, 5);

    // Whoever was released writes to the list from now on; a stranger waits.
    let known = queued(&Letter::new(&person(3), "again").answers("root").send(&mut client, &[ALL]));
    assert!(site.fates().is_delivered(&known));
    // The helper dies: the next one waits for it.
    drop(helper);
    let stranger = queued(&Letter::new(&person(9), "stranger").answers("root").send(&mut client, &[ALL]));
    wait_until("the helper is missed", || {
        (site.becalm.status().quarantine.helpers[0].state == "down").then_some(())
    });
    assert!(site.fates().held.contains(&stranger));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    site.delivered_text(&stranger);
}

/// A message dearer than the pace goes once a minute; of two that are due, one waits.
#[test]
fn the_pace_is_kept() {
    let site = Site::new(&format!(
        "listen.drain = '0s'\nquarantine.reconcile = '1s'\n[verdict]\nmode = 'hold'\n[storm]\ndelay = '1s'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let mut client = site.client();
    let sent: Vec<String> = (0..4)
        .map(|n| queued(&Letter::new(&person(n), &format!("a{n}")).send(&mut client, &[ALL])))
        .collect();
    assert!(site.fates().is_delivered(&sent[0]));
    site.delivered_text(&sent[1]);
    // The others are due too: it is the pace that keeps them.
    let due = |item: &HeldInfo| item.until.as_ref().is_some_and(|until| *until < site.becalm.status().now);
    wait_until("both are due", || held(&site).iter().all(due).then_some(()));
    site.becalm.wait_for_log("released: nothing came of the suspicion");
    assert_eq!(ids(&held(&site)), [&sent[2], &sent[3]]);
    assert_eq!(site.becalm.status().counts.released, 1);

    // A becalm that takes over does not begin with a full purse: the pace is that of both.
    let Site { postfix, becalm: old, mailbox } = site;
    let site = Site { postfix, becalm: old.take_over(), mailbox };
    let mut looked = None;
    for _ in 0..3 {
        looked = wait_until("it looks after held mail", || {
            let last = site.becalm.status().quarantine.reconciled;
            (last.is_some() && last != looked).then_some(last)
        });
    }
    assert_eq!(ids(&held(&site)), [&sent[2], &sent[3]]);
    assert_eq!(site.becalm.status().counts.released, 0);
}

/// What becalm wants to hold and Postfix never had on hold leaves the ledger with a word about it.
#[test]
fn what_was_never_on_hold_is_told() {
    let site = Site::new(&storm_config("quarantine.reconcile = '1s'"));
    let id = queued(&start_storm(&site, ALL)[1]);
    site.postfix.postsuper(&["-d", &id]).unwrap();
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let line = site.becalm.wait_for_log("has never been seen on hold");
    assert!(line.contains(&id), "{line}");
    wait_until("it is gone", || held(&site).is_empty().then_some(()));
}

/// With short queue ids mail is held, and that is all: becalm does not act upon it, and says so.
#[test]
fn with_short_queue_ids_held_mail_stays() {
    let site = Site::with(&storm_config("quarantine.max_age = '1s'"), |postfix| {
        postfix.default_action("tempfail").set("enable_long_queue_ids", "no")
    });
    let id = queued(&start_storm(&site, ALL)[1]);
    let _helper = Helper::start(&site.postfix, &site.becalm);
    site.becalm.wait_for_log("enable_long_queue_ids = no in main.cf");
    assert!(site.fates().held.contains(&id));
    let output = site.becalm.try_command(&["quarantine", "release", &id]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("enable_long_queue_ids"), "{said}");
    assert!(site.fates().held.contains(&id));
}

/// Where suspicions are let pass, who is under one writes to the list by that.
#[test]
fn a_suspect_who_is_let_pass_is_known() {
    let site = Site::new(&format!(
        "[verdict]\nmode = 'hold'\nsuspicion = 'pass'\n[storm]\nknown_after = '0s'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    let mut client = site.client();
    let mut send = |n: usize, id: &str| {
        site.delivered_text(&queued(&Letter::new(&person(n), id).answers("root").send(&mut client, &[ALL])))
    };
    send(0, "a");
    assert!(send(1, "b").contains("verdict=accept; reason=suspicion"));
    let again = send(1, "c");
    assert!(again.contains("verdict=accept; reason=calm"), "{again}");
}

/// A storm came of them: they stay, also after a restart that forgot the storm.
#[test]
fn suspicions_that_became_a_storm_stay() {
    let site = Site::new(&format!(
        "quarantine.release_pace = 1_000_000_000\nquarantine.reconcile = '1s'\n[verdict]\nmode = 'hold'\n[storm]\ndelay = '1s'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    let mut client = site.client();
    let sent: Vec<String> = (0..12)
        .map(|n| queued(&Letter::new(&person(n), &format!("a{n}")).send(&mut client, &[ALL])))
        .collect();
    let storm = site.becalm.storms().storms.remove(0).storm;
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let looked = |site: &Site| {
        wait_until("the queue was looked at", || site.becalm.status().quarantine.reconciled.map(drop));
    };
    looked(&site);
    let all: Vec<&str> = sent[1..].iter().map(String::as_str).collect();
    assert_eq!(ids(&held(&site)), all);
    assert!(held(&site).iter().all(|item| item.until.is_none() && item.storm.as_deref() == Some(&storm)));

    let Site { postfix, becalm, mailbox } = site;
    let site = Site { postfix, becalm: becalm.restart(), mailbox };
    looked(&site);
    let after = held(&site);
    assert_eq!(ids(&after).into_iter().collect::<BTreeSet<_>>(), all.iter().copied().collect());
    for item in &after {
        assert_eq!((item.until.as_ref(), item.storm.as_deref()), (None, Some(storm.as_str())), "{item:?}");
        assert_eq!((item.list.as_deref(), item.copies), (Some(ALL), 840_000));
        assert!(item.author.as_ref().is_some_and(|author| author.starts_with("person")), "{item:?}");
        assert!(item.size.is_some_and(|size| size > 200));
    }
    assert_eq!(site.fates().held.len(), 11);

    // By hand in between: what is released or deleted disappears from the ledger, and an operator who comes later
    // is told.
    site.postfix.release(&sent[1]).unwrap();
    for id in &sent[2..4] {
        site.postfix.postsuper(&["-d", id]).unwrap();
    }
    let output = site.becalm.try_command(&["quarantine", "release", &sent[2]]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no message") || said.contains("not held"), "{said}");
    wait_until("the ledger is set right", || (site.becalm.status().quarantine.held == 8).then_some(()));
    let left: BTreeSet<&str> = sent[4..].iter().map(String::as_str).collect();
    assert_eq!(ids(&held(&site)).into_iter().collect::<BTreeSet<_>>(), left);
}

/// The storm was ended, and none of its own mail is left: what it had kept stays all the same, after a restart too.
#[test]
fn suspicions_that_a_past_storm_kept_stay() {
    let site = Site::new(&format!(
        "quarantine.release_pace = 1_000_000_000\nquarantine.reconcile = '1s'\n[verdict]\nmode = 'hold'\n[storm]\ndelay = '1s'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    let mut client = site.client();
    for n in 0..12 {
        queued(&Letter::new(&person(n), &format!("a{n}")).send(&mut client, &[ALL]));
    }
    let storm = site.becalm.storms().storms.remove(0).storm;
    let _helper = Helper::start(&site.postfix, &site.becalm);
    site.becalm.command(&["quarantine", "release", "--reason", "storm"]);
    site.becalm.command(&["storms", "end", &storm]);
    let kept = held(&site);
    assert!(kept.len() >= 8 && kept.iter().all(|item| item.reason == "suspicion"), "{kept:?}");
    let Site { postfix, becalm, mailbox } = site;
    let site = Site { postfix, becalm: becalm.restart(), mailbox };
    wait_until("the queue was looked at", || site.becalm.status().quarantine.reconciled.map(drop));
    let after = held(&site);
    assert_eq!(ids(&after).into_iter().collect::<BTreeSet<_>>(), ids(&kept).into_iter().collect());
    assert!(
        after.iter().all(|item| item.until.is_none() && item.storm.as_ref() == Some(&storm)),
        "{after:?}"
    );
}

#[test]
fn operators_release_and_return() {
    let site = Site::new(&storm_config("quarantine.reconcile = '1s'"));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let mut sent = vec![queued(&start_storm(&site, ALL)[1])];
    let mut client = site.client();
    for n in 0..34 {
        let letter = Letter::new(&person(n), &format!("m{n}")).answers("root-all-example.org");
        sent.push(queued(&letter.send(&mut client, &[ALL])));
    }
    let storm = site.becalm.storms().storms.remove(0).storm;
    assert_eq!(ids(&held(&site)), sent);
    let text = site.becalm.command(&["quarantine", "list"]);
    assert!(text.contains("35 messages held, 29400000 copies") && text.contains(&storm), "{text}");
    let text = site.becalm.command(&["quarantine", "show", &sent[0]]);
    assert!(text.contains("reason    storm") && text.contains("copies    840000"), "{text}");

    // One by its id, some by their author, many only with --yes.
    assert_eq!(site.becalm.command(&["quarantine", "release", &sent[0]]), "1 message released\n");
    site.delivered_text(&sent[0]);
    let text =
        site.becalm.command(&["quarantine", "return", "--author", &person(0).to_uppercase(), "--json"]);
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["act"], &json["done"], &json["left"]), (&"return".into(), &1.into(), &0.into()));
    site.postfix.wait_for_log(&format!("{}: sender non-delivery notification", sent[1]), PATIENCE).unwrap();
    let refuse = |arguments: &[&str], words: &str| {
        let output = site.becalm.try_command(arguments);
        assert!(!output.status.success());
        let said =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(words), "{said}");
    };
    refuse(&["quarantine", "release", "--storm", &storm], "this would release 33 messages: 27720000 copies");
    refuse(&["quarantine", "release"], "which messages?");
    refuse(&["quarantine", "release", "--list", "other@example.org"], "nothing is held that fits");
    refuse(&["quarantine", "release", "--older-than", "1 fortnight"], "not a length of time");
    refuse(&["quarantine", "show", &sent[0]], "not held");
    refuse(&["quarantine", "release", "--older-than", "1d"], "nothing is held that fits");

    // In bulk; somebody else interferes.
    site.postfix.postsuper(&["-d", &sent[7]]).unwrap();
    let output = site.becalm.try_command(&["quarantine", "release", "--storm", &storm, "--yes"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "32 messages released\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&format!("{}: no message", sent[7])), "{said}");
    let fates = site.fates();
    assert!(fates.held.is_empty());
    let expected: Vec<&String> = sent.iter().filter(|id| **id != sent[1] && **id != sent[7]).collect();
    let order: Vec<String> = taken_up(&site).into_iter().filter(|id| *id != sent[1]).collect();
    assert_eq!(order.iter().collect::<Vec<_>>(), expected, "in the order in which they came");
    for id in expected {
        assert_eq!(fates.recipients(id), [ALL]);
    }
    assert!(held(&site).is_empty());
    assert_eq!(site.becalm.command(&["quarantine", "list"]), "nothing is held\n");

    // All of it is written down.
    let audit = std::fs::read_to_string(site.becalm.home().join("audit.log")).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let acts: Vec<_> =
        lines.iter().filter_map(|line| Some((line["act"].as_str()?, line["done"].as_u64()?))).collect();
    assert_eq!(acts.get(..2), Some(&[("release", 1), ("return", 1)][..]), "{audit}");
    // On a slow machine the command asks more than once.
    assert!(acts.iter().skip(2).all(|(act, _)| *act == "release"), "{audit}");
    assert_eq!(acts.iter().skip(2).map(|(_, done)| done).sum::<u64>(), 32, "{audit}");
    assert!(lines.iter().all(|line| line["user"] == "root" && line["uid"] == 0), "{audit}");
    assert_eq!(lines[0]["ids"][0], sent[0]);
    let mode = std::fs::metadata(site.becalm.home().join("audit.log")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o640);

    // Nobody else may.
    let socket = site.becalm.home().join("admin.sock");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let program = site.becalm.home().join("becalm");
    std::fs::copy(env!("CARGO_BIN_EXE_becalm"), &program).unwrap();
    let output = Command::new(&program)
        .args(["quarantine", "release", &sent[3], "--socket"])
        .arg(&socket)
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("user 65534 may not ask"), "{output:?}");
}

/// At the greatest number nothing more is held, and nothing is lost: the sender keeps it.
#[test]
fn what_cannot_be_held_is_refused_for_now() {
    let site = Site::new(&storm_config("quarantine.max_count = 10"));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let first = queued(&start_storm(&site, ALL)[1]);
    let mut client = site.client();
    let mut send = |n: usize| {
        let letter = Letter::new(&person(n), &format!("m{n}")).answers("root-all-example.org");
        letter.send(&mut client, &[ALL])
    };
    for n in 0..9 {
        queued(&send(n));
    }
    let line = site.becalm.wait_for_log("half of a limit is reached");
    assert!(line.contains("max_count"), "{line}");
    let reply = send(9);
    assert_eq!(reply.code, 451, "{reply}");
    assert!(reply.to_string().contains("try again later"), "{reply}");
    let status = site.becalm.status();
    assert_eq!((status.quarantine.full.as_deref(), status.quarantine.held), (Some("max_count"), 10));
    assert_eq!((status.counts.hold_full, status.counts.held, status.counts.deferred), (1, 10, 1));
    assert!(site.becalm.command(&["status"]).contains("HOLD FULL   max_count"));
    // Ordinary mail is none of that.
    queued(&site.send(&Letter::new(&person(20), "lunch"), &["friend@example.org"]));
    // Room is made, and the sender's next try is taken.
    site.becalm.command(&["quarantine", "return", &first]);
    queued(&send(9));
    assert_eq!(send(10).code, 451);
    // More may be held: a reload is enough.
    site.becalm.rewrite(|config| config.replace("max_count = 10", "max_count = 11"));
    assert!(site.becalm.reload());
    queued(&send(10));
    assert_eq!(site.fates().held.len(), 11);
}

/// The same where the disk has less room than Postfix itself wants, twice.
#[test]
fn a_disk_that_fills_up_is_noticed_before_postfix_does() {
    let disk = rustix::fs::statvfs("/tmp").unwrap();
    let enough_for_postfix = disk.f_bavail * disk.f_frsize / 10 * 7;
    let site = Site::with(&storm_config(""), |postfix| {
        postfix.default_action("tempfail").set("queue_minfree", enough_for_postfix.to_string())
    });
    let _helper = Helper::start(&site.postfix, &site.becalm);
    wait_until("the disk is looked at", || {
        (site.becalm.status().quarantine.full.as_deref() == Some("disk")).then_some(())
    });
    site.becalm.wait_for_log("the disk of Postfix's queue is nearly full");
    let [first, second] = start_storm(&site, ALL);
    queued(&first);
    assert_eq!(second.code, 451, "{second}");
    queued(&site.send(&Letter::new(&person(20), "lunch"), &["friend@example.org"]));
}

/// At its greatest age held mail goes back to its sender; what has none stays, and says so.
#[test]
fn too_old_mail_is_returned() {
    let site = Site::new(&storm_config("quarantine.max_age = '2s'"));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let id = queued(&start_storm(&site, ALL)[1]);
    let letter = Letter::new(&person(5), "bounce").answers("root-all-example.org");
    let nobodys = queued(&site.client().send("", &[ALL], &letter.text()).unwrap());
    let line =
        site.postfix.wait_for_log(&format!("{id}: sender non-delivery notification: "), PATIENCE).unwrap();
    let text = site.delivered_text(line.rsplit(' ').next().unwrap());
    assert!(text.contains("To: person901@example.org"), "{text}");
    site.becalm.wait_for_log("returned to its sender: it was held for too long");
    site.becalm.wait_for_log("has no sender to be returned to");
    let left = held(&site);
    assert_eq!(ids(&left), [&nobodys]);
    assert!(left[0].trouble.as_ref().is_some_and(|why| why.contains("no sender")), "{left:?}");
    assert_eq!(site.becalm.status().counts.returned, 1);
    // An operator can let it go all the same.
    site.becalm.command(&["quarantine", "release", &nobodys]);
    assert!(site.fates().is_delivered(&nobodys));
}

/// One becalm for two Postfix instances: each message is released where it is held, and one helper that is missing
/// does not stop the other.
#[test]
fn one_becalm_for_two_postfix_instances() {
    let becalm = Becalm::start(&format!(
        "quarantine.release_pace = 1_000_000_000\nquarantine.reconcile = '1s'\n[verdict]\nmode = 'hold'\n[storm]\ndelay = '1s'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    becalm.rewrite(|config| {
        config.replace("helper.sock']", &format!("helper.sock', '{}/second.sock']", becalm.home().display()))
    });
    assert!(becalm.reload());
    let site = Site::around(becalm, |postfix| postfix.default_action("tempfail"));
    let mailbox = Mailbox::new();
    let second = start(mailbox.serve(Postfix::builder().milter(site.becalm.milter())));
    let _first_helper = Helper::start(&site.postfix, &site.becalm);
    let mut clients = [site.client(), second.client().unwrap()];
    let mut send = |instance: usize, n: usize| {
        queued(&Letter::new(&person(n), &format!("a{n}")).send(&mut clients[instance], &[ALL]))
    };
    let passed = send(0, 0);
    let [elsewhere, here] = [send(1, 1), send(0, 2)];
    site.delivered_text(&passed);
    // The one whose helper is missing was due first, and waits.
    site.delivered_text(&here);
    assert!(fates(&second).held.contains(&elsewhere));
    assert_eq!(site.becalm.status().quarantine.held, 1, "what one helper cannot see is not taken for gone");
    let _second_helper = Helper::start_as(&second, &site.becalm, "second.sock", "root");
    wait_until("both helpers answer", || {
        let helpers = site.becalm.status().quarantine.helpers;
        (helpers.len() == 2 && helpers.iter().all(|helper| helper.state == "ok")).then_some(())
    });
    site.becalm.command(&["quarantine", "release", &elsewhere]);
    mailbox.read(&elsewhere);
    assert_eq!(site.becalm.status().quarantine.held, 0);
}

/// A becalm that is started anew, and one of whose helpers never comes.
#[test]
fn what_one_helper_tells_is_known_while_another_is_missing() {
    let site = Site::new(&format!(
        "quarantine.reconcile = '1s'\n[verdict]\nmode = 'hold'\n[storm]\ndelay = '1h'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    let mut client = site.client();
    let sent: Vec<String> = (0..3)
        .map(|n| queued(&Letter::new(&person(n), &format!("a{n}")).send(&mut client, &[ALL])))
        .collect();
    drop(client);
    let Site { postfix, becalm, .. } = site.restarted();
    assert_eq!(becalm.status().quarantine.held, 0, "nobody has told it yet");
    becalm.rewrite(|config| {
        config.replace("helpers = [", &format!("helpers = ['{}/missing.sock', ", becalm.home().display()))
    });
    assert!(becalm.reload());
    let _helper = Helper::start(&postfix, &becalm);
    wait_until("what is held is known again", || (becalm.status().quarantine.held == 2).then_some(()));
    assert_eq!(becalm.status().quarantine.helpers.len(), 2);
    becalm.command(&["quarantine", "release", &sent[1]]);
    assert_eq!(becalm.status().quarantine.held, 1);
}

/// Where nobody tells becalm what has left the queue, what it held since its start is no measure of what is there.
#[test]
fn without_a_helper_the_count_bounds_nothing() {
    let becalm = Becalm::start(&format!(
        "quarantine.max_count = 10\n[verdict]\nmode = 'hold'\n[storm]\ndelay = '1h'\n[[list]]\naddress = '{ALL}'\n{WARY}"
    ));
    let without = |config: &str| {
        let (before, rest) = config.split_once("quarantine.helpers = [").unwrap();
        let (_, after) = rest.split_once(']').unwrap();
        format!("{before}quarantine.helpers = []{after}")
    };
    becalm.rewrite(|config| without(config));
    assert!(becalm.reload());
    let site = Site::around(becalm, |postfix| postfix.default_action("tempfail"));
    let mut client = site.client();
    let sent: Vec<String> = (0..13)
        .map(|n| queued(&Letter::new(&person(n), &format!("a{n}")).answers("root").send(&mut client, &[ALL])))
        .collect();
    assert_eq!(site.fates().held, sent[1..].iter().cloned().collect());
}
