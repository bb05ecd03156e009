//! Decides who gets a notice that his mail is on hold: each author once for a storm, and not too many in a minute.

use std::collections::{BTreeMap, HashSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::settings::NoticeSettings;
use crate::time::Timestamp;

/// Authors that are remembered over all storms; 8 bytes and some each. The oldest storm's go first.
const MOST_TOLD: usize = 50_000;

/// Notices that wait for their turn; more are not sent, and their authors may get one with their next message.
const MOST_WAITING: usize = 2_000;

/// One notice: with so many notices a minute, so much is allowed in a millisecond.
const ONE: u64 = 60_000;

/// Local parts that nobody reads, or that answer by themselves.
const NOBODY: [&str; 12] = [
    "mailer-daemon",
    "postmaster",
    "root",
    "daemon",
    "nobody",
    "noreply",
    "no-reply",
    "donotreply",
    "do-not-reply",
    "listserv",
    "majordomo",
    "mdaemon",
];

/// A message that was put on hold in a storm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its envelope sender, without `<>`.
    pub sender: String,
    /// The storm.
    pub storm: String,
    /// The list.
    pub list: String,
    /// Mailboxes that the list reaches.
    pub members: u64,
    /// Its Message-ID, without `<>`.
    pub message_id: Option<String>,
}

/// A notice to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Who gets it.
    pub to: String,
    /// Its subject.
    pub subject: String,
    /// Its text.
    pub text: String,
    /// The message that it is about.
    pub in_reply_to: Option<String>,
}

/// Who was told, as it outlives the process: storms with keyed hashes of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Told(BTreeMap<String, HashSet<u64>>);

/// Decides. One per daemon.
#[derive(Debug, Default)]
pub struct Notices {
    settings: NoticeSettings,
    told: Told,
    waiting: VecDeque<Notice>,
    /// What may be sent now, in units of [`ONE`], and as of when.
    allowed: u64,
    as_of: Timestamp,
    /// Candidates that were given up since the last call of [`Notices::take_dropped`].
    dropped: u64,
    changed: bool,
}

impl Notices {
    /// Other settings from now on.
    pub fn set(&mut self, settings: NoticeSettings) {
        self.settings = settings;
    }

    /// Who was told by an earlier process.
    pub fn recall(&mut self, told: Told) {
        for (storm, authors) in told.0 {
            self.told.0.entry(storm).or_default().extend(authors);
        }
        self.forget();
    }

    /// Who was told, if that has changed since the last call.
    pub fn memo(&mut self) -> Option<Told> {
        std::mem::take(&mut self.changed).then(|| self.told.clone())
    }

    /// A message was held. `author`: a keyed hash of its sender; `is_list`: is an address a list?
    pub fn consider(&mut self, candidate: &Candidate, author: u64, is_list: impl Fn(&str) -> bool) {
        let settings = &self.settings;
        if !settings.enabled
            || !may_be_told(&candidate.sender, &settings.domains)
            || is_list(&candidate.sender)
        {
            return;
        }
        if self.told.0.get(&candidate.storm).is_some_and(|told| told.contains(&author)) {
            return;
        }
        if self.waiting.len() >= MOST_WAITING {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.waiting.push_back(Notice {
            to: candidate.sender.clone(),
            subject: fill(&settings.subject, candidate),
            text: fill(&settings.text, candidate),
            in_reply_to: candidate.message_id.clone(),
        });
        self.told.0.entry(candidate.storm.clone()).or_default().insert(author);
        self.changed = true;
        self.forget();
    }

    /// The next notice, if the pace allows one.
    pub fn next(&mut self, now: Timestamp) -> Option<Notice> {
        let per_minute = u64::from(self.settings.per_minute);
        let passed = u64::try_from(now.since(self.as_of).as_millis()).unwrap_or(u64::MAX);
        // A minute fills the bucket.
        let more = passed.saturating_mul(per_minute);
        self.allowed = self.allowed.saturating_add(more).min(per_minute.saturating_mul(ONE));
        self.as_of = self.as_of.max(now);
        if self.allowed < ONE {
            return None;
        }
        let notice = self.waiting.pop_front()?;
        self.allowed -= ONE;
        Some(notice)
    }

    /// How many authors were not told since the last call, because too many waited.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    fn forget(&mut self) {
        let mut sum: usize = self.told.0.values().map(HashSet::len).sum();
        while sum > MOST_TOLD && self.told.0.len() > 1 {
            // Names begin with the time: the oldest first.
            sum = sum.saturating_sub(self.told.0.pop_first().map_or(0, |(_, told)| told.len()));
        }
        if sum > MOST_TOLD {
            self.told.0.clear();
        }
    }
}

/// Is somebody there who would read it, in one of these domains?
fn may_be_told(sender: &str, domains: &[String]) -> bool {
    let Some((local, domain)) = sender.rsplit_once('@') else { return false };
    let plain = sender
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b',' | b';' | b'"'));
    let local = local.to_ascii_lowercase();
    let program = NOBODY.contains(&local.as_str())
        || local.starts_with("owner-")
        || local.starts_with("bounce")
        || ["-request", "-bounces", "-owner", "-admin"].iter().any(|end| local.ends_with(end))
        // VERP, SRS, BATV.
        || local.contains('=');
    plain && !local.is_empty() && !program && domains.iter().any(|known| known.eq_ignore_ascii_case(domain))
}

fn fill(template: &str, candidate: &Candidate) -> String {
    template
        .replace("{list}", &candidate.list)
        .replace("{members}", &candidate.members.to_string())
        .replace("{since}", &since(&candidate.storm))
        .replace("{storm}", &candidate.storm)
}

/// When a storm began, from its name (`20161114T083012Z-3f2a`): `2016-11-14 08:30 UTC`.
fn since(storm: &str) -> String {
    let part = |from: usize, to: usize| storm.get(from..to).unwrap_or_default();
    let digits = part(0, 8).len() == 8 && storm.bytes().take(8).all(|byte| byte.is_ascii_digit());
    match digits && part(8, 9) == "T" {
        true => format!("{}-{}-{} {}:{} UTC", part(0, 4), part(4, 6), part(6, 8), part(9, 11), part(11, 13)),
        false => "a while ago".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> NoticeSettings {
        NoticeSettings {
            enabled: true,
            domains: vec!["example.org".to_owned()],
            per_minute: 2,
            ..NoticeSettings::default()
        }
    }

    fn candidate(sender: &str, storm: &str) -> Candidate {
        Candidate {
            sender: sender.to_owned(),
            storm: storm.to_owned(),
            list: "all@example.org".to_owned(),
            members: 840_000,
            message_id: Some("m@example.org".to_owned()),
        }
    }

    fn notices() -> Notices {
        let mut notices = Notices::default();
        notices.set(settings());
        notices
    }

    const STORM: &str = "20161114T083012Z-3f2a";

    #[test]
    fn each_author_is_told_once_for_a_storm() {
        let mut notices = notices();
        let at = |secs: u64| Timestamp::from_millis(1_000_000_000 + secs * 1000);
        for _ in 0..3 {
            notices.consider(&candidate("p@example.org", STORM), 1, |_| false);
        }
        let notice = notices.next(at(0)).expect("one");
        assert_eq!(notice.to, "p@example.org");
        assert!(
            notice.text.contains("since 2016-11-14 08:30 UTC") && notice.text.contains("840000"),
            "{}",
            notice.text
        );
        assert_eq!(notice.subject, "Your message to all@example.org is on hold");
        assert_eq!(notices.next(at(1)), None);
        notices.consider(&candidate("p@example.org", "20161115T083012Z-3f2a"), 1, |_| false);
        assert!(notices.next(at(2)).is_some(), "another storm");
        // A restart in between.
        let told = notices.memo().expect("it has changed");
        let mut after = super::tests::notices();
        after.recall(told);
        after.consider(&candidate("p@example.org", STORM), 1, |_| false);
        assert_eq!(after.next(at(60)), None);
    }

    #[test]
    fn nobody_is_told_who_does_not_read_it() {
        for sender in [
            "",
            "p",
            "@example.org",
            "p@elsewhere.example",
            "MAILER-DAEMON@example.org",
            "no-reply@example.org",
            "all-bounces@example.org",
            "list-bounces+p=example.com@example.org",
            "a b@example.org",
            "p@sub.example.org",
        ] {
            let mut notices = notices();
            notices.consider(&candidate(sender, STORM), 1, |_| false);
            assert_eq!(notices.next(Timestamp::from_millis(1 << 40)), None, "{sender}");
        }
        let mut notices = notices();
        notices.consider(&candidate("all@example.org", STORM), 1, |address| address == "all@example.org");
        assert_eq!(notices.next(Timestamp::from_millis(1 << 40)), None, "a list");
        notices.set(NoticeSettings { enabled: false, ..settings() });
        notices.consider(&candidate("p@example.org", STORM), 1, |_| false);
        assert_eq!(notices.next(Timestamp::from_millis(1 << 40)), None, "turned off");
    }

    #[test]
    fn no_more_than_so_many_in_a_minute() {
        let mut notices = notices();
        for author in 0..5_000 {
            notices.consider(&candidate(&format!("p{author}@example.org"), STORM), author, |_| false);
        }
        assert_eq!(notices.take_dropped(), 5_000 - MOST_WAITING as u64);
        let mut sent = 0;
        for tenth in 0..=3000 {
            while notices.next(Timestamp::from_millis(1_000_000_000 + tenth * 100)).is_some() {
                sent += 1;
            }
        }
        assert_eq!(sent, 2 + 2 * 5, "a full bucket, and five minutes");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut notices = notices();
        for storm in 0..30_u64 {
            for author in 0..2_000 {
                let name = format!("201611{:02}T083012Z-3f2a", storm + 1);
                notices.consider(&candidate("p@example.org", &name), author, |_| false);
                notices.waiting.clear();
            }
        }
        let sum: usize = notices.told.0.values().map(HashSet::len).sum();
        assert!(sum <= MOST_TOLD && sum > MOST_TOLD / 2, "{sum}");
    }
}
