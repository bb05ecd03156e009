//! Signs of life for systemd's watchdog: sent as long as the supervisor's thread and every worker's runs its tasks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::supervisor::notify;
use super::watchdog::{Bark, Watchdog};
use super::workers::Workers;

/// How often a thread shows that it runs its tasks.
const BEAT: Duration = Duration::from_secs(1);

/// What a thread that has ended in order shows.
const ENDED: u64 = u64::MAX;

/// Counts up as long as its thread runs its tasks.
#[derive(Clone, Debug, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// Beats until it is dropped, or until all sessions are to end: then the thread does, too.
    pub async fn beat(self, mut watchdog: Watchdog) {
        while watchdog.sleep(BEAT).await == Bark::Late {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The thread ends: nothing is to be expected any more.
    pub fn end(&self) {
        self.0.store(ENDED, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Sends signs of life until it is dropped, if systemd wants them (`WatchdogSec=`).
pub struct Guard {
    threads: Arc<Mutex<Vec<Thread>>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// A thread, and what it showed last.
struct Thread {
    pulse: Pulse,
    seen: u64,
}

impl Guard {
    /// For these threads, and the one that this is called on.
    pub fn of(workers: &[Workers]) -> Self {
        let threads = Arc::new(Mutex::new(Vec::new()));
        let watched = Arc::clone(&threads);
        let task = sd_notify::watchdog_enabled().map(|limit| {
            tokio::spawn(async move {
                // Three tries within the limit; a beat must lie between two of them.
                let mut tick = interval((limit / 3).max(BEAT * 2));
                tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tick.tick().await;
                    let still = still(&mut watched.lock().unwrap_or_else(PoisonError::into_inner));
                    match still {
                        0 => notify(sd_notify::NotifyState::Watchdog),
                        still => warn!(still, "worker threads make no progress: systemd is told nothing"),
                    }
                }
            })
        });
        let guard = Self { threads, task };
        guard.watch(workers);
        guard
    }

    /// For these threads from now on.
    pub fn watch(&self, workers: &[Workers]) {
        let pulses = workers.iter().flat_map(Workers::pulses);
        // A thread that has not beaten yet is not still: it differs from what was never seen.
        let new = pulses.map(|pulse| Thread { pulse: pulse.clone(), seen: ENDED - 1 }).collect();
        *self.threads.lock().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// How many have shown nothing since this was asked last.
fn still(threads: &mut [Thread]) -> usize {
    let mut still = 0;
    for thread in threads {
        let count = thread.pulse.count();
        still += usize::from(count == thread.seen && count != ENDED);
        thread.seen = count;
    }
    still
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_that_stands_still_is_noticed() {
        let pulses = [Pulse::default(), Pulse::default()];
        let mut threads: Vec<_> =
            pulses.iter().map(|pulse| Thread { pulse: pulse.clone(), seen: ENDED - 1 }).collect();
        assert_eq!(still(&mut threads), 0, "they have just begun");
        pulses[0].0.fetch_add(1, Ordering::Relaxed);
        assert_eq!(still(&mut threads), 1);
        pulses[1].end();
        assert_eq!(still(&mut threads), 1, "the first stands still, the second has ended");
        pulses[0].end();
        assert_eq!(still(&mut threads), 0);
        assert_eq!(still(&mut threads), 0, "for ever");
    }
}
