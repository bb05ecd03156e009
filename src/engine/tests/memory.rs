//! What was known comes back: from the records of what was judged, from an image, and from both together.

use proptest::prelude::*;

use super::*;
use crate::journal::record::{Piece, Record};

const LISTS: [&str; 3] = ["small@example.org", "touchy@example.org", "dear@example.org"];

fn site() -> Site {
    // Messages to many people without a list meet the default policy.
    let mut setup = setup(&[(LISTS[0], 300), (LISTS[1], 40_000), (LISTS[2], 840_000)])
        .policy(touchy(Mode::Hold))
        .policy_of(LISTS[0], holding())
        .policy_of(LISTS[2], holding());
    setup.exempt.authors.insert(b"boss@example.org".to_vec());
    setup.build()
}

/// What happens at a site.
#[derive(Clone, Debug)]
enum Act {
    Send {
        author: u8,
        /// One list, two, or many people.
        to: u8,
        /// Which earlier message it answers.
        answers: Option<u8>,
        /// It answers by its subject alone.
        by_subject: bool,
        automatic: bool,
        exempt: bool,
        /// It is an earlier message once more.
        again: Option<u8>,
    },
    Wait(Duration),
    Release(u8, u8),
    /// An operator ends one of the storms that are open.
    End(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let rare = |share: f64| proptest::bool::weighted(share);
    let answers = proptest::option::weighted(0.7, 0..6_u8);
    let again = proptest::option::weighted(0.1, any::<u8>());
    let send = (0..14_u8, 0..6_u8, answers, rare(0.1), rare(0.1), rare(0.03), again).prop_map(
        |(author, to, answers, by_subject, automatic, exempt, again)| Act::Send {
            author,
            to,
            answers,
            by_subject,
            automatic,
            exempt,
            again,
        },
    );
    let wait = prop_oneof![
        4 => (1..90_u64).prop_map(Duration::from_secs),
        2 => (1..80_u64).prop_map(|minutes| MINUTE * minutes as u32),
        1 => (1..30_u64).prop_map(|hours| HOUR * hours as u32),
    ];
    prop_oneof![
        16 => send,
        6 => wait.prop_map(Act::Wait),
        2 => (0..14_u8, 0..3_u8).prop_map(|(a, l)| Act::Release(a, l)),
        1 => any::<u8>().prop_map(Act::End),
    ]
}

/// What the outside sees of an act.
#[derive(Debug, PartialEq)]
struct Seen {
    action: Action,
    reason: Reason,
    storm: Option<String>,
    audience: u64,
    kind: Kind,
    events: Vec<Event>,
}

/// A site whose records are kept.
struct Kept {
    site: Site,
    /// Messages that may be answered or come again.
    sent: Vec<Letter>,
    records: Vec<Record>,
}

impl Kept {
    fn new() -> Self {
        Self { site: site(), sent: Vec::new(), records: Vec::new() }
    }

    fn publish(&mut self, events: &[Event]) {
        for event in events {
            if let Some(record) = self.site.engine.record_of(event) {
                assert_eq!(self.site.engine.event_of(&record).as_ref(), Some(event));
                self.records.push(record);
            }
        }
    }

    fn act(&mut self, act: &Act) -> Option<Seen> {
        match act {
            Act::Wait(span) => {
                self.site.wait(*span);
                let events = self.site.engine.tick(self.site.now);
                self.publish(&events);
                None
            }
            Act::Release(author, list) => {
                let record =
                    self.site.engine.make_known(LISTS[usize::from(*list)], &person(*author), self.site.now);
                self.records.push(record);
                None
            }
            Act::End(which) => {
                let open = phases(&self.site).into_iter().filter_map(|open| open.storm).collect::<Vec<_>>();
                if !open.is_empty() {
                    let storm = &open[usize::from(*which) % open.len()];
                    let done = self.site.engine.end_by_hand(storm, self.site.now).expect("it is open");
                    self.records.push(done.record);
                    self.publish(&done.events);
                }
                None
            }
            Act::Send { again: Some(again), .. } if !self.sent.is_empty() => {
                let letter = self.sent[usize::from(*again) % self.sent.len()].clone();
                Some(self.send(&letter))
            }
            Act::Send { author, to, answers, by_subject, automatic, exempt, .. } => {
                let from = person(*author);
                let mut letter = match to {
                    0..3 => Letter::new(&from, LISTS[usize::from(*to)]),
                    3 => Letter::new(&from, LISTS[0]).and_to(LISTS[2]),
                    4 => Letter::new(&from, LISTS[1]).and_to("friend@example.org"),
                    _ => Letter::new(&from, "").with_people(0..60),
                };
                let number = self.sent.len();
                let answered = answers.and_then(|back| number.checked_sub(1 + usize::from(back)));
                letter = match answered {
                    Some(_) if *by_subject => letter.header("Subject", "Re: Lunch"),
                    Some(number) => {
                        letter.re(&format!("kept-{number}@example.org")).header("Subject", "Re: x")
                    }
                    None => letter.header("Subject", "Lunch"),
                };
                if *automatic {
                    letter = letter.header("Auto-Submitted", "auto-replied");
                }
                if *exempt {
                    letter = letter.user("boss@example.org");
                }
                let letter = letter.id(&format!("kept-{number}@example.org"));
                let seen = self.send(&letter);
                self.sent.push(letter);
                Some(seen)
            }
        }
    }

    fn send(&mut self, letter: &Letter) -> Seen {
        let decision = self.site.send(letter);
        self.publish(&decision.events);
        if !decision.record.is_empty() {
            self.records.push(Record::Judged(decision.record));
        }
        let Decision { action, reason, storm, audience, kind, events, .. } = decision;
        Seen { action, reason, storm, audience, kind, events: events.into_vec() }
    }

    /// Another engine that knows what these records say.
    fn reborn(&self, records: impl IntoIterator<Item = Record>) -> Self {
        let site = Site { now: self.site.now, ..site() };
        for record in records {
            site.engine.apply(&record, site.now);
        }
        Self { site, sent: self.sent.clone(), records: Vec::new() }
    }

    fn image(&self) -> Vec<Record> {
        let mut pieces = Vec::new();
        let done: Result<(), ()> = self.site.engine.image(self.site.now, &mut |piece: Piece| {
            pieces.push(Record::Piece(Box::new(piece)));
            Ok(())
        });
        done.expect("nothing fails here");
        pieces
    }
}

fn person(number: u8) -> String {
    format!("person-{number}@example.org")
}

fn phases(site: &Site) -> Vec<OpenStorm> {
    let mut storms = site.engine.storms(site.now);
    storms.sort_by(|a, b| a.list.cmp(&b.list).then_with(|| a.storm.cmp(&b.storm)));
    storms
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_engine_that_applied_the_journal_judges_as_the_one_that_wrote_it(
        past in proptest::collection::vec(act(), 1..60),
        future in proptest::collection::vec(act(), 1..40),
    ) {
        let mut one = Kept::new();
        for act in &past {
            one.act(act);
        }
        let mut other = one.reborn(one.records.clone());
        prop_assert_eq!(phases(&one.site), phases(&other.site));
        for act in &future {
            prop_assert_eq!(one.act(act), other.act(act), "{:?}", act);
        }
        prop_assert_eq!(phases(&one.site), phases(&other.site));
    }

    /// A checkpoint is made while mail is judged: records of before it come again, some of them twice.
    #[test]
    fn an_image_and_the_records_around_it_judge_the_same(
        mut past in proptest::collection::vec(act(), 1..60),
        future in proptest::collection::vec(act(), 1..40),
        cut in any::<proptest::sample::Index>(),
        overlap in 0..10_usize,
    ) {
        // A message without an author to be known by counts each time it is applied.
        for act in &mut past {
            if let Act::Send { automatic, .. } = act {
                *automatic = false;
            }
        }
        let mut one = Kept::new();
        let cut = cut.index(past.len());
        let (mut image, mut covered) = (Vec::new(), 0);
        for (number, act) in past.iter().enumerate() {
            if number == cut {
                image = one.image();
                covered = one.records.len();
            }
            one.act(act);
        }
        let tail = one.records.iter().skip(covered.saturating_sub(overlap)).cloned();
        let mut other = one.reborn(image.into_iter().chain(tail));
        prop_assert_eq!(phases(&one.site), phases(&other.site));
        for act in &future {
            prop_assert_eq!(one.act(act), other.act(act), "{:?}", act);
        }
    }

    #[test]
    fn records_that_come_twice_count_once(
        mut past in proptest::collection::vec(act(), 1..40),
        future in proptest::collection::vec(act(), 1..30),
        again in any::<proptest::sample::Index>(),
    ) {
        for act in &mut past {
            if let Act::Send { automatic, .. } = act {
                *automatic = false;
            }
        }
        let mut one = Kept::new();
        for act in &past {
            one.act(act);
        }
        let from = if one.records.is_empty() { 0 } else { again.index(one.records.len()) };
        let twice = one.records.iter().chain(&one.records[from..]).cloned();
        let mut other = one.reborn(twice);
        prop_assert_eq!(phases(&one.site), phases(&other.site));
        for act in &future {
            prop_assert_eq!(one.act(act), other.act(act), "{:?}", act);
        }
    }
}

#[test]
fn a_list_keeps_its_history_and_its_people() {
    let young = Setup { age: Duration::ZERO, ..setup(&[(ALL, 30_000)]) };
    let mut old = Kept { site: young.build(), sent: Vec::new(), records: Vec::new() };
    old.send(&Letter::new("jo@example.org", ALL));
    old.site.wait(40 * DAY);
    let image = old.image();
    // A month later there is another process, with tables of other sizes.
    for capacity in [64, 4096, 65_536] {
        let capacity = Capacity { known_authors: capacity, conversations: capacity, ..young.capacity };
        let parts = Setup { capacity, ..young.clone() };
        let engine = Engine::new([7; 16], capacity, parts.parts(), parts.policies(), old.site.now).unwrap();
        let site = Site { engine, now: old.site.now, letters: Cell::new(100) };
        for piece in &image {
            site.engine.apply(piece, site.now);
        }
        let world = site.engine.world();
        assert_eq!(world.lists()[0].state.since(), START, "its history began a month ago");
        // Ten strangers are a storm on a list with history; who is known to it is none of them.
        for number in 0..9 {
            site.send(&Letter::new(&stranger(number), ALL).re("kept@example.org"));
        }
        let known = site.send(&Letter::new("jo@example.org", ALL).re("kept@example.org"));
        assert_eq!(known.reason, Reason::Calm);
        let tenth = site.send(&Letter::new(&stranger(9), ALL).re("kept@example.org"));
        assert_eq!(started(&tenth), Some("conversation_newcomers"), "{capacity:?}");
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_closed_for_ever() {
    let mut ahead = Kept::new();
    ahead.site.wait(400 * DAY);
    ahead.send(&Letter::new("a@example.org", LISTS[1]));
    ahead.send(&Letter::new("b@example.org", LISTS[1]));
    assert!(matches!(ahead.site.phase(LISTS[1]), Phase::Storm { .. }));
    for known in [ahead.records.clone(), ahead.image()] {
        let mut back = site();
        for record in known {
            back.engine.apply(&record, back.now);
        }
        assert!(matches!(back.phase(LISTS[1]), Phase::Storm { .. }), "it goes on");
        back.wait(QUIET + SECOND);
        assert_eq!(back.engine.tick(back.now).len(), 1, "and ends when it is quiet");
        back.wait(32 * DAY);
        assert_eq!(back.phase(LISTS[1]), Phase::Calm);
        assert_eq!(back.send(&Letter::new("c@example.org", LISTS[1])).reason, Reason::Calm);
    }
}
