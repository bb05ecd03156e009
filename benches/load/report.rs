//! What was measured, as ratios: absolute figures are the machine's mood.

use std::time::Duration;

use super::filters::{Memory, Which};

/// One turn of one filter.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Messages a second.
    pub rate: f64,
    /// Processor time for each message, in µs.
    pub cpu: f64,
}

impl Turn {
    /// From counts.
    pub fn new(messages: u64, elapsed: Duration, cpu: Duration) -> Self {
        let count = messages.max(1) as f64;
        Self { rate: messages as f64 / elapsed.as_secs_f64().max(1e-9), cpu: cpu.as_secs_f64() * 1e6 / count }
    }
}

/// All turns of one filter, in the order of the rounds.
pub struct Row {
    /// Which filter.
    pub which: Which,
    /// Its turns.
    pub turns: Vec<Turn>,
    /// What is worth knowing of what it answered.
    pub note: String,
    /// After the last round.
    pub memory: Memory,
}

/// The rows of one case at one number of connections.
pub struct Table {
    /// What was sent, and how.
    pub title: String,
    /// One a filter.
    pub rows: Vec<Row>,
}

/// A median with the quartiles: the middle half of the rounds lies between them.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    /// In the middle.
    pub median: f64,
    lower: f64,
    upper: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |quarter: usize| values.get(values.len() * quarter / 4).copied().unwrap_or(f64::NAN);
        Self { median: at(2), lower: at(1), upper: at(3) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { 0 };
        write!(f, "{:.digits$} ({:.digits$}-{:.digits$})", self.median, self.lower, self.upper)
    }
}

impl Table {
    /// The bare filter that answered most messages a second: what the others are measured against.
    pub fn base(&self) -> Option<&Row> {
        let bare = self.rows.iter().filter(|row| is_base(row.which));
        bare.max_by(|a, b| a.rate().total_cmp(&b.rate()))
    }

    /// The row of one filter.
    pub fn row(&self, wanted: impl Fn(Which) -> bool) -> Option<&Row> {
        self.rows.iter().find(|row| wanted(row.which))
    }

    /// Prints it.
    pub fn print(&self) {
        println!("\n{}", self.title);
        let Some(base) = self.base() else { return };
        println!(
            "  {:<50} {:>10}  {:<18} {:>8}  {:<18} {:>9}",
            "filter", "messages/s", "ratio", "CPU us", "ratio", "MiB, peak"
        );
        for row in &self.rows {
            let (rate, cpu) = (row.rates_by(base), row.cpus_by(base));
            let (rate, cpu) = match std::ptr::eq(row, base) {
                true => ("1".to_owned(), "1".to_owned()),
                false => (rate.to_string(), cpu.to_string()),
            };
            println!(
                "  {:<50} {:>10.0}  {:<18} {:>8.1}  {:<18} {:>9.1}  {}",
                row.which.name(),
                row.rate(),
                rate,
                row.cpu(),
                cpu,
                row.memory.peak as f64 / 1024.0,
                row.note
            );
        }
    }
}

/// A filter that holds does more than the base of its case.
fn is_base(which: Which) -> bool {
    matches!(which, Which::Bare(bare, _) if bare != super::bare::Bare::Hold)
}

impl Row {
    fn rate(&self) -> f64 {
        Spread::of(self.turns.iter().map(|turn| turn.rate).collect()).median
    }

    fn cpu(&self) -> f64 {
        Spread::of(self.turns.iter().map(|turn| turn.cpu).collect()).median
    }

    /// Messages a second as a share of another's in the same round.
    pub fn rates_by(&self, other: &Self) -> Spread {
        Spread::of(self.turns.iter().zip(&other.turns).map(|(own, other)| own.rate / other.rate).collect())
    }

    /// Processor time a message as a multiple of another's in the same round.
    pub fn cpus_by(&self, other: &Self) -> Spread {
        Spread::of(self.turns.iter().zip(&other.turns).map(|(own, other)| own.cpu / other.cpu).collect())
    }
}
