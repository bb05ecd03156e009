//! Rules that others live by, to compare becalm's with: what would they have let through on the same mail?
//!
//! Each is as its maker documents it, and generous where that leaves something open: it is told apart by the
//! same conversations, lists and audiences as becalm's rule, and refuses nothing that it does not have to.

mod exchange;
mod memory;
mod rate;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::judge::{Judge, Posting, Ruling};
use exchange::ExchangeOnline;
use rate::{RateLimit, Unit};

/// Most messages that a plain rate limit remembers for one list, 8 bytes each.
const MAX_MESSAGES: u64 = 100_000;

/// A rule by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RivalName {
    /// Exchange Online's reply-all storm protection, as it comes: ten answers to at least 2,500 recipients in one
    /// conversation within 60 minutes, then six hours in which answers to it are refused
    /// (<https://techcommunity.microsoft.com/t5/exchange-team-blog/reply-all-storm-protection-customizable-settings/ba-p/2328371>).
    ExchangeOnline,
    /// At most so many messages to one list in any time of that length. LISTSERV's Daily-Threshold, 50 a day
    /// (<https://lsoft.com/manuals/17.0/listkwd/kDailyThreshold.html>), is the default.
    RateLimit {
        /// Messages, 1 to 100,000.
        messages: u64,
        /// A minute, an hour or a day.
        per: Per,
    },
    /// Google Groups: at most 6,200,000 recipients an hour for one group
    /// (<https://support.google.com/a/answer/6099642>).
    GoogleGroups,
}

/// The length of time of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Per {
    /// 60 seconds.
    Minute,
    /// 60 minutes.
    Hour,
    /// 24 hours.
    Day,
}

impl Per {
    fn length(self) -> Duration {
        Duration::from_secs(match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        })
    }

    fn letter(self) -> char {
        match self {
            Self::Minute => 'm',
            Self::Hour => 'h',
            Self::Day => 'd',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

impl RivalName {
    /// The rule, with nothing counted yet.
    pub fn rule(self) -> Rival {
        let rate = |most, per: Per, unit| Rule::Rate(RateLimit::new(most, per.length(), unit));
        let rule = match self {
            Self::ExchangeOnline => Rule::Exchange(ExchangeOnline::default()),
            Self::RateLimit { messages, per } => rate(messages, per, Unit::Messages),
            Self::GoogleGroups => rate(6_200_000, Per::Hour, Unit::Copies),
        };
        Rival { name: self, rule }
    }

    /// What it does, in words for a report.
    pub fn about(self) -> String {
        match self {
            Self::ExchangeOnline => {
                "10 answers to 2,500 recipients or more in one conversation within 60 minutes; \
                                     3 minutes later answers to it are refused for 6 hours"
                    .to_owned()
            }
            Self::RateLimit { messages, per } => {
                format!("at most {messages} messages to a list within a {}", per.word())
            }
            Self::GoogleGroups => "at most 6,200,000 copies of mail to a list within an hour".to_owned(),
        }
    }
}

/// As it is written on the command line.
impl fmt::Display for RivalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ExchangeOnline => f.write_str("exchange-online"),
            Self::RateLimit { messages, per } => write!(f, "rate-limit={messages}/{}", per.letter()),
            Self::GoogleGroups => f.write_str("google-groups"),
        }
    }
}

/// Why a name is none of these rules'.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRival {
    /// Another name altogether.
    #[error("no rule is called `{0}`; there are exchange-online, rate-limit=N/h and google-groups")]
    Unknown(String),
    /// A rate that is none.
    #[error("`{0}` is no rate: write N/m, N/h or N/d with N from 1 to 100000, such as `rate-limit=50/d`")]
    Rate(String),
}

impl FromStr for RivalName {
    type Err = NoRival;

    fn from_str(text: &str) -> Result<Self, NoRival> {
        match text.split_once('=') {
            None if text == "exchange-online" => Ok(Self::ExchangeOnline),
            None if text == "google-groups" => Ok(Self::GoogleGroups),
            None if text == "rate-limit" => Ok(Self::RateLimit { messages: 50, per: Per::Day }),
            Some(("rate-limit", rate)) => parse_rate(rate).ok_or_else(|| NoRival::Rate(rate.to_owned())),
            _ => Err(NoRival::Unknown(text.to_owned())),
        }
    }
}

fn parse_rate(text: &str) -> Option<RivalName> {
    let (amount, unit) = text.split_once('/').unwrap_or((text, "h"));
    let per = match unit {
        "m" => Per::Minute,
        "h" => Per::Hour,
        "d" => Per::Day,
        _ => return None,
    };
    let messages = amount.parse().ok().filter(|n| (1..=MAX_MESSAGES).contains(n))?;
    Some(RivalName::RateLimit { messages, per })
}

/// A rule and what it has counted.
#[derive(Debug)]
pub struct Rival {
    name: RivalName,
    rule: Rule,
}

#[derive(Debug)]
enum Rule {
    Exchange(ExchangeOnline),
    Rate(RateLimit),
}

impl Judge for Rival {
    fn name(&self) -> String {
        self.name.to_string()
    }

    fn judge(&mut self, posting: &Posting) -> Ruling {
        match &mut self.rule {
            Rule::Exchange(rule) => rule.judge(posting),
            Rule::Rate(rule) => rule.judge(posting),
        }
    }
}

#[cfg(test)]
mod tests;
