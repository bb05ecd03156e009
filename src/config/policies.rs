//! Which thresholds and which verdict hold for a list: the default, changed by its class, changed by the
//! `[[list]]` entries that name it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::storm::policy::{Mode, Policy, SuspicionAction};

/// One setting that a class or a list has of its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Override {
    Budget(u64),
    Free(u32),
    StormMin(u32),
    Max(u32),
    Window(Duration),
    Delay(Duration),
    Quiet(Duration),
    Cooling(Duration),
    ListFactor(u32),
    AutomaticMax(u32),
    KnownAfter(Duration),
    KnownFor(Duration),
    History(Duration),
    Mode(Mode),
    Suspicion(SuspicionAction),
    NeverHold(bool),
    RejectText(String),
    DeferText(String),
    LimitText(String),
}

impl Override {
    fn apply(&self, policy: &mut Policy) {
        let numbers = &mut policy.thresholds;
        match self {
            Self::Budget(value) => numbers.budget = *value,
            Self::Free(value) => numbers.free = *value,
            Self::StormMin(value) => numbers.storm_min = *value,
            Self::Max(value) => numbers.max = *value,
            Self::Window(value) => numbers.window = *value,
            Self::Delay(value) => numbers.delay = *value,
            Self::Quiet(value) => numbers.quiet = *value,
            Self::Cooling(value) => numbers.cooling = *value,
            Self::ListFactor(value) => numbers.list_factor = *value,
            Self::AutomaticMax(value) => numbers.automatic_max = *value,
            Self::KnownAfter(value) => numbers.known_after = *value,
            Self::KnownFor(value) => numbers.known_for = *value,
            Self::History(value) => numbers.history = *value,
            Self::Mode(value) => policy.mode = *value,
            Self::Suspicion(value) => policy.suspicion = *value,
            Self::NeverHold(value) => policy.never_hold = *value,
            Self::RejectText(value) => policy.reject_text.clone_from(value),
            Self::DeferText(value) => policy.defer_text.clone_from(value),
            Self::LimitText(value) => policy.limit_text.clone_from(value),
        }
    }
}

/// `policy` with `overrides` on top.
pub(super) fn with(mut policy: Policy, overrides: &[Override]) -> Policy {
    for setting in overrides {
        setting.apply(&mut policy);
    }
    policy
}

/// Settings that contradict each other: the key to point at, what is wrong, and the remedy.
pub(super) fn contradictions(policy: &Policy) -> Vec<(&'static [&'static str], String, &'static str)> {
    let numbers = &policy.thresholds;
    let mut found: Vec<(&'static [&'static str], String, &'static str)> = Vec::new();
    if numbers.storm_min < numbers.free {
        let message = format!("`storm_min` ({}) is below `free` ({})", numbers.storm_min, numbers.free);
        found.push((&["storm_min", "free"], message, "raise `storm_min` or lower `free`"));
    }
    if numbers.max < numbers.storm_min {
        let message = format!("`max` ({}) is below `storm_min` ({})", numbers.max, numbers.storm_min);
        found.push((&["max", "storm_min"], message, "raise `max` or lower `storm_min`"));
    }
    if numbers.known_for <= numbers.known_after {
        let message = "`known_for` is not above `known_after`: nobody would ever be known".to_owned();
        found.push((&["known_for", "known_after"], message, "raise `known_for` or lower `known_after`"));
    }
    found
}

/// The policies of all lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policies {
    pub(super) default: Policy,
    pub(super) classes: BTreeMap<String, Vec<Override>>,
    /// By address, in lower case.
    pub(super) exact: BTreeMap<String, Entry>,
    /// In the order of the file.
    pub(super) patterns: Vec<(String, Entry)>,
}

/// What a `[[list]]` entry says of its lists.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entry {
    pub class: Option<String>,
    pub overrides: Vec<Override>,
    pub public_name: Option<String>,
}

impl Policies {
    /// The policy of mail to many recipients and of lists that nothing is said of.
    pub fn default_policy(&self) -> &Policy {
        &self.default
    }

    /// The policy of the list `address` (in lower case, as the directory knows it): the default, then its class,
    /// then every pattern that matches it in the order of the file, then the entry of that very address. The
    /// class is that of its entry or of the last matching pattern that names one; else `class`, which is what
    /// the directory knows.
    ///
    /// Every number is within its range, and they do not contradict each other.
    pub fn for_list(&self, address: &str, class: Option<&str>) -> Policy {
        let matching = self.patterns.iter().filter(|(pattern, _)| matches(pattern, address));
        let entries: Vec<&Entry> = matching.map(|(_, entry)| entry).chain(self.exact.get(address)).collect();
        let class = entries.iter().rev().find_map(|entry| entry.class.as_deref()).or(class);
        let of_class = class.and_then(|class| self.classes.get(class));
        let mut policy = with(self.default.clone(), of_class.map_or(&[][..], Vec::as_slice));
        for entry in entries {
            policy = with(policy, &entry.overrides);
        }
        settle(policy)
    }

    /// What everybody may know the list `address` as: of its own entry, or of the last pattern that matches it and
    /// says so.
    pub fn public_name(&self, address: &str) -> Option<&str> {
        let matching = self.patterns.iter().rev().filter(|(pattern, _)| matches(pattern, address));
        let mut entries = self.exact.get(address).into_iter().chain(matching.map(|(_, entry)| entry));
        entries.find_map(|entry| entry.public_name.as_deref())
    }

    /// True where some list's mail may be held, refused or dropped.
    pub fn enforces(&self) -> bool {
        let enforces = |setting: &Override| matches!(setting, Override::Mode(mode) if *mode != Mode::Observe);
        let entries = self.exact.values().chain(self.patterns.iter().map(|(_, entry)| entry));
        self.default.mode != Mode::Observe
            || self.classes.values().flatten().any(enforces)
            || entries.flat_map(|entry| &entry.overrides).any(enforces)
    }
}

/// Each entry is checked with its class when the file is read; only several patterns that match one address can
/// still contradict each other. Then the later threshold gives way.
fn settle(mut policy: Policy) -> Policy {
    const DAY: Duration = Duration::from_secs(86_400);
    let numbers = &mut policy.thresholds;
    numbers.storm_min = numbers.storm_min.max(numbers.free);
    numbers.max = numbers.max.max(numbers.storm_min);
    if numbers.known_for <= numbers.known_after {
        numbers.known_for = numbers.known_after.saturating_add(DAY);
    }
    policy
}

/// Whether `text` is what `pattern` says; `*` stands for any number of characters. Takes time in the product of
/// the two lengths at most.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken so far.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(wanted) if wanted == byte => {
                at += 1;
                from += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                at = star_at + 1;
                from = taken + 1;
            }
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(class: Option<&str>, overrides: Vec<Override>) -> Entry {
        Entry { class: class.map(str::to_owned), overrides, public_name: None }
    }

    #[test]
    fn the_more_special_setting_wins() {
        let policies = Policies {
            default: Policy { mode: Mode::Hold, ..Policy::default() },
            classes: BTreeMap::from([(
                "huge".to_owned(),
                vec![Override::Budget(1), Override::Free(1), Override::Max(19)],
            )]),
            exact: BTreeMap::from([("all@x.org".to_owned(), entry(Some("huge"), vec![Override::Free(4)]))]),
            patterns: vec![
                ("*@x.org".to_owned(), entry(None, vec![Override::Free(2), Override::Max(18)])),
                ("a*@x.org".to_owned(), entry(None, vec![Override::Max(17)])),
            ],
        };
        let policy = policies.for_list("all@x.org", None);
        assert_eq!(
            (policy.mode, policy.thresholds.budget, policy.thresholds.free, policy.thresholds.max),
            (Mode::Hold, 1, 4, 17)
        );
        assert_eq!(policies.for_list("b@x.org", None).thresholds.max, 18);
        assert_eq!(policies.for_list("b@y.org", Some("huge")).thresholds.max, 19);
        assert_eq!(policies.for_list("b@y.org", Some("gone")), *policies.default_policy());
    }

    #[test]
    fn patterns_that_contradict_each_other_are_settled() {
        const DAY: Duration = Duration::from_secs(86_400);
        let policies = Policies {
            patterns: vec![
                ("*".to_owned(), entry(None, vec![Override::Max(10), Override::KnownFor(DAY)])),
                ("a*".to_owned(), entry(None, vec![Override::StormMin(15), Override::KnownAfter(2 * DAY)])),
            ],
            ..Policies::default()
        };
        let policy = policies.for_list("all@x.org", None);
        assert_eq!(policy.thresholds.max, 15);
        assert_eq!(contradictions(&policy), vec![]);
    }

    #[test]
    fn patterns() {
        assert!(matches("all-*@*.example", "all-staff@mail.example"));
        assert!(matches("*", ""));
        assert!(matches("a*a", "aa"));
        assert!(!matches("a*a", "a"));
        assert!(!matches("all@x", "all@xy"));
    }

    /// What a pattern means, said plainly.
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| naive(rest, &text[taken..])),
            Some((wanted, rest)) => {
                text.split_first().is_some_and(|(byte, after)| byte == wanted && naive(rest, after))
            }
        }
    }

    proptest! {
        #[test]
        fn matching_is_what_the_naive_matcher_says(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(matches(&pattern, &text), naive(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
