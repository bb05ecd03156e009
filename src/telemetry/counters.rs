//! What the daemon counts of its own work. Each count only grows; `becalm status` shows them.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Shared by all sessions.
        #[derive(Default)]
        pub struct Counters { $($(#[$doc])* pub $name: Counter),+ }

        /// The counts at one moment.
        #[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct Counts { $($(#[$doc])* pub $name: u64),+ }

        impl Counters {
            /// Reads every count.
            pub fn read(&self) -> Counts {
                Counts { $($name: self.$name.get()),+ }
            }
        }
    };
}

counters! {
    /// Connections that were taken.
    connections_accepted,
    /// Connections that were closed at once, because there were too many.
    connections_refused,
    /// Sessions that ended in a protocol error, a time-out or a broken connection.
    sessions_failed,
    /// Messages whose DATA was seen.
    messages,
    /// Of these, messages whose headers were read.
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
}

/// One count.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        // Relaxed: a count orders nothing.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
