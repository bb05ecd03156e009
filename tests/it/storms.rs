//! The rule, from SMTP to the hold queue.

use std::collections::BTreeSet;

use crate::harness::{Letter, PATIENCE, Site, TOUCHY, person, queued, start_storm, wait_until};

const ALL: &str = "all@example.org";

/// The numbers as shipped, on a list of 840,000: three people may write, from the fourth on each message
/// waits, the tenth is a storm.
#[test]
fn a_storm_is_held_and_ordinary_mail_flows() {
    let site =
        Site::new("[verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\nmembers = 840_000\n");
    let mut client = site.client();
    let mut sent = vec![queued(&Letter::new(&person(0), "root").send(&mut client, &[ALL]))];
    for n in 1..14 {
        // One in three has lost its headers or starts a subject of its own.
        let letter = Letter::new(&person(n), &format!("answer{n}"));
        let letter = if n % 3 == 0 { letter.field("Subject: remove me") } else { letter.answers("root") };
        sent.push(queued(&letter.send(&mut client, &[ALL])));
    }
    let ordinary = queued(&Letter::new(&person(50), "lunch").send(&mut client, &["person3@example.org"]));
    // Whoever wrote to the list a moment ago may be sending its other parts: that is looked at, and passes.
    let part = queued(&Letter::new(&person(13), "other").send(&mut client, &["person3@example.org"]));

    let fates = site.fates();
    let held: BTreeSet<String> = sent[3..].iter().cloned().collect();
    assert_eq!(fates.held, held);
    for id in &sent[..3] {
        assert_eq!(fates.recipients(id), [ALL]);
    }
    assert_eq!(fates.recipients(&ordinary), ["person3@example.org"]);
    for id in [&ordinary, &part] {
        assert!(!site.delivered_text(id).contains("X-Becalm"), "ordinary mail is not touched");
    }

    // Each message says why it is where it is.
    let mark = |id: &str| {
        let text = site.postfix.postcat(id).unwrap();
        let marks: Vec<&str> = text.lines().filter(|line| line.starts_with("X-Becalm: ")).collect();
        assert_eq!(marks.len(), 1, "{text}");
        // The field is folded nowhere: what matters is in its first line.
        marks[0].to_owned()
    };
    for id in &sent[3..9] {
        assert!(mark(id).contains(&format!("id={id}; verdict=hold; reason=suspicion")), "{}", mark(id));
    }
    let storms = site.becalm.storms();
    let [storm] = &storms.storms[..] else { panic!("{storms:?}") };
    for id in &sent[9..] {
        let expected = format!("node=mx1; id={id}; verdict=hold; reason=storm; storm={}", storm.storm);
        assert!(mark(id).contains(&expected), "{}", mark(id));
    }
    assert!(site.delivered_text(&sent[0]).contains("verdict=accept; reason=calm"));

    // The operator sees the same.
    assert_eq!((storm.list.as_deref(), storm.members, storm.ended.as_ref()), (Some(ALL), 840_000, None));
    let [open] = &storms.open[..] else { panic!("{storms:?}") };
    assert_eq!((open.phase.as_str(), open.held, open.copies_held), ("storm", 5, 5 * 840_000));
    let waiting: Vec<_> = storms.suspicions.iter().map(|item| (item.queue_id.clone(), &item.until)).collect();
    let expected: Vec<_> = sent[3..9].iter().rev().map(|id| (id.clone(), &None)).collect();
    assert_eq!(waiting, expected, "a storm came of them: they stay");
    let counts = site.becalm.status().counts;
    assert_eq!((counts.messages, counts.watched, counts.passed, counts.held), (16, 15, 4, 11));

    // What the operator releases is delivered, and not judged again.
    site.postfix.release(&sent[5]).unwrap();
    site.postfix.wait_for_log(&format!("{}: removed", sent[5]), PATIENCE).unwrap();
    assert_eq!(site.becalm.status().counts, counts);
    assert!(site.delivered_text(&sent[5]).contains("reason=suspicion"));
}

#[test]
fn a_list_has_many_spellings() {
    let site = Site::new(&format!(
        "postfix.myorigin = 'example.org'
         postfix.local_domains = ['example.org', 'mail.example.org']
         postfix.recipient_delimiter = '+'
         postfix.domain_aliases = {{ 'old.example' = 'example.org' }}
         [verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\n{TOUCHY}"
    ));
    start_storm(&site, ALL);
    let mut client = site.client();
    let spellings = [
        "All+x@example.org",
        "all",
        "<@relay.example.net:all@example.org>",
        "\"all\"@example.org",
        "ALL@EXAMPLE.ORG",
        "all@mail.example.org",
        "all@old.example",
    ];
    for (n, spelling) in spellings.into_iter().enumerate() {
        let reply = Letter::new(&person(n), &format!("m{n}")).send(&mut client, &[spelling]);
        let id = queued(&reply);
        assert!(site.fates().held.contains(&id), "{spelling} is the list");
    }
    for (n, other) in ["allx@example.org", "xall@example.org", "all@other.example", "\"all \"@example.org"]
        .into_iter()
        .enumerate()
    {
        let reply = Letter::new(&person(n + 50), &format!("o{n}")).send(&mut client, &[other]);
        let id = queued(&reply);
        assert!(!site.fates().held.contains(&id), "{other} is not the list");
    }
    let counts = site.becalm.status().counts;
    assert_eq!((counts.held, counts.messages, counts.watched), (8, 13, 9));
}

/// An upstream server splits a message at 50 recipients; each part has the same Message-ID.
#[test]
fn parts_of_a_message_add_up() {
    let site = Site::new(&format!(
        "log.level = 'debug'\n[verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\n{TOUCHY}"
    ));
    let people: Vec<String> = (0..120).map(|n| format!("reader{n}@example.org")).collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    let copies = |id: &str| {
        let line = site.becalm.wait_for_log(&format!("queue_id=\"{id}\""));
        let copies = line.split_once("copies=").unwrap_or_else(|| panic!("{line}")).1;
        copies.split(' ').next().unwrap().parse::<u64>().unwrap()
    };

    let letter = Letter::new(&person(1), "split");
    let ids: Vec<String> = [&people[..50], &people[50..100], &people[100..]]
        .map(|part| queued(&site.send(&letter, part)))
        .into();
    assert_eq!(ids.iter().map(|id| copies(id)).collect::<Vec<_>>(), [50, 100, 120]);
    // Another message of the same author, soon after, to a few people is not a part.
    let other = queued(&site.send(&Letter::new(&person(1), "other"), &people[..3]));
    assert_eq!(copies(&other), 3);

    // The list is in the first part only; what it is, all of it is.
    start_storm(&site, ALL);
    let letter = Letter::new(&person(2), "split2").answers("root-all-example.org");
    let with_list: Vec<&str> = [ALL].into_iter().chain(people[..49].iter().copied()).collect();
    let first = queued(&site.send(&letter, &with_list));
    let second = queued(&site.send(&letter, &people[49..99]));
    let third = queued(&site.send(&letter, &people[99..119]));
    assert_eq!([&first, &second, &third].map(|id| copies(id)), [840_049, 840_099, 840_119]);
    let fates = site.fates();
    for id in [&first, &second, &third] {
        assert!(fates.held.contains(id), "every part");
    }
    let storms = site.becalm.storms();
    assert_eq!(storms.storms.len(), 1, "{storms:?}");
    assert_eq!(storms.open[0].held, 2, "the storm's first message and the split one: {storms:?}");
}

#[test]
fn a_retry_counts_once_and_gets_the_same_answer() {
    let site = Site::new(
        "[verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\nmembers = 840_000
         free = 2\nstorm_min = 4\nlist_factor = 1\n",
    );
    let letters = [
        Letter::new(&person(0), "root"),
        Letter::new(&person(1), "a1").answers("root"),
        Letter::new(&person(2), "a2").answers("root"),
    ];
    // Two pass, the third is under suspicion; each comes three times, by client or by re-injection.
    for (letter, held) in letters.iter().zip([false, false, true]) {
        for _ in 0..3 {
            let id = queued(&site.send(letter, &[ALL]));
            assert_eq!(site.fates().held.contains(&id), held, "{letter:?}");
        }
    }
    let storms = site.becalm.storms();
    assert!(storms.open.is_empty(), "{storms:?}");
    let timers: BTreeSet<_> = storms.suspicions.iter().map(|item| &item.until).collect();
    assert_eq!((storms.suspicions.len(), timers.len()), (3, 1), "one timer: {storms:?}");
    // The same author once more, with another message, is somebody who repeats himself.
    let id = queued(&site.send(&Letter::new(&person(1), "again").answers("root"), &[ALL]));
    assert!(site.fates().held.contains(&id));
    // Only the fourth person makes a storm.
    queued(&site.send(&Letter::new(&person(3), "a3").answers("root"), &[ALL]));
    assert_eq!(site.becalm.storms().open.len(), 1);
    // An id that Postfix made up is none: a message without one is never a retry.
    let nameless = format!("From: <{}>\nSubject: x\n\ntext\n", person(0));
    let mut client = site.client();
    let before = site.becalm.storms().open[0].held;
    for _ in 0..2 {
        queued(&client.send(&person(0), &[ALL], &nameless).unwrap());
    }
    assert_eq!(site.becalm.storms().open[0].held, before + 2);
}

#[test]
fn automatic_mail_has_a_budget_of_its_own() {
    let site = Site::new(
        "[verdict]\nmode = 'hold'\n[storm]\nbudget = 3000\n[[list]]\naddress = 'all@example.org'\nmembers = 1000
         [[list]]\naddress = 'huge@example.org'\nmembers = 840_000\n",
    );
    let mut client = site.client();
    let mut held = Vec::new();
    for n in 0..5 {
        let letter = Letter::new(&person(n), &format!("o{n}"));
        let letter = match n % 3 {
            0 => letter.field("Auto-Submitted: auto-replied").field("Subject: Out of office"),
            1 => letter.field("X-Autoreply: yes"),
            _ => letter
                .field("Content-Type: multipart/report; report-type=disposition-notification; boundary=x"),
        };
        let sender = if n == 4 { String::new() } else { person(n) };
        let id = queued(&client.send(&sender, &[ALL], &letter.text()).unwrap());
        held.push(site.fates().held.contains(&id));
    }
    assert_eq!(held, [false, false, false, true, true]);
    let id = queued(
        &Letter::new(&person(9), "h")
            .field("Auto-Submitted: auto-replied")
            .send(&mut client, &["huge@example.org"]),
    );
    assert!(site.postfix.postcat(&id).unwrap().contains("verdict=hold; reason=automatic"));
    assert!(site.becalm.storms().storms.is_empty(), "automatic mail makes no storm");
    let id = queued(&Letter::new(&person(9), "human").send(&mut client, &[ALL]));
    assert!(site.fates().is_delivered(&id), "and costs people nothing");
}

#[test]
fn the_list_nobody_named_is_noticed() {
    let site = Site::new("unknown_lists.authors = 3\n");
    let mut client = site.client();
    for n in 0..3 {
        queued(&Letter::new(&person(n), &format!("m{n}")).send(&mut client, &["Everyone+x@example.org"]));
    }
    let line = wait_until("a remark", || {
        site.becalm.log().into_iter().find(|line| line.contains("is this a list?"))
    });
    assert!(line.contains("everyone"), "{line}");
}

/// What users of the machine hand in with sendmail(1) goes the same way.
#[test]
fn local_mail_is_judged_too() {
    let site = Site::with(
        &format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\n{TOUCHY}"),
        |postfix| postfix.default_action("tempfail").non_smtpd(),
    );
    start_storm(&site, ALL);
    let letter = Letter::new(&person(5), "local");
    site.postfix.sendmail(&person(5), &[ALL], &letter.text()).unwrap();
    let held = wait_until("it is held", || {
        let held = site.postfix.hold_queue().unwrap();
        held.into_iter().find(|message| message.sender == person(5))
    });
    assert!(
        site.postfix
            .postcat(&held.queue_id)
            .unwrap()
            .contains(&format!("id={}; verdict=hold", held.queue_id))
    );
}
