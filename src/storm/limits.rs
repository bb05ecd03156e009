//! Rate limits in copies, per author and for the organisation.
//!
//! The algorithm is GCRA, governor's, on a bounded store and a clock of our own. It is no storm detector: a
//! refusal costs nothing, so it lets one more message through again and again.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{Quota, RateLimiter};

use crate::time::Timestamp;
use crate::window::{Cache, CacheStats};

/// One rate: `copies` at once (the burst), refilled evenly over `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Copies; 1 to u32::MAX.
    pub copies: NonZeroU32,
    /// The time in which an empty bucket fills. At most 366 days, at least 1 ns a copy: see [`Rate::validate`].
    pub per: Duration,
}

/// The rate limits; each is off unless set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Copies of watched mail that one author may cause.
    pub author: Option<Rate>,
    /// Copies of watched mail that the whole organisation may cause.
    pub organisation: Option<Rate>,
    /// What happens to a message above a limit: `Observe`, `Hold`, `Reject` or `Defer`.
    pub mode: crate::storm::policy::Mode,
}

impl LimitSettings {
    /// Whether its rates can be kept: where they can, nothing that is made of them fails.
    ///
    /// # Errors
    /// See [`RateError`].
    pub fn validate(&self) -> Result<(), RateError> {
        [self.author, self.organisation].into_iter().flatten().try_for_each(Rate::validate)
    }
}

/// A rate that cannot be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// Less than a nanosecond a copy.
    #[error(
        "{copies} copies in {per:?} is less than a nanosecond for each; allow fewer copies or a longer time"
    )]
    TooFast {
        /// As given.
        copies: NonZeroU32,
        /// As given.
        per: Duration,
    },
    /// Longer than 366 days.
    #[error("{per:?} is longer than a year (366 days); a limit that slow is no rate")]
    TooSlow {
        /// As given.
        per: Duration,
    },
}

impl Rate {
    /// The longest `per`. Times are u64 nanoseconds since 1970: `now + per` stays far below their end in 2554, where
    /// governor's arithmetic would wrap in silence.
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

    /// Whether this rate can be kept exactly enough.
    ///
    /// # Errors
    /// See [`RateError`].
    pub fn validate(self) -> Result<(), RateError> {
        let Self { copies, per } = self;
        if per > Self::LONGEST {
            Err(RateError::TooSlow { per })
        } else if per.as_nanos() < u128::from(copies.get()) {
            Err(RateError::TooFast { copies, per })
        } else {
            Ok(())
        }
    }
}

/// Which limit a message exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`LimitSettings::author`].
    Author,
    /// [`LimitSettings::organisation`].
    Organisation,
}

/// A message was above a limit; it was charged to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// The limit.
    pub limit: Limit,
    /// When the same message passes, if nobody else takes the copies first.
    pub retry_at: Timestamp,
}

/// The limits at work. Memory is fixed: 32 bytes for each author there is room for, if authors are limited.
#[derive(Debug)]
pub struct Limits {
    author: Option<Limiter>,
    organisation: Option<Limiter>,
    /// By author; kept while the limit is off, so that a reload forgives nobody.
    authors: Option<Arc<Cache<Nanos>>>,
    whole: Arc<Cache<Nanos>>,
    capacity: usize,
    clock: Fed,
}

impl Limits {
    /// Limits for `capacity` authors at a time (rounded up to a power of two; 8 to 33 million). One more makes
    /// room by forgetting the one who was silent longest among eight.
    ///
    /// # Errors
    /// A rate that does not validate.
    pub fn new(settings: &LimitSettings, capacity: usize) -> Result<Self, RateError> {
        Self::build(settings, None, Arc::new(Cache::new(1)), capacity)
    }

    /// The same state under other settings, for a reload. What was used up stays used up, as a time to wait, but
    /// for no longer than the new rate takes to refill.
    ///
    /// # Errors
    /// A rate that does not validate.
    pub fn with_settings(&self, settings: &LimitSettings) -> Result<Self, RateError> {
        let whole = Arc::clone(&self.whole);
        Self::build(settings, self.authors.clone(), whole, self.capacity)
    }

    fn build(
        settings: &LimitSettings,
        authors: Option<Arc<Cache<Nanos>>>,
        whole: Arc<Cache<Nanos>>,
        capacity: usize,
    ) -> Result<Self, RateError> {
        let clock = Fed::default();
        let authors = authors.or_else(|| settings.author.map(|_| Arc::new(Cache::new(capacity))));
        let limiter = |rate: Option<Rate>, states: &Arc<Cache<Nanos>>| {
            rate.map(|rate| Limiter::new(rate, Arc::clone(states), &clock)).transpose()
        };
        Ok(Self {
            author: authors.as_ref().map(|authors| limiter(settings.author, authors)).transpose()?.flatten(),
            organisation: limiter(settings.organisation, &whole)?,
            authors,
            whole,
            capacity,
            clock,
        })
    }

    /// Charges a message of `copies` to its author and to the organisation; to both or to neither.
    ///
    /// `author_key` is a keyed hash. A message above the burst passes where nothing is used up, and uses all of
    /// it. Authors come first: one who is over his own limit cannot use up the organisation's.
    pub fn check(&self, author_key: u64, copies: u64, now: Timestamp) -> Option<Exceeded> {
        let copies = NonZeroU32::new(u32::try_from(copies).unwrap_or(u32::MAX))?;
        self.clock.feed(now);
        if let Some(author) = &self.author
            && let Err(retry_at) = author.charge(author_key, copies)
        {
            return Some(Exceeded { limit: Limit::Author, retry_at });
        }
        let retry_at = self.organisation.as_ref()?.charge(WHOLE, copies).err()?;
        if let Some(author) = &self.author {
            author.refund(author_key, copies);
        }
        Some(Exceeded { limit: Limit::Organisation, retry_at })
    }

    /// How many authors are remembered; `None` as long as authors were never limited.
    pub fn stats(&self) -> Option<CacheStats> {
        self.authors.as_ref().map(|authors| authors.stats())
    }
}

/// The organisation's key in its own store.
const WHOLE: u64 = 1;

#[derive(Debug)]
struct Limiter {
    governor: RateLimiter<u64, Store, Fed, NoOpMiddleware<Nanos>>,
    store: Store,
    burst: NonZeroU32,
    /// Nanoseconds that one copy takes to come back.
    per_copy: u64,
}

impl Limiter {
    /// `clock` must not have been fed.
    fn new(rate: Rate, states: Arc<Cache<Nanos>>, clock: &Fed) -> Result<Self, RateError> {
        rate.validate()?;
        let Rate { copies: burst, per } = rate;
        let too_fast = RateError::TooFast { copies: burst, per };
        let quota = Quota::with_period(per / burst.get()).ok_or(too_fast)?.allow_burst(burst);
        let per_copy = u64::try_from(quota.replenish_interval().as_nanos()).unwrap_or(u64::MAX);
        let full = per_copy.saturating_mul(u64::from(burst.get()));
        let store = Store { states, clock: clock.clone(), full };
        // governor counts from the reading it takes here. A clock not yet fed says 1970, so that states mean the
        // same to the next limiter.
        let governor = RateLimiter::new(quota, store.clone(), clock.clone());
        Ok(Self { governor, store, burst, per_copy })
    }

    /// What a message costs: above the burst, governor would refuse for ever and charge nothing.
    fn cost(&self, copies: NonZeroU32) -> NonZeroU32 {
        copies.min(self.burst)
    }

    /// `Err`: when to try again.
    fn charge(&self, key: u64, copies: NonZeroU32) -> Result<(), Timestamp> {
        match self.governor.check_key_n(&key, self.cost(copies)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => Err(timestamp(until.earliest_possible())),
            // Not for a cost within the burst; refused like any other, were it ever.
            Err(_) => Err(timestamp(self.governor.clock().now())),
        }
    }

    /// Takes back one charge. GCRA's state is the time at which everything will have come back: earlier by what
    /// the charge had added. Other charges meanwhile commute with this.
    fn refund(&self, key: u64, copies: NonZeroU32) {
        let cost = self.per_copy.saturating_mul(u64::from(self.cost(copies).get()));
        self.store.refund(key, cost);
    }
}

/// governor's state, by key: when all that was used will have come back, in nanoseconds since 1970.
#[derive(Clone, Debug)]
struct Store {
    states: Arc<Cache<Nanos>>,
    clock: Fed,
    /// The time in which a bucket fills. A state further ahead comes from a slower rate before a reload.
    full: u64,
}

impl Store {
    fn refund(&self, key: u64, nanos: u64) {
        let now = self.clock.now();
        // An entry that has been forgotten has nothing to give back.
        let _ = self.states.try_update(key, timestamp(now), Duration::MAX, |state| {
            let state = state.ok_or(())?;
            Ok::<_, ()>(((), Nanos::new(state.as_u64().saturating_sub(nanos))))
        });
    }
}

impl StateStore for Store {
    type Key = u64;

    fn measure_and_replace<T, F, E>(&self, key: &u64, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let now = self.clock.now();
        let latest = now.as_u64().saturating_add(self.full);
        let judge = |state: Option<Nanos>| {
            let state = state.map(|state| state.min(Nanos::new(latest)));
            match (f(state), state) {
                (Ok((value, next)), _) => Ok((Ok(value), next)),
                // Written too: what came from a slower rate is cut down once, or it would stay ahead for ever.
                (Err(refusal), Some(state)) => Ok((Err(refusal), state)),
                (Err(refusal), None) => Err(refusal),
            }
        };
        self.states.try_update(*key, timestamp(now), Duration::MAX, judge)?
    }
}

/// A clock that says what it was told: nanoseconds since 1970, never less than before.
#[derive(Clone, Debug, Default)]
struct Fed(Arc<AtomicU64>);

impl Fed {
    fn feed(&self, now: Timestamp) {
        // Relaxed: the clock orders nothing but itself.
        self.0.fetch_max(now.as_millis().saturating_mul(NANOS_PER_MILLI), Ordering::Relaxed);
    }
}

impl Clock for Fed {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;

/// Rounded up: whoever waits until then has waited long enough.
fn timestamp(nanos: Nanos) -> Timestamp {
    Timestamp::from_millis(nanos.as_u64().div_ceil(NANOS_PER_MILLI))
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_479_112_140_000);
    const HOUR: Duration = Duration::from_secs(3600);

    fn rate(copies: u32, per: Duration) -> Option<Rate> {
        Some(Rate { copies: NonZeroU32::new(copies).expect("not zero"), per })
    }

    fn limits(author: Option<Rate>, organisation: Option<Rate>) -> Limits {
        let settings = LimitSettings { author, organisation, ..LimitSettings::default() };
        Limits::new(&settings, 1000).expect("valid rates")
    }

    fn at(secs: u64) -> Timestamp {
        START.after(Duration::from_secs(secs))
    }

    fn exceeded(limit: Limit, secs: u64) -> Option<Exceeded> {
        Some(Exceeded { limit, retry_at: at(secs) })
    }

    #[test]
    fn nothing_is_limited_unless_asked_for() {
        let limits = limits(None, None);
        assert_eq!(limits.check(1, u64::MAX, START), None);
        assert_eq!(limits.check(1, u64::MAX, START), None);
        assert_eq!(limits.stats(), None);
    }

    #[test]
    fn an_author_gets_the_burst_and_then_the_rate() {
        let limits = limits(rate(3600, HOUR), None);
        assert_eq!(limits.check(1, 3000, START), None);
        assert_eq!(limits.check(1, 700, START), exceeded(Limit::Author, 100));
        assert_eq!(limits.check(1, 600, START), None);
        assert_eq!(limits.check(1, 1, START), exceeded(Limit::Author, 1));
        assert_eq!(limits.check(2, 3600, START), None);
        assert_eq!(limits.check(1, 60, at(59)), exceeded(Limit::Author, 60));
        assert_eq!(limits.check(1, 60, at(60)), None);
        assert_eq!(limits.check(1, 0, at(60)), None);
    }

    #[test]
    fn a_message_above_the_burst_passes_when_full_and_empties_it() {
        let limits = limits(rate(100, HOUR), None);
        assert_eq!(limits.check(1, 1_200_000, START), None);
        assert_eq!(limits.check(1, 1_200_000, START), exceeded(Limit::Author, 3600));
        assert_eq!(limits.check(1, 1, at(35)), exceeded(Limit::Author, 36));
        assert_eq!(limits.check(1, u64::MAX, at(3599)), exceeded(Limit::Author, 3600));
        assert_eq!(limits.check(1, u64::MAX, at(3600)), None);
    }

    #[test]
    fn what_the_organisation_refuses_is_not_charged_to_the_author() {
        let limits = limits(rate(100, HOUR), rate(150, HOUR));
        assert_eq!(limits.check(1, 100, START), None);
        assert_eq!(limits.check(2, 100, START), exceeded(Limit::Organisation, 1200));
        // Author 2 has all of his own left.
        assert_eq!(limits.check(2, 50, START), None);
        assert_eq!(limits.check(2, 51, at(1200)).map(|exceeded| exceeded.limit), Some(Limit::Organisation));
        assert_eq!(limits.check(2, 50, at(1200)), None);
    }

    #[test]
    fn what_the_author_may_not_is_not_charged_to_the_organisation() {
        let limits = limits(rate(100, HOUR), rate(150, HOUR));
        assert_eq!(limits.check(1, 100, START), None);
        for _ in 0..10 {
            assert_eq!(limits.check(1, 50, START).map(|exceeded| exceeded.limit), Some(Limit::Author));
        }
        assert_eq!(limits.check(2, 50, START), None);
    }

    #[test]
    fn a_reload_keeps_what_was_used_but_no_longer_than_the_new_rate_takes() {
        let old = limits(rate(100, HOUR * 24), None);
        assert_eq!(old.check(1, 100, START), None);
        let off = old.with_settings(&LimitSettings::default()).expect("valid");
        assert_eq!(off.check(1, 100, START), None);
        let settings = LimitSettings { author: rate(100, HOUR), ..LimitSettings::default() };
        let new = off.with_settings(&settings).expect("valid");
        assert_eq!(new.check(1, 1, START), exceeded(Limit::Author, 36));
        assert_eq!(new.check(1, 100, at(3600)), None);
    }

    #[test]
    fn rates_that_cannot_be_kept_are_named() {
        let validate = |copies, per| rate(copies, per).map(Rate::validate);
        assert_eq!(validate(u32::MAX, Duration::from_secs(5)), Some(Ok(())));
        assert!(matches!(validate(u32::MAX, Duration::from_secs(4)), Some(Err(RateError::TooFast { .. }))));
        assert!(matches!(validate(1, Duration::ZERO), Some(Err(RateError::TooFast { .. }))));
        assert_eq!(validate(u32::MAX, Rate::LONGEST), Some(Ok(())));
        assert!(matches!(validate(1, Duration::MAX), Some(Err(RateError::TooSlow { .. }))));
        let slow = LimitSettings { author: rate(1, Duration::MAX), ..LimitSettings::default() };
        assert!(Limits::new(&slow, 8).is_err() && slow.validate().is_err());
        assert_eq!(LimitSettings { author: rate(1, Rate::LONGEST), ..slow }.validate(), Ok(()));
    }

    #[test]
    fn the_slowest_rate_with_the_largest_burst_does_not_wrap() {
        let limits = limits(rate(u32::MAX, Rate::LONGEST), None);
        assert_eq!(limits.check(1, u64::from(u32::MAX), START), None);
        for _ in 0..1000 {
            assert!(limits.check(1, 1000, START).is_some());
        }
    }

    #[test]
    fn an_author_more_than_there_is_room_for_makes_room() {
        let settings = LimitSettings { author: rate(1, HOUR), ..LimitSettings::default() };
        let limits = Limits::new(&settings, 8).expect("valid");
        for author in 0..9 {
            assert_eq!(limits.check(author, 1, at(author)), None);
        }
        assert!(limits.check(8, 1, at(9)).is_some());
        assert_eq!(limits.stats().map(|stats| (stats.occupied, stats.evictions)), Some((8, 1)));
    }

    #[test]
    fn two_threads_get_no_more_than_the_burst() {
        let limits = limits(None, rate(1000, HOUR));
        let passed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for author in 0..2 {
                let (limits, passed) = (&limits, &passed);
                scope.spawn(move || {
                    for _ in 0..2000 {
                        let is_over = limits.check(author, 1, START).is_some();
                        passed.fetch_add(u64::from(!is_over), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 1000);
    }
}
