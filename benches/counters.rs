//! The lock-free counters against the same thing built on dashmap, under two threads.
//!
//! Each event reads the clock, finds the key's window, drops what has expired, and counts one attempt, with one entry
//! per author and window. Of recipients it learns the number of distinct authors where the author is a new one; of
//! conversations, always, authors, newcomers and copies. Time is the wall time in which two threads do N
//! events each, divided by N. Keys are drawn evenly.
//!
//! Authors, *busy*: three of four events are by sixteen regulars of the key, the others by one of 4,096 strangers,
//! so that windows are full, repeats and new entries both occur, and entries push out others. *Ordinary*: eight
//! authors a key. The clock runs a thousand times as fast as real time: an hour passes every 3.6 s.
//!
//! `cargo bench --bench counters` has criterion measure one after the other. On a machine that others use, too,
//! `cargo bench --bench counters -- --turns` says more: both take turns, and what hits one of them hits the other.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Duration;

use becalm::clock::{Clock, Stopwatch};
use becalm::time::Timestamp;
use becalm::window::{AuthorTag, CELLS, Entry, Table, Tally};
use criterion::{Criterion, Throughput, criterion_group};
use dashmap::DashMap;

const WINDOW: Duration = Duration::from_secs(3600);
const THREADS: u64 = 2;

/// What both sides offer.
trait Counters: Sync {
    /// How many authors, if this one is new; all of the tally where costs are kept.
    fn observe(&self, key: u64, entry: Entry, now: Timestamp) -> Option<Tally>;
}

/// becalm's; `true`: with costs.
struct Ours(Table, bool);

impl Counters for Ours {
    fn observe(&self, key: u64, entry: Entry, now: Timestamp) -> Option<Tally> {
        let Self(table, with_costs) = self;
        if *with_costs {
            return Some(table.slot(key, now)?.record(entry, now, WINDOW));
        }
        table.observe(key, entry, now, WINDOW)
    }
}

/// The plain way: a sharded map of queues; `true`: with costs. It neither evicts nor shrinks; a real one would have to.
struct Dashed(DashMap<u64, VecDeque<Dated>, BuildHasherDefault<Multiply>>, bool);

struct Dated {
    at: u32,
    cost: u32,
    author: AuthorTag,
    newcomer: bool,
}

impl Counters for Dashed {
    fn observe(&self, key: u64, entry: Entry, now: Timestamp) -> Option<Tally> {
        let now = now.as_secs() as u32;
        let mut window = self.0.entry(key).or_default();
        while window.front().is_some_and(|dated| u64::from(now.saturating_sub(dated.at)) >= WINDOW.as_secs())
        {
            window.pop_front();
        }
        let repeat = window.iter().any(|dated| dated.author == entry.author);
        if !repeat {
            if window.len() == CELLS {
                window.pop_front();
            }
            let Entry { author, newcomer, cost } = entry;
            window.push_back(Dated { at: now, cost, author, newcomer });
        }
        let mut tally = Tally { authors: window.len() as u32, repeat, ..Tally::default() };
        if !self.1 {
            return (!repeat).then_some(tally);
        }
        for dated in window.iter() {
            tally.newcomers += u32::from(dated.newcomer);
            tally.copies += u64::from(dated.cost);
        }
        Some(tally)
    }
}

/// Keys are hashes already: the cheapest hasher that spreads them over dashmap's shards.
#[derive(Default)]
struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// xorshift64*: cheap, and the same for both sides.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[derive(Clone, Copy)]
struct Mix {
    keys: u64,
    busy: bool,
}

fn event(draw: &mut Draw, Mix { keys, busy }: Mix) -> (u64, Entry) {
    let bits = draw.next();
    // The upper half of a draw times the number of keys, over 2³²: even enough, without a division.
    let number = ((bits >> 32) * keys) >> 32;
    let key = number.wrapping_add(1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let is_stranger = busy && bits & 3 == 0;
    let regulars = if busy { 15 } else { 7 };
    let author = if is_stranger { 1 << 32 | bits >> 2 & 4095 } else { number * 16 + (bits >> 2 & regulars) };
    (key, Entry { author: AuthorTag::new(author), newcomer: is_stranger, cost: 300 })
}

/// The wall time of `THREADS` threads that do `events` each.
fn run(counters: &impl Counters, clock: &Clock, mix: Mix, events: u64, seed: u64) -> Duration {
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (1..=THREADS)
            .map(|thread| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let mut draw = Draw((thread << 40) | (seed.wrapping_mul(2) + 1));
                    barrier.wait();
                    let watch = Stopwatch::start();
                    for _ in 0..events {
                        let (key, entry) = event(&mut draw, mix);
                        black_box(counters.observe(key, entry, clock.now()));
                    }
                    watch.elapsed()
                })
            })
            .collect();
        // Both start at the barrier: the slower one's time is the wall time of both.
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a bench thread ends"))
            .max()
            .unwrap_or_default()
    })
}

/// What is counted, how many keys there are, whether their windows are full, and whether costs are kept: recipients are
/// counted without, conversations with. At a million keys the table has hardly more slots than there are keys: some
/// sets overflow, and evict.
const CASES: [(&str, u64, bool, bool); 7] = [
    ("recipients/hot", 1, true, false),
    ("recipients/10k", 10_000, false, false),
    ("recipients/10k-busy", 10_000, true, false),
    ("recipients/1M", 1_000_000, false, false),
    ("conversations/hot", 1, true, true),
    ("conversations/10k", 10_000, false, true),
    ("conversations/10k-busy", 10_000, true, true),
];

fn pair((_, keys, _, costs): (&str, u64, bool, bool)) -> (Ours, Dashed) {
    let capacity = (keys as usize * 2).clamp(1 << 16, 1 << 20);
    (Ours(Table::new(capacity, costs), costs), Dashed(DashMap::default(), costs))
}

fn clock() -> Clock {
    Clock::scaled(Timestamp::from_millis(1_700_000_000_000), 1000)
}

/// Every key is met before the clock starts: growing is not what is measured.
fn meet_all(counters: &impl Counters, clock: &Clock, mix: Mix) {
    run(counters, clock, mix, mix.keys.max(1000) * 2, 99);
}

fn bench_one(criterion: &mut Criterion, group: &str, name: &str, mix: Mix, counters: &impl Counters) {
    let clock = clock();
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(THREADS));
    meet_all(counters, &clock, mix);
    let mut seed = 0;
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|events| {
            seed += 1;
            run(counters, &clock, mix, events, seed)
        });
    });
    group.finish();
}

fn bench(criterion: &mut Criterion) {
    for case @ (name, keys, busy, _) in CASES {
        let (ours, dashed) = pair(case);
        bench_one(criterion, name, "becalm", Mix { keys, busy }, &ours);
        bench_one(criterion, name, "dashmap", Mix { keys, busy }, &dashed);
    }
}

/// Rounds of `--turns`, and events of each thread in a turn: some tens of milliseconds.
const ROUNDS: u64 = 61;
const EVENTS: u64 = 200_000;

/// Prints becalm's time by dashmap's, of two turns that follow each other: median and quartiles of the rounds.
fn take_turns() {
    println!("{:<24}{:>14}{:>16}{:>22}", "", "becalm ns", "dashmap ns", "ratio (quartiles)");
    for case @ (name, keys, busy, _) in CASES {
        let (ours, dashed) = pair(case);
        let (mix, clock) = (Mix { keys, busy }, clock());
        meet_all(&ours, &clock, mix);
        meet_all(&dashed, &clock, mix);
        let rounds = (0..ROUNDS).map(|seed| {
            // The same events, and neither is always the first.
            let times = if seed % 2 == 0 {
                let ours = run(&ours, &clock, mix, EVENTS, seed);
                (ours, run(&dashed, &clock, mix, EVENTS, seed))
            } else {
                let dashed = run(&dashed, &clock, mix, EVENTS, seed);
                (run(&ours, &clock, mix, EVENTS, seed), dashed)
            };
            [times.0, times.1].map(|time| time.as_secs_f64() * 1e9 / EVENTS as f64)
        });
        let rounds: Vec<[f64; 2]> = rounds.collect();
        let [ours, _, _] = quartiles(rounds.iter().map(|[ours, _]| *ours));
        let [dashed, _, _] = quartiles(rounds.iter().map(|[_, dashed]| *dashed));
        let [median, low, high] = quartiles(rounds.iter().map(|[ours, dashed]| ours / dashed));
        println!("{name:<24}{ours:>14.0}{dashed:>16.0}{median:>9.2} ({low:.2}-{high:.2})");
    }
}

/// The median, and the quartiles around it.
fn quartiles(figures: impl Iterator<Item = f64>) -> [f64; 3] {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_unstable_by(f64::total_cmp);
    [2, 1, 3].map(|quarter| figures[(figures.len() - 1) * quarter / 4])
}

criterion_group! {
    name = counters;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    targets = bench
}

fn main() {
    if std::env::args().any(|argument| argument == "--turns") {
        return take_turns();
    }
    counters();
    Criterion::default().configure_from_args().final_summary();
}
