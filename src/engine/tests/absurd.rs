//! What no sender means: the engine answers all the same.

use proptest::prelude::*;

use super::*;

#[test]
fn no_headers_and_nobody() {
    let site = setup(&[(ALL, 100)]).policy(touchy(Mode::Hold)).build();
    for _ in 0..50 {
        let mut letter = Letter::new("<>", ALL).without_id();
        letter.headers.clear();
        let decision = site.send(&letter);
        assert_eq!(decision.author, None);
    }
}

#[test]
fn a_list_of_nobody_and_one_of_everybody() {
    let site = setup(&[("none@example.org", 0), ("world@example.org", u64::MAX)]).build();
    let both = |n: u32| {
        Letter::new(&stranger(n), "none@example.org").and_to("world@example.org").re("r-1@x.example")
    };
    for n in 0..40 {
        let decision = site.send(&both(n));
        assert_eq!(decision.audience, u64::MAX);
        assert_eq!(decision.reason == Reason::Calm, n < 3, "{n}");
    }
    // Nobody gets it: only the number of people counts.
    let site = setup(&[("none@example.org", 0)]).build();
    for n in 0..20 {
        let decision = site.send(&Letter::new(&stranger(n), "none@example.org").re("r-1@x.example"));
        assert_eq!(decision.reason == Reason::Calm, n < 19, "{n}");
    }
}

#[test]
fn more_conversations_than_fit_evict_and_more_closed_ones_are_refused() {
    let mut setup = setup(&[(ALL, 100)]).policy(touchy(Mode::Hold));
    setup.capacity = Capacity { conversations: 8, recipients: 8, known_authors: 8, message_ids: 8 };
    let site = setup.build();
    for n in 0..200 {
        site.send(&Letter::new("spark-1@example.org", ALL).re(&format!("thread-{n}@example.org")));
    }
    assert!(site.engine.tables().conversations.evictions > 0);
    // In a storm every answered conversation closes, and is not given up.
    for n in 0..200 {
        for author in ["spark-2@example.org", "spark-3@example.org"] {
            let letter = Letter::new(author, ALL).re(&format!("thread-{n}@example.org"));
            assert_eq!(site.send(&letter).reason, Reason::Storm);
        }
    }
    let tables = site.engine.tables();
    assert!(tables.conversations.refused > 0, "{tables:?}");
    assert_eq!(tables.conversations.occupied, 8);
}

#[test]
fn a_refused_conversation_without_a_list_passes() {
    let mut setup = setup(&[]).policy(touchy(Mode::Hold));
    setup.capacity.conversations = 8;
    let site = setup.build();
    let answer = |author: u32, thread: u32| {
        Letter::new(&stranger(author), "").with_people(0..60).re(&format!("thread-{thread}@example.org"))
    };
    for thread in 0..8 {
        site.send(&answer(0, thread));
        assert_eq!(site.send(&answer(1, thread)).reason, Reason::Storm);
    }
    site.send(&answer(0, 99));
    assert_eq!(site.send(&answer(1, 99)).reason, Reason::Calm);
    assert!(site.engine.tables().conversations.refused > 0);
}

#[test]
fn a_clock_at_either_end() {
    for millis in [0, 1, u64::MAX - 1, u64::MAX] {
        let mut setup = setup(&[(ALL, 100)]).policy(touchy(Mode::Defer));
        setup.age = Duration::ZERO;
        let mut site = setup.build();
        site.now = Timestamp::from_millis(millis);
        for n in 0..10 {
            site.send(&Letter::new(&stranger(n), ALL).re("root-1@example.net"));
            site.engine.tick(site.now);
            site.engine.storms(site.now);
        }
    }
}

/// Things that mean something, in places where they may not, and noise.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"<>".to_vec()),
        Just(b"<all@example.org>".to_vec()),
        Just(b"red-all@example.org".to_vec()),
        Just(b"none@example.org".to_vec()),
        Just(b"<root-1@example.net> <root-2@example.net>".to_vec()),
        Just(b"Re: Lunch".to_vec()),
        "[a-c]@example.org".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..60),
        (0_usize..6000).prop_map(|length| vec![b'<'; length]),
    ]
}

fn header() -> impl Strategy<Value = (String, Vec<u8>)> {
    let name = prop_oneof![
        Just("From"),
        Just("Reply-To"),
        Just("Message-ID"),
        Just("References"),
        Just("In-Reply-To"),
        Just("Thread-Index"),
        Just("Subject"),
        Just("Auto-Submitted"),
        Just("X-Becalm"),
        Just(""),
    ];
    (name, text()).prop_map(|(name, value)| (name.to_owned(), value))
}

#[derive(Clone, Debug)]
struct Message {
    wait: u64,
    sender: Vec<u8>,
    user: Option<Vec<u8>>,
    recipients: Vec<Vec<u8>>,
    copies: usize,
    headers: Vec<(String, Vec<u8>)>,
    queue_id: Option<Vec<u8>>,
}

fn message() -> impl Strategy<Value = Message> {
    (
        prop_oneof![4 => 0_u64..100_000, 1 => any::<u64>()],
        text(),
        proptest::option::weighted(0.3, text()),
        proptest::collection::vec(text(), 0..4),
        prop_oneof![8 => Just(1_usize), 1 => Just(60), 1 => Just(300)],
        proptest::collection::vec(header(), 0..6),
        proptest::option::of(text()),
    )
        .prop_map(|(wait, sender, user, recipients, copies, headers, queue_id)| Message {
            wait,
            sender,
            user,
            recipients,
            copies,
            headers,
            queue_id,
        })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Strip), Just(Mode::Discard), Just(Mode::Reject), Just(Mode::Observe)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn whatever_comes_is_answered(
        messages in proptest::collection::vec(message(), 1..40),
        modes in [mode(), mode()],
    ) {
        let lists = [(ALL, u64::MAX), ("none@example.org", 0), ("*-all@example.org", 100)];
        let mut setup = setup(&lists).policy(touchy(modes[0])).policy_of(ALL, touchy(modes[1]));
        setup.capacity = Capacity { conversations: 8, recipients: 8, known_authors: 8, message_ids: 8 };
        let mut site = setup.build();
        let mut tx = site.engine.session(None);
        for message in &messages {
            site.wait(Duration::from_millis(message.wait));
            site.engine.begin(&mut tx, &message.sender, message.user.as_deref(), site.now);
            for _ in 0..message.copies {
                for recipient in &message.recipients {
                    site.engine.recipient(&mut tx, recipient);
                }
            }
            let watched = site.engine.at_data(&mut tx);
            for (name, value) in &message.headers {
                tx.header(name.as_bytes(), value);
            }
            if watched {
                let decision = site.engine.judge(&tx, message.queue_id.as_deref(), site.now);
                let count = message.copies * message.recipients.len();
                if let Action::Strip { recipients } = &decision.action {
                    prop_assert!(!recipients.is_empty() && recipients.len() < count, "{recipients:?}");
                    prop_assert!(recipients.iter().all(|raw| message.recipients.iter().any(|sent| **sent == **raw)));
                }
                if decision.reason == Reason::Calm {
                    prop_assert_eq!(&decision.action, &Action::Accept);
                }
                prop_assert!(decision.events.len() <= 6);
            }
            site.engine.tick(site.now);
        }
    }
}
