//! Takeovers under load: every message is judged, and none fails. The short form runs with the tests, the long one
//! is `cargo bench --bench soak -- takeovers 20`; with `takeover-kills`, one of the two becalms is killed meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use becalm::clock::Stopwatch;
use becalm::postfix::Postfix;
use becalm::postfix::smtp::{Client, Reply};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use crate::harness::{Becalm, Letter, Mailbox, Site, TOUCHY, person, start, start_storm, wait_until};
use crate::kills::settled;

const ALL: &str = "all@example.org";
const FRIEND: &str = "friend@example.org";

/// Clients that send at the same time; the first keeps its sessions for as long as it can.
const CLIENTS: usize = 4;

/// What came of it.
#[derive(Debug, Default)]
pub struct Takeovers {
    /// Messages to nobody in particular; all were delivered.
    pub ordinary: usize,
    /// Messages to a list in a storm that were taken; all are held.
    pub watched: usize,
    /// Watched messages that were sent on (421) to the becalm that had taken over, and were held there.
    pub sent_on: usize,
    /// Refusals (451) of messages whose becalm was killed; they came again.
    pub deferred: usize,
    /// From the start of each new becalm until it took connections, in milliseconds; sorted.
    pub took_ms: Vec<u128>,
    /// The longest time that a message took from MAIL to its last reply, in milliseconds.
    pub longest_ms: u128,
    /// Times that the old one was killed, and the new one.
    pub killed: [usize; 2],
}

/// What clients saw.
#[derive(Default)]
struct Seen {
    /// Queue id, and whether it was to the list.
    taken: Vec<(String, bool)>,
    sent_on: usize,
    deferred: usize,
    failed: Vec<String>,
    longest: Duration,
}

fn site() -> Site {
    let config =
        format!("listen.drain = '1s'\n[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}");
    let becalm = Becalm::start(&config);
    // Nobody looks into the mailboxes: what is delivered is thrown away, which is quicker.
    let mailbox = Mailbox::new();
    let postfix = start(Postfix::builder().milter(becalm.milter()).default_action("tempfail"));
    let site = Site { postfix, becalm, mailbox };
    start_storm(&site, ALL);
    site
}

/// Takes over `times`, at moments that `seed` chooses, under load and a storm.
///
/// # Panics
/// A message fails, is judged by nobody, or is lost; a becalm does not end well.
pub fn takeovers(times: usize, seed: u64) -> Takeovers {
    let site = site();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut done = Takeovers::default();
    let Site { postfix, mut becalm, mailbox } = site;
    let mut old = Vec::new();
    let seen = under_load(&postfix, false, || {
        for _ in 0..times {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..800)));
            let watch = Stopwatch::start();
            let new = becalm.take_over();
            done.took_ms.push(watch.elapsed().as_millis());
            old.push(std::mem::replace(&mut becalm, new));
        }
        // The sessions of the last one that was taken over have their time, too.
        let last = old.last().expect("there was one");
        last.wait_for_log("sessions=");
        std::thread::sleep(Duration::from_millis(1500));
    });
    assert_eq!(seen.failed, Vec::<String>::new(), "seed {seed}");
    for old in &mut old {
        assert!(old.wait(), "it ends by itself, and well");
        let log = old.log();
        assert!(!log.iter().any(|line| line.contains("milter session ended")), "{log:#?}");
    }
    let log = postfix.log();
    let trouble: Vec<&str> = log.lines().filter(|line| line.contains("warning: milter")).collect();
    assert!(trouble.is_empty(), "{trouble:#?}");
    let status = becalm.status();
    assert_eq!(status.generation, times as u64 + 1);
    assert_eq!((status.counts.failed_open, status.counts.sessions_failed), (0, 0));
    assert_eq!(status.journal.state, "ok", "{:?}", status.journal);
    conclude(done, seen, &Site { postfix, becalm, mailbox })
}

/// The same, but one of the two is killed, in turns, at a moment that `seed` chooses. Somebody goes on.
///
/// # Panics
/// A message is lost, delivered where it should be held, or nobody takes mail any more.
pub fn takeover_kills(times: usize, seed: u64) -> Takeovers {
    let site = site();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut done = Takeovers::default();
    let Site { postfix, mut becalm, mailbox } = site;
    let mut ended = Vec::new();
    let seen = under_load(&postfix, true, || {
        for round in 0..times {
            std::thread::sleep(Duration::from_millis(rng.random_range(0..500)));
            let mut dead = becalm.begin_take_over();
            std::thread::sleep(Duration::from_millis(rng.random_range(0..150)));
            let kills_new = round % 2 == 1;
            done.killed[usize::from(kills_new)] += 1;
            if !kills_new {
                std::mem::swap(&mut dead, &mut becalm);
            }
            dead.signal(Signal::KILL);
            dead.wait_until_still();
            becalm.wait_until_ready();
            wait_until("mail is taken again", || {
                let mut client = postfix.client().ok()?;
                let letter = Letter::new(&person(5), &format!("probe{round}"));
                (letter.send(&mut client, &[FRIEND]).code == 250).then_some(())
            });
            wait_until("the journal is written", || (becalm.status().journal.state == "ok").then_some(()));
            let open = becalm.storms().open;
            assert_eq!(open.len(), 1, "round {round}, seed {seed}: the storm is forgotten");
            ended.push(dead);
        }
    });
    assert_eq!(seen.failed, Vec::<String>::new(), "seed {seed}");
    assert_eq!(becalm.status().counts.failed_open, 0);
    conclude(done, seen, &Site { postfix, becalm, mailbox })
}

/// What became of all messages.
fn conclude(mut done: Takeovers, seen: Seen, site: &Site) -> Takeovers {
    let accepted: Vec<String> = seen.taken.iter().map(|(id, _)| id.clone()).collect();
    let (held, delivered) = settled(&site.postfix, &accepted);
    for (id, times) in &delivered {
        assert_eq!(*times, 1, "{id} was delivered more than once");
    }
    for (id, watched) in &seen.taken {
        let fate = (held.contains(id), delivered.contains_key(id));
        assert_eq!(fate, (*watched, !*watched), "{id}: held, delivered");
    }
    done.watched = seen.taken.iter().filter(|(_, watched)| *watched).count();
    done.ordinary = seen.taken.len() - done.watched;
    done.sent_on = seen.sent_on;
    done.deferred = seen.deferred;
    done.longest_ms = seen.longest.as_millis();
    done.took_ms.sort_unstable();
    done
}

/// Does `work` while clients send. `tolerant`: a message may be deferred, and comes again.
fn under_load(postfix: &Postfix, tolerant: bool, work: impl FnOnce()) -> Seen {
    let seen = Mutex::new(Seen::default());
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (seen, stop) = (&seen, &stop);
                scope.spawn(move || {
                    while !stop.load(Ordering::Acquire) {
                        converse(client, postfix, tolerant, seen, stop);
                    }
                })
            })
            .collect();
        let _stop = StopAtEnd(&stop);
        wait_until("mail flows", || (seen.lock().unwrap().taken.len() >= 2 * CLIENTS).then_some(()));
        work();
        stop.store(true, Ordering::Release);
        for client in clients {
            client.join().expect("it does not panic");
        }
    });
    seen.into_inner().unwrap()
}

/// One session: some messages, or as many as it can have.
fn converse(number: usize, postfix: &Postfix, tolerant: bool, seen: &Mutex<Seen>, stop: &AtomicBool) {
    let Ok(mut client) = postfix.client() else {
        seen.lock().unwrap().failed.push("Postfix refuses a client".to_owned());
        return;
    };
    let most = if number == 0 { usize::MAX } else { 1 + number };
    for n in 0..most {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let watched = n % 2 == 1;
        // Each is by somebody else, and another message.
        let letter = Letter::new(&person(10_000 + next()), &format!("m{}", next()));
        let watch = Stopwatch::start();
        let reply = send(&mut client, &letter, if watched { ALL } else { FRIEND });
        let mut seen = seen.lock().unwrap();
        seen.longest = seen.longest.max(watch.elapsed());
        match reply {
            Ok(reply) if reply.code == 250 => {
                let id = reply.queue_id().unwrap_or_default().to_owned();
                seen.taken.push((id, watched));
            }
            Ok(reply) if reply.code == 421 && watched => {
                seen.sent_on += 1;
                return;
            }
            Ok(reply) if tolerant && (400..500).contains(&reply.code) => {
                seen.deferred += 1;
                drop(seen);
                // As a client does, though not for as long.
                std::thread::sleep(Duration::from_millis(20));
                return;
            }
            other => {
                seen.failed.push(format!("client {number}, watched: {watched}: {other:?}"));
                return;
            }
        }
    }
    let _ = client.quit();
}

/// A number that was not there before.
fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// MAIL, RCPT, DATA, and the text. After a 421 Postfix hangs up.
fn send(client: &mut Client, letter: &Letter, to: &str) -> Result<Reply, String> {
    let said = |reply: Result<Reply, becalm::postfix::smtp::Error>| reply.map_err(|error| error.to_string());
    let mut reply = said(client.mail(letter.author()))?;
    if reply.is_positive() {
        reply = said(client.rcpt(to))?;
    }
    if reply.is_positive() {
        reply = said(client.data())?;
    }
    if !reply.is_positive() {
        return Ok(reply);
    }
    said(client.text(&letter.text()))
}

/// Ends the load, however the test ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn taken_over_three_times_under_load() {
    let done = takeovers(3, 1);
    assert!(done.ordinary > 20 && done.watched > 20, "mail flowed: {done:?}");
    assert!(done.sent_on > 0, "a session that does not end was sent on: {done:?}");
}

#[test]
fn killed_in_the_middle_of_four_takeovers() {
    let done = takeover_kills(4, 1);
    assert_eq!(done.killed, [2, 2]);
    assert!(done.ordinary > 20 && done.watched > 20, "mail flowed: {done:?}");
}
