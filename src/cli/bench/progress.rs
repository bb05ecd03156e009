//! A bar on the terminal while it lasts.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::load::End;

/// How far it is. On standard error, and only if that is a terminal.
pub struct Progress {
    bar: ProgressBar,
    end: End,
}

/// Of one turn, as the bar counts.
const TURN: u64 = 1_000;

impl Progress {
    /// Of all turns.
    pub fn new(show: bool, end: End, rounds: u32, contenders: usize) -> Self {
        let target = if show { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let turns = u64::from(rounds).saturating_mul(contenders as u64);
        let bar = ProgressBar::with_draw_target(Some(turns.saturating_mul(TURN)), target);
        let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {percent} %  {msg}");
        Self { bar: bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())), end }
    }

    /// In the middle of a turn.
    pub fn show(&self, name: &str, elapsed: Duration, messages: u64) {
        let done = match self.end {
            End::After(end) => elapsed.as_secs_f64() / end.as_secs_f64().max(1e-9),
            End::Messages(count) => messages as f64 / count.max(1) as f64,
        };
        let before = self.bar.position() / TURN * TURN;
        // The bar is full only when the turn is over.
        self.bar.set_position(before + ((done * TURN as f64) as u64).min(TURN - 1));
        let rate = messages as f64 / elapsed.as_secs_f64().max(1e-9);
        self.bar.set_message(format!("{name}: {rate:.0} messages/s"));
    }

    /// A turn is over.
    pub fn next(&self) {
        self.bar.set_position((self.bar.position() / TURN + 1) * TURN);
    }

    /// All are.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
