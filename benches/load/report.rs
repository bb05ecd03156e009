//! What was measured, as ratios: absolute figures are the machine's mood.

use std::fmt;
use std::time::Duration;

use becalm::load::bare::Bare;
use becalm::load::process::Memory;
use becalm::load::spread::Spread;

use super::filters::Which;

/// One turn of one filter.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Messages a second.
    pub rate: f64,
    /// Processor time for each message, in µs.
    pub cpu: f64,
    /// The load generator's own.
    own_cpu: f64,
}

impl Turn {
    /// From counts.
    pub fn new(messages: u64, elapsed: Duration, cpu: Duration, own_cpu: Duration) -> Self {
        let count = messages.max(1) as f64;
        let a_message = |time: Duration| time.as_secs_f64() * 1e6 / count;
        let rate = messages as f64 / elapsed.as_secs_f64().max(1e-9);
        Self { rate, cpu: a_message(cpu), own_cpu: a_message(own_cpu) }
    }
}

/// What a filter did with the mail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answers {
    /// Messages in all.
    pub messages: u64,
    /// Those whose headers it had sent.
    pub headers_read: u64,
    /// Those it put on hold.
    pub held: u64,
}

impl Answers {
    /// Adds those of another turn.
    pub fn add(&mut self, other: Self) {
        self.messages += other.messages;
        self.headers_read += other.headers_read;
        self.held += other.held;
    }
}

/// Nothing of mail that was answered at DATA.
impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: u64| 100.0 * part as f64 / self.messages.max(1) as f64;
        if self.headers_read > 0 {
            write!(f, "headers of {:.0} %", share(self.headers_read))?;
        }
        if self.held > 0 {
            write!(f, ", held {:.1} %", share(self.held))?;
        }
        Ok(())
    }
}

/// All turns of one filter, in the order of the rounds.
pub struct Row {
    /// Which filter.
    pub which: Which,
    /// Its turns.
    pub turns: Vec<Turn>,
    /// What it answered in all of them.
    pub answers: Answers,
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
            "  {:<50} {:>10}  {:<18} {:>8}  {:<18} {:>8} {:>9}",
            "filter", "messages/s", "ratio", "CPU us", "ratio", "load us", "MiB, peak"
        );
        for row in &self.rows {
            let (rate, cpu) = (row.rates_by(base), row.cpus_by(base));
            let (rate, cpu) = match std::ptr::eq(row, base) {
                true => ("1".to_owned(), "1".to_owned()),
                false => (shown(rate), shown(cpu)),
            };
            println!(
                "  {:<50} {:>10.0}  {:<18} {:>8.1}  {:<18} {:>8.1} {:>9.1}  {}",
                row.which.name(),
                row.rate(),
                rate,
                row.cpu(),
                cpu,
                row.own_cpu(),
                row.memory.peak as f64 / f64::from(1 << 20),
                row.answers
            );
        }
    }
}

fn shown(spread: Option<Spread>) -> String {
    spread.map_or("-".to_owned(), |spread| spread.to_string())
}

/// A filter that holds does more than the base of its case.
fn is_base(which: Which) -> bool {
    matches!(which, Which::Bare(bare, _) if bare != Bare::Hold)
}

impl Row {
    fn rate(&self) -> f64 {
        self.median(|turn| turn.rate)
    }

    fn cpu(&self) -> f64 {
        self.median(|turn| turn.cpu)
    }

    fn own_cpu(&self) -> f64 {
        self.median(|turn| turn.own_cpu)
    }

    fn median(&self, value: impl Fn(&Turn) -> f64) -> f64 {
        Spread::of(self.turns.iter().map(value)).map_or(f64::NAN, |spread| spread.median)
    }

    /// Messages a second as a share of another's in the same round.
    pub fn rates_by(&self, other: &Self) -> Option<Spread> {
        self.ratios(other, |turn| turn.rate)
    }

    /// Processor time a message as a multiple of another's in the same round.
    pub fn cpus_by(&self, other: &Self) -> Option<Spread> {
        self.ratios(other, |turn| turn.cpu)
    }

    fn ratios(&self, other: &Self, value: impl Fn(&Turn) -> f64) -> Option<Spread> {
        Spread::of_ratios(self.turns.iter().zip(&other.turns).map(|(own, other)| (value(own), value(other))))
    }
}
