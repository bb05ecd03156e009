//! Numbers, times and lengths of time as people read them.

use jiff::tz::TimeZone;

use crate::time::Timestamp;

/// `702,240,000`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `702 million`, `2.52 million`; in full below 100,000. Three digits that matter.
pub fn large(number: u64) -> String {
    scaled(number, 100_000, [" billion", " million", ",000"])
}

/// `702 M`, `2.52 M`, `12 k`: where there is little room.
pub fn short(number: u64) -> String {
    scaled(number, 1_000, [" bn", " M", " k"])
}

fn scaled(number: u64, from: u64, [billion, million, thousand]: [&str; 3]) -> String {
    if number < from {
        return count(number);
    }
    // Rounded first, so that 999,999 is a million, not a thousand thousands.
    let rounded = round_to_three_digits(number);
    let (unit, name) = match rounded {
        1_000_000_000.. => (1_000_000_000, billion),
        1_000_000.. => (1_000_000, million),
        _ => (1_000, thousand),
    };
    let whole = rounded / unit;
    let hundredths = u128::from(rounded % unit) * 100 / u128::from(unit);
    match (whole, hundredths) {
        (_, 0) => format!("{}{name}", count(whole)),
        (0..10, h) if h % 10 != 0 => format!("{whole}.{h:02}{name}"),
        (_, h) => format!("{}.{}{name}", count(whole), h / 10),
    }
}

fn round_to_three_digits(number: u64) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().unwrap_or(0).saturating_sub(2));
    number.saturating_add(unit / 2) / unit * unit
}

/// `1 message`, `3 messages`.
pub fn many(number: u64, one: &str, more: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { more })
}

/// `10 minutes`, `1 hour 30 minutes`, `3 days`: the two largest units, rounded down.
pub fn length(secs: u64) -> String {
    const UNITS: [(u64, &str, &str); 4] = [
        (86_400, "day", "days"),
        (3_600, "hour", "hours"),
        (60, "minute", "minutes"),
        (1, "second", "seconds"),
    ];
    let Some(first) = UNITS.iter().position(|(unit, ..)| secs >= *unit) else {
        return "no time".to_owned();
    };
    let mut rest = secs;
    let mut parts = Vec::new();
    for (unit, one, more) in UNITS.iter().skip(first).take(2) {
        if rest >= *unit {
            parts.push(many(rest / unit, one, more));
        }
        rest %= unit;
    }
    parts.join(" ")
}

/// `14 November 2016, 08:29`, in UTC.
pub fn moment(at: Timestamp) -> String {
    format(at, "%-d %B %Y, %H:%M")
}

/// `14 Nov 2016`, in UTC.
pub fn day(at: Timestamp) -> String {
    format(at, "%-d %b %Y")
}

/// `14 Nov`, in UTC.
pub fn short_day(at: Timestamp) -> String {
    format(at, "%-d %b")
}

/// `08:29`, in UTC.
pub fn time_of_day(at: Timestamp) -> String {
    format(at, "%H:%M")
}

fn format(at: Timestamp, pattern: &str) -> String {
    let second = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(second).map_or_else(
        |_| "beyond the calendar".to_owned(),
        |time| time.to_zoned(TimeZone::UTC).strftime(pattern).to_string(),
    )
}

/// Who a policy is, in the middle of a sentence: the name of ours is no code.
pub fn policy(name: &str) -> &str {
    match name {
        "exchange-online" => "Exchange Online",
        "google-groups" => "Google Groups",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(702_240_000), "702,240,000");
        for (number, words) in [
            (99_999, "99,999"),
            (100_000, "100,000"),
            (123_456, "123,000"),
            (999_999, "1 million"),
            (2_520_000, "2.52 million"),
            (2_500_000, "2.5 million"),
            (70_240_000, "70.2 million"),
            (702_240_000, "702 million"),
            (5_000_000_000, "5 billion"),
        ] {
            assert_eq!(large(number), words);
        }
        assert_eq!(short(999), "999");
        assert_eq!(short(12_000), "12 k");
        assert_eq!(short(12_345), "12.3 k");
        assert_eq!(short(7_560_000), "7.56 M");
        assert_eq!(short(u64::MAX), "18,400,000,000 bn");
    }

    #[test]
    fn lengths() {
        assert_eq!(length(0), "no time");
        assert_eq!(length(1), "1 second");
        assert_eq!(length(600), "10 minutes");
        assert_eq!(length(5_400), "1 hour 30 minutes");
        assert_eq!(length(86_400 * 3 + 59), "3 days");
        assert_eq!(length(3_661), "1 hour 1 minute");
    }

    #[test]
    fn times() {
        let at = Timestamp::from_millis(1_479_112_140_999);
        assert_eq!(moment(at), "14 November 2016, 08:29");
        assert_eq!((short_day(at), day(at)), ("14 Nov".to_owned(), "14 Nov 2016".to_owned()));
        assert_eq!(time_of_day(at), "08:29");
        assert_eq!(moment(Timestamp::from_millis(u64::MAX)), "beyond the calendar");
    }
}
