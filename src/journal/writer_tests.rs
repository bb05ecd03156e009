//! The writer on a real folder: what it was handed is there after its end, however often it begins anew.

use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::journal::record::{Known, Record};
use crate::journal::replay::replay;

const KEY: u64 = 7;

fn record(key: u64) -> Record {
    Record::Known(Known { key, at: Timestamp::from_millis(5), known_for: 90 })
}

/// A journal, and the time that its writer is told.
struct Bench {
    home: TempDir,
    now: Arc<AtomicU64>,
    boots: std::cell::Cell<u64>,
}

struct Run {
    outbox: Outbox,
    writer: Writer,
    replayed: Vec<Record>,
    found: Replayed,
}

impl Bench {
    fn new() -> Self {
        let now = Arc::new(AtomicU64::new(1_479_112_140_000));
        Self { home: tempfile::tempdir().unwrap(), now, boots: std::cell::Cell::new(0) }
    }

    fn folder(&self) -> std::path::PathBuf {
        self.home.path().join("journal")
    }

    fn read(&self) -> (Vec<Record>, Replayed) {
        let mut records = Vec::new();
        let found = replay(&Store::new(&self.folder()), KEY, |record| records.push(record)).unwrap();
        (records, found)
    }

    /// Reads, and begins to write. `image`: what a checkpoint holds.
    fn start(&self, image: Vec<Record>) -> Run {
        let (replayed, found) = self.read();
        let (outbox, inbox) = Outbox::sized(1000);
        let writer = Writer::start(self.setup(&self.folder(), image), &outbox, inbox, Some(&found)).unwrap();
        Run { outbox, writer, replayed, found }
    }

    fn setup(&self, folder: &Path, image: Vec<Record>) -> Setup {
        self.boots.set(self.boots.get() + 1);
        let now = Arc::clone(&self.now);
        Setup {
            store: Store::new(folder),
            node: "mx1".to_owned(),
            boot: self.boots.get(),
            key: KEY,
            retention: Duration::from_secs(86_400),
            size: 1 << 30,
            now: Box::new(move || Timestamp::from_millis(now.load(Ordering::Relaxed))),
            image: Arc::new(move |out| image.iter().cloned().try_for_each(&mut *out)),
        }
    }

    fn wait(&self, span: Duration) {
        self.now.fetch_add(span.as_millis() as u64, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that waits for a thread must end")]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl Run {
    fn push(&self, keys: std::ops::Range<u64>) {
        keys.for_each(|key| self.outbox.push(record(key)));
    }

    fn wait_until_safe(&self) {
        self.outbox.push_at_once(record(u64::MAX));
        wait_until("all is written", || self.outbox.health().waiting() == 0);
    }

    fn wait_for_checkpoint(&self) {
        wait_until("a checkpoint", || self.outbox.health().checkpoint.load(Ordering::Acquire) > 0);
    }

    fn close(self) {
        assert!(self.writer.close(Duration::from_secs(20)));
    }
}

fn keys(records: &[Record]) -> Vec<u64> {
    let key = |record: &Record| match record {
        Record::Known(known) => known.key,
        other => panic!("{other:?}"),
    };
    records.iter().map(key).filter(|key| *key != u64::MAX).collect()
}

#[test]
fn what_was_handed_over_is_there_at_the_next_start() {
    let bench = Bench::new();
    let run = bench.start(vec![]);
    assert_eq!((run.replayed.len(), &run.found.remarks), (0, &vec![]));
    run.wait_for_checkpoint();
    run.push(0..500);
    run.close();
    for (round, next) in [(1, 600), (2, 700)] {
        let run = bench.start(vec![]);
        assert_eq!(keys(&run.replayed), (0..400 + 100 * round).collect::<Vec<_>>());
        assert_eq!((run.found.damaged, run.found.torn), (0, 0));
        run.push(next - 100..next);
        run.wait_until_safe();
        let health = run.outbox.health();
        assert_eq!(health.trouble(Timestamp::from_millis(u64::MAX)), None);
        assert_eq!(health.dropped.load(Ordering::Relaxed), 0);
        // No end: as if it had been killed.
        std::mem::forget(run.writer);
        std::fs::remove_file(bench.folder().join("lock")).unwrap();
    }
}

#[test]
fn a_checkpoint_takes_the_place_of_what_was_before_it() {
    let bench = Bench::new();
    let run = bench.start(vec![record(1000)]);
    run.wait_for_checkpoint();
    run.push(0..10);
    run.close();

    let run = bench.start(vec![record(2000)]);
    assert_eq!(keys(&run.replayed)[0], 1000, "the checkpoint first");
    run.wait_until_safe();
    bench.wait(FIRST_CHECKPOINT);
    run.wait_until_safe();
    run.wait_for_checkpoint();
    run.push(10..20);
    run.close();

    let (records, found) = bench.read();
    assert_eq!(keys(&records), [2000].into_iter().chain(10..20).collect::<Vec<_>>());
    assert_eq!((found.events, found.records), (10, 11));

    // If it is damaged, the one before it and all the segments since.
    let store = Store::new(&bench.folder());
    let path = store.checkpoint(found.checkpoint.unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (records, found) = bench.read();
    assert_eq!(keys(&records), [1000].into_iter().chain(0..20).collect::<Vec<_>>());
    assert_eq!(found.damaged, 1);
    assert!(found.remarks[0].contains("not whole"), "{:?}", found.remarks);
}

#[test]
fn old_segments_are_dropped_once_two_checkpoints_cover_them() {
    let bench = Bench::new();
    let run = bench.start(vec![record(1)]);
    run.wait_for_checkpoint();
    for round in 0..6 {
        run.push(round..round + 1);
        run.wait_until_safe();
        let before = run.outbox.health().checkpoint.load(Ordering::Acquire);
        bench.wait(Duration::from_secs(7 * 3600));
        run.writer.checkpoint_soon();
        run.wait_until_safe();
        wait_until("the next checkpoint", || run.outbox.health().checkpoint.load(Ordering::Acquire) > before);
    }
    run.close();
    let contents = Store::new(&bench.folder()).contents().unwrap();
    assert_eq!(contents.checkpoints.len(), 2);
    let (records, found) = bench.read();
    assert_eq!(keys(&records)[0], 1);
    let oldest = found.segments[0].at;
    let age = Timestamp::from_millis(bench.now.load(Ordering::Relaxed)).since(oldest);
    assert!(age >= Duration::from_secs(86_400) && age < Duration::from_secs(36 * 3600), "{age:?}");
}

#[test]
fn a_folder_that_cannot_be_written_degrades_and_heals_by_itself() {
    let bench = Bench::new();
    // Not even root can make a folder where a file is.
    std::fs::write(bench.folder(), "in the way").unwrap();
    let (outbox, inbox) = Outbox::sized(1000);
    let image = vec![record(1000)];
    let writer = Writer::start(bench.setup(&bench.folder(), image), &outbox, inbox, None).unwrap();
    let health = Arc::clone(outbox.health());
    let far = Timestamp::from_millis(u64::MAX);
    wait_until("it is told", || health.trouble(far).is_some());
    let trouble = health.trouble(far).unwrap();
    assert!(trouble.why.contains("journal"), "{trouble:?}");
    for key in 0..5 {
        outbox.push(record(key));
    }
    wait_until("they are dropped", || health.dropped.load(Ordering::Acquire) == 5);

    std::fs::remove_file(bench.folder()).unwrap();
    bench.wait(RETRY);
    wait_until("it heals", || health.trouble(far).is_none());
    outbox.push(record(6));
    assert!(writer.close(Duration::from_secs(20)));
    let (records, _) = bench.read();
    assert_eq!(keys(&records), [1000, 6], "a checkpoint stands for what was dropped");
}

#[test]
fn what_could_not_be_read_is_not_written_over() {
    let bench = Bench::new();
    let run = bench.start(vec![record(1)]);
    run.push(0..3);
    run.close();
    let before = Store::new(&bench.folder()).contents().unwrap();
    // As if the folder had not been there when becalm started.
    let (outbox, inbox) = Outbox::sized(10);
    let writer = Writer::start(bench.setup(&bench.folder(), vec![]), &outbox, inbox, None).unwrap();
    let far = Timestamp::from_millis(u64::MAX);
    wait_until("it is told", || outbox.health().trouble(far).is_some());
    assert!(outbox.health().trouble(far).unwrap().why.contains("restart becalm"));
    assert!(writer.close(Duration::from_secs(20)));
    assert_eq!(Store::new(&bench.folder()).contents().unwrap(), before);
}

#[test]
fn two_processes_do_not_write_into_one_folder() {
    let bench = Bench::new();
    let one = bench.start(vec![]);
    one.wait_until_safe();
    let other = bench.start(vec![]);
    let far = Timestamp::from_millis(u64::MAX);
    wait_until("it is told", || other.outbox.health().trouble(far).is_some());
    assert!(other.outbox.health().trouble(far).unwrap().why.contains("another becalm"));
    one.close();
    other.close();
}

#[test]
fn what_finds_no_room_is_made_good_by_a_checkpoint() {
    let bench = Bench::new();
    let run = bench.start(vec![record(1000)]);
    run.wait_for_checkpoint();
    let health = Arc::clone(run.outbox.health());
    let before = health.checkpoint.load(Ordering::Acquire);
    bench.wait(Duration::from_secs(1));
    // Faster than any disk.
    while health.dropped.load(Ordering::Acquire) == 0 {
        run.push(0..2000);
    }
    wait_until("a checkpoint", || health.checkpoint.load(Ordering::Acquire) > before);
    wait_until("it is whole again", || health.trouble(Timestamp::from_millis(u64::MAX)).is_none());
    run.close();
    let (records, _) = bench.read();
    assert_eq!(keys(&records)[0], 1000);
}
