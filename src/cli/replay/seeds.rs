//! A scenario with many seeds: median, 95th percentile and worst of every figure.

use serde::Serialize;

use crate::cli::figures::grouped;
use crate::replay::report::Report;
use crate::replay::scenario::{Kind, Scenario};
use crate::replay::spread::Spread;

/// What many seeds gave. Where a figure is better low, worst is the highest.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    policy: String,
    scenario: &'static str,
    members: u64,
    seeds: u64,
    /// Seeds without a storm.
    never_tripped: u64,
    messages: Spread,
    list_messages: Spread,
    conversations: Spread,
    storms: Spread,
    suspicions: Spread,
    /// Let through in all, the first message and released ones included.
    messages_delivered: Spread,
    messages_delayed: Spread,
    messages_held_for_good: Spread,
    messages_over_limit: Spread,
    /// In whole seconds, rounded up; 0 in seeds without a delay.
    delay_p99_s: Spread,
    /// The same.
    delay_max_s: Spread,
    copies_with: Spread,
    copies_without: Spread,
    /// From the second message until a storm was declared, in seconds; of those that tripped.
    seconds_to_trip: Option<Spread>,
}

impl Summary {
    /// Plays seeds from 0.
    ///
    /// # Errors
    /// Those of `play`.
    pub fn of(
        kind: &Kind,
        seeds: u64,
        policy: String,
        play: impl Fn(&Scenario) -> anyhow::Result<Report>,
    ) -> anyhow::Result<Self> {
        let mut columns: [Vec<u64>; 13] = Default::default();
        let mut trips = Vec::new();
        let mut never_tripped = 0;
        for seed in 0..seeds {
            let scenario = kind.generate(seed);
            let report = play(&scenario)?;
            let figures = [
                report.messages,
                report.list_messages,
                report.conversations,
                report.storms.len() as u64,
                report.suspicions.len() as u64,
                report.messages.saturating_sub(report.messages_held_for_good),
                report.messages_delayed,
                report.messages_held_for_good,
                report.messages_over_limit,
                report.delay_p99_s.ceil() as u64,
                report.delay_max_s.ceil() as u64,
                report.copies_with,
                report.copies_without,
            ];
            for (column, figure) in columns.iter_mut().zip(figures) {
                column.push(figure);
            }
            let second =
                scenario.posts.get(1).map(|post| crate::replay::scenario::EPOCH.after(post.letter.at));
            match (report.storms.first(), second) {
                (Some(storm), Some(second)) => trips.push(storm.started.since(second).as_secs()),
                _ => never_tripped += 1,
            }
        }
        let [
            messages,
            list_messages,
            conversations,
            storms,
            suspicions,
            messages_delivered,
            messages_delayed,
            messages_held_for_good,
            messages_over_limit,
            delay_p99_s,
            delay_max_s,
            copies_with,
            copies_without,
        ] = columns.map(|column| Spread::of(column).unwrap_or(Spread { median: 0, p95: 0, worst: 0 }));
        Ok(Self {
            policy,
            scenario: kind.name,
            members: kind.members,
            seeds,
            never_tripped,
            messages,
            list_messages,
            conversations,
            storms,
            suspicions,
            messages_delivered,
            messages_delayed,
            messages_held_for_good,
            messages_over_limit,
            delay_p99_s,
            delay_max_s,
            copies_with,
            copies_without,
            seconds_to_trip: Spread::of(trips),
        })
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}, {}: {} members, {} seeds, {} of them without a storm\n\n{:<28}{:>16}{:>16}{:>16}\n",
            self.policy,
            self.scenario,
            grouped(self.members),
            grouped(self.seeds),
            grouped(self.never_tripped),
            "",
            "median",
            "p95",
            "worst"
        );
        let rows = [
            ("messages", Some(self.messages)),
            ("  let through", Some(self.messages_delivered)),
            ("  of these after a delay", Some(self.messages_delayed)),
            ("  held for good", Some(self.messages_held_for_good)),
            ("longest delay, seconds", Some(self.delay_max_s)),
            ("copies", Some(self.copies_with)),
            ("  without a filter", Some(self.copies_without)),
            ("seconds to trip", self.seconds_to_trip),
        ];
        for (name, spread) in rows {
            let Some(spread) = spread else { continue };
            let [median, p95, worst] = [spread.median, spread.p95, spread.worst].map(grouped);
            text.push_str(&format!("{name:<28}{median:>16}{p95:>16}{worst:>16}\n"));
        }
        text
    }
}
