//! A point in time, as data. Nothing here reads a clock: that is [`crate::clock`]'s alone.

use std::time::Duration;

/// Milliseconds since the Unix epoch. Arithmetic saturates: a peer or a clock that jumps cannot make it
/// panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The time `millis` milliseconds after the Unix epoch.
    #[inline]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[inline]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    #[inline]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// The time that lies `span` later.
    #[inline]
    pub const fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(millis(span)))
    }

    /// The time from `earlier` to this one; zero if `earlier` is the later of the two.
    #[inline]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// RFC 3339 in UTC, to the second.
    pub fn rfc3339(self) -> String {
        jiff::Timestamp::from_second(i64::try_from(self.as_secs()).unwrap_or(i64::MAX))
            .map_or_else(|_| "beyond the calendar".to_owned(), |time| time.to_string())
    }
}

/// `span` in milliseconds, at most `u64::MAX`.
const fn millis(span: Duration) -> u64 {
    let millis = span.as_millis();
    if millis > u64::MAX as u128 { u64::MAX } else { millis as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_millis(u64::MAX);
        assert_eq!(end.after(Duration::from_secs(1)), end);
        assert_eq!(Timestamp::from_millis(1).since(end), Duration::ZERO);
        assert_eq!(end.after(Duration::MAX), end);
    }

    #[test]
    fn prints_as_rfc_3339() {
        assert_eq!(Timestamp::from_millis(1_479_112_140_999).rfc3339(), "2016-11-14T08:29:00Z");
    }
}
