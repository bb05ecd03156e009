//! kill -9 at random moments under a storm: what was known a second before is known after it, and every message is
//! in one place. The short form runs with the tests, the long one is `cargo bench --bench soak -- kills 50`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use becalm::clock::Stopwatch;
use becalm::postfix::Postfix;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustix::process::Signal;

use crate::harness::{
    Becalm, Letter, Mailbox, PATIENCE, Site, TOUCHY, person, queued, start, start_storm, wait_until,
};

/// What is promised: what becalm knew at most a second before.
const PROMISE: Duration = Duration::from_secs(1);

/// Clients that send at the same time.
const CLIENTS: usize = 3;

/// What came of it.
#[derive(Debug, Default)]
pub struct Kills {
    /// Storms declared more than a second before a kill; all of them are known after it.
    pub storms: usize,
    /// Storms declared less than a second before a kill.
    pub fresh: usize,
    /// Of these, storms that were known after it all the same.
    pub fresh_kept: usize,
    /// Messages that Postfix took.
    pub messages: usize,
    /// Of these, held.
    pub held: usize,
    /// Refusals (4xx) while becalm was away; the clients tried again.
    pub deferred: usize,
    /// How long becalm was away each time, until it was ready again; in milliseconds.
    pub away_ms: Vec<u128>,
}

fn list(number: usize) -> String {
    format!("list-{number}@example.org")
}

/// Kills becalm `times`, at moments that `seed` chooses, while mail flows and storms begin.
///
/// # Panics
/// A storm is forgotten, or a message is neither delivered nor held, or both, or twice.
pub fn kills(times: usize, seed: u64) -> Kills {
    let lists: String =
        (0..=times).map(|number| format!("[[list]]\naddress = '{}'\n{TOUCHY}", list(number))).collect();
    let becalm = Becalm::start(&format!("log.level = 'warn'\n[verdict]\nmode = 'hold'\n{lists}"));
    let mailbox = Mailbox::new();
    // Short patience: a milter that died is noticed at once anyway.
    let postfix = start(mailbox.serve(Postfix::builder().milter(becalm.milter()).default_action("tempfail")));
    let mut site = Site { postfix, becalm, mailbox };
    start_storm(&site, &list(0));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut done = Kills::default();
    let (stop, begun) = (AtomicBool::new(false), AtomicUsize::new(1));
    let deferred = AtomicUsize::new(0);

    // The threads use Postfix alone; becalm is replaced meanwhile.
    let Site { postfix, mut becalm, mailbox } = site;
    let postfix_ref = &postfix;
    let (accepted, becalm): (Vec<String>, Becalm) = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (stop, begun, deferred) = (&stop, &begun, &deferred);
                scope.spawn(move || send(client, postfix_ref, stop, begun, deferred))
            })
            .collect();
        let _stop = StopAtEnd(&stop);
        let mut declared: BTreeMap<String, Stopwatch> = BTreeMap::new();
        declared.insert(list(0), Stopwatch::start());
        for round in 1..=times {
            let wait = Duration::from_millis(rng.random_range(0..1500));
            std::thread::sleep(wait);
            spark(postfix_ref, &list(round));
            wait_until("the storm is declared", || {
                let storms = becalm.storms();
                storms.open.iter().any(|open| open.list == Some(list(round))).then_some(())
            });
            declared.insert(list(round), Stopwatch::start());
            begun.store(round + 1, Ordering::Release);
            std::thread::sleep(Duration::from_millis(rng.random_range(0..2000)));

            let known: Vec<(String, bool)> =
                declared.iter().map(|(list, since)| (list.clone(), since.elapsed() > PROMISE)).collect();
            let names: BTreeMap<String, Option<String>> =
                becalm.storms().open.into_iter().filter_map(|open| Some((open.list?, open.storm))).collect();
            let away = Stopwatch::start();
            becalm.signal(Signal::KILL);
            becalm.wait_until_still();
            becalm = becalm.restart();
            done.away_ms.push(away.elapsed().as_millis());
            let after: BTreeMap<String, Option<String>> =
                becalm.storms().open.into_iter().filter_map(|open| Some((open.list?, open.storm))).collect();
            for (list, old) in known {
                let kept = after.get(&list).is_some_and(|storm| names.get(&list) == Some(storm));
                if old {
                    assert!(kept, "kill {round}, seed {seed}: the storm on {list} is forgotten: {after:?}");
                    done.storms += 1;
                } else {
                    done.fresh += 1;
                    done.fresh_kept += usize::from(kept);
                }
                if !kept {
                    declared.remove(&list);
                }
            }
        }
        stop.store(true, Ordering::Release);
        let ids = clients.into_iter().flat_map(|client| client.join().expect("it does not panic"));
        (ids.collect(), becalm)
    });
    done.deferred = deferred.into_inner();
    site = Site { postfix, becalm, mailbox };

    let (held, delivered) = settled(&site.postfix, &accepted);
    for (id, times) in &delivered {
        assert_eq!(*times, 1, "{id} was delivered more than once");
    }
    for id in &accepted {
        assert!(delivered.contains_key(id) != held.contains(id), "{id} is in one place, and only one");
    }
    done.messages = accepted.len();
    done.held = accepted.iter().filter(|id| held.contains(*id)).count();
    assert_eq!(site.becalm.status().counts.failed_open, 0);
    done
}

/// What is held, and how often each message was delivered, once Postfix has nothing more to do. (The harness's
/// `fates` looks through the whole log for each message; here there are thousands.)
pub fn settled(postfix: &Postfix, accepted: &[String]) -> (HashSet<String>, BTreeMap<String, u32>) {
    postfix.wait_until_idle(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    wait_until("the log catches up", || {
        let queue = postfix.queue().unwrap_or_else(|error| panic!("{error}"));
        let waiting: HashSet<&str> = queue.iter().map(|message| message.queue_id.as_str()).collect();
        let log = postfix.log();
        let removed: HashSet<&str> = log
            .lines()
            .filter_map(|line| line.strip_suffix(": removed")?.rsplit_once("]: "))
            .map(|(_, id)| id)
            .collect();
        let settled = |id: &String| waiting.contains(id.as_str()) || removed.contains(id.as_str());
        if !accepted.iter().all(settled) {
            return None;
        }
        let mut delivered = BTreeMap::new();
        for delivery in postfix.delivered() {
            // Each letter has one recipient.
            *delivered.entry(delivery.queue_id).or_default() += 1;
        }
        let held = queue.iter().filter(|message| message.queue_name == "hold");
        Some((held.map(|message| message.queue_id.clone()).collect(), delivered))
    })
}

/// Two people write to a list: a storm. Tried again until Postfix takes them.
fn spark(postfix: &Postfix, list: &str) {
    let root = format!("root-{list}").replace('@', "-");
    let first = Letter::new(&person(900), &root);
    let second = Letter::new(&person(901), &format!("{root}-answer")).answers(&root);
    let mut refused = 0;
    for letter in [first, second] {
        insist(postfix, &letter, list, &mut refused);
    }
}

/// Sends a letter until it is taken; its queue id. Counts refusals.
fn insist(postfix: &Postfix, letter: &Letter, to: &str, refused: &mut usize) -> String {
    wait_until("Postfix takes a letter", || {
        let mut client = postfix.client().ok()?;
        let reply = letter.send(&mut client, &[to]);
        let _ = client.quit();
        match reply.code {
            250 => Some(queued(&reply)),
            400..=499 => {
                *refused += 1;
                None
            }
            _ => panic!("{reply}"),
        }
    })
}

/// Strangers write to the lists that are in a storm, others to each other. Returns the queue ids.
fn send(
    client: usize,
    postfix: &Postfix,
    stop: &AtomicBool,
    begun: &AtomicUsize,
    deferred: &AtomicUsize,
) -> Vec<String> {
    let mut ids = Vec::new();
    let mut refused = 0;
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let to = match number % 3 {
            0 => "friend@example.org".to_owned(),
            _ => list(number % begun.load(Ordering::Acquire)),
        };
        let letter =
            Letter::new(&person(1000 * (client + 1) + number % 1000), &format!("c{client}n{number}"));
        ids.push(insist(postfix, &letter, &to, &mut refused));
    }
    deferred.fetch_add(refused, Ordering::Relaxed);
    ids
}

/// Ends the load, however the test ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn killed_three_times_under_a_storm() {
    let done = kills(3, 1);
    assert!(done.messages > 20 && done.held > 5, "mail flowed: {done:?}");
    assert!(done.storms >= 3, "{done:?}");
}
