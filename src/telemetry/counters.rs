//! What the daemon counts of its own work. Each count only grows; `becalm status` and the metrics show them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

macro_rules! counters {
    // The first one is not counted but added up.
    ($(#[$sum_doc:meta])* $sum:ident, $($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Shared by all sessions.
        #[derive(Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter),+ }

        /// The counts at one moment. What another version of becalm does not count is 0.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Counts {
            $(#[$sum_doc])*
            pub $sum: u64,
            $($(#[$doc])* pub $name: u64),+
        }

        impl Counters {
            /// Reads every count.
            pub fn read(&self) -> Counts {
                let mut counts = Counts { $sum: 0, $($name: self.$name.get()),+ };
                // Added up here and not taken apart: what only grows must not seem to shrink, and a message is
                // counted once.
                counts.$sum = counts.ordinary.saturating_add(counts.watched);
                counts
            }
        }
    };
}

counters! {
    /// Messages whose DATA was seen: ordinary and watched ones.
    messages,
    /// Connections that were taken.
    connections_accepted,
    /// Connections that were closed at once, because there were too many.
    connections_refused,
    /// Sessions that ended in a protocol error, a time-out or a broken connection.
    sessions_failed,
    /// Messages that were accepted at DATA: no list, few recipients, none of becalm's business.
    ordinary,
    /// Messages whose headers were read, or were to be.
    watched,
    /// Watched messages that were aborted before their end: somebody else refused them, or the peer left.
    watched_unfinished,
    /// Watched messages that becalm itself had sent: they passed without being judged.
    own,
    /// Watched messages that passed untouched.
    passed,
    /// Watched messages that would have been stopped, had their list been enforced.
    observed,
    /// Messages put on hold.
    held,
    /// Messages answered with 5xx.
    rejected,
    /// Messages answered with 4xx.
    deferred,
    /// Messages thrown away.
    discarded,
    /// Messages that lost a list recipient.
    stripped,
    /// Messages that were accepted because becalm itself failed.
    failed_open,
    /// Messages that were refused for now (4xx) because no more may be held.
    hold_full,
    /// Held messages that were released: suspicions by themselves, and what operators let go.
    released,
    /// Held messages that were returned to their senders, by age or by operators.
    returned,
    /// Copies (one for each mailbox) of watched messages that were let through at once; a message that comes again
    /// counts once.
    copies_passed,
    /// Of the copies let through, those that would have been stopped, had their list been enforced.
    copies_observed,
    /// Copies of watched messages that were stopped, held ones included, whatever becomes of them later; a message
    /// that comes again counts once.
    copies_prevented,
    /// Of the copies prevented, those that were held and released later.
    copies_released,
    /// Messages that had passed and were put on hold in Postfix's queue when a storm came of their conversation.
    clawed_back,
    /// Of the copies let through, those that were not made yet then.
    copies_clawed_back,
    /// Storms that were declared here, by the rule or by an operator.
    storms_started,
    /// Unknown addresses that behave like lists, each once a day.
    possible_lists,
}

/// One count. Threads that count at the same moment do so in cache lines of their own: for one thread to take a line
/// from another takes longer than all else that an ordinary message needs of the processor's memory.
#[derive(Debug, Default)]
pub struct Counter([Share; SHARES]);

/// More than there are threads that serve mail, nearly everywhere; half a KiB a count.
const SHARES: usize = 8;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Share(AtomicU64);

thread_local! {
    /// The share that this thread counts in.
    static OWN: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        // Relaxed: any share will do.
        THREADS.fetch_add(1, Ordering::Relaxed) % SHARES
    };
}

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        if more == 0 {
            return;
        }
        if let Some(Share(count)) = self.0.get(OWN.with(|own| *own)) {
            // Relaxed: a count orders nothing.
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.iter().map(|Share(count)| count.load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_ordinary_or_watched() {
        let counters = Counters::default();
        counters.ordinary.add(3);
        counters.watched.add_one();
        let counts = counters.read();
        assert_eq!((counts.messages, counts.ordinary, counts.watched), (4, 3, 1));
    }

    #[test]
    fn what_threads_count_is_added_up() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARES {
                scope.spawn(|| (0..1000).for_each(|_| counter.add_one()));
            }
        });
        counter.add(7);
        assert_eq!(counter.get(), 2 * SHARES as u64 * 1000 + 7);
    }

    #[test]
    fn counts_of_another_version_can_be_read() {
        let counts: Counts = serde_json::from_str(r#"{"messages": 7, "held": 2, "novelty": 1}"#).unwrap();
        assert_eq!((counts.messages, counts.held, counts.copies_prevented), (7, 2, 0));
    }
}
