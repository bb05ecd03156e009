use super::*;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_millis(1_479_112_140_000 + secs * 1000)
}

fn watch() -> Watch {
    let mut watch = Watch::new("mx1");
    watch.set(Duration::from_secs(30), Duration::from_secs(3600));
    watch
}

fn started(storm: &str) -> Event {
    Event::StormStarted {
        storm: storm.to_owned(),
        list: Some("all@example.org".to_owned()),
        members: 840_000,
        trigger: "conversation_newcomers",
        newcomers: 10,
        authors: 10,
        list_newcomers: 10,
        copies: 8_400_000,
        at: at(0),
    }
}

fn ended(storm: &str) -> Event {
    Event::StormEnded {
        storm: storm.to_owned(),
        list: Some("all@example.org".to_owned()),
        held: 833,
        copies_held: 833 * 840_000,
        delivered: 3,
        since: at(0),
        at: at(3700),
    }
}

fn storm(held: u64) -> Facts {
    let storm = StormNow {
        storm: "s".to_owned(),
        list: Some("all@example.org".to_owned()),
        members: 840_000,
        enforced: true,
        held,
        copies_held: held * 840_000,
    };
    Facts { storms: vec![storm], ..Facts::default() }
}

fn kinds(alerts: &[Alert]) -> Vec<Kind> {
    alerts.iter().map(|alert| alert.event).collect()
}

#[test]
fn a_storm_of_ten_thousand_messages_makes_a_handful_of_alerts() {
    let mut watch = watch();
    let mut alerts = Vec::from_iter(watch.event(&started("s"), true));
    for held in 0..=10_000 {
        alerts.extend(watch.look(&storm(held), at(held)));
    }
    alerts.extend(watch.event(&ended("s"), true));
    assert_eq!(
        kinds(&alerts),
        [Kind::StormStarted, Kind::StormGrowing, Kind::StormGrowing, Kind::StormGrowing, Kind::StormEnded]
    );
    let held: Vec<_> = alerts.iter().filter_map(|alert| alert.held).collect();
    assert_eq!(held, [100, 1_000, 10_000, 833]);
    assert!(alerts.first().is_some_and(|alert| alert.text.contains("stopped from now on")), "{alerts:?}");
    let ids: BTreeSet<_> = alerts.iter().map(|alert| &alert.id).collect();
    assert_eq!(ids.len(), alerts.len());
}

#[test]
fn growth_is_told_of_so_often_and_no_more() {
    let mut watch = watch();
    watch.event(&started("s"), true);
    let mut held = 1;
    let mut told = 0;
    for round in 0..12 {
        told += watch.look(&storm(held), at(round)).len();
        held *= 10;
    }
    assert_eq!(told, MOST_GROWING as usize);
}

#[test]
fn a_storm_that_was_there_before_does_not_begin_again() {
    let mut watch = watch();
    assert_eq!(watch.look(&storm(500), at(0)), []);
    assert_eq!(watch.look(&storm(4_999), at(1)), []);
    assert_eq!(kinds(&watch.look(&storm(5_000), at(2))), [Kind::StormGrowing]);
    // Nor after a takeover or a restart, nor does it grow again.
    let memo = watch.memo().expect("it has changed");
    assert_eq!(watch.memo(), None);
    let text = serde_json::to_string(&memo).unwrap();
    let mut after = super::tests::watch();
    after.recall(serde_json::from_str(&text).unwrap());
    assert_eq!(after.event(&started("s"), true), None);
    assert_eq!(after.look(&storm(49_999), at(3)), []);
    assert_eq!(kinds(&after.look(&storm(50_000), at(4))), [Kind::StormGrowing]);
    assert_eq!(kinds(&Vec::from_iter(after.event(&ended("s"), true))), [Kind::StormEnded]);
}

#[test]
fn a_list_that_is_observed_is_said_to_be() {
    let mut watch = watch();
    let alert = watch.event(&started("s"), false).unwrap();
    assert_eq!(alert.enforced, Some(false));
    assert!(alert.text.contains("only observed"), "{}", alert.text);
    assert!(watch.event(&ended("s"), false).unwrap().text.contains("would have been stopped"));
}

#[test]
fn storms_are_remembered_within_bounds() {
    let mut watch = watch();
    for number in 0..5_000 {
        assert!(watch.event(&started(&format!("{number:06}")), true).is_some());
    }
    assert_eq!(watch.storms.len(), MOST_STORMS);
    assert!(watch.storms.contains_key("004999"));
}

fn room(per_cent: u64) -> Facts {
    let room = Room { limit: "max_count", per_cent, detail: format!("{per_cent} of 100 messages") };
    Facts { room: vec![room], held: per_cent, ..Facts::default() }
}

#[test]
fn half_of_a_limit_is_told_of_once_until_it_is_well_below() {
    let mut watch = watch();
    let mut told = Vec::new();
    for (second, per_cent) in [10, 49, 50, 55, 49, 51, 40, 50, 39, 38].into_iter().enumerate() {
        told.extend(watch.look(&room(per_cent), at(second as u64)));
    }
    assert_eq!(kinds(&told), [Kind::Held, Kind::Recovered]);
    assert_eq!((told[0].held, told[0].about.as_deref()), (Some(50), Some("max_count")));
    assert_eq!(told[1].recovers, Some(Kind::Held));
    // Up again: not before some minutes have passed.
    assert_eq!(watch.look(&room(60), at(20)), []);
    assert_eq!(kinds(&watch.look(&room(60), at(700))), [Kind::Held]);
}

#[test]
fn a_trouble_must_last_and_so_must_its_end() {
    let mut watch = watch();
    let down = |why: Option<&str>| Facts {
        helpers: vec![("/run/h.sock".to_owned(), why.map(str::to_owned))],
        ..Facts::default()
    };
    let mut told = Vec::new();
    for (second, why) in [(0, Some("no")), (29, Some("no")), (30, None), (31, Some("no")), (60, Some("no"))] {
        told.extend(watch.look(&down(why), at(second)));
    }
    assert_eq!(told, []);
    assert_eq!(kinds(&watch.look(&down(Some("no")), at(61))), [Kind::Degraded]);
    assert_eq!(watch.look(&down(None), at(62)), []);
    assert_eq!(watch.look(&down(Some("no")), at(63)), []);
    assert_eq!(watch.look(&down(None), at(64)), []);
    let over = watch.look(&down(None), at(94));
    assert_eq!((kinds(&over), over[0].recovers), (vec![Kind::Recovered], Some(Kind::Degraded)));
    // A restart in between changes nothing.
    watch.look(&down(Some("no")), at(2000));
    assert_eq!(kinds(&watch.look(&down(Some("no")), at(2030))), [Kind::Degraded]);
    let mut after = super::tests::watch();
    after.recall(watch.memo().unwrap());
    assert_eq!(after.look(&down(Some("no")), at(2040)), []);
    after.look(&down(None), at(2041));
    assert_eq!(kinds(&after.look(&down(None), at(2071))), [Kind::Recovered]);
}

#[test]
fn each_source_is_told_of_by_itself() {
    let mut watch = watch();
    let stale = |names: &[&str]| {
        let one = |name: &&str| ((*name).to_owned(), names.contains(name).then(|| "gone".to_owned()));
        Facts { sources: ["a", "b"].iter().map(one).collect(), ..Facts::default() }
    };
    watch.look(&stale(&["a"]), at(0));
    assert_eq!(watch.look(&stale(&["a", "b"]), at(30))[0].about.as_deref(), Some("a"));
    assert_eq!(watch.look(&stale(&["a", "b"]), at(60))[0].about.as_deref(), Some("b"));
    assert_eq!(watch.look(&stale(&["a", "b"]), at(90)), []);
}

#[test]
fn mail_that_passes_by_is_told_of_in_sums() {
    let mut watch = watch();
    let seen = |failed_open: u64| Facts { messages: 1, failed_open, ..Facts::default() };
    assert_eq!(watch.look(&seen(0), at(0)), []);
    assert_eq!(kinds(&watch.look(&seen(1), at(1))), [Kind::Unjudged]);
    let mut told = Vec::new();
    for second in 2..3600 {
        told.extend(watch.look(&seen(second), at(second)));
    }
    assert_eq!(kinds(&told), [], "once an hour");
    let alerts = watch.look(&Facts { messages: 2, ..seen(3600) }, at(3601));
    assert!(alerts.iter().any(|alert| alert.title.starts_with("3599 messages")), "{alerts:?}");
}

#[test]
fn watched_mail_without_an_end_is_told_of_where_it_is_much() {
    let mut watch = watch();
    let seen = |watched, unfinished| Facts { messages: 1, watched, unfinished, ..Facts::default() };
    watch.look(&seen(0, 0), at(0));
    assert_eq!(watch.look(&seen(1_000, 100), at(60)), [], "a tenth is usual");
    assert_eq!(watch.look(&seen(1_000, 100), at(700)), []);
    assert_eq!(watch.look(&seen(1_010, 115), at(710)), [], "few");
    assert_eq!(kinds(&watch.look(&seen(1_020, 120), at(720))), [Kind::Unjudged]);
    assert_eq!(watch.look(&seen(1_040, 140), at(730)), [], "told");
}

#[test]
fn silence_is_told_of_where_there_was_mail() {
    let mut watch = watch();
    let seen = |messages| Facts { messages, ..Facts::default() };
    assert_eq!(watch.look(&seen(0), at(0)), []);
    assert_eq!(watch.look(&seen(0), at(100_000)), [], "there never was any");
    assert_eq!(watch.look(&seen(5), at(100_001)), []);
    assert_eq!(watch.look(&seen(5), at(103_600)), []);
    let silence = watch.look(&seen(5), at(103_601));
    assert_eq!(kinds(&silence), [Kind::Unjudged]);
    assert!(silence[0].title.contains("1 hours"), "{silence:?}");
    assert_eq!(kinds(&watch.look(&seen(6), at(103_700))), [Kind::Recovered]);
}

#[test]
fn as_json_every_key_is_there() {
    let alert = watch().event(&started("s"), true).unwrap();
    let json = serde_json::to_value(&alert).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
    assert_eq!(
        keys.join(" "),
        "about at copies_held delivered enforced event held id list members node recovers severity storm text title v"
    );
    assert_eq!((&json["event"], &json["at"]), (&"storm_started".into(), &"2016-11-14T08:29:00Z".into()));
    assert_eq!((&json["severity"], &json["about"]), (&"critical".into(), &serde_json::Value::Null));
}

#[test]
fn a_flood_of_possible_lists_is_no_flood_of_alerts() {
    let mut watch = Watch::new("mx1");
    let mut told = |n: u64| {
        let at = Timestamp::from_millis(1_479_112_140_000 + n * 1000);
        let event = Event::PossibleList { address: format!("p{n}@example.org"), authors: 20, at };
        watch.event(&event, false).map(|alert| alert.text)
    };
    let first: Vec<String> = (0..1000).filter_map(&mut told).collect();
    assert_eq!(first.len(), 10);
    assert!(
        first.iter().filter(|text| text.contains("no alerts")).count() == 1 && first[9].contains("no alerts")
    );
    assert!(told(3600).is_some_and(|text| !text.contains("no alerts")), "an hour later");
}
