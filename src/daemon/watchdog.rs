//! Limits on silence, at the price of one timer for a whole session.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Limits how long a session waits. Its timer is set anew only when it goes off or would go off too late, not
/// for every wait: nearly all of them end long before their time.
pub struct Watchdog {
    timer: Pin<Box<Sleep>>,
}

impl Watchdog {
    /// A session whose waits are mostly for less than `usual`.
    pub fn new(usual: Duration) -> Self {
        Self { timer: Box::pin(sleep_until(Instant::now() + usual)) }
    }

    /// Resolves at `due`; without it, when `span` is over, counted from the first poll. (Where the other branch
    /// of a biased select is ready at once, not even the clock is read.)
    pub async fn within(&mut self, span: Duration, due: Option<Instant>) {
        let due = due.unwrap_or_else(|| Instant::now() + span);
        if due < self.timer.deadline() {
            self.timer.as_mut().reset(due);
        }
        loop {
            self.timer.as_mut().await;
            // It may have been set for an earlier wait.
            if self.timer.deadline() >= due {
                return;
            }
            self.timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Real time, but nothing here depends on how fast it passes.
    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(test);
    }

    #[test]
    fn resolves_no_sooner_than_due_whatever_was_waited_for_before() {
        run(async {
            let begun = Instant::now();
            let mut watchdog = Watchdog::new(Duration::from_secs(3600));
            for millis in [1, 5, 3] {
                let due = begun + Duration::from_millis(millis);
                watchdog.within(Duration::MAX, Some(due)).await;
                assert!(Instant::now() >= due);
            }
        });
    }

    #[test]
    fn a_wait_that_was_given_up_ends_no_later_one() {
        run(async {
            let begun = Instant::now();
            let mut watchdog = Watchdog::new(Duration::from_secs(3600));
            tokio::select! {
                biased;
                () = watchdog.within(Duration::from_millis(1), None) => panic!("the other is ready at once"),
                () = std::future::ready(()) => {}
            }
            let due = begun + Duration::from_millis(20);
            watchdog.within(Duration::MAX, Some(due)).await;
            assert!(Instant::now() >= due);
        });
    }

    #[test]
    fn a_nearer_limit_overrules_the_timer() {
        run(async {
            let mut watchdog = Watchdog::new(Duration::from_secs(3600));
            // Would take an hour.
            watchdog.within(Duration::from_millis(1), None).await;
        });
    }
}
