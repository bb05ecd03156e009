//! Further days of which something is known: storms that were in the press, and calm days that look like one.
//!
//! As with the others, the totals are what was reported, and the course is chosen to fit them.

use rand::RngExt as _;

use super::{CALM, Crowd, HOUR, Kind, MINUTE, STORM, Style, exponential, poisson};

const DAY: f64 = 24.0 * HOUR;

/// 15 million mails in about an hour to 13,000 to 25,000 people: some 750 messages, a part of them receipts.
pub(super) const BEDLAM: Kind = Kind {
    name: "bedlam-1997",
    members: 20_000,
    about: "Bedlam DL3, 1997: \"me too\" and read receipts, 15 million mails, a tail of two days",
    course: |rng| {
        let burst = rng.random_range(10.0..14.0);
        let mut times = poisson(rng, 0.0, HOUR, |_| burst);
        times.extend(poisson(rng, HOUR, 2.0 * DAY, |at| 0.5 * (-(at - HOUR) / (8.0 * HOUR)).exp()));
        times
    },
    crowd: Crowd { style: Style::Mixed, ..STORM },
};

/// Thousands of people for ten days: every working day begins it again.
pub(super) const STATE: Kind = Kind {
    name: "state-2009",
    members: 5_000,
    about: "State Department, 2009: ten days, and recalls of replies that mailed everyone again",
    course: |rng| {
        let mut times = Vec::new();
        for day in 0..10 {
            let start = f64::from(day) * DAY;
            let rate = rng.random_range(0.3..1.0);
            times.extend(poisson(rng, start, start + 8.0 * HOUR, |at| {
                rate * (-(at - start) / (2.0 * HOUR)).exp()
            }));
        }
        times
    },
    crowd: Crowd { style: Style::Mixed, ..STORM },
};

/// Thousands of posts until about midnight.
pub(super) const NYU: Kind = Kind {
    name: "nyu-2012",
    members: 39_979,
    about: "New York University, 2012: an open list, thousands of replies until midnight",
    course: |rng| {
        let fuse = rng.random_range(0.0..30.0) * MINUTE;
        let rate = rng.random_range(3.0..6.0);
        poisson(rng, fuse, 12.0 * HOUR, |_| rate)
    },
    crowd: STORM,
};

/// NHS 2016's list with deliveries that lag by hours: people go on answering stale mail.
pub(super) const ECHO: Kind = Kind {
    name: "nhs-echo",
    members: 840_000,
    about: "NHS 2016 with deliveries 1 to 12 hours late: answers to stale copies until the next day",
    course: |rng| {
        let burst = rng.random_range(8.0..20.0);
        let mut times = poisson(rng, 0.0, 75.0 * MINUTE, |_| burst);
        let echoes = times.len() / 3;
        let lag = rng.random_range(1.0..12.0) * HOUR;
        times.extend((0..echoes).map(|_| lag + exponential(rng, 2.0 * HOUR)));
        times
    },
    crowd: STORM,
};

/// The worst minute: 300 answers at once.
pub(super) const PEAK: Kind = Kind {
    name: "nhs-peak",
    members: 840_000,
    about: "the same list, three hundred replies in one minute",
    course: |rng| (0..300).map(|_| rng.random_range(5.0 * MINUTE..6.0 * MINUTE)).collect(),
    crowd: STORM,
};

/// As answers come in life: most of them soon.
pub(super) const CALM_EARLY: Kind = Kind {
    name: "calm-announcement-early",
    members: 1_200_000,
    about: "an announcement and up to four replies to all, most of them at once",
    course: |rng| (0..rng.random_range(0..5)).map(|_| exponential(rng, 30.0 * MINUTE)).collect(),
    crowd: CALM,
};

/// The announcer corrects himself.
pub(super) const CALM_TWICE: Kind = Kind {
    name: "calm-announcement-twice",
    members: 1_200_000,
    about: "two announcements by the same person, and a reply to all after each",
    course: |rng| (0..3).map(|_| rng.random_range(0.0..4.0 * HOUR)).collect(),
    crowd: Crowd { style: Style::Announcer, ..CALM },
};

/// A lively thread among people who know the list.
pub(super) const CALM_DISCUSSION: Kind = Kind {
    name: "calm-discussion",
    members: 3_000,
    about: "thirty replies in an hour among ten people who write there every day",
    course: |rng| (0..30).map(|_| rng.random_range(0.0..HOUR)).collect(),
    crowd: Crowd { style: Style::Circle, ..CALM },
};
