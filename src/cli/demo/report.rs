//! The end of a demonstration: a table, or one JSON object.

use serde::Serialize;

use super::play::Played;
use crate::cli::grouped;
use crate::replay::scenario::{Kind, Scenario};

/// What came of it. `replies_*` leave the first message out, `copies_*` count it.
#[derive(Debug, Serialize)]
pub struct Report {
    scenario: &'static str,
    members: u64,
    replies: u64,
    replies_delivered: u64,
    replies_held: u64,
    lost: i64,
    copies_without: u64,
    copies_with: u64,
    tripped_after_replies: Option<u64>,
    ordinary_sent: u64,
    ordinary_touched: u64,
    ordinary_p50_ms: f64,
    ordinary_p99_ms: f64,
}

impl Report {
    /// From the counts; `delivered` and `held` as the one side knows that is asked: becalm's verdicts, or
    /// Postfix's queue and log.
    pub fn new(
        scenario: &Scenario,
        played: &Played,
        delivered: u64,
        held: u64,
        ordinary_touched: u64,
    ) -> Self {
        let millis = |quantile| played.latency.value_at_quantile(quantile) as f64 / 1000.0;
        let posts = scenario.posts.len() as u64;
        Self {
            scenario: scenario.name,
            members: scenario.members,
            replies: posts.saturating_sub(1),
            replies_delivered: delivered.saturating_sub(1),
            replies_held: held,
            lost: played.sent as i64 - delivered as i64 - held as i64,
            copies_without: posts.saturating_mul(scenario.members),
            copies_with: delivered.saturating_mul(scenario.members),
            tripped_after_replies: played.tripped_after,
            ordinary_sent: played.ordinary_sent,
            ordinary_touched,
            ordinary_p50_ms: millis(0.5),
            ordinary_p99_ms: millis(0.99),
        }
    }

    /// Nothing lost, nothing touched, the storm stopped.
    pub fn is_good(&self) -> bool {
        self.lost == 0 && self.ordinary_touched == 0 && self.tripped_after_replies.is_some()
    }

    /// One object.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// For people.
    pub fn text(&self, kind: &Kind, seed: u64) -> String {
        let tripped =
            self.tripped_after_replies.map_or("never".to_owned(), |replies| format!("{replies} replies"));
        let rows = [
            ("members of the list", grouped(self.members)),
            ("replies to all", grouped(self.replies)),
            ("  delivered", grouped(self.replies_delivered)),
            ("  held, for the operator to look at", grouped(self.replies_held)),
            ("  lost", self.lost.to_string()),
            ("storm declared after", tripped),
            ("copies without becalm", grouped(self.copies_without)),
            ("copies with becalm, first message included", grouped(self.copies_with)),
            ("ordinary messages meanwhile", grouped(self.ordinary_sent)),
            ("  touched", grouped(self.ordinary_touched)),
            (
                "  answered in: half of them / 99 of 100",
                format!("{} ms / {} ms", self.ordinary_p50_ms, self.ordinary_p99_ms),
            ),
        ];
        let mut text = format!("{} (seed {seed}): {}\n\n", kind.name, kind.about);
        for (what, figure) in rows {
            text.push_str(&format!("{what:<44}{figure:>16}\n"));
        }
        text
    }
}
