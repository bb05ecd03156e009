//! The end of a benchmark: text, or one JSON object.

use serde::Serialize;

use super::args::BenchArgs;
use super::turns::{Contender, Turn};
use crate::cli::figures::{grouped, time};
use crate::load::Mix;
use crate::load::spread::Spread;

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Report {
    mix: Mix,
    recipients: usize,
    headers: usize,
    header_bytes: usize,
    body_bytes: usize,
    connections: usize,
    messages_per_session: u64,
    /// Messages a second asked for.
    rate: Option<f64>,
    /// Rounds asked for.
    rounds: u32,
    postfix: bool,
    /// The filter, and what it was compared with.
    filters: Vec<Figures>,
    /// Of the first by the second, round by round.
    ratios: Option<Ratios>,
    fail_below: Option<f64>,
    passed: bool,
    /// What ended it early.
    error: Option<String>,
    #[serde(skip)]
    is_below: bool,
}

/// Of all turns of one.
#[derive(Debug, Serialize)]
struct Figures {
    name: String,
    pid: Option<u32>,
    turns: usize,
    seconds: f64,
    messages: u64,
    messages_per_s: f64,
    /// None, as all of them, where nothing was measured.
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
    /// At a fixed rate: how late the load itself was. It is part of the latencies.
    load_late_p50_us: Option<f64>,
    load_late_p99_us: Option<f64>,
    accepted: u64,
    held: u64,
    rejected: u64,
    deferred: u64,
    discarded: u64,
    recipients_refused: u64,
    headers_read: u64,
    /// Due at a fixed rate, and not sent in time.
    unsent: u64,
    sessions: u64,
    /// By the milter protocol only.
    round_trips_per_message: Option<f64>,
    /// Of the filter.
    cpu_us_per_message: Option<f64>,
    memory_bytes: Option<u64>,
    peak_memory_bytes: Option<u64>,
    /// Of the load itself.
    load_cpu_us_per_message: Option<f64>,
    #[serde(skip)]
    unknown_process: Option<String>,
}

#[derive(Debug, Serialize)]
struct Ratios {
    messages_per_s: Option<Spread>,
    p50: Option<Spread>,
    p99: Option<Spread>,
    cpu_per_message: Option<Spread>,
}

impl Report {
    /// From the turns; `error`: why there are no more.
    pub fn new(args: &BenchArgs, contenders: &[Contender], error: Option<String>) -> Self {
        let (shape, load) = (args.shape(), args.load());
        let ratios = match contenders {
            [one, other] => Some(Ratios::of(&one.turns, &other.turns)),
            _ => None,
        };
        let median = ratios.as_ref().and_then(|ratios| ratios.messages_per_s).map(|spread| spread.median);
        let is_below = args.fail_below.zip(median).is_some_and(|(least, median)| median < least);
        let is_judged = args.fail_below.is_none() || median.is_some();
        Self {
            mix: shape.mix,
            recipients: shape.recipients,
            headers: shape.headers,
            header_bytes: shape.header_bytes,
            body_bytes: shape.body,
            connections: load.connections,
            messages_per_session: load.messages_per_session,
            rate: load.rate,
            rounds: args.rounds(),
            postfix: args.postfix,
            filters: contenders.iter().map(|contender| Figures::of(contender, args.postfix)).collect(),
            ratios,
            fail_below: args.fail_below,
            passed: is_judged && !is_below && error.is_none(),
            error,
            is_below,
        }
    }

    /// What ended it early.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Nothing went wrong, and the ratio is not below what was asked for.
    pub fn passed(&self) -> bool {
        self.passed
    }

    /// One object.
    pub fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = self.title();
        for filter in &self.filters {
            text.push_str(&filter.text());
        }
        if let (Some(ratios), [one, other]) = (&self.ratios, self.filters.as_slice())
            && ratios.messages_per_s.is_some()
        {
            text.push_str(&format!(
                "\n{} by {}, {}: median (quartiles) least-most\n",
                one.name,
                other.name,
                counted(one.turns.min(other.turns) as u64, "round")
            ));
            let rows = [
                ("messages/s", ratios.messages_per_s),
                ("latency p50", ratios.p50),
                ("latency p99", ratios.p99),
                ("CPU a message", ratios.cpu_per_message),
            ];
            for (what, spread) in rows {
                let Some(spread) = spread else { continue };
                let (least, most) = (spread.min, spread.max);
                text.push_str(&format!("  {what:<22}{:<22}{least:.2}-{most:.2}\n", spread.to_string()));
            }
            if self.mix != Mix::Ordinary && other.headers_read == 0 && one.headers_read > 0 {
                text.push_str("  The other one reads no headers; `--against noop-headers` does.\n");
            }
            if let Some(least) = self.fail_below {
                let verdict = if self.is_below { "BELOW" } else { "not below" };
                text.push_str(&format!("  messages/s: {verdict} {least}\n"));
            }
        }
        text
    }

    fn title(&self) -> String {
        let mix = match self.mix {
            Mix::Ordinary => "ordinary mail",
            Mix::Storm => "replies to a list",
            Mix::Mixed => "ordinary mail, and one of ten a reply to a list",
        };
        let pace = match self.rate {
            Some(rate) => format!("{rate} messages/s, latency from when each was due"),
            None => "one after the other".to_owned(),
        };
        let header_bytes = match self.header_bytes {
            0 => String::new(),
            bytes => format!(" ({} bytes)", grouped(bytes as u64)),
        };
        format!(
            "{mix}: {}, {} header fields{header_bytes}, {} bytes of body\n{}, {} a session, {pace}\n",
            counted(self.recipients as u64, "recipient"),
            self.headers,
            grouped(self.body_bytes as u64),
            counted(self.connections as u64, "connection"),
            counted(self.messages_per_session, "message"),
        )
    }
}

impl Figures {
    fn of(contender: &Contender, by_smtp: bool) -> Self {
        let (all, seconds) = (&contender.all, contender.seconds);
        // Only turns that came to their end have a processor time.
        let measured: u64 = contender.turns.iter().map(|turn| turn.messages).sum();
        let a_message = |seconds: f64| (measured > 0).then(|| seconds * 1e6 / measured as f64);
        let quantile = |share: f64| (!all.latency.is_empty()).then(|| all.quantile(share));
        let cpu =
            contender.turns.iter().map(|turn| turn.cpu.map(|cpu| cpu.as_secs_f64())).sum::<Option<f64>>();
        let own_cpu: f64 = contender.turns.iter().map(|turn| turn.own_cpu.as_secs_f64()).sum();
        Self {
            name: contender.name.clone(),
            pid: contender.process.map(|process| process.pid()),
            turns: contender.turns.len(),
            seconds,
            messages: all.messages,
            messages_per_s: all.messages as f64 / seconds.max(1e-9),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: quantile(1.0),
            load_late_p50_us: all.lateness_quantile(0.5),
            load_late_p99_us: all.lateness_quantile(0.99),
            accepted: all.accepted,
            held: all.held,
            rejected: all.rejected,
            deferred: all.deferred,
            discarded: all.discarded,
            recipients_refused: all.recipients_refused,
            headers_read: all.headers_read,
            unsent: all.unsent,
            sessions: all.sessions,
            round_trips_per_message: (!by_smtp && all.messages > 0)
                .then(|| all.round_trips as f64 / all.messages as f64),
            cpu_us_per_message: cpu.and_then(a_message),
            memory_bytes: contender.memory.map(|memory| memory.resident),
            peak_memory_bytes: contender.memory.map(|memory| memory.peak),
            load_cpu_us_per_message: a_message(own_cpu),
            unknown_process: contender.unknown_process.clone(),
        }
    }

    fn text(&self) -> String {
        let process = self.pid.map_or(String::new(), |pid| format!(" (process {pid})"));
        if self.messages == 0 {
            return format!("\n{}{process}\n  nothing was measured\n", self.name);
        }
        let mut rows = vec![(
            "messages",
            format!(
                "{} in {}: {}/s",
                grouped(self.messages),
                time(self.seconds * 1e6),
                grouped(self.messages_per_s as u64)
            ),
        )];
        if self.unsent > 0 {
            let due = self.messages + self.unsent;
            rows.push((
                "NOT SENT IN TIME",
                format!("{} of {}: too slow for this rate", grouped(self.unsent), grouped(due)),
            ));
        }
        if let (Some(p50), Some(p99), Some(p999), Some(max)) =
            (self.p50_us, self.p99_us, self.p999_us, self.max_us)
        {
            let [p50, p99, p999, max] = [p50, p99, p999, max].map(time);
            rows.push(("latency", format!("p50 {p50}, p99 {p99}, p99.9 {p999}, max {max}")));
        }
        if let Some((half, most)) = self.load_late_p50_us.zip(self.load_late_p99_us) {
            let late =
                format!("p50 {}, p99 {}: part of the latency, and not the filter's", time(half), time(most));
            rows.push(("  the load was late", late));
        }
        rows.push(("verdicts", self.verdicts()));
        if let Some(trips) = self.round_trips_per_message {
            let read = 100.0 * self.headers_read as f64 / self.messages.max(1) as f64;
            rows.push(("round trips a message", format!("{trips:.2}; headers of {read:.0} % were read")));
        }
        let cpu = self.cpu_us_per_message.zip(self.load_cpu_us_per_message);
        match (cpu, self.memory_bytes.zip(self.peak_memory_bytes)) {
            (Some((cpu, own)), Some((now, peak))) => {
                let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
                rows.push(("CPU a message", format!("{} (the load's own: {})", time(cpu), time(own))));
                rows.push(("memory", format!("{:.1} MiB, {:.1} at its peak", mib(now), mib(peak))));
            }
            _ => {
                if let Some(why) = &self.unknown_process {
                    rows.push(("CPU, memory", format!("not measured: {why}")));
                }
            }
        }
        let mut text = format!("\n{}{process}\n", self.name);
        for (what, figure) in rows {
            text.push_str(&format!("  {what:<22}{figure}\n"));
        }
        text
    }

    fn verdicts(&self) -> String {
        let counts = [
            (self.accepted, "accepted"),
            (self.held, "held"),
            (self.rejected, "rejected"),
            (self.deferred, "deferred"),
            (self.discarded, "discarded"),
        ];
        let mut parts: Vec<_> = counts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{} {what}", grouped(*count)))
            .collect();
        if self.recipients_refused > 0 {
            parts.push(format!("{} refused", counted(self.recipients_refused, "recipient")));
        }
        if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
    }
}

impl Ratios {
    fn of(one: &[Turn], other: &[Turn]) -> Self {
        let spread = |value: fn(&Turn) -> f64| {
            Spread::of_ratios(one.iter().zip(other).map(|(one, other)| (value(one), value(other))))
        };
        Self {
            messages_per_s: spread(|turn| turn.rate),
            p50: spread(|turn| turn.p50),
            p99: spread(|turn| turn.p99),
            cpu_per_message: spread(|turn| {
                turn.cpu.map_or(f64::NAN, |cpu| cpu.as_secs_f64() / turn.messages.max(1) as f64)
            }),
        }
    }
}

fn counted(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}
