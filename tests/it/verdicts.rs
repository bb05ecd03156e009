//! What is done with the mail of a storm.

use crate::harness::{Letter, Site, TOUCHY, person, queued, start_storm};

/// Sites are slow to start: every mode has a list of its own.
fn lists(modes: &[(&str, &str)]) -> String {
    modes
        .iter()
        .map(|(name, settings)| format!("[[list]]\naddress = '{name}@example.org'\n{settings}\n{TOUCHY}"))
        .collect()
}

#[test]
fn each_verdict_does_what_it_says() {
    let site = Site::new(&lists(&[
        ("observe", ""),
        ("hold", "mode = 'hold'"),
        ("reject", "mode = 'reject'\nreject_text = '{list} has {members} members, 100 % of them annoyed'"),
        ("defer", "mode = 'defer'"),
        ("discard", "mode = 'discard'"),
        ("strip", "mode = 'strip'"),
        ("emergency", "mode = 'reject'\nnever_hold = true"),
    ]));
    let address = |name: &str| format!("{name}@example.org");

    for name in ["observe", "emergency"] {
        let [_, second] = start_storm(&site, &address(name));
        assert_eq!(site.fates().recipients(&queued(&second)), [address(name)]);
    }
    assert_eq!(site.becalm.status().counts.observed, 2);

    let [first, second] = start_storm(&site, &address("hold"));
    let fates = site.fates();
    assert!(fates.is_delivered(&queued(&first)) && fates.held.contains(&queued(&second)));

    let [_, second] = start_storm(&site, &address("reject"));
    assert_eq!(second.code, 550);
    assert_eq!(second.text, "5.7.1 reject@example.org has 840000 members, 100 % of them annoyed");

    let [_, second] = start_storm(&site, &address("defer"));
    assert_eq!(second.code, 451);
    let text = "4.7.1 Replies to defer@example.org are paused: it reaches 840000 people. Try again in ";
    assert!(second.text.starts_with(text), "{second}");

    let [_, second] = start_storm(&site, &address("discard"));
    let id = queued(&second);
    let fates = site.fates();
    assert!(!fates.held.contains(&id) && !fates.is_delivered(&id), "thrown away");
    // Somebody who did not ask for it is in the message: nothing is thrown away.
    let letter = Letter::new(&person(5), "more").answers("root-discard-example.org");
    let id = queued(&site.send(&letter, &[&address("discard"), "friend@example.org"]));
    assert!(site.fates().held.contains(&id));

    let [_, second] = start_storm(&site, &address("strip"));
    assert!(site.fates().held.contains(&queued(&second)), "the last recipient is never taken off");
    let letter = Letter::new(&person(6), "strip").answers("root-strip-example.org");
    let id = queued(&site.send(&letter, &["Strip@Example.ORG", "friend@example.org", "<strip@example.org>"]));
    assert_eq!(site.fates().recipients(&id), ["friend@example.org"], "all spellings of the list are off");
    assert!(site.delivered_text(&id).contains("verdict=strip; reason=storm"));

    // The strictest of several lists wins, but an emergency list protects the whole message.
    let letter = Letter::new(&person(7), "both");
    let reply = site.send(&letter, &[&address("hold"), &address("reject")]);
    assert_eq!(reply.code, 550, "{reply}");
    let letter = Letter::new(&person(8), "protected");
    let id = queued(&site.send(&letter, &[&address("emergency"), &address("reject"), &address("hold")]));
    assert_eq!(site.fates().recipients(&id).len(), 3);

    let counts = site.becalm.status().counts;
    let stopped = [counts.held, counts.rejected, counts.deferred, counts.discarded, counts.stripped];
    assert_eq!(stopped, [3, 2, 1, 1, 1]);
}

#[test]
fn a_suspicion_is_held_deferred_or_passed() {
    const SLOW: &str = "mode = 'reject'\nmembers = 840_000\nfree = 1\nstorm_min = 5\nlist_factor = 1";
    let list = |name: &str, what: &str| {
        format!("[[list]]\naddress = '{name}@example.org'\nsuspicion = '{what}'\n{SLOW}\n")
    };
    let site = Site::new(&(list("h", "hold") + &list("d", "defer") + &list("p", "pass")));
    let second = |list: &str| start_storm(&site, list)[1].clone();

    let id = queued(&second("h@example.org"));
    assert!(site.fates().held.contains(&id));
    let reply = second("d@example.org");
    assert_eq!(reply.code, 451, "{reply}");
    assert!(reply.text.ends_with("Try again in 10 minutes."), "{reply}");
    let id = queued(&second("p@example.org"));
    assert!(site.fates().is_delivered(&id));
    assert!(site.becalm.storms().open.is_empty(), "none of these is a storm yet");
}

#[test]
fn what_is_observed_is_not_touched_and_what_is_enforced_is_marked_by_us_alone() {
    let site = Site::new(&lists(&[("observe", ""), ("hold", "mode = 'hold'")]));
    start_storm(&site, "observe@example.org");
    // Headers of every kind: folded, doubled, in odd case, 8 bit; a body with dots and long lines.
    let body = format!("\n.\n..dot\n{}\nend\n", "x".repeat(900));
    let message = format!(
        "From: <p@example.org>\nTO: odd@example.org\nSubject: =?utf-8?Q?=C3=A4?=\n\tfolded\nX-Twice: 1\nX-Twice: 2\n\
         X-Becalm: v=1; forged\nx-becalm: again\nX-Raw: \u{e4}\nDate: Mon, 14 Nov 2016 08:29:00 +0000\n\
         Message-ID:\n <x@example.org>\n{body}"
    );
    let send = |list: &str| {
        let mut client = site.client();
        queued(&client.send("p@example.org", &[list], &message).unwrap())
    };
    let id = send("observe@example.org");
    let text = site.delivered_text(&id);
    let (received, rest) = text.split_at(text.find("From:").unwrap());
    assert!(received.starts_with("Received: ") && received.matches('\n').count() <= 5, "{received}");
    assert_eq!(rest, message, "byte for byte");
    assert_eq!(site.becalm.status().counts.observed, 2, "it would have been held");

    for id in [send("hold@example.org"), queued(&start_storm(&site, "hold@example.org")[1])] {
        let text = if site.fates().held.contains(&id) {
            site.postfix.postcat(&id).unwrap()
        } else {
            site.delivered_text(&id)
        };
        let marks: Vec<&str> =
            text.lines().filter(|line| line.to_ascii_lowercase().starts_with("x-becalm")).collect();
        let [mark] = marks[..] else { panic!("{marks:?}") };
        assert!(mark.contains(&format!("node=mx1; id={id};")) && mark.contains("; mac="), "{mark}");
    }
}
