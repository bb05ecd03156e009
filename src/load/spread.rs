//! A median, and how far the rest is from it.

use serde::Serialize;

/// Of several values: the one in the middle, the quartiles (half of the values lie between them), and the ends.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// A quarter is below it.
    pub lower_quartile: f64,
    /// A quarter is above it.
    pub upper_quartile: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// `None` where there is no value; what is not a number is left out.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: quantile(&values, 0.5)?,
            lower_quartile: quantile(&values, 0.25)?,
            upper_quartile: quantile(&values, 0.75)?,
            min: quantile(&values, 0.0)?,
            max: quantile(&values, 1.0)?,
        })
    }

    /// Of one value by another's, pair by pair.
    pub fn of_ratios(pairs: impl IntoIterator<Item = (f64, f64)>) -> Option<Self> {
        Self::of(pairs.into_iter().map(|(value, by)| value / by))
    }
}

/// Between two values, in proportion. `values` are sorted.
fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let place = values.len().checked_sub(1)? as f64 * share;
    let (below, above) = (values.get(place.floor() as usize)?, values.get(place.ceil() as usize)?);
    Some(below + (above - below) * place.fract())
}

/// `0.79 (0.69-0.89)`.
impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { 0 };
        write!(
            f,
            "{:.digits$} ({:.digits$}-{:.digits$})",
            self.median, self.lower_quartile, self.upper_quartile
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_quarters() {
        let five = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0, f64::NAN]).unwrap();
        let expected = Spread { median: 3.0, lower_quartile: 2.0, upper_quartile: 4.0, min: 1.0, max: 5.0 };
        assert_eq!(five, expected);
        assert_eq!(five.to_string(), "3.00 (2.00-4.00)");
        let two = Spread::of_ratios([(1.0, 2.0), (3.0, 2.0)]).unwrap();
        assert_eq!((two.median, two.lower_quartile, two.upper_quartile), (1.0, 0.75, 1.25));
        assert_eq!(Spread::of_ratios([(1.0, 0.0)]), None);
        assert_eq!(Spread::of([]), None);
    }
}
