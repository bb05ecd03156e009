//! Median, 95th percentile and worst of many figures.

use serde::Serialize;

/// Of the figures in order: the middle one, the one that 95 of 100 do not exceed, the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// At most this in half of them.
    pub median: u64,
    /// At most this in 95 of 100.
    pub p95: u64,
    /// The highest.
    pub worst: u64,
}

impl Spread {
    /// `None` without figures.
    pub fn of(mut figures: Vec<u64>) -> Option<Self> {
        figures.sort_unstable();
        // The nearest rank: ⌈n·p⌉.
        let rank =
            |percent: usize| figures.get((figures.len() * percent).div_ceil(100).saturating_sub(1)).copied();
        Some(Self { median: rank(50)?, p95: rank(95)?, worst: rank(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_the_nearest() {
        let spread = |figures: std::ops::RangeInclusive<u64>| Spread::of(figures.collect());
        assert_eq!(spread(1..=100), Some(Spread { median: 50, p95: 95, worst: 100 }));
        assert_eq!(spread(7..=7), Some(Spread { median: 7, p95: 7, worst: 7 }));
        assert_eq!(Spread::of(Vec::new()), None);
    }
}
