//! Storms that happened and calm days that did not become one, generated from a seed.
//!
//! Nobody published a minute-by-minute curve of a real storm; these fit the totals that were reported. A storm
//! is a Poisson process of posts: most answer the first message, some answer each other, some begin new subjects
//! ("remove me"), some lose their headers on the way, a few people write twice, and a few of those who know the
//! list join in.
//!
//! Who writes what: a new subject is begun by somebody who has not written before and does not know the list,
//! for those who do know how to leave it. "Each other" is any earlier post, whatever its thread.

mod incidents;

use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::letter::Letter;
use crate::time::Timestamp;

/// The day of every scenario: 14 November 2016, 08:29 UTC.
pub const EPOCH: Timestamp = Timestamp::from_millis(1_479_112_140_000);

/// Authors who know the list wrote to it this long before.
pub const ACQUAINTANCE: Duration = Duration::from_secs(20 * 86_400);

const MINUTE: f64 = 60.0;
const HOUR: f64 = 3600.0;

/// Share of the answers that go to one of the new subjects.
const ANSWERS_NEW_SUBJECT: f64 = 0.12;

/// A generated storm or calm day.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// Members of the list.
    pub members: u64,
    /// Posts in order of time; the first is the message that set it off.
    pub posts: Vec<Post>,
}

/// One post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The message.
    pub letter: Letter,
    /// Does its author know the list from earlier days?
    pub known: bool,
}

/// A kind of storm or calm day; [`Kind::generate`] makes one from a seed.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// Members of the list.
    pub members: u64,
    /// What it was, or what it stands for.
    pub about: &'static str,
    course: fn(&mut ChaCha8Rng) -> Vec<f64>,
    crowd: Crowd,
}

/// Who posts, and how.
#[derive(Clone, Copy, Debug)]
struct Crowd {
    /// Share of posts under new subjects: drawn from this range.
    new_subjects: (f64, f64),
    /// Share of authors who know the list: drawn from this range.
    known: (f64, f64),
    /// Posts by regulars who know the list: one in four under a new subject, the others answer the first message.
    regulars: u32,
    /// Does the first author know the list?
    first_known: bool,
    style: Style,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    /// People.
    Crowd,
    /// Programs that answer by themselves.
    Automatic,
    /// One author who answers himself.
    Monologue,
    /// People, and programs that answer by themselves in between.
    Mixed,
    /// Ten people, all known to the list.
    Circle,
    /// People; the second message after the first is another one by its author.
    Announcer,
}

/// People of a [`Style::Circle`].
const CIRCLE: usize = 10;

/// Share of programs in a [`Style::Mixed`] crowd: receipts, recalls, out of office.
const PROGRAMS: f64 = 0.25;

const STORM: Crowd = Crowd {
    new_subjects: (0.1, 0.3),
    known: (0.0, 0.0),
    regulars: 4,
    first_known: false,
    style: Style::Crowd,
};
const CALM: Crowd = Crowd {
    new_subjects: (0.0, 0.0),
    known: (0.0, 0.0),
    regulars: 0,
    first_known: true,
    style: Style::Crowd,
};

/// Every storm, then every calm day.
pub const KINDS: &[Kind] = &[
    Kind {
        name: "nhs-2016",
        members: 840_000,
        about: "NHSmail, 14 November 2016: 500 million mails in 75 minutes",
        course: |rng| nhs(rng, (0.0, 10.0)),
        crowd: STORM,
    },
    Kind {
        name: "nhs-known",
        members: 840_000,
        about: "the same, its first author known to the list",
        course: |rng| nhs(rng, (0.0, 10.0)),
        crowd: Crowd { first_known: true, ..STORM },
    },
    Kind {
        name: "nhs-fuse",
        members: 840_000,
        about: "the same, with 96 minutes before the first reply",
        course: |rng| nhs(rng, (96.0, 96.0)),
        crowd: STORM,
    },
    Kind {
        name: "nhs-slow",
        members: 840_000,
        about: "the same list, one reply in two to five minutes for five hours",
        course: |rng| {
            let gap = rng.random_range(2.0..5.0);
            poisson(rng, 0.0, 5.0 * HOUR, |_| 1.0 / gap)
        },
        crowd: STORM,
    },
    Kind {
        name: "dhs-2007",
        members: 7_500,
        about: "Department of Homeland Security, 2007: 275 posts, a third under new subjects",
        course: |rng| (0..275).map(|_| exponential(rng, 3.0 * HOUR)).collect(),
        crowd: Crowd { new_subjects: (0.33, 0.34), ..STORM },
    },
    Kind {
        name: "waves",
        members: 85_000,
        about: "DISA, 2015: three waves seven hours apart, one per time zone",
        course: |rng| {
            let mut times = poisson(rng, 0.0, 15.0 * HOUR, |_| 1.0 / 40.0);
            for wave in 0..3 {
                let start = f64::from(wave) * 7.0 * HOUR;
                let (rate, minutes) = (rng.random_range(4.0..10.0), rng.random_range(30.0..60.0));
                times.extend(poisson(rng, start, start + minutes * MINUTE, |_| rate));
            }
            times
        },
        crowd: STORM,
    },
    Kind {
        name: "slow-burn",
        members: 30_000,
        about: "one reply in four minutes for six hours",
        course: |rng| poisson(rng, 0.0, 6.0 * HOUR, |_| 0.25),
        crowd: STORM,
    },
    Kind {
        name: "small",
        members: 300,
        about: "a department: some 40 posts in 90 minutes, up to half of the authors known to the list",
        course: |rng| poisson(rng, 0.0, 90.0 * MINUTE, |_| 40.0 / 90.0),
        crowd: Crowd { known: (0.0, 0.5), ..STORM },
    },
    Kind {
        name: "regulars",
        members: 2_000,
        about: "an hour of posts, three quarters of them by people known to the list",
        course: |rng| {
            let rate = rng.random_range(1.0..4.0);
            poisson(rng, 0.0, HOUR, |_| rate)
        },
        crowd: Crowd { known: (0.75, 0.76), ..STORM },
    },
    Kind {
        name: "recall",
        members: 2_500,
        about: "2006: a recall, and a report from every mailbox",
        course: |rng| (0..2_500).map(|_| rng.random_range(0.0..20.0 * MINUTE)).collect(),
        crowd: Crowd { style: Style::Automatic, regulars: 0, ..STORM },
    },
    incidents::BEDLAM,
    incidents::STATE,
    incidents::NYU,
    incidents::ECHO,
    incidents::PEAK,
    Kind {
        name: "calm-announcement",
        members: 1_200_000,
        about: "an announcement and up to four replies to all",
        course: |rng| {
            let hours = rng.random_range(1.0..6.0);
            (0..rng.random_range(0..5)).map(|_| rng.random_range(0.0..hours * HOUR)).collect()
        },
        crowd: CALM,
    },
    incidents::CALM_EARLY,
    incidents::CALM_TWICE,
    incidents::CALM_DISCUSSION,
    Kind {
        name: "calm-congratulation-400",
        members: 400,
        about: "twelve congratulations in twenty minutes",
        course: |rng| (0..12).map(|_| rng.random_range(0.0..20.0 * MINUTE)).collect(),
        crowd: CALM,
    },
    Kind {
        name: "calm-congratulation-5000",
        members: 5_000,
        about: "25 congratulations in two hours",
        course: |rng| (0..25).map(|_| rng.random_range(0.0..2.0 * HOUR)).collect(),
        crowd: CALM,
    },
    Kind {
        name: "calm-incident",
        members: 20_000,
        about: "one author who answers himself fifteen times in two hours",
        course: |rng| (0..15).map(|_| rng.random_range(0.0..2.0 * HOUR)).collect(),
        crowd: Crowd { style: Style::Monologue, ..CALM },
    },
];

impl Kind {
    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        KINDS.iter().find(|kind| kind.name == name).copied()
    }

    /// Is it a calm day?
    pub fn is_calm(&self) -> bool {
        self.name.starts_with("calm-")
    }

    /// The same seed gives the same posts, on every machine.
    pub fn generate(&self, seed: u64) -> Scenario {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut times = (self.course)(&mut rng);
        times.sort_by(f64::total_cmp);
        let mut writer = Writer::new(self, &mut rng);
        let mut posts = vec![writer.first()];
        let regulars = regular_times(&mut rng, &times, self.crowd.regulars);
        let mut all: Vec<(f64, bool)> = times.into_iter().map(|at| (at, false)).collect();
        all.extend(regulars.into_iter().map(|at| (at, true)));
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        posts.extend(all.into_iter().map(|(at, regular)| writer.post(&mut rng, at, regular)));
        Scenario { name: self.name, members: self.members, posts }
    }
}

/// The course of NHS 2016: a fuse, the burst, its decay, and stragglers until the evening.
fn nhs(rng: &mut ChaCha8Rng, fuse_minutes: (f64, f64)) -> Vec<f64> {
    let fuse = rng.random_range(fuse_minutes.0..=fuse_minutes.1) * MINUTE;
    let burst = rng.random_range(8.0..20.0);
    let end = fuse + 75.0 * MINUTE;
    let mut times = poisson(rng, fuse, end, |_| burst);
    let (tail, hours) = (rng.random_range(1.0..4.0), rng.random_range(1.0..3.0));
    times.extend(poisson(rng, end, end + 3.0 * hours * HOUR, |at| {
        tail * (-(at - end) / (hours * HOUR)).exp()
    }));
    times.extend((0..10).map(|_| rng.random_range(4.0 * HOUR..20.0 * HOUR)));
    times
}

/// Times of a Poisson process from `start` to `end` (seconds) with `rate` a minute; the rate may fall with time,
/// never rise.
fn poisson(rng: &mut ChaCha8Rng, start: f64, end: f64, rate: impl Fn(f64) -> f64) -> Vec<f64> {
    let most = rate(start);
    let mut times = Vec::new();
    let mut at = start;
    loop {
        at += exponential(rng, MINUTE / most);
        if at >= end {
            return times;
        }
        if rng.random::<f64>() * most < rate(at) {
            times.push(at);
        }
    }
}

fn exponential(rng: &mut ChaCha8Rng, mean: f64) -> f64 {
    -mean * (1.0 - rng.random::<f64>()).ln()
}

/// Regulars join in where others post.
fn regular_times(rng: &mut ChaCha8Rng, times: &[f64], count: u32) -> Vec<f64> {
    if times.is_empty() {
        return Vec::new();
    }
    (0..count).map(|_| times[rng.random_range(0..times.len())] + rng.random_range(0.0..MINUTE)).collect()
}

/// Writes the posts of one scenario.
struct Writer {
    kind: Kind,
    seed: u64,
    new_subjects: f64,
    loses_headers: f64,
    answers_first: f64,
    repeats: f64,
    known: f64,
    /// Authors so far, and whether they know the list.
    authors: Vec<bool>,
    posted: Vec<Posted>,
    /// Posts that began a new subject.
    new_threads: Vec<usize>,
}

/// What was posted.
struct Posted {
    id: String,
    subject: String,
    /// The post that began its thread.
    root: usize,
}

impl Writer {
    fn new(kind: &Kind, rng: &mut ChaCha8Rng) -> Self {
        let crowd = kind.crowd;
        Self {
            kind: *kind,
            seed: rng.random(),
            new_subjects: between(rng, crowd.new_subjects),
            loses_headers: rng.random_range(0.05..0.10) * 0.4,
            answers_first: rng.random_range(0.6..0.8),
            repeats: rng.random_range(0.10..0.20),
            known: between(rng, crowd.known),
            authors: Vec::new(),
            posted: Vec::new(),
            new_threads: Vec::new(),
        }
    }

    fn first(&mut self) -> Post {
        self.authors.push(self.kind.crowd.first_known);
        self.write(0.0, 0, "Test", None, false)
    }

    fn post(&mut self, rng: &mut ChaCha8Rng, at: f64, regular: bool) -> Post {
        if self.kind.crowd.style == Style::Automatic {
            let author = self.newcomer(false);
            return self.write(at, author, "Message Recall Report", Some(0), true);
        }
        if self.kind.crowd.style == Style::Mixed && !regular && rng.random_bool(PROGRAMS) {
            let author = self.newcomer(false);
            let subject = ["Automatic reply: Test", "Read: Test", "Recall: Test"][rng.random_range(0..3)];
            return self.write(at, author, subject, Some(0), true);
        }
        if self.kind.crowd.style == Style::Announcer && self.posted.len() == 2 {
            return self.write(at, 0, "Test, corrected", None, false);
        }
        let new_subject = rng.random_bool(if regular { 0.25 } else { self.new_subjects });
        let author = match self.kind.crowd.style {
            Style::Monologue => 0,
            Style::Circle if self.authors.len() >= CIRCLE => rng.random_range(0..CIRCLE),
            Style::Circle => self.newcomer(true),
            _ if regular => self.newcomer(true),
            _ if new_subject => self.newcomer(false),
            _ if self.authors.len() > 1 && rng.random_bool(self.repeats) => {
                rng.random_range(1..self.authors.len())
            }
            _ => {
                let known = self.known > 0.0 && rng.random_bool(self.known);
                self.newcomer(known)
            }
        };
        if new_subject {
            self.new_threads.push(self.posted.len());
            let subject =
                ["Please remove me", "STOP replying to all", "Unsubscribe", "Why am I getting this?"]
                    [rng.random_range(0..4)];
            return self.write(at, author, subject, None, false);
        }
        // Shares of those who answer.
        let draw: f64 = rng.random();
        let parent = if regular {
            0
        } else if !self.new_threads.is_empty() && draw < ANSWERS_NEW_SUBJECT {
            self.new_threads[rng.random_range(0..self.new_threads.len())]
        } else if draw < ANSWERS_NEW_SUBJECT + self.answers_first {
            0
        } else {
            rng.random_range(0..self.posted.len())
        };
        let subject = self.posted[parent].subject.clone();
        if matches!(self.kind.crowd.style, Style::Crowd | Style::Mixed)
            && !self.kind.is_calm()
            && rng.random_bool(self.loses_headers)
        {
            // Some gateway dropped the ids, and the client its prefix.
            return self.write(at, author, &subject, None, false);
        }
        let prefix = ["Re: ", "RE: ", "AW: ", "SV: ", "回复: "][rng.random_range(0..5)];
        self.write(at, author, &format!("{prefix}{subject}"), Some(parent), false)
    }

    fn newcomer(&mut self, known: bool) -> usize {
        self.authors.push(known);
        self.authors.len() - 1
    }

    fn write(
        &mut self,
        at: f64,
        author: usize,
        subject: &str,
        parent: Option<usize>,
        automatic: bool,
    ) -> Post {
        let number = self.posted.len();
        let id = format!("{:016x}.{number}@mail.example", self.seed);
        let sender = format!("person{author}@staff.example");
        let mut headers = vec![
            ("From".to_owned(), format!("Person {author} <{sender}>")),
            ("Subject".to_owned(), subject.to_owned()),
            ("Message-ID".to_owned(), format!("<{id}>")),
        ];
        if let Some(parent) = parent {
            let parent = &self.posted[parent];
            let (root, parent) = (&self.posted[parent.root].id, &parent.id);
            headers.push(("In-Reply-To".to_owned(), format!("<{parent}>")));
            headers.push(("References".to_owned(), format!("<{root}> <{parent}>")));
        }
        if automatic {
            headers.push(("Auto-Submitted".to_owned(), "auto-replied".to_owned()));
        }
        // The base subject of a reply is that of what it answers.
        let base = parent.map_or_else(|| subject.to_owned(), |parent| self.posted[parent].subject.clone());
        let root = parent.map_or(number, |parent| self.posted[parent].root);
        self.posted.push(Posted { id, subject: base, root });
        let letter = Letter { at: Duration::from_secs_f64(at), sender, headers };
        Post { letter, known: self.authors[author] }
    }
}

fn between(rng: &mut ChaCha8Rng, (low, high): (f64, f64)) -> f64 {
    if low < high { rng.random_range(low..high) } else { low }
}
