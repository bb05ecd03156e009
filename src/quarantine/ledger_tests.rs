use super::*;

const ALL: &str = "all@example.org";

fn held(queue_id: &str, list: &str, until: Option<Timestamp>) -> Held {
    Held {
        queue_id: queue_id.to_owned(),
        list: Some(list.to_owned()),
        conversation: None,
        author: None,
        reason: "suspicion",
        storm: None,
        copies: 1,
        since: Timestamp::default(),
        until,
        held: true,
        size: None,
        trouble: None,
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(seconds * 1000)
}

fn in_queue(queue_id: &str, reason: &str, since: u64, until: Option<u64>) -> InQueue {
    let mark = Mark {
        queue_id: queue_id.to_owned(),
        verdict: "hold".to_owned(),
        reason: reason.to_owned(),
        storm: if reason == "storm" { "S1" } else { "-" }.to_owned(),
        at: at(since),
        copies: 7,
        until: until.map(at),
        list: None,
    };
    InQueue { mark, list: Some(ALL.to_owned()), sender: "a@example.org".to_owned(), size: 1000 }
}

fn ids(items: &[Held]) -> Vec<&str> {
    items.iter().map(|item| item.queue_id.as_str()).collect()
}

#[test]
fn a_storm_cancels_the_timers_of_its_list() {
    let ledger = Ledger::default();
    let soon = Some(Timestamp::from_millis(5));
    ledger.note(held("A", ALL, soon));
    ledger.note(held("B", "dev@example.org", soon));
    ledger.note(Held { list: None, ..held("C", ALL, soon) });
    ledger.keep_held(ALL, "S1");
    let timers: Vec<_> =
        ledger.latest(9, |_| true).into_iter().map(|item| (item.queue_id, item.until, item.storm)).collect();
    let storm = Some("S1".to_owned());
    assert_eq!(timers, [("C".into(), soon, None), ("B".into(), soon, None), ("A".into(), None, storm)]);
    assert_eq!(ledger.totals().waiting, 2);
    ledger.keep_gathering_held(7, "S2");
    assert_eq!(ledger.due(at(1)).map(|item| item.queue_id), Some("B".to_owned()));
}

#[test]
fn a_storm_among_many_recipients_cancels_the_timers_of_its_conversation() {
    let ledger = Ledger::default();
    let item = |queue_id: &str, conversation| Held {
        list: None,
        conversation,
        ..held(queue_id, ALL, Some(Timestamp::from_millis(5)))
    };
    for (queue_id, conversation) in [("its", Some(7)), ("another's", Some(8)), ("nobody knows", None)] {
        ledger.note(item(queue_id, conversation));
    }
    ledger.keep_gathering_held(7, "S");
    let waits = |queue_id| {
        let item = ledger.get(queue_id).unwrap();
        (item.until.is_some(), item.storm)
    };
    assert_eq!(waits("its"), (false, Some("S".to_owned())));
    assert_eq!(waits("another's"), (true, None));
    assert_eq!(waits("nobody knows"), (false, None), "it may be one of it");
}

#[test]
fn suspicions_in_the_queue_belong_to_the_storm_of_their_conversation() {
    let ledger = Ledger::default();
    let message = |queue_id: &str, reason, since, until, conversation| {
        let message = in_queue(queue_id, reason, since, until);
        InQueue { mark: Mark { list: Some(conversation), ..message.mark }, list: None, ..message }
    };
    let queue = vec![
        message("its", "suspicion", 10, Some(900), 7),
        message("another's", "suspicion", 10, Some(900), 8),
        message("tripped", "storm", 20, None, 7),
    ];
    ledger.reconcile(queue, true, at(30), |_| None);
    assert_eq!(ledger.get("its").unwrap().storm.as_deref(), Some("S1"));
    assert_eq!(ledger.get("its").unwrap().conversation, Some(7));
    assert_eq!(ledger.get("another's").unwrap().until, Some(at(900)));
}

#[test]
fn what_is_put_back_by_hand_stays() {
    let ledger = Ledger::default();
    let again = || in_queue("A", "suspicion", 1, Some(5));
    ledger.reconcile(vec![again()], true, at(1), |_| None);
    assert!(ledger.due(at(60)).is_some(), "as its mark says");
    ledger.remove("A");
    ledger.reconcile(vec![again()], true, at(120), |_| None);
    assert_eq!(ledger.due(at(6000)), None, "somebody put it on hold after it was released");
    assert_eq!(ledger.overdue(Duration::from_secs(1), at(6000), None, 9), []);
    assert_eq!(ledger.get("A").map(|item| item.reason), Some(BY_HAND));
}

#[test]
fn what_comes_into_the_queue_late_is_what_its_mark_says() {
    let ledger = Ledger::default();
    let late = || in_queue("A", "suspicion", 100, Some(900));
    ledger.note(Held { since: at(100), ..held("A", ALL, Some(at(900))) });
    let outcome = ledger.reconcile(Vec::new(), true, at(120), |_| None);
    assert_eq!(outcome.never_seen, ["A"]);
    ledger.reconcile(vec![late()], true, at(130), |_| None);
    let item = ledger.get("A").unwrap();
    assert_eq!((item.reason, item.until), ("suspicion", Some(at(900))));
    // The helper was asked for it before Postfix had written it.
    let ledger = Ledger::default();
    ledger.note(Held { since: at(100), ..held("A", ALL, Some(at(900))) });
    assert!(ledger.forget("A").is_some_and(|item| item.size.is_none()));
    ledger.reconcile(vec![late()], true, at(130), |_| None);
    assert_eq!(ledger.get("A").and_then(|item| item.until), Some(at(900)));
    // Now it has been seen: who puts it back is somebody.
    ledger.forget("A");
    ledger.reconcile(vec![late()], true, at(140), |_| None);
    assert_eq!(ledger.get("A").map(|item| item.reason), Some(BY_HAND));
}

#[test]
fn of_queues_that_nobody_told_of_nothing_is_gone() {
    let ledger = Ledger::default();
    ledger.note(Held { since: at(100), ..held("on another Postfix", ALL, Some(at(900))) });
    let outcome =
        ledger.reconcile(vec![in_queue("A", "suspicion", 100, Some(900))], false, at(1000), |_| None);
    assert_eq!(outcome, Reconciled { gone: 0, never_seen: Vec::new(), taken_in: 1 });
    assert_eq!(ledger.count(), 2);
}

#[test]
fn what_would_have_been_held_does_not_push_out_what_is() {
    let ledger = Ledger::default();
    ledger.note(held("A", ALL, None));
    for number in 0..=MOST_OBSERVED {
        ledger.note(Held { held: false, ..held(&number.to_string(), ALL, Some(at(1))) });
    }
    let all = ledger.latest(usize::MAX, |_| true);
    assert_eq!(all.len(), MOST_OBSERVED + 1);
    assert_eq!(all.last().map(|item| item.queue_id.as_str()), Some("A"));
    assert_eq!((ledger.totals().count, ledger.due(at(9))), (1, None), "what was delivered is not due");
}

#[test]
fn the_first_whose_time_has_come_goes_first() {
    let ledger = Ledger::default();
    ledger.note(held("late", ALL, Some(at(20))));
    ledger.note(held("soon", ALL, Some(at(10))));
    ledger.note(held("soon too", ALL, Some(at(10))));
    assert_eq!(ledger.due(at(9)), None);
    let mut order = Vec::new();
    while let Some(item) = ledger.due(at(20)) {
        ledger.remove(&item.queue_id);
        order.push(item.queue_id);
    }
    assert_eq!(order, ["soon", "soon too", "late"]);
    // One that cannot be released does not stop the others.
    ledger.note(held("A", ALL, Some(at(10))));
    ledger.give_up("A", "no");
    assert_eq!(ledger.due(at(20)), None);
    assert_eq!(ledger.get("A").and_then(|item| item.trouble), Some("no".to_owned()));
}

#[test]
fn what_an_earlier_becalm_clawed_back_is_told_by_it_until_it_leaves() {
    let ledger = Ledger::default();
    let passed = |queue_id: &str| InQueue {
        mark: Mark { verdict: "accept".into(), ..in_queue(queue_id, "calm", 60, None).mark },
        ..in_queue(queue_id, "calm", 60, None)
    };
    let told = |queue_id: &str| {
        let item = ledger.get(queue_id).unwrap();
        (item.reason, item.storm.unwrap_or_default(), item.copies)
    };
    // Heard of before the queue was looked at, and after.
    ledger.recall_clawed_back("A", "S1", 3);
    ledger.recall_clawed_back("gone", "S1", 3);
    ledger.reconcile(vec![passed("A"), passed("B")], true, at(1000), |_| None);
    assert_eq!(told("A"), (CLAWED_BACK, "S1".to_owned(), 3));
    assert_eq!(told("B"), (BY_HAND, String::new(), 7));
    ledger.recall_clawed_back("B", "S2", 4);
    assert_eq!(told("B"), (CLAWED_BACK, "S2".to_owned(), 4));
    let mut kept: Vec<_> = ledger.clawed_back().into_iter().map(|(queue_id, ..)| queue_id).collect();
    kept.sort();
    assert_eq!(kept, ["A", "B"], "the other has left the queue");
    ledger.remove("A");
    ledger.reconcile(vec![passed("A"), passed("B")], true, at(2000), |_| None);
    assert_eq!(told("A").0, BY_HAND, "somebody put it on hold after it was released");
}

#[test]
fn the_queue_is_the_truth() {
    let ledger = Ledger::default();
    ledger.note(Held { since: at(100), ..held("released by hand", ALL, Some(at(900))) });
    ledger.note(Held { since: at(100), ..held("still there", ALL, Some(at(900))) });
    ledger.note(Held { since: at(995), ..held("on its way", ALL, Some(at(1900))) });
    let queue = vec![
        in_queue("still there", "suspicion", 100, Some(900)),
        in_queue("unheard of", "suspicion", 50, Some(800)),
        InQueue {
            mark: Mark { verdict: "accept".into(), ..in_queue("accepted", "calm", 60, None).mark },
            ..in_queue("accepted", "calm", 60, None)
        },
    ];
    let outcome = ledger.reconcile(queue.clone(), true, at(1000), |_| None);
    assert_eq!(outcome, Reconciled { gone: 1, never_seen: vec!["released by hand".into()], taken_in: 2 });
    assert_eq!(
        ids(&ledger.select(None, 9, |_| true).items),
        ["unheard of", "accepted", "still there", "on its way"]
    );
    let item = ledger.get("unheard of").unwrap();
    assert_eq!((item.until, item.copies, item.size), (Some(at(800)), 7, Some(1000)));
    assert_eq!(item.author.as_deref(), Some("a@example.org"));
    assert_eq!(ledger.get("still there").unwrap().size, Some(1000));
    assert_eq!(ledger.get("accepted").unwrap().reason, BY_HAND);
    assert_eq!(ledger.reconcile(queue, true, at(1001), |_| None), Reconciled::default(), "and it stays so");
    let overdue = |after| ledger.overdue(Duration::from_secs(500), at(1000), after, 9);
    assert_eq!(ids(&overdue(None)), ["unheard of", "still there"]);
    assert_eq!(ids(&overdue(Some(&Position::of(&item)))), ["still there"]);
}

#[test]
fn suspicions_that_became_a_storm_stay_after_a_restart() {
    // Storm mail in the queue tells of it ...
    let ledger = Ledger::default();
    let queue = vec![
        in_queue("before", "suspicion", 100, Some(700)),
        in_queue("storm", "storm", 150, None),
        in_queue("after", "suspicion", 200, Some(800)),
    ];
    ledger.reconcile(queue.clone(), true, at(1000), |_| None);
    let before = ledger.get("before").unwrap();
    assert_eq!((before.until, before.storm.as_deref()), (None, Some("S1")));
    assert_eq!(ledger.due(at(1000)).map(|item| item.queue_id), Some("after".to_owned()));
    // ... or the engine does.
    let ledger = Ledger::default();
    ledger.reconcile(queue, true, at(1000), |item| {
        (item.list.as_deref() == Some(ALL)).then(|| "S9".to_owned())
    });
    assert_eq!(ledger.due(at(1000)), None);
    assert_eq!(ledger.get("after").unwrap().storm.as_deref(), Some("S9"));
}

#[test]
fn limits_on_count_bytes_and_disk() {
    let ledger = Ledger::default();
    for number in 0..4 {
        assert_eq!(ledger.full(), None);
        ledger.note(held(&number.to_string(), ALL, None));
    }
    ledger.set_limits(Some(Limits { count: 5, bytes: 10_000_000 }));
    assert_eq!(ledger.full(), None);
    ledger.set_disk_full(true);
    assert_eq!(ledger.full(), Some(Full::Disk));
    ledger.set_limits(None);
    assert_eq!(ledger.full(), Some(Full::Disk), "whatever the limits");
    ledger.set_limits(Some(Limits { count: 5, bytes: 10_000_000 }));
    ledger.set_disk_full(false);
    ledger.note(held("5", ALL, None));
    assert_eq!(ledger.full(), Some(Full::Count));
    ledger.remove("5");
    // Four are known to have 1,000 bytes each; others are taken for as much.
    let queue = (0..4).map(|number| in_queue(&number.to_string(), "storm", 0, None)).collect();
    ledger.reconcile(queue, true, at(1), |_| None);
    ledger.note(held("5", ALL, None));
    assert_eq!(ledger.totals().bytes, 5000);
    ledger.set_limits(Some(Limits { count: 9, bytes: 5000 }));
    assert_eq!(ledger.full(), Some(Full::Bytes));
}

/// Pages join without a gap where messages come and go between them, and those of one moment have an order.
#[test]
fn pages_join() {
    let ledger = Ledger::default();
    let count = 2 * PORTION + 7;
    for number in 0..count {
        let item = held(&format!("{number:05}"), if number % 3 == 0 { ALL } else { "dev@example.org" }, None);
        ledger.note(Held { since: at(number as u64 / 10), copies: 2, ..item });
    }
    let wanted = |item: &Held| item.list.as_deref() == Some(ALL);
    let all = count.div_ceil(3) as u64;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = ledger.select(after.as_ref(), 100, wanted);
        assert_eq!((page.total, page.copies), (all, 2 * all));
        after = page.items.last().map(Position::of);
        seen.extend(page.items.into_iter().map(|item| item.queue_id));
        if !page.more {
            break;
        }
        // What the next page begins after has gone.
        let last = seen.last().unwrap();
        let item = ledger.remove(last).unwrap();
        ledger.note(Held { list: Some("gone@example.org".to_owned()), ..item.clone() });
        ledger.remove(last);
        ledger.note(Held { since: Timestamp::default(), ..item });
    }
    let expected: Vec<String> = (0..count).step_by(3).map(|number| format!("{number:05}")).collect();
    assert_eq!(seen, expected);
    assert_eq!(ledger.latest(2, |_| true).len(), 2);
    let last = ledger.latest(usize::MAX, |item| item.queue_id == "00001");
    assert_eq!(ids(&last), ["00001"], "to the very first");
    assert_eq!(ledger.totals().oldest, Some(Timestamp::default()));
    assert_eq!(ledger.totals().copies, 2 * count as u64);
}

#[test]
fn nobody_waits_while_the_storms_of_unknown_mail_are_looked_up() {
    let ledger = Ledger::default();
    for number in 0..3 * PORTION {
        ledger.note(held(&number.to_string(), ALL, None));
    }
    let queue = (0..3 * PORTION).map(|number| in_queue(&format!("new{number}"), "suspicion", 1, Some(9)));
    let free = std::cell::Cell::new(0);
    ledger.reconcile(queue.collect(), true, at(1), |_| {
        free.set(free.get() + usize::from(ledger.0.try_lock().is_ok()));
        None
    });
    assert_eq!(free.get(), 3 * PORTION, "storms are looked up while it is free");
}

/// Whatever is done to it, its parts agree.
#[test]
fn its_parts_agree() {
    let mut seed = 1_u64;
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    let ledger = Ledger::default();
    for step in 0..20_000 {
        let id = random(40).to_string();
        match random(6) {
            0 | 1 => {
                let until = (random(2) == 0).then(|| at(step + random(9)));
                ledger.note(Held { since: at(step), ..held(&id, ALL, until) });
            }
            2 => drop(ledger.remove(&id)),
            3 => ledger.give_up(&id, "trouble"),
            4 if random(20) == 0 => ledger.keep_held(ALL, "S"),
            5 if random(20) == 0 => {
                let queue =
                    (0..random(40)).map(|n| in_queue(&n.to_string(), "suspicion", step, Some(step + 5)));
                ledger.reconcile(queue.collect(), true, at(step + 1), |_| None);
            }
            _ => {}
        }
        let book = ledger.book();
        assert_eq!(book.held.len(), book.by_id.len());
        let timers: BTreeSet<_> =
            book.held.iter().filter_map(|(number, item)| Some((item.until?, *number))).collect();
        assert_eq!(timers, book.timers);
        let sizes: Vec<u64> = book.held.values().filter_map(|item| item.size).collect();
        assert_eq!((sizes.len() as u64, sizes.iter().sum()), (book.sized, book.bytes));
        let ages: BTreeMap<_, _> =
            book.held.iter().map(|(number, item)| (Position::of(item), *number)).collect();
        assert_eq!(ages, book.by_age);
        assert_eq!(book.held.values().map(|item| u128::from(item.copies)).sum::<u128>(), book.copies);
    }
}
