//! `--policy`: which rules the mail is played to, side by side.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::ensure;
use serde::Serialize;

use super::configuration;
use crate::cli::figures::grouped;
use crate::config::Config;
use crate::replay::judge::Judge;
use crate::replay::report::html::MAX_POLICIES;
use crate::replay::report::{NearStorm, Report, StormReport, words};
use crate::replay::rival::{NoRival, RivalName};

/// A rule by what `--policy` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PolicyName {
    /// becalm's, as it is configured.
    Becalm,
    /// Somebody else's.
    Rival(RivalName),
    /// becalm's, under another configuration.
    File(PathBuf),
}

impl FromStr for PolicyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "becalm" {
            return Ok(Self::Becalm);
        }
        match text.parse() {
            Ok(rival) => Ok(Self::Rival(rival)),
            Err(NoRival::Unknown(_)) if Path::new(text).is_file() => Ok(Self::File(text.into())),
            Err(NoRival::Unknown(_)) => Err(format!(
                "`{text}` is neither a rule nor a file; there are becalm, exchange-online, rate-limit=N/h, \
                 google-groups, and any configuration file"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl PolicyName {
    /// The rules to be played: becalm's where none is named.
    pub fn all(named: &[Self]) -> anyhow::Result<Vec<Self>> {
        ensure!(named.len() <= MAX_POLICIES, "--policy compares {MAX_POLICIES} at most, not {}", named.len());
        Ok(if named.is_empty() { vec![Self::Becalm] } else { named.to_vec() })
    }

    /// Its name in a report.
    pub fn name(&self) -> String {
        match self {
            Self::Becalm => "becalm".to_owned(),
            Self::Rival(rival) => rival.to_string(),
            Self::File(path) => path.display().to_string(),
        }
    }

    /// What it does, in words.
    pub fn about(&self) -> String {
        match self {
            Self::Becalm => "newcomers to a list within its window, weighed in copies".to_owned(),
            Self::Rival(rival) => rival.about(),
            Self::File(_) => "becalm's rule under this configuration".to_owned(),
        }
    }

    /// The configuration to play with, where the rule is becalm's; else the rule.
    pub fn rule(&self, config: &Config) -> anyhow::Result<Result<Config, Box<dyn Judge>>> {
        Ok(match self {
            Self::Becalm => Ok(config.clone()),
            Self::Rival(rival) => Err(Box::new(rival.rule())),
            Self::File(path) => {
                let mut other = configuration(Some(path))?;
                let directory = &mut other.directory;
                if directory.lists.is_empty() && directory.aliases.is_empty() && directory.virtuals.is_empty()
                {
                    // Thresholds and limits alone: for the lists that are known.
                    directory.clone_from(&config.directory);
                    other.addresses.clone_from(&config.addresses);
                }
                Ok(other)
            }
        })
    }
}

/// What one rule made of the mail, without courses; of lists, the quietest thresholds.
#[derive(Debug, Serialize)]
pub(super) struct Compared<'a> {
    policy: &'a str,
    about: &'a str,
    messages: u64,
    list_messages: u64,
    conversations: u64,
    storms: &'a [StormReport],
    messages_delayed: u64,
    delay_p99_s: f64,
    delay_max_s: f64,
    messages_held_for_good: u64,
    messages_over_limit: u64,
    /// Null for rules that are not becalm's, as they count otherwise.
    near_storms: Option<&'a [NearStorm]>,
    quietest: Option<BTreeMap<&'a str, Option<u32>>>,
    copies_with: u64,
    copies_without: u64,
}

impl<'a> Compared<'a> {
    fn new(about: &'a str, report: &'a Report) -> Self {
        Self {
            policy: &report.policy,
            about,
            messages: report.messages,
            list_messages: report.list_messages,
            conversations: report.conversations,
            storms: &report.storms,
            messages_delayed: report.messages_delayed,
            delay_p99_s: report.delay_p99_s,
            delay_max_s: report.delay_max_s,
            messages_held_for_good: report.messages_held_for_good,
            messages_over_limit: report.messages_over_limit,
            near_storms: report.is_becalms.then_some(&report.near_storms),
            quietest: report
                .is_becalms
                .then(|| report.lists.iter().map(|list| (list.address.as_str(), list.quietest)).collect()),
            copies_with: report.copies_with,
            copies_without: report.copies_without,
        }
    }
}

/// The first policy's object, and all of them beside it.
#[derive(Serialize)]
struct Json<'a, T, P> {
    #[serde(flatten)]
    first: &'a T,
    policies: Vec<P>,
}

/// One JSON object: the first policy's; where there are several, each in `policies`.
pub(super) fn json(policies: &[(String, &Report)]) -> anyhow::Result<String> {
    let all = policies.iter().map(|(about, report)| Compared::new(about, report)).collect();
    beside(policies.first().map(|(_, report)| *report), all)
}

/// `first`, with `policies` in it where there are several.
pub(super) fn beside<T: Serialize, P: Serialize>(
    first: Option<&T>,
    policies: Vec<P>,
) -> anyhow::Result<String> {
    let text = match first {
        Some(first) if policies.len() > 1 => serde_json::to_string(&Json { first, policies })?,
        first => serde_json::to_string(&first)?,
    };
    Ok(text + "\n")
}

/// All policies, a line each; nothing where there is only one.
pub(super) fn side_by_side(policies: &[(String, &Report)]) -> String {
    let [(_, first), _, ..] = policies else { return String::new() };
    let mut text = "\nPolicies side by side\n".to_owned();
    let _ = writeln!(
        text,
        "  {:<28}{:>16}{:>10}{:>10}{:>18}{:>8}",
        "", "copies", "held", "delayed", "longest delay", "storms"
    );
    let mut line = |name: &str, copies: u64, cells: [String; 4]| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(27).collect();
        let [held, delayed, longest, storms] = cells;
        let _ = writeln!(
            text,
            "  {shown:<28}{:>16}{held:>10}{delayed:>10}{longest:>18}{storms:>8}",
            grouped(copies)
        );
    };
    for (_, report) in policies {
        let longest = match report.messages_delayed {
            0 => "-".to_owned(),
            _ => words::length(report.delay_max_s.round() as u64),
        };
        let cells = [
            grouped(report.messages_held_for_good),
            grouped(report.messages_delayed),
            longest,
            report.storms.len().to_string(),
        ];
        line(&report.policy, report.copies_with, cells);
    }
    line("no filter", first.copies_without, ["0", "0", "-", "-"].map(str::to_owned));
    // Another configuration may have other lists.
    for (_, other) in policies.iter().filter(|(_, other)| other.copies_without != first.copies_without) {
        let name = format!("no filter, {}", other.policy);
        line(&name, other.copies_without, ["0", "0", "-", "-"].map(str::to_owned));
    }
    text
}
