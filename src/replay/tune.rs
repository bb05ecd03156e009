//! Thresholds that past mail suggests, list by list.
//!
//! The mail is played at some thresholds; the lowest at which a list would have seen neither a storm nor a delay
//! is the suggestion. Where there is none, nothing is suggested: either the list had a storm, or it is livelier
//! than any threshold, and only somebody who looks at it can tell.
//!
//! The budget of copies is not varied beside the people: of a list whose size is known it does nothing but choose
//! their number between `storm_min` and `max`, and both are set here.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::report::{ListReport, Report, words};
use crate::storm::policy::Policy;

/// The thresholds that are tried, in place of all three of a storm: newcomers in a conversation, authors in it,
/// newcomers on the list.
pub const CANDIDATES: [u32; 4] = [5, 10, 15, 20];

/// Below this, silence says little.
const FEW_MESSAGES: u64 = 100;

/// `policy` with `people` as all thresholds of a storm.
pub fn at(people: u32, policy: Policy) -> Policy {
    let mut policy = policy;
    let numbers = &mut policy.thresholds;
    (numbers.storm_min, numbers.max, numbers.free) = (people, people, numbers.free.min(people));
    policy
}

/// What was played: as configured, and at each of [`CANDIDATES`].
pub struct Tried<'a> {
    /// Under the present configuration.
    pub present: &'a Report,
    /// Each threshold and its report, the lowest first.
    pub candidates: Vec<(u32, &'a Report)>,
    /// Lists that no source knows but the command line: their size goes into the fragment.
    pub sized_here: BTreeSet<String>,
}

impl Tried<'_> {
    /// A configuration fragment: an entry for every list with a suggestion, and for all of them, as comments,
    /// what each threshold would have done. At most as many lists as a report holds.
    ///
    /// `free` is the number of messages that always pass on a list, as it is configured.
    pub fn fragment(&self, free: impl Fn(&str) -> u32) -> String {
        let present = self.present;
        let mut text = String::new();
        for sentence in present.disorder().into_iter().flatten() {
            let _ = writeln!(text, "# {sentence}");
        }
        text.push_str(
            "# Suggested by becalm tune, from past mail. Paste what you want into becalm.toml; where a \
                        list has\n# an entry already, add the lines to that one. Only the people of a storm were varied; budget, window,\n# quiet and delay are as configured.\n",
        );
        if let (Some(first), Some(last)) = (present.first, present.last) {
            let _ = writeln!(
                text,
                "# {} to lists, from {} to {} (UTC).",
                words::many(present.list_messages, "message", "messages"),
                words::moment(first),
                words::moment(last)
            );
        }
        for (reason, count) in &present.skipped {
            let _ = writeln!(text, "# Not played: {}, {reason}.", words::count(*count));
        }
        if let Some(cut) = present.cut() {
            let _ = writeln!(text, "# {cut}");
        }
        for list in &present.lists {
            self.list(&mut text, list, &free);
        }
        if present.lists.is_empty() {
            text.push_str("# No list had mail: there is nothing to suggest.\n");
        }
        text
    }

    fn list(&self, text: &mut String, list: &ListReport, free: &impl Fn(&str) -> u32) {
        let shown: String = list.address.chars().filter(|c| !c.is_control()).collect();
        let _ = writeln!(
            text,
            "\n# {shown}: {}, {}",
            words::many(list.members, "member", "members"),
            words::many(list.messages, "message", "messages")
        );
        let _ = writeln!(text, "#   as configured: {}", outcome(list));
        let mut suggested = None;
        for (people, report) in &self.candidates {
            let Some(then) = report.lists.iter().find(|then| then.address == list.address) else { continue };
            let _ = writeln!(text, "#   at {people}: {}", outcome(then));
            if suggested.is_none() && then.storms == 0 && then.delayed == 0 && then.held == 0 {
                suggested = Some(*people);
            }
        }
        match list.quietest {
            Some(quietest) => {
                let _ = writeln!(text, "#   quietest threshold without a storm: {quietest}");
            }
            None => text.push_str("#   no threshold would have been without a storm\n"),
        }
        let Some(people) = suggested else {
            text.push_str("#   nothing suggested: `becalm replay` shows what came; leave it as it is if that was a storm\n");
            return;
        };
        if list.messages < FEW_MESSAGES {
            text.push_str("#   few messages: this says little\n");
        }
        let _ = writeln!(text, "[[list]]\naddress = {}", toml::Value::String(list.address.clone()));
        if self.sized_here.contains(&list.address) {
            let _ = writeln!(text, "members = {}", list.members);
        }
        let _ = writeln!(text, "storm_min = {people}\nmax = {people}");
        if free(&list.address) > people {
            let _ = writeln!(text, "free = {people}");
        }
    }
}

fn outcome(list: &ListReport) -> String {
    if (list.storms, list.delayed, list.held) == (0, 0, 0) {
        return "silent".to_owned();
    }
    format!(
        "{}, {} delayed, {} held",
        words::many(list.storms, "storm", "storms"),
        words::count(list.delayed),
        words::count(list.held)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(address: &str, storms: u64, held: u64) -> ListReport {
        ListReport {
            address: address.to_owned(),
            members: 3_000,
            messages: 1_000,
            held,
            delayed: 0,
            storms,
            near_storms: 0,
            peak_newcomers: 6,
            peak_authors: 7,
            peak_list_newcomers: 7,
            quietest: (storms == 0).then_some(8),
        }
    }

    fn report(lists: Vec<ListReport>) -> Report {
        Report { lists, list_messages: 2_000, ..Report::default() }
    }

    #[test]
    fn the_lowest_silent_threshold_is_suggested_and_a_storm_is_not_explained_away() {
        let (calm, wild) = ("calm@example.org", "wild@example.org");
        let present = report(vec![list(calm, 0, 0), list(wild, 1, 40)]);
        let at_5 = report(vec![list(calm, 2, 9), list(wild, 3, 60)]);
        let tried = Tried {
            present: &present,
            candidates: vec![(5, &at_5), (10, &present), (20, &present)],
            sized_here: BTreeSet::from([calm.to_owned()]),
        };
        let text = tried.fragment(|_| 3);
        let entries = "[[list]]\naddress = \"calm@example.org\"\nmembers = 3000\nstorm_min = 10\nmax = 10\n";
        assert!(text.contains(entries), "{text}");
        assert_eq!(text.matches("[[list]]").count(), 1, "{text}");
        assert!(text.contains("#   at 5: 3 storms, 0 delayed, 60 held"), "{text}");
        assert!(tried.fragment(|_| 12).contains("free = 10"));
    }

    #[test]
    fn mail_in_the_wrong_order_is_told_first() {
        let present =
            Report { messages: 1_000, out_of_order: 11, ..report(vec![list("l@example.org", 0, 0)]) };
        let tried = Tried { present: &present, candidates: Vec::new(), sized_here: BTreeSet::new() };
        let text = tried.fragment(|_| 3);
        assert!(text.starts_with("# The order of the mail is wrong: 11 of 1,000 messages"), "{text}");
        assert!(toml::from_str::<toml::Value>(&text).is_ok(), "{text}");
    }

    #[test]
    fn what_was_not_played_is_told() {
        let skipped = [("no time of arrival".to_owned(), 1_234), ("not a regular file".to_owned(), 1)];
        let present = Report { skipped: skipped.into(), ..report(Vec::new()) };
        let tried = Tried { present: &present, candidates: Vec::new(), sized_here: BTreeSet::new() };
        let text = tried.fragment(|_| 3);
        let told = "# Not played: 1,234, no time of arrival.\n# Not played: 1, not a regular file.\n";
        assert!(text.contains(told), "{text}");
    }

    #[test]
    fn a_threshold_takes_the_place_of_all_three() {
        let numbers = at(5, Policy::default()).thresholds;
        assert_eq!((numbers.storm_min, numbers.max, numbers.free), (5, 5, 3));
        let mut policy = Policy::default();
        policy.thresholds.free = 9;
        assert_eq!(at(5, policy).thresholds.free, 5);
    }
}
