//! Delivery: for each way a thread and a bounded queue. Nobody who puts something in waits.

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::settings::Way;
use super::way::{self, Content, Failure, Parcel, Stationery};
use crate::clock::{Clock, Stopwatch};

/// Parcels that wait for one way. A storm makes some ten alerts; when more than this wait, nobody receives anything
/// anyhow, and the latest are worth more than the oldest.
pub const MOST_WAITING: usize = 100;

/// After this time nobody needs to hear of it any more.
const GIVE_UP: Duration = Duration::from_secs(86_400);

/// Waits between two attempts: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A way, and what goes there. Its thread ends some time after this is dropped.
pub struct Post {
    way: Way,
    inner: Arc<Inner>,
}

struct Inner {
    queue: Mutex<Queue>,
    /// Something changed in the queue.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    parcels: VecDeque<(u64, Parcel, Stopwatch)>,
    next: u64,
    /// Dropped because too many waited, since the start.
    dropped: u64,
    busy: bool,
    closing: bool,
    /// The thread has ended with parcels left.
    gave_up: bool,
    /// Why the last attempt failed, if it did.
    failing: Option<String>,
}

impl Post {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has no more threads.
    pub fn start(way: Way, stationery: Stationery, clock: Clock) -> std::io::Result<Self> {
        let inner = Arc::new(Inner { queue: Mutex::default(), changed: Condvar::new() });
        let (of_thread, its_way) = (Arc::clone(&inner), way.clone());
        std::thread::Builder::new()
            .name("becalm-post".to_owned())
            .spawn(move || of_thread.carry(&its_way, &stationery, &clock))?;
        Ok(Self { way, inner })
    }

    /// The way.
    pub fn way(&self) -> &Way {
        &self.way
    }

    /// Puts something into the queue. Never waits; where there is no room, the oldest goes.
    pub fn push(&self, parcel: Parcel) {
        let mut queue = self.inner.queue();
        if queue.parcels.len() >= MOST_WAITING {
            queue.parcels.pop_front();
            queue.dropped = queue.dropped.saturating_add(1);
            // Once for each that doubles their number: a receiver that is down for a day does not fill the log.
            if queue.dropped.is_power_of_two() {
                warn!(
                    way = self.way.name,
                    dropped = queue.dropped,
                    "more alerts wait than may: the oldest are dropped"
                );
            }
        }
        let number = queue.next;
        queue.next += 1;
        queue.parcels.push_back((number, parcel, Stopwatch::start()));
        self.inner.changed.notify_all();
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.inner.queue().parcels.len()
    }

    /// How many wait, how many were dropped, and why the last attempt failed, if it did.
    pub fn state(&self) -> (usize, u64, Option<String>) {
        let queue = self.inner.queue();
        (queue.parcels.len(), queue.dropped, queue.failing.clone())
    }

    /// Takes no more time than this for what still waits: one more attempt each, until one fails. True: nothing
    /// is left.
    pub fn close(&self, patience: Duration) -> bool {
        let mut queue = self.inner.queue();
        queue.closing = true;
        self.inner.changed.notify_all();
        let waited = self.inner.changed.wait_timeout_while(queue, patience, |queue| {
            queue.busy || (!queue.parcels.is_empty() && !queue.gave_up)
        });
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !queue.busy && queue.parcels.is_empty()
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        self.inner.queue().closing = true;
        self.inner.changed.notify_all();
    }
}

impl Inner {
    fn carry(&self, way: &Way, stationery: &Stationery, clock: &Clock) {
        let mut wait = FIRST_WAIT;
        let mut failed = 0_u32;
        while let Some((number, parcel, age)) = self.first() {
            let attempt = AssertUnwindSafe(|| way::deliver(way, &parcel, stationery, clock.now()));
            // A bug in one way must not silence it for ever.
            let outcome = std::panic::catch_unwind(attempt)
                .unwrap_or_else(|_| Err(Failure::Never("becalm failed on it".to_owned())));
            let (name, id) = (way.name.as_str(), parcel.content.id());
            let mut queue = self.queue();
            queue.busy = false;
            queue.failing = outcome.as_ref().err().map(|failure| failure.why().to_owned());
            let done = match outcome {
                Ok(()) => {
                    info!(way = name, id, what = what(&parcel), "delivered");
                    true
                }
                Err(Failure::Never(why)) => {
                    error!(way = name, id, why, "cannot be delivered, and is given up");
                    true
                }
                Err(Failure::Later(why)) if age.elapsed() > GIVE_UP => {
                    error!(way = name, id, why, "could not be delivered for a day, and is given up");
                    true
                }
                Err(Failure::Later(why)) => {
                    if failed == 0 {
                        warn!(way = name, id, why, "cannot be delivered now, and is tried again");
                    }
                    false
                }
            };
            if done {
                if failed > 0 {
                    info!(way = name, attempts = failed, "alerts can be delivered again");
                }
                (wait, failed) = (FIRST_WAIT, 0);
                // It may have had to go for others meanwhile.
                if queue.parcels.front().is_some_and(|(first, ..)| *first == number) {
                    queue.parcels.pop_front();
                }
                self.changed.notify_all();
                continue;
            }
            failed = failed.saturating_add(1);
            if queue.closing {
                // The others would fare no better in the time that is left.
                let left = queue.parcels.len();
                warn!(way = name, left, "becalm ends, and these are not delivered");
                queue.gave_up = true;
                self.changed.notify_all();
                return;
            }
            self.changed.notify_all();
            let paused = self.changed.wait_timeout_while(queue, wait, |queue| !queue.closing);
            drop(paused);
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
    }

    /// Waits for something to do. None: there is nothing more.
    fn first(&self) -> Option<(u64, Parcel, Stopwatch)> {
        let queue = self.queue();
        let waited = self.changed.wait_while(queue, |queue| queue.parcels.is_empty() && !queue.closing);
        let mut queue = waited.unwrap_or_else(PoisonError::into_inner);
        let first = queue.parcels.front().cloned()?;
        queue.busy = true;
        Some(first)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn what(parcel: &Parcel) -> &'static str {
    match &parcel.content {
        Content::Alert(alert) => alert.event.name(),
        Content::Notice(..) => "notice",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::settings::{Body, Means};
    use crate::alert::{Alert, Kind, Severity};
    use crate::time::Timestamp;

    fn alert(number: usize) -> Parcel {
        let alert = Alert::new(Kind::Held, Severity::Info, Timestamp::default(), "mx1", number.to_string());
        Parcel { content: Content::Alert(Arc::new(alert)), to: None }
    }

    fn post(means: Means) -> Post {
        let way = Way { name: "x".to_owned(), events: None, timeout: Duration::from_secs(20), means };
        let stationery = Stationery { node: "mx1".to_owned(), marker: None };
        Post::start(way, stationery, Clock::system()).unwrap()
    }

    #[test]
    fn where_nobody_answers_the_oldest_go_and_nobody_waits() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        drop(listener);
        let post = post(Means::Webhook { url, token_file: None, body: Body::Full });
        for number in 0..350 {
            post.push(alert(number));
        }
        assert_eq!(post.waiting(), MOST_WAITING);
        let latest = post.inner.queue().parcels.back().map(|(_, parcel, _)| parcel.content.id().to_owned());
        assert_eq!(latest.as_deref(), Some("349"));
        assert_eq!(post.inner.queue().dropped, 250);
        assert!(!post.close(Duration::from_secs(20)), "they are left");
        assert!(post.inner.queue().gave_up, "long before the time is over");
    }

    #[test]
    fn what_waits_is_delivered_before_the_end_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ids");
        let script = format!("sleep 0.05; echo $BECALM_ID >> {}", file.display());
        let argv = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        let post = post(Means::Command { argv });
        (0..10).for_each(|number| post.push(alert(number)));
        assert!(post.close(Duration::from_secs(60)));
        let ids = std::fs::read_to_string(file).unwrap();
        assert_eq!(ids.lines().collect::<Vec<_>>().join(" "), "0 1 2 3 4 5 6 7 8 9");
    }
}
