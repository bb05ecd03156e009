//! The detector against a model of the rule that keeps everything: every entry of every ring, no tables, no tags.
//!
//! The model is written from the words of the rule, step by step and in their order; it knows nothing of the
//! detector but its types of argument and answer.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::detector::{Author, Conversation, Detector, Judgement, ListShare, Outcome, Post};
use super::policy::Thresholds;
use super::state::ListState;
use crate::time::Timestamp;
use crate::window::{AuthorTag, CELLS, Tally};

const START: Timestamp = Timestamp::from_millis(1_479_112_140_000);
const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const AUTHORS: usize = 60;
const THREADS: usize = 4;

/// Where a post goes: one of two lists, or many recipients and no list.
type Place = Option<usize>;

#[derive(Clone, Copy, Debug)]
struct Letter {
    place: Place,
    author: usize,
    thread: usize,
    kind: Kind,
    /// Mailboxes beside the list's (all of them, where there is no list).
    others: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Reply,
    /// The first message of a thread; it may be seen after its replies.
    First,
    /// A further part of a message; only where there is no list.
    Part,
    Automatic,
}

/// What the model and the detector must agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    judgement: Judgement,
    started: bool,
    ended: bool,
    newcomer: bool,
    conversation_newcomers: u32,
    conversation_authors: u32,
    list_newcomers: u32,
}

impl Answer {
    fn pass() -> Self {
        Self {
            judgement: Judgement::Pass,
            started: false,
            ended: false,
            newcomer: false,
            conversation_newcomers: 0,
            conversation_authors: 0,
            list_newcomers: 0,
        }
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        let Tally { authors, newcomers, .. } = outcome.conversation;
        Self {
            judgement: outcome.judgement,
            started: outcome.started.is_some(),
            ended: outcome.ended.is_some(),
            newcomer: outcome.newcomer,
            conversation_newcomers: newcomers,
            conversation_authors: authors,
            list_newcomers: outcome.list.newcomers,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Timestamp,
    author: usize,
    newcomer: bool,
}

/// Every entry that was ever made, in order of time.
#[derive(Default)]
struct Ring(Vec<Entry>);

impl Ring {
    fn alive(&self, now: Timestamp, window: Duration) -> impl Iterator<Item = &Entry> {
        // An entry is gone at age ≥ w.
        self.0.iter().filter(move |entry| now.since(entry.at) < window)
    }

    /// One entry per author per window: a repeat neither adds nor refreshes. True: a repeat.
    fn record(&mut self, entry: Entry, window: Duration) -> bool {
        let repeat = self.alive(entry.at, window).any(|other| other.author == entry.author);
        if !repeat {
            self.0.push(entry);
        }
        repeat
    }

    fn authors(&self, now: Timestamp, window: Duration) -> u32 {
        self.alive(now, window).count() as u32
    }

    fn newcomers(&self, now: Timestamp, window: Duration) -> u32 {
        self.alive(now, window).filter(|entry| entry.newcomer).count() as u32
    }
}

#[derive(Default)]
struct ModelThread {
    ring: Ring,
    starter: Option<usize>,
    closed_until: Option<Timestamp>,
    /// Where there is no list, a storm is the conversation's own: its last attempt and q after it.
    quiet_at: Option<Timestamp>,
}

struct ModelList {
    members: u64,
    since: Timestamp,
    newcomers: Ring,
    automatic: Vec<Timestamp>,
    storm: bool,
    last_attempt: Timestamp,
    cooling_until: Timestamp,
}

struct Model {
    lists: [ModelList; 2],
    threads: HashMap<(Place, usize), ModelThread>,
    /// First and last, in minutes: the memory of authors has no finer grain.
    known: HashMap<(Place, usize), (u64, u64)>,
    /// A ring of the detector has lost an entry that counts: from here on it may forget what the model knows.
    overflowed: bool,
}

/// clamp(B / M, low, max), rounded down; 0 members: the high clamp.
fn clamp(budget: u64, members: u64, low: u32, t: &Thresholds) -> u32 {
    if members == 0 {
        return t.max;
    }
    let affordable = budget / members;
    if affordable < u64::from(low) {
        low
    } else if affordable > u64::from(t.max) {
        t.max
    } else {
        affordable as u32
    }
}

fn minute(at: Timestamp) -> u64 {
    at.as_secs() / 60
}

impl Model {
    fn new(members: [u64; 2], since: [Timestamp; 2]) -> Self {
        let list = |at: usize| ModelList {
            members: members[at],
            since: since[at],
            newcomers: Ring::default(),
            automatic: Vec::new(),
            storm: false,
            last_attempt: Timestamp::default(),
            cooling_until: Timestamp::default(),
        };
        Self { lists: [list(0), list(1)], threads: HashMap::new(), known: HashMap::new(), overflowed: false }
    }

    fn is_known(&self, place: Place, author: usize, now: Timestamp, t: &Thresholds) -> bool {
        let Some(&(first, last)) = self.known.get(&(place, author)) else { return false };
        minute(now) - last < t.known_for.as_secs() / 60 && minute(now) - first >= t.known_after.as_secs() / 60
    }

    fn make_known(&mut self, place: Place, author: usize, now: Timestamp, t: &Thresholds) {
        let now = minute(now);
        let (first, last) = self.known.entry((place, author)).or_insert((now, now));
        if now - *last >= t.known_for.as_secs() / 60 {
            *first = now;
        }
        *last = now;
    }

    /// A storm is open and the last attempt is older than q: close it. True: it did.
    fn tick(&mut self, list: usize, now: Timestamp, t: &Thresholds) -> bool {
        let list = &mut self.lists[list];
        if !list.storm || now.since(list.last_attempt) <= t.quiet {
            return false;
        }
        list.storm = false;
        // Thresholds may have changed; nothing that was closed is opened by that.
        list.cooling_until = list.cooling_until.max(list.last_attempt.after(t.quiet).after(t.cooling));
        true
    }

    fn post(&mut self, letter: Letter, now: Timestamp, t: &Thresholds) -> Answer {
        match letter.place {
            Some(list) => self.post_to_list(letter, list, now, t),
            None => self.post_to_many(letter, now, t),
        }
    }

    fn post_to_list(&mut self, letter: Letter, at: usize, now: Timestamp, t: &Thresholds) -> Answer {
        let mut answer = Answer::pass();
        let members = self.lists[at].members;
        let audience = members.saturating_add(letter.others);

        // 2. Automatic: hold above its budget; counted nowhere else.
        if letter.kind == Kind::Automatic {
            let list = &mut self.lists[at];
            list.automatic.push(now);
            let sent = list.automatic.iter().filter(|then| now.since(**then) < t.window).count() as u64;
            let affordable = t.budget.checked_div(members).unwrap_or(u64::MAX);
            let guarded = list.storm || list.cooling_until > now;
            let budget = if guarded { 0 } else { affordable.min(u64::from(t.automatic_max)) };
            if sent > budget {
                answer.judgement = Judgement::Automatic;
            }
            return answer;
        }

        // 3. Close what fell quiet.
        answer.ended = self.tick(at, now, t);

        // 4. Count the attempt, held or not.
        let reply = letter.kind == Kind::Reply;
        let newcomer = !self.is_known(letter.place, letter.author, now, t);
        let repeat_in_thread = self.count_in_thread(letter, newcomer, now, t);
        let list = &mut self.lists[at];
        let entry = Entry { at: now, author: letter.author, newcomer };
        let repeat_on_list = newcomer && list.newcomers.record(entry, t.window);
        self.overflowed |= list.newcomers.authors(now, t.window) as usize > CELLS;
        let thread = self.threads.entry((letter.place, letter.thread)).or_default();
        let in_thread = thread.ring.newcomers(now, t.window);
        let authors = thread.ring.authors(now, t.window);
        let on_list = list.newcomers.newcomers(now, t.window);
        answer.newcomer = newcomer;
        answer.conversation_newcomers = in_thread;
        answer.conversation_authors = authors;
        answer.list_newcomers = on_list;

        // 5. Storm? A list without history has only the test of distinct authors, unless it is dear.
        let dear = members > t.budget;
        let judged = dear || now.since(list.since) >= t.history;
        let cooling = !list.storm && list.cooling_until > now;
        let k = clamp(t.budget, audience, t.storm_min, t);
        let f = clamp(t.budget, audience, t.free, t);
        let list_budget = t.budget * u64::from(t.list_factor);
        let own_k = clamp(t.budget, members, t.storm_min, t);
        let list_k = clamp(list_budget, members, t.storm_min, t).min(own_k + own_k / 2);
        let list_f = clamp(list_budget, members, t.free, t);
        let own_f = clamp(t.budget, members, t.free, t);
        // A post under a new subject is in the list's ring only.
        let thread_tripped = reply && ((judged && in_thread >= k) || authors >= t.max);
        let list_tripped = judged && on_list >= list_k;
        let rekindled = judged && cooling && newcomer && on_list >= (t.storm_min.min(t.max) / 2).max(3);
        if (thread_tripped || list_tripped || rekindled) && !list.storm {
            list.storm = true;
            list.last_attempt = now;
            answer.started = true;
        }

        // 6. In a storm, and after it.
        let closed_before = thread.closed_until.is_some_and(|until| until > now);
        let mut hold = false;
        if list.storm {
            let closed = reply && (closed_before || thread_tripped || in_thread >= own_f);
            hold = closed || newcomer || dear;
            if closed {
                thread.closed_until = thread.closed_until.max(Some(now.after(t.cooling)));
            }
        } else if cooling {
            hold = (reply && closed_before && (newcomer || dear)) || (dear && newcomer);
        }
        if hold {
            list.last_attempt = now;
            answer.judgement = Judgement::Storm;
            return answer;
        }

        // 7. Suspicion, for newcomers only.
        let fast_thread = reply && (in_thread > f || (repeat_in_thread && in_thread >= f));
        let fast_list = on_list > list_f || (repeat_on_list && on_list >= list_f);
        if newcomer && judged && (fast_thread || fast_list || (dear && repeat_on_list)) {
            answer.judgement = Judgement::Suspicion { until: now.after(t.delay) };
            return answer;
        }

        // 8. Else pass; held posts are never recorded.
        self.make_known(letter.place, letter.author, now, t);
        answer
    }

    /// Conversation tests only, and distinct authors.
    fn post_to_many(&mut self, letter: Letter, now: Timestamp, t: &Thresholds) -> Answer {
        let mut answer = Answer::pass();
        if letter.kind == Kind::Automatic {
            return answer;
        }
        let reply = letter.kind != Kind::First;
        let newcomer = !self.is_known(None, letter.author, now, t);
        let repeat = self.count_in_thread(letter, newcomer, now, t);
        let thread = self.threads.entry((None, letter.thread)).or_default();
        let newcomers = thread.ring.newcomers(now, t.window);
        let authors = thread.ring.authors(now, t.window);
        answer.newcomer = newcomer;
        answer.conversation_newcomers = newcomers;
        answer.conversation_authors = authors;

        let k = clamp(t.budget, letter.others, t.storm_min, t);
        let f = clamp(t.budget, letter.others, t.free, t);
        // It ends when its last attempt is older than q.
        let open = thread.quiet_at.is_some_and(|quiet_at| now <= quiet_at);
        let tripped = reply && (newcomers >= k || authors >= t.max);
        answer.started = tripped && !open;
        if reply && (tripped || open) {
            if !open || letter.kind != Kind::Part {
                thread.quiet_at = thread.quiet_at.max(Some(now.after(t.quiet)));
            }
            answer.judgement = Judgement::Storm;
        } else if reply && newcomer && (newcomers > f || (repeat && newcomers >= f)) {
            answer.judgement = Judgement::Suspicion { until: now.after(t.delay) };
        } else {
            self.make_known(None, letter.author, now, t);
        }
        answer
    }

    /// A reply by someone other than the conversation's starter. True: a repeat.
    fn count_in_thread(&mut self, letter: Letter, newcomer: bool, now: Timestamp, t: &Thresholds) -> bool {
        let thread = self.threads.entry((letter.place, letter.thread)).or_default();
        if letter.kind == Kind::First {
            thread.starter = thread.starter.or(Some(letter.author));
        }
        if letter.kind != Kind::Reply || thread.starter == Some(letter.author) {
            return false;
        }
        let repeat = thread.ring.record(Entry { at: now, author: letter.author, newcomer }, t.window);
        self.overflowed |= thread.ring.authors(now, t.window) as usize > CELLS;
        repeat
    }
}

/// The detector with its two lists.
struct Subject {
    detector: Detector,
    lists: [(ListState, u64); 2],
}

/// A hash that looks like a keyed one: distinct for distinct arguments, spread over all bits.
fn hash(kind: u64, a: u64, b: u64) -> u64 {
    let mut x = (kind << 40 | a << 20 | b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn place_number(place: Place) -> u64 {
    place.map_or(0, |list| list as u64 + 1)
}

fn known_key(place: Place, author: usize) -> u64 {
    hash(2, place_number(place), author as u64)
}

impl Subject {
    fn new(members: [u64; 2], since: [Timestamp; 2]) -> Self {
        let list = |at: usize| (ListState::new(since[at]), members[at]);
        Self { detector: Detector::new(128, 4096), lists: [list(0), list(1)] }
    }

    fn post(&self, letter: Letter, now: Timestamp, t: &Thresholds) -> Answer {
        let share = letter.place.map(|at| ListShare { state: &self.lists[at].0, members: self.lists[at].1 });
        let post = Post {
            list: share,
            gathering: None,
            author: Author {
                tag: AuthorTag::new(hash(1, 0, letter.author as u64)),
                known_key: known_key(letter.place, letter.author),
            },
            audience: share.map_or(0, |share| share.members).saturating_add(letter.others),
            conversation: Conversation {
                key: hash(3, place_number(letter.place), letter.thread as u64),
                reply: matches!(letter.kind, Kind::Reply | Kind::Part),
                closed: false,
            },
            automatic: letter.kind == Kind::Automatic,
            part: letter.kind == Kind::Part,
            now,
        };
        self.detector.observe(&post, t).into()
    }
}

#[derive(Clone, Debug)]
enum Step {
    Post(Letter),
    Tick(usize),
    /// A release after suspicion, or an exempt author's post.
    MakeKnown(Place, usize),
    /// The operator changes thresholds (not the window: it decides what the counters may forget).
    Reload(Thresholds),
}

#[derive(Clone, Debug)]
struct Case {
    thresholds: Thresholds,
    members: [u64; 2],
    /// Age of the lists at the first step, in days.
    ages: [u64; 2],
    /// Seconds since the step before, and the step.
    steps: Vec<(u64, Step)>,
}

/// How often each thing happened.
#[derive(Debug, Default)]
struct Coverage {
    passed: u32,
    suspected: u32,
    automatic_held: u32,
    storm_mail: u32,
    started: u32,
    ended: u32,
    held_while_cooling: u32,
    started_while_cooling: u32,
    passed_in_storm: u32,
    without_list: u32,
    released: u32,
}

fn play(case: &Case, coverage: &mut Coverage) -> Result<(), TestCaseError> {
    let since = case.ages.map(|days| Timestamp::from_millis(START.as_millis() - days * DAY * 1000));
    let mut model = Model::new(case.members, since);
    let subject = Subject::new(case.members, since);
    let mut t = case.thresholds.clone();
    let mut now = START;
    for (number, (gap, step)) in case.steps.iter().enumerate() {
        now = now.after(Duration::from_secs(*gap));
        match step {
            Step::Post(letter) => {
                let cooling = letter.place.is_some_and(|at| {
                    let list = &model.lists[at];
                    !list.storm && list.cooling_until > now
                });
                let expected = model.post(*letter, now, &t);
                if model.overflowed {
                    return Ok(());
                }
                let found = subject.post(*letter, now, &t);
                prop_assert_eq!(found, expected, "step {}, {:?} at {}", number, letter, now.rfc3339());
                let in_storm = letter.place.is_some_and(|at| model.lists[at].storm);
                coverage.note(&expected, letter, in_storm, cooling);
            }
            Step::Tick(at) => {
                let ended = subject.detector.tick(&subject.lists[*at].0, now, &t).is_some();
                prop_assert_eq!(ended, model.tick(*at, now, &t), "tick at step {}", number);
                coverage.ended += u32::from(ended);
            }
            Step::MakeKnown(place, author) => {
                subject.detector.make_known(known_key(*place, *author), now, t.known_for);
                model.make_known(*place, *author, now, &t);
                coverage.released += 1;
            }
            Step::Reload(thresholds) => t = Thresholds { window: t.window, ..thresholds.clone() },
        }
    }
    Ok(())
}

impl Coverage {
    fn note(&mut self, answer: &Answer, letter: &Letter, in_storm: bool, was_cooling: bool) {
        match answer.judgement {
            Judgement::Pass => {
                self.passed += 1;
                self.passed_in_storm += u32::from(in_storm && letter.kind != Kind::Automatic);
            }
            Judgement::Suspicion { .. } => self.suspected += 1,
            Judgement::Automatic => self.automatic_held += 1,
            Judgement::Storm => {
                self.storm_mail += 1;
                self.held_while_cooling += u32::from(was_cooling && !in_storm);
                self.without_list += u32::from(letter.place.is_none());
            }
        }
        self.started += u32::from(answer.started);
        self.started_while_cooling += u32::from(answer.started && was_cooling);
        self.ended += u32::from(answer.ended);
    }
}

fn secs(range: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_secs)
}

/// Any within their ranges; the whole minutes of who is known are the memory's.
fn any_thresholds() -> impl Strategy<Value = Thresholds> {
    let clamps = (1_u32..=20).prop_flat_map(|free| {
        (Just(free), free.max(2)..=20).prop_flat_map(|(free, min)| (Just(free), Just(min), min..=20))
    });
    let budget = prop_oneof![1_u64..=100, 1_000_u64..=1_000_000, Just(1_000_000_000_000)];
    let spans = (
        secs(MINUTE..=3 * HOUR),
        secs(0..=2 * HOUR),
        secs(MINUTE..=4 * HOUR),
        prop_oneof![secs(0..=HOUR), secs(HOUR..=3 * DAY)],
    );
    let known = (0_u64..=2 * 24 * 60, 1_u64..=90 * 24 * 60);
    let rest = (prop_oneof![1_u32..=10, 1_u32..=1000], 0_u32..=5, 0_u64..=60);
    (budget, clamps, spans, known, rest).prop_map(
        |(budget, (free, storm_min, max), (window, delay, quiet, cooling), known, rest)| Thresholds {
            budget,
            free,
            storm_min,
            max,
            window,
            delay,
            quiet,
            cooling,
            list_factor: rest.0,
            automatic_max: rest.1,
            known_after: Duration::from_secs(known.0 * MINUTE),
            known_for: Duration::from_secs((known.0 + known.1) * MINUTE),
            history: Duration::from_secs(rest.2 * DAY),
        },
    )
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    prop_oneof![Just(Thresholds::default()), any_thresholds()]
}

fn members() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), 10_u64..5_000, 20_000_u64..200_000, 300_001_u64..2_000_000]
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![5 => Just(Some(0)), 2 => Just(Some(1)), 1 => Just(None)]
}

/// Before a burst of posts.
fn pause() -> impl Strategy<Value = u64> {
    prop_oneof![
        3 => (0_u64..=90).prop_map(|minutes| minutes * MINUTE),
        // Just where the defaults have their edges.
        1 => Just(HOUR),
        3 => HOUR..30 * HOUR,
        1 => DAY..120 * DAY,
    ]
}

/// Within a burst whose posts come at most `pace` seconds after each other.
fn gap(pace: u64) -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..=pace, 1 => Just(0)]
}

fn letter(authors: usize, focus: (Place, usize)) -> impl Strategy<Value = Letter> {
    let target = prop_oneof![4 => Just(focus), 1 => (place(), 0..THREADS)];
    let kind = prop_oneof![
        16 => Just(Kind::Reply),
        2 => Just(Kind::First),
        1 => Just(Kind::Part),
        1 => Just(Kind::Automatic),
    ];
    let others = prop_oneof![8 => Just(0_u64), 2 => 1_u64..1_000_000, 1 => Just(u64::MAX)];
    (target, 0..authors, kind, others).prop_map(|((place, thread), author, kind, others)| {
        let kind = if place.is_some() && kind == Kind::Part { Kind::Reply } else { kind };
        Letter { place, author, thread, kind, others }
    })
}

fn burst(authors: usize) -> impl Strategy<Value = Vec<(u64, Step)>> {
    let pace = prop_oneof![3 => Just(60_u64), 2 => Just(5), 1 => Just(600)];
    (pause(), pace, place(), 0..THREADS).prop_flat_map(move |(pause, pace, place, thread)| {
        let step = prop_oneof![
            60 => letter(authors, (place, thread)).prop_map(Step::Post),
            2 => (0_usize..2).prop_map(Step::Tick),
            3 => (self::place(), 0..authors).prop_map(|(place, author)| Step::MakeKnown(place, author)),
            1 => thresholds().prop_map(Step::Reload),
        ];
        proptest::collection::vec((gap(pace), step), 1..60).prop_map(move |mut steps| {
            if let Some((gap, _)) = steps.first_mut() {
                *gap = pause;
            }
            steps
        })
    })
}

fn case() -> impl Strategy<Value = Case> {
    let population = prop_oneof![5_usize..20, 20_usize..=AUTHORS];
    (thresholds(), [members(), members()], [0_u64..=60, 0_u64..=60], population).prop_flat_map(
        |(thresholds, members, ages, authors)| {
            let steps = proptest::collection::vec(burst(authors), 1..8);
            (Just(thresholds), Just(members), Just(ages), steps).prop_map(
                |(thresholds, members, ages, steps)| Case {
                    thresholds,
                    members,
                    ages,
                    steps: steps.into_iter().flatten().collect(),
                },
            )
        },
    )
}

#[test]
fn the_authors_of_the_model_are_told_apart() {
    let mut tags: Vec<u32> = (0..AUTHORS).map(|a| AuthorTag::new(hash(1, 0, a as u64)).get()).collect();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), AUTHORS);
}

#[test]
fn the_generated_days_see_everything_happen() {
    let mut runner = TestRunner::deterministic();
    let mut coverage = Coverage::default();
    for _ in 0..100 {
        let case = case().new_tree(&mut runner).expect("the strategy rejects nothing").current();
        play(&case, &mut coverage).expect("the model agrees");
    }
    let Coverage {
        passed,
        suspected,
        automatic_held,
        storm_mail,
        started,
        ended,
        held_while_cooling,
        started_while_cooling,
        passed_in_storm,
        without_list,
        released,
    } = coverage;
    let counts = [
        passed,
        suspected,
        automatic_held,
        storm_mail,
        started,
        ended,
        held_while_cooling,
        started_while_cooling,
        passed_in_storm,
        without_list,
        released,
    ];
    assert!(counts.iter().all(|count| *count >= 10), "{coverage:?}");
}

proptest! {
    #![proptest_config(Config { cases: 200, ..Config::default() })]

    #[test]
    fn the_detector_judges_as_the_words_of_the_rule(case in case()) {
        play(&case, &mut Coverage::default())?;
    }
}
