//! What the journal costs a verdict, and how long a start reads it.
//!
//! `cargo bench --bench journal`: the same mail is judged with and without a journal behind it, at 10,000 events a
//! second, in turns; twice without, so that the noise is seen. Then 100,000 events are written and read. `-- FOLDER`: where the journal is kept (a disk that
//! syncs; default: the system's folder for temporary files).
//!
//! No criterion: a run is paced, and both sides take turns in one process.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use becalm::clock::{Clock, Stopwatch};
use becalm::directory::snapshot::{List, Snapshot};
use becalm::engine::{Capacity, Engine, Exempt, Parts, Transaction, Watch};
use becalm::journal::outbox::Outbox;
use becalm::journal::record::Record;
use becalm::journal::replay::replay;
use becalm::journal::store::Store;
use becalm::journal::writer::{Setup, Writer};
use becalm::mail::AddressRules;
use becalm::storm::limits::LimitSettings;
use becalm::storm::policy::{Mode, Policy};
use becalm::time::Timestamp;
use hdrhistogram::Histogram;

const A_SECOND: u32 = 10_000;
const TURNS: usize = 30;
const TURN: Duration = Duration::from_millis(500);
/// Two without a journal, one with.
const SIDES: usize = 3;
const WITH: usize = 2;
const EVENTS: u64 = 100_000;
const LISTS: usize = 100;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    if std::env::args().all(|argument| argument != "--bench") {
        // `cargo test` builds and starts benches too; there is nothing to try here.
        return Ok(());
    }
    let place = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let home = tempfile::Builder::new().prefix("becalm-bench").tempdir_in(place)?;
    verdicts(&home.path().join("verdicts"))?;
    start(&home.path().join("start"))
}

/// A site with lists of many sizes.
fn engine(now: Timestamp) -> Engine {
    let lists = (0..LISTS).map(|number| List {
        address: address(number),
        names: Vec::new(),
        members: 10 << (number % 17),
        class: None,
        origin: "bench".to_owned(),
        contains: Vec::new(),
        pattern: false,
    });
    let policy = Policy { mode: Mode::Hold, ..Policy::default() };
    let parts = Parts {
        snapshot: Arc::new(Snapshot::of(lists.collect(), AddressRules::default())),
        default_policy: policy.clone(),
        exempt: Exempt::default(),
        watch: Watch::default(),
        limits: LimitSettings::default(),
    };
    let born = Timestamp::from_millis(now.as_millis() - 60 * 86_400_000);
    Engine::new([7; 16], Capacity::default(), parts, |_: &List| policy.clone(), born)
        .expect("no limits are set")
}

fn address(number: usize) -> String {
    format!("list-{number}@example.org")
}

/// Judges message number `number`: one of five begins a conversation, the rest answer one.
fn judge(engine: &Engine, tx: &mut Transaction, number: u64, now: Timestamp) -> Record {
    let author = format!("person-{}@example.org", number.wrapping_mul(0x9e37_79b9) % 50_000);
    engine.begin(tx, author.as_bytes(), None, now);
    engine.recipient(tx, address((number % LISTS as u64) as usize).as_bytes());
    engine.at_data(tx);
    tx.header(b"From", author.as_bytes());
    tx.header(b"Message-ID", format!("<{number}@example.org>").as_bytes());
    if number % 500 >= 100 {
        let root = number - number % 500 + number % 100;
        tx.header(b"In-Reply-To", format!("<{root}@example.org>").as_bytes());
        tx.header(b"Subject", b"Re: Lunch");
    } else {
        tx.header(b"Subject", b"Lunch");
    }
    Record::Judged(engine.judge(tx, Some(b"4XyZ1a2b3c"), now).record)
}

fn setup(folder: &std::path::Path, engine: &Arc<Engine>, clock: &Clock) -> Setup {
    let (known, times, now) = (Arc::clone(engine), clock.clone(), clock.clone());
    Setup {
        store: Store::new(folder),
        node: "bench".to_owned(),
        boot: 1,
        key: engine.key_check(),
        retention: Duration::from_secs(8 * 86_400),
        size: 512 << 20,
        now: Box::new(move || now.now()),
        image: Arc::new(move |out| {
            known.image(times.now(), &mut |piece| out(Record::Piece(Box::new(piece))))
        }),
    }
}

fn verdicts(folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let clock = Clock::system();
    let engines: [Arc<Engine>; SIDES] = std::array::from_fn(|_| Arc::new(engine(clock.now())));
    let found = replay(&Store::new(folder), engines[WITH].key_check(), |_| ())?;
    let (outbox, inbox) = Outbox::new();
    let writer = Writer::start(setup(folder, &engines[WITH], &clock), &outbox, inbox, Some(&found))?;
    let closed = Outbox::closed();

    let mut times = [(); SIDES].map(|()| Histogram::<u64>::new(3));
    let mut totals = [Duration::ZERO; SIDES];
    let mut numbers = [0_u64; SIDES];
    for turn in 0..SIDES * TURNS {
        let side = turn % SIDES;
        let outbox = if side == WITH { &outbox } else { &closed };
        let times = times[side].as_mut().map_err(|error| *error)?;
        let mut tx = engines[side].session(None);
        let pace = Stopwatch::start();
        let mut sent = 0_u32;
        while pace.elapsed() < TURN {
            // What is due by now, one after the other; then a nap, so that the writer gets a processor, too.
            let due = (pace.elapsed().as_secs_f64() * f64::from(A_SECOND)) as u32;
            while sent < due {
                let watch = Stopwatch::start();
                outbox.push(judge(&engines[side], &mut tx, numbers[side], clock.now()));
                let took = watch.elapsed();
                times.record(took.as_nanos() as u64)?;
                totals[side] += took;
                numbers[side] += 1;
                sent += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let health = Arc::clone(outbox.health());
    let closed_well = writer.close(Duration::from_secs(60));
    let mean = |side: usize| totals[side].as_nanos() as f64 / numbers[side] as f64;
    println!("a verdict at {A_SECOND} events a second, {TURNS} turns of {TURN:?} each, in turn");
    let mut medians = [0.0; SIDES];
    for (side, name) in ["without a journal", "without, once more", "with a journal"].into_iter().enumerate()
    {
        let times = times[side].as_ref().map_err(|error| *error)?;
        let at = |share| times.value_at_quantile(share);
        medians[side] = at(0.5) as f64;
        println!(
            "  {name:<18} {:>8} verdicts, mean {:.0} ns, median {} ns, p99 {} ns, p99.9 {} ns",
            numbers[side],
            mean(side),
            at(0.5),
            at(0.99),
            at(0.999)
        );
    }
    for (side, name) in [(1, "noise"), (WITH, "with a journal")] {
        println!(
            "  ratio, {name}: mean {:.3}, median {:.3}",
            mean(side) / mean(0),
            medians[side] / medians[0]
        );
    }
    println!(
        "  written {}, dropped {}, all on the disk at the end: {closed_well}",
        health.written.load(Ordering::Acquire),
        health.dropped.load(Ordering::Acquire)
    );
    // What the hand-over itself costs, and nothing else.
    let (outbox, _inbox) = Outbox::sized(1 << 16);
    let mut tx = engines[WITH].session(None);
    let records: Vec<Record> =
        (0..1 << 16).map(|number| judge(&engines[WITH], &mut tx, 1 << 40 | number, clock.now())).collect();
    let count = records.len() as u32;
    let watch = Stopwatch::start();
    for record in records {
        outbox.push(record);
    }
    println!("  the hand-over alone: {} ns", (watch.elapsed() / count).as_nanos());
    Ok(())
}

fn start(folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let clock = Clock::system();
    let past = Arc::new(engine(clock.now()));
    let (outbox, inbox) = Outbox::sized(EVENTS as usize + 1);
    // No checkpoint but the first, which is empty: all of it is read as events.
    let found = replay(&Store::new(folder), past.key_check(), |_| ())?;
    let writer = Writer::start(setup(folder, &past, &clock), &outbox, inbox, Some(&found))?;
    let health = Arc::clone(outbox.health());
    while health.checkpoint.load(Ordering::Acquire) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut tx = past.session(None);
    for number in 0..EVENTS {
        outbox.push(judge(&past, &mut tx, number, clock.now()));
    }
    writer.close(Duration::from_secs(60));

    let mut best = Duration::MAX;
    let mut found = Default::default();
    for _ in 0..5 {
        let fresh = engine(clock.now());
        let watch = Stopwatch::start();
        found = replay(&Store::new(folder), fresh.key_check(), |record| fresh.apply(&record, clock.now()))?;
        best = best.min(watch.elapsed());
    }
    let bytes = found.contents.bytes;
    println!(
        "a start: {} events in {:.0} ms (best of 5), {:.1} MiB, {:.0} bytes an event; damaged {}, torn {}",
        found.events,
        best.as_secs_f64() * 1000.0,
        bytes as f64 / 1_048_576.0,
        bytes as f64 / found.events.max(1) as f64,
        found.damaged,
        found.torn
    );

    // The same as a checkpoint.
    let mut records = Vec::new();
    past.image(clock.now(), &mut |piece| -> Result<(), ()> {
        records.push(Record::Piece(Box::new(piece)));
        Ok(())
    })
    .map_err(|()| "the image failed")?;
    let fresh = engine(clock.now());
    let watch = Stopwatch::start();
    records.iter().for_each(|record| fresh.apply(record, clock.now()));
    println!("the same from a checkpoint: {} pieces put back in {:?}", records.len(), watch.elapsed());
    Ok(())
}
