//! Interleavings of two threads, tried by loom. Run with:
//!
//! ```text
//! RUSTFLAGS="--cfg becalm_loom" cargo test --release --lib window::loom
//! ```

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use super::{AuthorTag, Entry, Hint, KeyTag, Recent, Ring, Sought, Table, Tally};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn entry(author: u64, cost: u32) -> Entry {
    Entry { author: AuthorTag::from_bits(author), newcomer: author.is_multiple_of(2), cost }
}

fn tag(number: u64) -> KeyTag {
    KeyTag::from_bits(number)
}

/// Tries every interleaving in which a thread is interrupted at most three times (loom's own advice; set
/// `LOOM_MAX_PREEMPTIONS` for more): without a bound, the larger cases take minutes each.
fn model(case: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(3);
    builder.check(case);
}

/// Runs both on the same thing at once and returns what they say.
fn both<T: Send + Sync + 'static, A: Send + 'static>(
    shared: &Arc<T>,
    one: impl Fn(&T) -> A + Send + 'static,
    other: impl Fn(&T) -> A,
) -> (A, A) {
    let theirs = Arc::clone(shared);
    let thread = thread::spawn(move || one(&theirs));
    let other = other(shared);
    (thread.join().expect("the other thread ends"), other)
}

#[test]
fn of_two_authors_at_once_one_sees_both_and_a_later_tally_too() {
    model(|| {
        let ring = Arc::new(Ring::<3>::sized());
        let (a, b) = both(
            &ring,
            |ring| ring.record(tag(1), entry(1, 10), NOW, HOUR),
            |ring| ring.record(tag(1), entry(2, 20), NOW, HOUR),
        );
        let full = Tally { authors: 2, newcomers: 1, copies: 30, repeat: false };
        assert!(a == full || b == full, "{a:?} {b:?}");
        assert_eq!(ring.tally(tag(1), NOW, HOUR), full);
    });
}

#[test]
fn the_same_with_an_expired_entry_in_the_way() {
    model(|| {
        let ring = Arc::new(Ring::<3>::sized());
        ring.record(tag(1), entry(7, 100), NOW, HOUR);
        let later = NOW.after(HOUR);
        // One of them has the earlier time, at which the old entry is alive still: they want different cells.
        let (a, b) = both(
            &ring,
            |ring| {
                ring.record(tag(1), entry(1, 10), Timestamp::from_millis(NOW.as_millis() + 3_599_000), HOUR)
            },
            move |ring| ring.record(tag(1), entry(2, 20), later, HOUR),
        );
        assert!(a.authors >= 2 || b.authors == 2, "{a:?} {b:?}");
        let after = ring.tally(tag(1), later, HOUR);
        assert_eq!((after.authors, after.copies), (2, 30));
    });
}

#[test]
fn one_author_twice_at_once_counts_once() {
    model(|| {
        let ring = Arc::new(Ring::<3>::sized());
        let record = |ring: &Ring<3>| ring.record(tag(1), entry(1, 10), NOW, HOUR);
        let (a, b) = both(&ring, record, record);
        assert_eq!((a.authors, b.authors), (1, 1));
        assert!(a.repeat != b.repeat, "{a:?} {b:?}");
        assert_eq!(ring.tally(tag(1), NOW, HOUR).authors, 1);
        assert_eq!(ring.tally(tag(1), NOW, HOUR).copies, 10);
    });
}

#[test]
fn one_author_twice_counts_once_even_where_clocks_disagree_on_what_is_free() {
    model(|| {
        let ring = Arc::new(Ring::<3>::sized());
        ring.record(tag(1), entry(7, 100), NOW, HOUR);
        let later = NOW.after(HOUR);
        both(
            &ring,
            |ring| {
                ring.record(tag(1), entry(1, 10), Timestamp::from_millis(NOW.as_millis() + 3_599_000), HOUR)
            },
            move |ring| ring.record(tag(1), entry(1, 10), later, HOUR),
        );
        let after = ring.tally(tag(1), later, HOUR);
        assert_eq!((after.authors, after.copies), (1, 10));
    });
}

/// Of three other authors.
fn full_ring() -> Arc<Ring<3>> {
    let ring = Ring::sized();
    for other in 7..10 {
        ring.record(tag(1), entry(other, 1), NOW, HOUR);
    }
    Arc::new(ring)
}

#[test]
fn one_author_twice_at_once_pushes_out_one_entry_of_a_full_ring() {
    model(|| {
        let ring = full_ring();
        let later = NOW.after(Duration::from_secs(1));
        let record = move |ring: &Ring<3>| ring.record(tag(1), entry(1, 10), later, HOUR);
        both(&ring, record, record);
        let after = ring.tally(tag(1), later, HOUR);
        assert_eq!((after.authors, after.copies), (3, 12));
    });
}

#[test]
fn the_same_where_clocks_differ() {
    model(|| {
        let ring = full_ring();
        let after = |seconds| NOW.after(Duration::from_secs(seconds));
        let (later, latest) = (after(1), after(2));
        both(
            &ring,
            move |ring| ring.record(tag(1), entry(1, 10), later, HOUR),
            move |ring| ring.record(tag(1), entry(1, 10), latest, HOUR),
        );
        let after = ring.tally(tag(1), latest, HOUR);
        assert_eq!((after.authors, after.copies), (3, 12));
    });
}

#[test]
fn an_author_about_to_be_counted_in_the_last_cell_pushes_out_nobody() {
    model(|| {
        // The last cell is beyond the first line, in which the six others are.
        let ring = Arc::new(Ring::<7>::sized());
        for other in 10..16 {
            ring.record(tag(1), entry(other, 1), NOW, HOUR);
        }
        let (a, b) = both(
            &ring,
            |ring| ring.record(tag(1), entry(1, 10), NOW, HOUR),
            |ring| {
                // The sum may take in what is not published yet.
                ring.tally(tag(1), NOW, HOUR * 2);
                ring.tally(tag(1), NOW, HOUR);
                ring.record(tag(1), entry(1, 10), NOW, HOUR)
            },
        );
        let after = ring.tally(tag(1), NOW, HOUR);
        assert_eq!((after.authors, after.copies), (7, 16), "{a:?} {b:?}");
        assert!(a.repeat != b.repeat, "{a:?} {b:?}");
    });
}

#[test]
fn whom_two_authors_at_once_leave_in_a_full_ring_is_gone_when_his_time_is_over() {
    model(|| {
        let ring = full_ring();
        let later = NOW.after(Duration::from_secs(1));
        both(
            &ring,
            move |ring| ring.record(tag(1), entry(1, 10), later, HOUR),
            move |ring| ring.record(tag(1), entry(2, 20), later, HOUR),
        );
        assert_eq!(ring.tally(tag(1), later, HOUR).authors, 3);
        assert_eq!(ring.tally(tag(1), NOW.after(HOUR), HOUR).authors, 2);
    });
}

#[test]
fn two_messages_at_once_are_two() {
    model(|| {
        let ring = Arc::new(Ring::<3>::sized());
        let push = |ring: &Ring<3>| ring.push(tag(1), 1, NOW, HOUR);
        let (a, b) = both(&ring, push, push);
        assert!(a.max(b) == 2, "{a} {b}");
        assert_eq!(ring.tally(tag(1), NOW, HOUR).copies, 2);
    });
}

#[test]
fn two_writers_in_a_full_ring_leave_costs_that_fit() {
    model(|| {
        let ring = Arc::new(Ring::<1>::sized());
        ring.record(tag(1), entry(5, 1000), NOW, HOUR);
        let later = NOW.after(Duration::from_secs(1));
        let latest = NOW.after(Duration::from_secs(2));
        both(
            &ring,
            move |ring| ring.record(tag(1), entry(1, 10), later, HOUR),
            move |ring| ring.record(tag(1), entry(2, 20), latest, HOUR),
        );
        // The newest stays, with its own cost.
        let after = ring.tally(tag(1), latest, HOUR);
        assert_eq!((after.authors, after.newcomers, after.copies), (1, 1, 20));
    });
}

#[test]
fn a_reader_never_sums_a_torn_pair() {
    model(|| {
        let ring = Arc::new(Ring::<1>::sized());
        ring.record(tag(1), entry(5, 1000), NOW, HOUR);
        let later = NOW.after(Duration::from_secs(1));
        let (_, seen) = both(
            &ring,
            move |ring| ring.record(tag(1), entry(2, 20), later, HOUR),
            move |ring| ring.tally(tag(1), later, HOUR),
        );
        // Before, after, or the entry without its cost: never the cost of the one with the author of the other.
        assert!(matches!((seen.newcomers, seen.copies), (0, 1000) | (1, 20) | (1, 0)), "{seen:?}");
    });
}

#[test]
fn a_slow_writer_does_not_count_for_the_next_owner() {
    model(|| {
        let ring = Arc::new(Ring::<2>::sized());
        let (old, new) = both(
            &ring,
            |ring| ring.record(tag(1), entry(1, 10), NOW, HOUR),
            |ring| {
                ring.record(tag(2), entry(2, 20), NOW, HOUR);
                ring.tally(tag(2), NOW, HOUR)
            },
        );
        assert_eq!((old.authors, old.copies), (1, 10));
        // The writer in flight may take the cell, or the cost between the two looks at it: nothing of his is
        // counted here.
        assert!(matches!((new.authors, new.copies), (1, 20) | (1, 0) | (0, 0)), "{new:?}");
        let after = ring.tally(tag(2), NOW, HOUR);
        assert!(matches!((after.authors, after.copies), (1, 20) | (0, 0)), "{after:?}");
    });
}

/// Keys that share the one set of the smallest table.
fn full_table() -> Table<2> {
    let table = Table::sized(8, true);
    for key in 1..=8 {
        let at = NOW.after(Duration::from_secs(64 * key));
        table.observe(key, entry(9, 900), at, HOUR).expect("the set has room");
    }
    table
}

const LATER: Timestamp = Timestamp::from_millis(1_700_000_900_000);

#[test]
fn a_slot_recycled_under_its_writer_counts_for_neither() {
    model(|| {
        let table = Arc::new(full_table());
        // Key 1 is idle longest: key 100 takes its slot while key 1 is written through a handle found before.
        let (old, new) = both(
            &table,
            |table| table.find(1).map(|slot| slot.record(entry(2, 20), LATER, HOUR)),
            |table| table.observe(100, entry(3, 30), LATER, HOUR),
        );
        let new = new.expect("nothing is pinned");
        assert_eq!((new.authors, new.copies), (1, 30), "{old:?}");
        if let Some(old) = old {
            // What key 1 had, less what key 100 has overwritten by now.
            assert!(matches!((old.authors, old.copies), (2, 920) | (2, 20) | (1, 20)), "{old:?}");
        }
        let after = table.find(100).expect("it was claimed").tally(LATER, HOUR);
        assert!(matches!((after.authors, after.copies), (1, 30) | (0, 0)), "{after:?}");
    });
}

#[test]
fn a_hint_to_a_slot_that_gives_way_counts_for_neither() {
    model(|| {
        let table = Arc::new(full_table());
        // Key 1 is idle longest, and its message began a while ago: key 100 takes its slot while it is sought by a hint.
        let early = NOW.after(Duration::from_secs(64));
        let mut known = Sought { key: 1, hint: Hint::default() };
        assert_eq!(table.observe_sought(&mut known, entry(9, 900), early, HOUR), None);
        assert_ne!(known.hint, Hint::default());
        let (_, new) = both(
            &table,
            move |table| table.observe_sought(&mut { known }, entry(2, 20), early, HOUR),
            |table| table.observe(100, entry(3, 30), LATER, HOUR),
        );
        let new = new.expect("nothing is pinned");
        assert_eq!((new.authors, new.copies), (1, 30));
        let after = table.find(100).expect("it was claimed").tally(LATER, HOUR);
        assert!(matches!((after.authors, after.copies), (1, 30) | (0, 0)), "{after:?}");
    });
}

#[test]
fn two_new_keys_get_two_slots() {
    model(|| {
        let table = Arc::new(full_table());
        both(
            &table,
            |table| table.observe(100, entry(1, 10), LATER, HOUR),
            |table| table.observe(200, entry(2, 20), LATER, HOUR),
        );
        for (key, cost) in [(100, 10), (200, 20)] {
            let tally = table.find(key).expect("claimed").tally(LATER, HOUR);
            assert_eq!((tally.authors, tally.copies), (1, cost));
        }
        assert_eq!(table.stats().evictions, 2);
    });
}

#[test]
fn one_new_key_gets_one_slot() {
    model(|| {
        let table = Arc::new(full_table());
        let (a, b) = both(
            &table,
            |table| table.observe(100, entry(1, 10), LATER, HOUR).map(|tally| tally.authors),
            |table| table.observe(100, entry(2, 20), LATER, HOUR).map(|tally| tally.authors),
        );
        assert!(a == Some(2) || b == Some(2), "{a:?} {b:?}");
        assert_eq!(table.stats().evictions, 1);
    });
}

#[test]
fn a_slot_being_closed_is_either_kept_or_the_caller_learns_it() {
    model(|| {
        let table = Arc::new(full_table());
        let until = LATER.after(HOUR);
        let theirs = Arc::clone(&table);
        let closer = thread::spawn(move || theirs.find(1).is_some_and(|slot| slot.close_until(until)));
        let taken = table.slot(100, LATER).expect("one at most is pinned");
        assert_eq!(taken.closed_until(), Timestamp::default());
        assert_eq!(taken.starter(), None);
        let closed = closer.join().expect("the other thread ends");
        let kept = table.find(1).map(|slot| slot.closed_until());
        assert_eq!(kept, closed.then_some(until));
        assert_eq!(table.find(100).map(|slot| slot.closed_until()), Some(Timestamp::default()));
    });
}

#[test]
fn the_first_to_name_the_starter_is_believed_by_both() {
    model(|| {
        let table = Arc::new(Table::<1>::sized(8, false));
        let name = |author: u64| {
            move |table: &Table<1>| {
                let slot = table.slot(1, NOW).expect("there is room");
                slot.set_starter(AuthorTag::from_bits(author));
                slot.starter()
            }
        };
        let (a, b) = both(&table, name(1), name(2));
        assert!(a.is_some() && a == b, "{a:?} {b:?}");
    });
}

#[test]
fn one_of_two_is_first() {
    model(|| {
        let recent = Arc::new(Recent::new(8));
        let first = |recent: &Recent| recent.first_in(5, NOW, HOUR);
        let (a, b) = both(&recent, first, first);
        assert!(a != b, "{a} {b}");
        let later = NOW.after(HOUR);
        let again = move |recent: &Recent| recent.first_in(5, later, HOUR);
        let (a, b) = both(&recent, again, again);
        assert!(a != b, "{a} {b}");
    });
}
