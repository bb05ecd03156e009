//! Plays a scenario in scaled time, with ordinary mail in between, and counts what comes of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::anyhow;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::channel::{Channel, Fate, Target};
use crate::clock::{Clock, Stopwatch};
use crate::daemon::background::Background;
use crate::replay::letter::Letter;
use crate::replay::scenario::{EPOCH, Post, Scenario};
use crate::storm::state::Phase;

/// Longer silences of the scenario are passed over: nobody wants to watch them.
const SILENCE: Duration = Duration::from_secs(120);

/// The longest latency that is told apart, in microseconds.
const SLOWEST: u64 = 60_000_000;

/// How it is played.
pub struct Pace {
    /// The filter's clock: it runs many times as fast as life.
    pub clock: Clock,
    /// Sessions that carry the storm.
    pub storm_channels: u64,
    /// Ordinary messages a second, in real time.
    pub ordinary_a_second: u32,
    /// Show a progress bar.
    pub progress: bool,
}

/// What was counted on the senders' side.
pub struct Played {
    /// Posts to the list that were sent and accepted, the first one included.
    pub sent: u64,
    /// Of these, accepted for delivery (by SMTP: or held).
    pub delivered: u64,
    /// Of these, held (by the milter protocol; by SMTP only the queue knows).
    pub held: u64,
    /// Replies attempted when the storm was declared.
    pub tripped_after: Option<u64>,
    /// Ordinary messages sent.
    pub ordinary_sent: u64,
    /// Of these, not accepted as they were.
    pub ordinary_touched: u64,
    /// Their latencies, in microseconds.
    pub latency: Histogram<u64>,
}

/// Counts that the senders share.
#[derive(Default)]
struct Counts {
    attempted: AtomicU64,
    sent: AtomicU64,
    delivered: AtomicU64,
    held: AtomicU64,
    /// Attempts when the storm was seen, plus one; 0: not yet.
    tripped: AtomicU64,
    done: AtomicBool,
}

/// Plays the whole scenario.
pub fn play(
    scenario: &Scenario,
    list: &str,
    target: &Target,
    pace: &Pace,
    becalm: &Background,
) -> anyhow::Result<Played> {
    let counts = Counts::default();
    let bar = progress_bar(scenario.posts.len() as u64, pace.progress);
    let (queue, posts) = sync_channel::<&Post>(1);
    // Owned by the senders alone: when the last of them has failed, nobody waits for a receiver.
    let posts = Arc::new(Mutex::new(posts));
    let (latency, ordinary_sent, ordinary_touched) = std::thread::scope(|scope| {
        let storm: Vec<_> = (0..pace.storm_channels)
            .map(|index| {
                let (counts, posts, bar) = (&counts, Arc::clone(&posts), &bar);
                scope.spawn(move || {
                    send_posts(Channel::new(target, index + 1), list, &posts, counts, becalm, bar)
                })
            })
            .collect();
        drop(posts);
        let ordinary =
            scope.spawn(|| send_ordinary(Channel::new(target, 0), pace.ordinary_a_second, &counts.done));
        feed(scenario, &pace.clock, becalm, queue);
        let failed = storm.into_iter().find_map(|thread| settle(thread.join()).err());
        counts.done.store(true, Ordering::Release);
        let ordinary = settle(ordinary.join())?;
        failed.map_or(Ok(ordinary), Err)
    })?;
    bar.finish_and_clear();
    let read = |count: &AtomicU64| count.load(Ordering::Acquire);
    Ok(Played {
        sent: read(&counts.sent),
        delivered: read(&counts.delivered),
        held: read(&counts.held),
        tripped_after: read(&counts.tripped).checked_sub(1),
        ordinary_sent,
        ordinary_touched,
        latency,
    })
}

/// Hands the posts over, each at its time.
fn feed<'s>(scenario: &'s Scenario, clock: &Clock, becalm: &Background, queue: SyncSender<&'s Post>) {
    for post in &scenario.posts {
        let due = EPOCH.after(post.letter.at);
        let wait = due.since(clock.now());
        if wait > SILENCE {
            clock.skip(wait - SILENCE);
        }
        while clock.now() < due {
            std::thread::sleep(Duration::from_millis(1));
        }
        becalm.tick();
        // The receivers are gone only when sending failed; that is told by them.
        if queue.send(post).is_err() {
            return;
        }
    }
}

fn send_posts(
    mut channel: Channel,
    list: &str,
    posts: &Mutex<Receiver<&Post>>,
    counts: &Counts,
    becalm: &Background,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    loop {
        let next = posts.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(post) = next else { break };
        // The first message is no reply.
        let replies = counts.attempted.fetch_add(1, Ordering::AcqRel);
        let fate = channel.send(&post.letter, list)?;
        if fate != Fate::Refused {
            counts.sent.fetch_add(1, Ordering::AcqRel);
        }
        match fate {
            Fate::Accepted | Fate::Untouched => counts.delivered.fetch_add(1, Ordering::AcqRel),
            Fate::Held => counts.held.fetch_add(1, Ordering::AcqRel),
            Fate::Refused => 0,
        };
        if counts.tripped.load(Ordering::Acquire) == 0 && in_storm(becalm) {
            let first = counts.tripped.compare_exchange(0, replies + 1, Ordering::AcqRel, Ordering::Acquire);
            if first.is_ok() {
                bar.println(format!("storm declared after {replies} replies"));
            }
        }
        bar.inc(1);
    }
    channel.hang_up()
}

fn in_storm(becalm: &Background) -> bool {
    let shared = becalm.shared();
    shared.engine.storms(shared.clock.now()).iter().any(|storm| matches!(storm.phase, Phase::Storm { .. }))
}

/// Ordinary mail at a steady rate: from one person to another, until the storm is over.
fn send_ordinary(
    mut channel: Channel,
    a_second: u32,
    done: &AtomicBool,
) -> anyhow::Result<(Histogram<u64>, u64, u64)> {
    let mut latency = Histogram::new_with_bounds(1, SLOWEST, 3)?;
    let watch = Stopwatch::start();
    let every = Duration::from_secs(1) / a_second.max(1);
    let (mut sent, mut touched) = (0_u32, 0);
    while !done.load(Ordering::Acquire) {
        let due = every * sent;
        if let Some(early) = due.checked_sub(watch.elapsed()) {
            std::thread::sleep(early);
        }
        let letter = ordinary_letter(sent);
        let recipient = format!("person{}@staff.example", sent % 997);
        let start = Stopwatch::start();
        let fate = channel.send(&letter, &recipient)?;
        latency.saturating_record(u64::try_from(start.elapsed().as_micros()).unwrap_or(SLOWEST));
        sent += 1;
        // Postfix does not tell by SMTP how it was accepted; its hold queue does, at the end.
        if matches!(fate, Fate::Held | Fate::Refused) {
            touched += 1;
        }
    }
    channel.hang_up()?;
    Ok((latency, u64::from(sent), touched))
}

fn ordinary_letter(number: u32) -> Letter {
    let sender = format!("colleague{}@staff.example", number % 499);
    Letter {
        at: Duration::ZERO,
        headers: vec![
            ("From".to_owned(), format!("<{sender}>")),
            ("Subject".to_owned(), "Minutes of yesterday's meeting".to_owned()),
            ("Message-ID".to_owned(), format!("<ordinary.{number}@mail.example>")),
        ],
        sender,
    }
}

fn settle<T>(joined: std::thread::Result<anyhow::Result<T>>) -> anyhow::Result<T> {
    joined.unwrap_or_else(|_| Err(anyhow!("a sender panicked")))
}

fn progress_bar(posts: u64, show: bool) -> ProgressBar {
    let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(posts), target);
    let style =
        ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {pos} of {len} messages to the list");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
