//! When a message arrived, as its headers and the `From ` line of an mbox tell it.
//!
//! Mail is not always as the standards have it: what is read here is what was found in archives. A zone is an
//! offset, or one of the names that mean the same everywhere; any other name counts as UTC, as do the letters of
//! the military (RFC 5322, 4.3).

use smallvec::SmallVec;

use crate::time::Timestamp;

/// Words looked at: a date has six, and a `From ` line an address and sometimes `remote from HOST` beside it.
const MAX_WORDS: usize = 24;

/// The last year that is read. RFC 3339 ends with the next one, and a storm may end some days after its mail.
const LAST_YEAR: i16 = 9998;

/// The envelope sender and the arrival time of a `From ` line (with or without its end of line): an address,
/// then a time as asctime(3) writes it, with or without a zone. `None`: it is no such line.
pub fn from_line(line: &[u8]) -> Option<(&[u8], Timestamp)> {
    let rest = line.strip_prefix(b"From ")?;
    if let Some((sender, time)) = rest.trim_ascii_end().split_last_chunk()
        && matches!(sender.last(), None | Some(b' '))
        && is_weekday(time)
        && let Some(time) = exact_asctime(time)
    {
        return Some((sender.trim_ascii(), time));
    }
    // The last weekday counts: an address may hold anything, blanks too.
    let mut end = rest.len();
    loop {
        let at = memchr::memrchr(b' ', rest.get(..end)?);
        let begin = at.map_or(0, |at| at + 1);
        if rest.get(begin + 3) == Some(&b' ')
            && is_weekday(rest.get(begin..)?)
            && let Some(time) = asctime(rest.get(begin..)?)
        {
            return Some((rest.get(..begin)?.trim_ascii(), time));
        }
        end = at?;
    }
}

/// The date of a `Date` field (RFC 5322, 3.3 and 4.3), in UTC; also as asctime(3) writes it, and with `-` between
/// day, month and year.
pub fn date(value: &[u8]) -> Option<Timestamp> {
    let value = match memchr::memchr(b',', value) {
        Some(comma) if comma < 12 => value.get(comma + 1..)?,
        _ => value,
    };
    let words = words(value);
    let mut words = words.as_slice();
    if let [first, rest @ ..] = words
        && is_weekday(first)
    {
        if rest.first().is_some_and(|word| month(word).is_some()) {
            return asctime(value);
        }
        // A weekday without its comma.
        words = rest;
    }
    let [first, rest @ ..] = words else { return None };
    let dashed: SmallVec<[&[u8]; 4]> = first.split(|byte| *byte == b'-').collect();
    let (date, rest) = match (dashed.as_slice(), rest) {
        (&[day, month, year], rest) => ([day, month, year], rest),
        (&[day], &[month, year, ref rest @ ..]) => ([day, month, year], rest),
        _ => return None,
    };
    let [day, name, years] = date;
    let (day, month, year) = (number(day, 2)?, month(name)?, year(years)?);
    let [time, rest @ ..] = rest else { return None };
    // The zone may follow without a blank.
    let end = time.iter().position(|byte| !byte.is_ascii_digit() && *byte != b':').unwrap_or(time.len());
    let (time, close) = time.split_at(end);
    let offset = if close.is_empty() { zone(rest) } else { zone(&[close]) };
    timestamp(year, month, day, clock(time)?, offset)
}

/// The time at which a server took a message: the last part of its `Received` field.
pub fn received(value: &[u8]) -> Option<Timestamp> {
    date(value.get(memchr::memrchr(b';', value)? + 1..)?)
}

/// `Mon Apr 29 00:01:27 2019`, also with `CEST` or `+0200` before the year or after it.
fn asctime(text: &[u8]) -> Option<Timestamp> {
    if let Some(time) = text.trim_ascii_end().try_into().ok().and_then(exact_asctime) {
        return Some(time);
    }
    let words = words(text);
    let mut words = words.iter().copied().skip(1);
    let (month, day) = (month(words.next()?)?, number(words.next()?, 2)?);
    let seconds = clock(words.next()?)?;
    let (first, rest): (_, SmallVec<[&[u8]; 8]>) = (words.next()?, words.collect());
    let year = |word: &[u8]| number(word, 4).filter(|_| word.len() == 4);
    let (year, offset) = match (year(first), rest.as_slice()) {
        (Some(year), rest) => (year, zone(rest)),
        (None, [second, ..]) => (year(second)?, zone(&[first])),
        (None, []) => return None,
    };
    timestamp(year, month, day, seconds, offset)
}

/// Exactly as asctime(3) writes it, as nearly all are: every part has its place.
fn exact_asctime(text: &[u8; 24]) -> Option<Timestamp> {
    let [_, _, _, b' ', m1, m2, m3, b' ', d1, d2, b' ', clock_and_year @ ..] = text else { return None };
    let (time, year) = clock_and_year.split_at(8);
    let day = if *d1 == b' ' { number(&[*d2], 1)? } else { number(&[*d1, *d2], 2)? };
    let year = number(year.strip_prefix(b" ")?, 4)?;
    timestamp(year, month(&[*m1, *m2, *m3])?, day, clock(time)?, 0)
}

fn words(text: &[u8]) -> SmallVec<[&[u8]; 8]> {
    let words = text.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    words.take(MAX_WORDS).collect()
}

fn is_weekday(text: &[u8]) -> bool {
    const DAYS: [&[u8; 3]; 7] = [b"mon", b"tue", b"wed", b"thu", b"fri", b"sat", b"sun"];
    text.first_chunk()
        .is_some_and(|name: &[u8; 3]| DAYS.contains(&&name.map(|byte| byte.to_ascii_lowercase())))
}

fn month(word: &[u8]) -> Option<u64> {
    const MONTHS: [&[u8; 3]; 12] =
        [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];
    let name = word.first_chunk::<3>()?.map(|byte| byte.to_ascii_lowercase());
    (1..).zip(MONTHS).find(|(_, month)| name == **month).map(|(number, _)| number)
}

/// Years of two digits are those of RFC 5322, 4.3.
fn year(word: &[u8]) -> Option<u64> {
    let year = number(word, 4)?;
    Some(match word.len() {
        1 | 2 if year < 50 => year + 2000,
        1..=3 => year + 1900,
        _ => year,
    })
}

/// A number of at most `digits` digits and nothing else.
fn number(word: &[u8], digits: usize) -> Option<u64> {
    let good = (1..=digits).contains(&word.len()) && word.iter().all(u8::is_ascii_digit);
    good.then(|| word.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Seconds since midnight: `HH:MM`, `HH:MM:SS`.
fn clock(word: &[u8]) -> Option<u64> {
    let mut parts = word.splitn(3, |byte| *byte == b':');
    let hours = number(parts.next()?, 2).filter(|hours| *hours < 24)?;
    let minutes = number(parts.next()?, 2).filter(|minutes| *minutes < 60)?;
    // 60 is a leap second.
    let seconds = parts.next().map_or(Some(0), |seconds| number(seconds, 2)).filter(|s| *s <= 60)?;
    Some(hours * 3600 + minutes * 60 + seconds)
}

/// Seconds east of Greenwich, as the words after a time say: `+0200`, `+02:00`, `+02`, `CEST`, `GMT+2`,
/// `(UTC) -0500`. Comments say nothing where there is more.
fn zone(words: &[&[u8]]) -> i64 {
    let mut comment = false;
    let mut said = words.iter().filter(|word| {
        let inside = comment || word.starts_with(b"(");
        comment = inside && !word.ends_with(b")");
        !inside
    });
    let Some(word) = said.next() else { return 0 };
    // `+0200(CEST)`, `"GMT"`, `EST;`.
    let word = word.split(|byte| *byte == b'(').next().unwrap_or_default();
    let is_quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b';' | b',');
    let begin = word.iter().position(|byte| !is_quote(byte)).unwrap_or(word.len());
    let end = word.iter().rposition(|byte| !is_quote(byte)).map_or(begin, |last| last + 1);
    let word = word.get(begin..end).unwrap_or_default();
    let sign = word.iter().position(|byte| matches!(byte, b'+' | b'-'));
    let (name, offset) = word.split_at(sign.unwrap_or(word.len()));
    match (name, offset) {
        (name, []) => named_zone(name),
        (b"", offset) => offset_of(offset).unwrap_or(0),
        // Of other names with a number, as POSIX has them, nobody can say to which side it counts.
        (name, offset) if is_greenwich(name) => offset_of(offset).unwrap_or(0),
        _ => 0,
    }
}

fn is_greenwich(name: &[u8]) -> bool {
    [&b"gmt"[..], b"utc", b"ut"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// `+0200`, `+02:00`, `-5`; `None` if it is no time of the day.
fn offset_of(word: &[u8]) -> Option<i64> {
    let (sign, digits) = word.split_first()?;
    let (hours, minutes) = match memchr::memchr(b':', digits) {
        Some(colon) => (digits.get(..colon)?, digits.get(colon + 1..)?),
        None if digits.len() > 2 => digits.split_at(digits.len() - 2),
        None => (digits, &b"0"[..]),
    };
    let hours = number(hours, 2).filter(|hours| *hours < 24)?;
    let minutes = number(minutes, 2).filter(|minutes| *minutes < 60)?;
    let seconds = i64::try_from(hours * 3600 + minutes * 60).ok()?;
    Some(if *sign == b'-' { -seconds } else { seconds })
}

/// Names that mean one zone only: those of RFC 5322, 4.3, and those of Europe, Japan, Australia and New Zealand.
fn named_zone(name: &[u8]) -> i64 {
    let Some(name) = name.first_chunk::<3>().filter(|_| name.len() <= 4).map(|_| name.to_ascii_uppercase())
    else {
        return 0;
    };
    let minutes = match name.as_slice() {
        b"HST" => -600,
        b"AKST" => -540,
        b"PST" | b"AKDT" => -480,
        b"MST" | b"PDT" => -420,
        b"CST" | b"MDT" => -360,
        b"EST" | b"CDT" => -300,
        b"EDT" => -240,
        b"WEST" | b"BST" | b"CET" | b"MET" | b"MEZ" => 60,
        b"CEST" | b"MEST" | b"MESZ" | b"EET" => 120,
        b"EEST" | b"MSK" => 180,
        b"JST" => 540,
        b"AEST" => 600,
        b"AEDT" => 660,
        b"NZST" => 720,
        b"NZDT" => 780,
        _ => 0,
    };
    minutes * 60
}

fn timestamp(year: u64, month: u64, day: u64, seconds: u64, offset: i64) -> Option<Timestamp> {
    let year = i16::try_from(year).ok().filter(|year| *year <= LAST_YEAR)?;
    let date = jiff::civil::Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?;
    let midnight = i64::from(days_since_1970(date)) * 86_400;
    let seconds = midnight.checked_add(i64::try_from(seconds).ok()?)?.checked_sub(offset)?;
    Some(Timestamp::from_millis(u64::try_from(seconds).ok()?.checked_mul(1000)?))
}

/// Howard Hinnant's `days_from_civil`, for years from 0.
fn days_since_1970(date: jiff::civil::Date) -> i32 {
    let (month, day) = (i32::from(date.month()), i32::from(date.day()));
    let year = i32::from(date.year()) - i32::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn utc(text: &str) -> Option<Timestamp> {
        let time: jiff::Timestamp = text.parse().unwrap();
        Some(Timestamp::from_millis(u64::try_from(time.as_millisecond()).unwrap()))
    }

    #[test]
    fn from_lines_as_archives_have_them() {
        let arrival = |line: &str| from_line(line.as_bytes()).map(|(_, time)| time);
        for line in [
            "From a@x.example Mon Apr 29 00:01:27 2019",
            "From a@x.example Mon Apr 29 00:01:27 2019\r\n",
            "From  Mon Apr 29 00:01:27 2019",
            "From Mon Tue@x.example Mon Apr 29 00:01:27 2019",
            "From a@x.example Mon Apr 29 02:01:27 2019 +0200",
            "From a@x.example Mon Apr 29 00:01:27 +0000 2019",
            "From a@x.example Sun Apr 28 20:01:27 EDT 2019",
            "From a@x.example  mon apr 29 00:01:27 GMT 2019 remote from host",
            "From a@x.example Mon Apr 29 00:01:27 2019 remote from host",
            "From a@x.example Mon Apr 29 02:01:27 2019 +02:00",
            "From a@x.example Mon Apr 29 02:01:27 CEST 2019",
            "From a@x.example Mon Apr 29 02:01:27 2019 cest",
        ] {
            assert_eq!(arrival(line), utc("2019-04-29T00:01:27Z"), "{line}");
        }
        for line in [
            "",
            "From ",
            "From here on it is Monday",
            "From: a@x.example Mon Apr 29 00:01:27 2019",
            "From a@x.example Mon Apr 31 00:01:27 2019",
            "From a@x.example Mon Apr 29 25:01:27 2019",
            "From a@x.example Mon Apr 29 00:01:27 1960",
            "From a@x.example Mon Apr 29 00:01:27",
            "From a@x.example Man Apr 29 00:01:27 2019",
            "From a@x.exampleMon Apr 29 00:01:27 2019",
            "From a@x.example Fri Dec 31 23:59:59 9999",
        ] {
            assert_eq!(arrival(line), None, "{line}");
        }
        let sender = from_line(b"From john doe@x.example Mon Apr  9 0:01 2019").unwrap().0;
        assert_eq!(sender, b"john doe@x.example");
    }

    #[test]
    fn dates_as_mail_has_them() {
        for text in [
            "Tue, 30 Apr 2019 19:29:07 +0000",
            "Tue, 30 Apr 2019 19:29:07 +0000 (UTC)",
            "  Tue,   30 Apr 2019 21:29:07 +0200",
            "30 Apr 2019 14:29:07 -0500",
            "Tue 30 Apr 19 19:29:07 GMT",
            "Tue, 30 Apr 2019\n 15:29:07 EDT",
            "30 April 2019 19:29:07",
            "Tue, 30 Apr 2019 21:29:07 +02:00",
            "Tue, 30 Apr 2019 21:29:07 +02",
            "Tue, 30 Apr 2019 21:29:07+0200",
            "Tue, 30 Apr 2019 13:59:07 -530",
            "Tue, 30 Apr 2019 21:29:07 +0200(CEST)",
            "Tue, 30 Apr 2019 21:29:07 (CEST) +0200",
            "Tue, 30 Apr 2019 21:29:07 (Central European Summer Time) +0200",
            "Tue, 30 Apr 2019 19:29:07 (EST)",
            "Tue, 30 Apr 2019 21:29:07 CEST",
            "Tue, 30 Apr 2019 21:29:07 MESZ",
            "Tue, 30 Apr 2019 21:29:07 GMT+2",
            "Tue, 30 Apr 2019 21:29:07 UTC+0200",
            "Tue, 30 Apr 2019 15:29:07 edt",
            "Tue, 30 Apr 2019 12:29:07 Pdt",
            "Tue, 30 Apr 2019 14:29:07 EST",
            "Tue, 30 Apr 2019 12:29:07 MST",
            "Tue, 30 Apr 2019 13:29:07 MDT",
            "Tue, 30 Apr 2019 14:29:07 CDT",
            "Tue, 30 Apr 2019 13:29:07 CST",
            "Tue, 30 Apr 2019 11:29:07 PST",
            "Tue, 30 Apr 2019 19:29:07 \"GMT\"",
            "Tue, 30 Apr 2019 19:29:07 Z",
            "Tue, 30 Apr 2019 19:29:07 A",
            "Tue, 30 Apr 2019 19:29:07 -0000",
            "Tue, 30 Apr 2019 19:29:07 XYZT",
            "Tue, 30 Apr 2019 19:29:07 EST+5",
            "Tue, 30 Apr 2019 19:29:07 +9900",
            "Tue, 30 Apr 2019 19:29:07 +02:0x",
            "Tuesday, 30-Apr-19 19:29:07 GMT",
            "30-Apr-2019 15:29:07 -0400",
            "Tue Apr 30 19:29:07 2019",
            "Tue Apr 30 21:29:07 2019 +0200",
            "Tue Apr 30 21:29:07 CEST 2019",
        ] {
            assert_eq!(date(text.as_bytes()), utc("2019-04-30T19:29:07Z"), "{text}");
        }
        for text in [
            "",
            ",",
            "Tue, ",
            "Tue",
            "Tue Apr",
            "30-Apr",
            "1-2-3-4 x",
            "30-Apr-19",
            "yesterday",
            "30 Apr",
            "99 Apr 2019 19:29 +0000",
            "30 Apr 99999 1:1 Z",
            "31 Dec 9999 23:59 Z",
        ] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
        let last = date(b"31 Dec 9998 23:59:59 Z").unwrap();
        assert_eq!(
            last.after(std::time::Duration::from_secs(300 * 86_400)).rfc3339(),
            "9999-10-27T23:59:59Z"
        );
        assert_eq!(date(b"1 Jan 99 00:00 Z"), utc("1999-01-01T00:00:00Z"));
        let value = b"from a by b (c; d) with ESMTP id 1;\n\tTue, 30 Apr 2019 12:29:07 -0700 (PDT)";
        assert_eq!(received(value), utc("2019-04-30T19:29:07Z"));
        assert_eq!(received(b"from a by b"), None);
    }

    proptest! {
        #[test]
        fn every_second_is_read_as_it_was_written(seconds in 0..253_370_764_800_i64) {
            let time = jiff::Timestamp::from_second(seconds).unwrap().to_zoned(jiff::tz::TimeZone::UTC);
            let expected = Some(Timestamp::from_millis(seconds as u64 * 1000));
            prop_assert_eq!(date(time.strftime("%a, %d %b %Y %H:%M:%S %z").to_string().as_bytes()), expected);
            let line = time.strftime("From x %a %b %e %H:%M:%S %Y").to_string();
            prop_assert_eq!(from_line(line.as_bytes()).map(|(_, time)| time), expected);
        }

        #[test]
        fn any_bytes_are_a_date_or_none(text in prop::collection::vec(any::<u8>(), 0..200)) {
            date(&text);
            received(&text);
            from_line(&[b"From ", text.as_slice()].concat());
        }
    }
}
