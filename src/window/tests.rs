//! The counters against naive models, and under real threads.

use std::collections::HashMap;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::table::tag_of;
use super::*;
use crate::time::Timestamp;

const START: Timestamp = Timestamp::from_millis(1_479_112_140_000);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

fn author(number: u64) -> AuthorTag {
    AuthorTag::from_bits(number)
}

fn entry(number: u64, cost: u32) -> Entry {
    Entry { author: author(number), newcomer: number.is_multiple_of(2), cost }
}

fn later(secs: u64) -> Timestamp {
    START.after(Duration::from_secs(secs))
}

/// What a ring is to hold, written down plainly.
#[derive(Default)]
struct Model(Vec<(u64, Entry)>);

impl Model {
    fn expire(&mut self, now: u64, window: u64) {
        self.0.retain(|(at, _)| now.saturating_sub(*at) < window);
    }

    fn contains(&self, author: AuthorTag) -> bool {
        self.0.iter().any(|(_, entry)| entry.author == author)
    }

    fn tally(&self) -> Tally {
        Tally {
            authors: self.0.len() as u32,
            newcomers: self.0.iter().filter(|(_, entry)| entry.newcomer).count() as u32,
            copies: self.0.iter().map(|(_, entry)| u64::from(entry.cost)).sum(),
            repeat: false,
        }
    }

    /// `kept`: which of the oldest entries, where there are several, the ring still has.
    fn record(&mut self, entry: Entry, now: u64, room: usize, kept: impl Fn(AuthorTag) -> bool) -> Tally {
        if self.contains(entry.author) {
            return Tally { repeat: true, ..self.tally() };
        }
        if self.0.len() == room {
            let oldest = self.0.iter().map(|(at, _)| *at).min().expect("it is full");
            if now < oldest {
                let mut tally = self.tally();
                tally.authors += 1;
                tally.newcomers += u32::from(entry.newcomer);
                tally.copies += u64::from(entry.cost);
                return tally;
            }
            let gone = self.0.iter().position(|(at, entry)| *at == oldest && !kept(entry.author));
            self.0.remove(gone.expect("one of the oldest makes room"));
        }
        self.0.push((now, entry));
        self.tally()
    }
}

/// What a table is to hold for a key.
#[derive(Default)]
struct Place {
    /// Granule of the last use, or of the end of the pin.
    used: u64,
    closed: Timestamp,
    entries: Model,
}

/// Steps: seconds since the one before, author, cost.
fn ring_and_model(window: u64, steps: Vec<(u64, u64, u32)>) -> Result<(), TestCaseError> {
    let ring = Ring::<5>::sized();
    let tag = KeyTag::new(1);
    let span = Duration::from_secs(window);
    let mut model = Model::default();
    let mut now = 0;
    for (step, who, cost) in steps {
        now += step;
        model.expire(now, window);
        let got = ring.record(tag, entry(who, cost), later(now), span);
        let kept = |author| ring.contains(tag, author, later(now), span);
        prop_assert_eq!(got, model.record(entry(who, cost), now, 5, kept));
        prop_assert_eq!(ring.tally(tag, later(now), span), model.tally());
        for who in 0..14 {
            prop_assert_eq!(ring.contains(tag, author(who), later(now), span), model.contains(author(who)));
        }
    }
    Ok(())
}

proptest! {
    // Steps of whole seconds around the window's length, so that entries meet its edge, and stand still.
    #[test]
    fn a_ring_does_what_the_model_does(
        window in 1..20_u64,
        steps in prop::collection::vec((0..6_u64, 0..14_u64, 0..1000_u32), 1..200),
    ) {
        ring_and_model(window, steps)?;
    }

    // Many in a second, so that the ring is full of entries of this one and the last.
    #[test]
    fn a_crowded_ring_does_what_the_model_does(
        window in 1..6_u64,
        steps in prop::collection::vec(
            (prop_oneof![7 => Just(0_u64), 3 => Just(1), 1 => 2..5_u64], 0..14_u64, 0..1000_u32),
            1..200,
        ),
    ) {
        ring_and_model(window, steps)?;
    }

    // Times in any order: what is stored is never lost to an older entry, and nothing is counted twice.
    #[test]
    fn late_events_count_as_now(
        steps in prop::collection::vec((0..50_u64, 0..14_u64), 1..100),
    ) {
        let ring = Ring::<30>::sized();
        let tag = KeyTag::new(1);
        let mut seen = HashMap::new();
        for (at, who) in steps {
            // A window wider than all times: nothing expires, whatever the order.
            let tally = ring.record(tag, entry(who, 1), later(at), HOUR);
            let is_new = seen.insert(who, ()).is_none();
            prop_assert_eq!(tally.repeat, !is_new);
            prop_assert_eq!(tally.authors as usize, seen.len());
            prop_assert_eq!(tally.copies as usize, seen.len());
        }
    }

    #[test]
    fn pushes_are_counted_one_by_one(
        window in 1..20_u64,
        steps in prop::collection::vec(0..6_u64, 1..100),
    ) {
        let ring = Ring::<6>::sized();
        let mut times = Vec::new();
        let mut now = 0;
        for step in steps {
            now += step;
            times.retain(|at| now - at < window);
            if times.len() == 6 {
                times.remove(0);
            }
            times.push(now);
            let count = ring.push(KeyTag::new(1), 1, later(now), Duration::from_secs(window));
            prop_assert_eq!(count as usize, times.len());
        }
    }

    // As many keys as fit in one set, then more: the one idle longest goes, pinned ones stay.
    #[test]
    fn a_table_does_what_the_model_does(
        steps in prop::collection::vec((0..3_u64, 0..12_u64, 0..6_u64, 0..20_u8), 1..200),
    ) {
        let table = Table::<5>::sized(8, true);
        let mut model: HashMap<u64, Place> = HashMap::new();
        // A key that was evicted and comes back may find what it left. Here each life of a key is a new key.
        let mut lives = [0; 12];
        // Times that are multiples of the table's granule, so that the model needs no rounding.
        let granule = Duration::from_secs(64);
        let (mut now, mut evictions, mut refused) = (START.as_secs().div_ceil(64), 0, 0);
        for (step, key, who, close) in steps {
            now += step;
            let key = key + 12 * lives[key as usize];
            let at = Timestamp::from_millis(now * 64_000);
            let slot = table.slot(key, at);
            if !model.contains_key(&key) && model.len() == 8 {
                let oldest = model.values().map(|place| place.used).min().expect("it is full");
                if oldest > now + 1 {
                    refused += 1;
                    prop_assert!(slot.is_none());
                    continue;
                }
                evictions += 1;
                // Of several equally old ones, the table says which.
                let gone = model.iter().find(|(key, place)| place.used == oldest && table.find(**key).is_none());
                let gone = *gone.expect("one of the oldest went").0;
                model.remove(&gone);
                let life = &mut lives[(gone % 12) as usize];
                // By chance two keys have one tag (48 and 68 do), and the later one finds what the other left.
                let is_its_own = |key| (0..key).all(|other| tag_of(other) != tag_of(key));
                *life = (*life + 1..).find(|life| is_its_own(gone % 12 + 12 * life)).expect("tags are many");
                model.insert(key, Place { used: oldest, ..Place::default() });
            }
            let place = model.entry(key).or_default();
            place.used = place.used.max(now);
            let slot = slot.expect("not pinned");
            prop_assert_eq!(slot.closed_until(), place.closed);
            place.entries.expire(now * 64, 256);
            let window = granule * 4;
            let got = slot.record(entry(who, 7), at, window);
            let kept = |author| slot.contains(author, at, window);
            prop_assert_eq!(got, place.entries.record(entry(who, 7), now * 64, 5, kept));
            if close == 0 {
                let until = at.after(granule * 10);
                prop_assert!(slot.close_until(until));
                place.closed = until;
                place.used = place.used.max(now + 12);
            }
        }
        let stats = table.stats();
        prop_assert_eq!((stats.occupied, stats.evictions, stats.refused), (model.len(), evictions, refused));
    }

    #[test]
    fn known_does_what_the_model_does(
        steps in prop::collection::vec((0..40_u64, 0..4_u64), 1..100),
    ) {
        let known = Known::new(64);
        let (after, span) = (MINUTE * 30, MINUTE * 60);
        let mut model: HashMap<u64, (u64, u64)> = HashMap::new();
        let mut now = 0;
        for (step, who) in steps {
            now += step;
            let at = later(now * 60);
            let is_known = model.get(&who).is_some_and(|(first, last)| now - first >= 30 && now - last < 60);
            prop_assert_eq!(known.known(who, at, after, span), is_known);
            known.record(who, at, span);
            let entry = model.entry(who).or_insert((now, now));
            *entry = (if now - entry.1 >= 60 { now } else { entry.0 }, now);
        }
    }
}

#[test]
fn an_entry_is_gone_when_its_age_is_the_window() {
    let ring = Ring::new();
    let tag = KeyTag::new(1);
    ring.record(tag, entry(1, 1), START, HOUR);
    assert_eq!(ring.tally(tag, later(3599), HOUR).authors, 1);
    assert_eq!(ring.tally(tag, later(3600), HOUR).authors, 0);
    // A repeat does not refresh.
    assert!(ring.record(tag, entry(1, 1), later(3599), HOUR).repeat);
    assert!(!ring.record(tag, entry(1, 1), later(3600), HOUR).repeat);
}

#[test]
fn any_year_will_do() {
    let tag = KeyTag::new(1);
    // 1986, 2020 and 2054 are where 30 bits of seconds turn, counted from 2020; 2004 and 2038, counted from 1970.
    for year_start in [0, 16, 34, 50, 68, 84].map(|years| years * 31_557_600) {
        for turn in 0..100 {
            let ring = Ring::<5>::sized();
            let at = |secs: u64| Timestamp::from_millis((year_start + turn * 315_576 + secs) * 1000);
            ring.record(tag, entry(1, 1), at(0), MINUTE);
            assert_eq!(ring.record(tag, entry(2, 1), at(59), MINUTE).authors, 2);
            assert_eq!(ring.record(tag, entry(3, 1), at(60), MINUTE).authors, 2);
        }
    }
    let ring = Ring::<2>::sized();
    let before_turn = Timestamp::from_millis(((1 << 30) - 1) * 1000);
    ring.record(tag, entry(1, 1), before_turn, HOUR);
    assert_eq!(ring.record(tag, entry(2, 1), before_turn.after(MINUTE), HOUR).authors, 2);
    assert_eq!(ring.record(tag, entry(3, 1), before_turn.after(MINUTE * 2), HOUR).authors, 2);
    assert!(!ring.contains(tag, author(1), before_turn.after(MINUTE * 2), HOUR));
}

#[test]
fn foreign_entries_are_neither_counted_nor_in_the_way() {
    let ring = Ring::<3>::sized();
    for who in 0..3 {
        ring.record(KeyTag::new(1), entry(who, 100), START, HOUR);
    }
    let tally = ring.record(KeyTag::new(2), entry(1, 5), START, HOUR);
    assert_eq!(tally, Tally { authors: 1, newcomers: 0, copies: 5, repeat: false });
    assert_eq!(ring.tally(KeyTag::new(1), START, HOUR).authors, 2);
}

#[test]
fn close_keys_do_not_meet() {
    let table = Table::new(1 << 12, false);
    for key in 0..1000 {
        let tally = table.observe(key, entry(key, 1), START, HOUR).expect("there is room");
        assert_eq!(tally.authors, 1, "key {key}");
    }
    assert_eq!(table.stats().occupied + table.stats().evictions as usize, 1000);
}

#[test]
fn who_cares_for_new_authors_only_counts_the_same() {
    let (one, all, slots) = (Table::new(64, false), Table::new(64, false), Table::new(64, false));
    // More keys than a lot, some of them twice; each author comes back, some when their entry is gone.
    let keys: Vec<u64> = (0..50).map(|number| number % 40).collect();
    let mut sought: Vec<Sought> = keys.iter().map(|key| Sought { key: *key, ..Sought::default() }).collect();
    for step in 0..90_u64 {
        let (now, author) = (later(step * 50), entry(step * step % 13, 1));
        for key in &keys {
            let tally = slots.slot(*key, now).expect("nothing is pinned").record(author, now, HOUR);
            assert_eq!(one.observe(*key, author, now, HOUR), (!tally.repeat).then_some(tally));
        }
        all.observe_all(&mut sought, author, now, HOUR);
        let again = all.observe_all(&mut sought, author, now, HOUR);
        assert!(!again, "each is found where it was a moment ago");
        for key in &keys {
            let tallies = [&one, &all].map(|table| table.find(*key).map(|slot| slot.tally(now, HOUR)));
            let expected = slots.find(*key).map(|slot| slot.tally(now, HOUR));
            assert_eq!(tallies, [expected, expected], "step {step}, key {key}");
        }
    }
}

#[test]
fn a_hint_holds_until_a_key_gives_way_or_a_minute_is_over() {
    let table = Table::new(8, false);
    let mut hinted = [Sought { key: 1, ..Sought::default() }];
    assert!(table.observe_all(&mut hinted, entry(1, 1), START, HOUR));
    let hint = hinted[0].hint;
    assert_ne!(hint, Hint::default());
    assert_eq!(Hint::from_bits(hint.bits()), hint);
    // Others push it out: it comes back to a slot of its own, though what it left behind names the author.
    for key in 100..108 {
        table.observe(key, entry(1, 1), START, HOUR);
    }
    assert!(table.find(1).is_none());
    assert!(table.observe_all(&mut hinted, entry(1, 1), START, HOUR), "the hint is old");
    assert!(table.find(1).is_some());
    // A minute later it counts as used, and others go first.
    let minute = START.after(MINUTE * 2);
    assert!(table.observe_all(&mut hinted, entry(1, 1), minute, HOUR));
    assert!(!table.observe_all(&mut hinted, entry(1, 1), minute, HOUR));
    for key in 200..207 {
        table.observe(key, entry(1, 1), minute, HOUR);
    }
    assert!(table.find(1).is_some());
}

#[test]
fn a_recycled_slot_brings_nothing_along() {
    let table = Table::new(1, true);
    let old = table.slot(1, START).expect("empty");
    old.record(entry(1, 50), START, HOUR);
    old.set_starter(author(1));
    assert_eq!(old.starter(), Some(author(1)));
    old.set_starter(author(2));
    assert_eq!(old.starter(), Some(author(1)));
    assert!(old.close_until(later(10)));
    assert!(old.close_until(later(5)));
    assert_eq!(old.closed_until(), later(10));
    // Eight more, an hour later: key 1 goes first.
    for key in 2..=9 {
        let slot = table.slot(key, later(3000 + key * 64)).expect("the pin is over");
        assert_eq!((slot.starter(), slot.closed_until()), (None, Timestamp::default()));
        assert_eq!(slot.tally(later(3000 + key * 64), HOUR), Tally::default());
    }
    assert!(table.find(1).is_none());
    // The old handle belongs to nobody now, and harms nobody.
    let slots: Vec<_> = (2..=9).map(|key| table.find(key).expect("there")).collect();
    for slot in &slots {
        slot.set_starter(author(4));
        assert!(slot.close_until(later(5000)));
    }
    old.set_starter(author(3));
    assert!(!old.close_until(later(9000)));
    for slot in &slots {
        assert_eq!((slot.starter(), slot.closed_until()), (Some(author(4)), later(5000)));
    }
}

#[test]
fn a_full_set_of_pins_refuses_and_says_so() {
    let table = Table::<3>::sized(8, false);
    for key in 0..8 {
        assert!(table.slot(key, START).expect("empty").close_until(START.after(HOUR)));
    }
    assert!(table.slot(8, START).is_none());
    assert!(table.slot(3, START).is_some());
    assert!(table.slot(8, START.after(HOUR)).is_none());
    assert!(table.slot(8, START.after(HOUR + Duration::from_secs(128))).is_some());
    assert_eq!((table.stats().refused, table.stats().evictions), (2, 1));
    // For ever is possible, too.
    assert!(table.find(8).expect("there").close_until(Timestamp::from_millis(u64::MAX)));
}

#[test]
fn memory_is_what_stats_say() {
    assert_eq!(size_of::<super::cells::Cells<CELLS>>(), 256);
    let (plain, costs) = (Table::new(1000, false).stats(), Table::new(1000, true).stats());
    assert_eq!(plain.capacity, 1024);
    assert!((280 * 1024..=281 * 1024).contains(&plain.bytes), "{plain:?}");
    assert_eq!(costs.bytes - plain.bytes, 256 * 1024);
}

#[test]
fn recent_forgets_in_time_and_makes_room() {
    let recent = Recent::new(8);
    let two = MINUTE * 2;
    assert!(!recent.contains(1, START, two));
    recent.insert(1, START);
    assert!(recent.contains(1, later(119), two));
    assert!(!recent.contains(1, later(120), two));
    assert!(!recent.first_in(1, later(119), two));
    assert!(recent.first_in(1, later(120), two));
    assert!(!recent.first_in(1, later(121), two));
    for hash in 2..=9 {
        recent.insert(hash, later(200 + hash));
    }
    assert!(!recent.contains(1, later(210), two));
    assert!((2..=9).all(|hash| recent.contains(hash, later(210), two)));
    let stats = recent.stats();
    assert_eq!((stats.capacity, stats.occupied, stats.evictions, stats.bytes), (8, 8, 1, 64));
}

#[test]
fn known_makes_room_by_the_oldest_last_post() {
    let known = Known::new(8);
    let day = HOUR * 24;
    for key in 0..8 {
        known.record(key, later(key * 60), day);
    }
    known.record(0, later(600), day);
    known.record(100, later(660), day);
    assert!(!known.known(1, later(720), Duration::ZERO, day));
    assert!(known.known(0, later(720), Duration::ZERO, day));
    assert_eq!(known.stats().evictions, 1);
}

/// Two threads on the same few rings, in rounds, until they have demonstrably got in each other's way.
#[test]
fn under_contention_nothing_is_counted_twice_and_the_last_sees_all() {
    const ROUND: u64 = 20;
    let ring = Ring::new();
    let barrier = Barrier::new(2);
    let met = AtomicBool::new(false);
    let total = AtomicU64::new(0);
    for round in 0..20_000 {
        // Each round has its own tag, so it starts from nothing in cells full of others' entries.
        let tag = KeyTag::from_bits(round % 8191 + 1);
        let (now, window) = (later(round), Duration::from_secs(1));
        let run = |first: u64| {
            barrier.wait();
            let mut last = Tally::default();
            for number in 0..ROUND / 2 {
                let tally = ring.record(tag, entry(first + number * 2, 1), now, window);
                // More than one's own and less than all: the other was at work between.
                let own = number as u32 + 1;
                if tally.authors > own && tally.authors < own + ROUND as u32 / 2 {
                    met.store(true, Ordering::Relaxed);
                }
                last = tally;
            }
            barrier.wait();
            last
        };
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| run(1));
            let one = run(0);
            (one, other.join().expect("the other thread ends"))
        });
        let all = ROUND as u32;
        assert!(a.authors == all || b.authors == all, "round {round}: {a:?} {b:?}");
        let after = ring.tally(tag, now, window);
        assert_eq!((after.authors, after.newcomers, after.copies), (all, all / 2, ROUND), "round {round}");
        total.fetch_add(1, Ordering::Relaxed);
        if met.load(Ordering::Relaxed) && round > 500 {
            return;
        }
    }
    panic!("the threads never met in {} rounds", total.load(Ordering::Relaxed));
}

/// A table far too small for its keys: threads take each other's slots all the time.
#[test]
fn under_eviction_no_key_sees_anothers_authors() {
    let table = Table::<7>::sized(8, true);
    // One clock for both, as in the daemon: threads minutes apart would take each other's slots for pinned.
    let clock = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (table, clock) = (&table, &clock);
            scope.spawn(move || {
                for number in 0..50_000_u64 {
                    let key = number * 7 % 23 + thread * 5;
                    // Every key has one author of its own and costs of its own.
                    let now = later(clock.fetch_add(1, Ordering::Relaxed) / 1000);
                    let slot = table.slot(key, now).expect("nothing is pinned");
                    let tally = slot.record(entry(key, key as u32), now, HOUR);
                    assert!(tally.authors == 1, "{tally:?}");
                    assert!(tally.copies == key || tally.copies == 0, "{key}: {tally:?}");
                }
            });
        }
    });
    assert!(table.stats().evictions > 1000, "{:?}", table.stats());
}

#[test]
fn what_was_seen_recently_is_found_where_it_was_put_back() {
    let window = Duration::from_secs(120);
    let earlier = Recent::new(64);
    earlier.insert(7, START);
    let recent = Recent::new(64);
    for (set, word) in earlier.words(START, window) {
        recent.put_back(earlier.sets(), set, word);
    }
    assert!(recent.contains(7, later(119), window));
    assert!(!recent.contains(7, later(120), window));
    assert!(recent.contains(7, Timestamp::from_millis(START.as_millis() - 60_000), window), "a late clock");
    assert!(!recent.contains(8, START, window));
}

#[test]
fn a_key_that_is_sought_by_a_hint_is_counted_as_without() {
    // One set: keys make room for each other all the time.
    let (plain, hinted) = (Table::new(8, false), Table::new(8, false));
    let mut hints = [Hint::default(); 12];
    let mut by_hint = 0;
    for step in 0..4000_u64 {
        // The first six keys fit, until the others come: each hundred steps for a while.
        let key = step % if step / 100 % 2 == 0 { 6 } else { 12 };
        let (now, entry) = (later(step * 3), entry(step / 12 % 25, 1));
        let expected = plain.observe(key << 40 | 1, entry, now, HOUR);
        let before = hints[key as usize];
        let mut sought = Sought { key: key << 40 | 1, hint: before };
        let found = hinted.observe_sought(&mut sought, entry, now, HOUR);
        by_hint += u32::from(before != Hint::default() && sought.hint == before);
        hints[key as usize] = sought.hint;
        assert_eq!(found, expected, "step {step}");
    }
    assert!(by_hint > 1000, "{by_hint}");
}
