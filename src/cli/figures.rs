//! Numbers for people.

/// 840000 → 840,000.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in a unit that suits it: `850 ns`, `12.3 µs`, `4.56 ms`, `1.20 s`.
pub(super) fn time(micros: f64) -> String {
    match micros {
        _ if micros < 1.0 => format!("{:.0} ns", micros * 1e3),
        _ if micros < 1e3 => format!("{} µs", digits(micros)),
        _ if micros < 1e6 => format!("{} ms", digits(micros / 1e3)),
        _ => format!("{} s", digits(micros / 1e6)),
    }
}

/// Three digits that matter.
fn digits(number: f64) -> String {
    let after = if number < 10.0 { 2 } else { usize::from(number < 100.0) };
    format!("{number:.after$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(
            [0, 999, 1000, 840_000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "840,000", "1,234,567"]
        );
    }

    #[test]
    fn times_have_three_digits_and_a_unit() {
        assert_eq!(
            [0.85, 12.34, 999.0, 4_561.0, 1_200_000.0].map(time),
            ["850 ns", "12.3 µs", "999 µs", "4.56 ms", "1.20 s"]
        );
    }
}
