//! Who is measured, and one turn.

use std::time::Duration;

use anyhow::{Context, bail};

use super::TurnError;
use super::args::{Against, BenchArgs};
use super::noop::Noop;
use super::smtp::Site;
use crate::clock::Stopwatch;
use crate::load::process::{Memory, Process, own_cpu};
use crate::load::{Address, End, Failure, Generator, Load, Outcome};

/// Unmeasured, before the first turn: connections are made, tables and caches filled.
const WARM_UP: Duration = Duration::from_millis(300);

/// Most messages that a warm-up has where a number is asked for.
const WARM_UP_MESSAGES: u64 = 200;

/// One that is measured.
pub struct Contender {
    /// As it is reported: its address, `noop`, `without`.
    pub name: String,
    /// What its mail goes through.
    way: Way,
    /// What runs, if it is known.
    pub process: Option<Process>,
    /// Why it is not known.
    pub unknown_process: Option<String>,
    /// Its turns that came to their end.
    pub turns: Vec<Turn>,
    /// Of all turns together, and of the beginning of one that failed.
    pub all: Outcome,
    /// How long they took.
    pub seconds: f64,
    /// After the last turn.
    pub memory: Option<Memory>,
    /// Messages of the warm-up, as long as that is all there was.
    warm_up: Option<u64>,
}

/// One turn, in a few numbers: there may be thousands, and an [`Outcome`] has half a megabyte.
pub struct Turn {
    /// Messages that were answered.
    pub messages: u64,
    /// ... a second.
    pub rate: f64,
    /// Median latency, in microseconds.
    pub p50: f64,
    /// The latency that 99 of 100 do not exceed, in microseconds.
    pub p99: f64,
    /// Processor time of the filter.
    pub cpu: Option<Duration>,
    /// Of the load.
    pub own_cpu: Duration,
}

/// How mail gets to a contender.
pub enum Way {
    /// By the milter protocol; with the filter's process where it is ours.
    Milter(Box<Generator>, #[expect(dead_code, reason = "it ends when this is dropped")] Option<Noop>),
    /// By SMTP.
    Postfix(Box<Site>),
}

/// The filter, and what it is compared with.
pub fn contenders(args: &BenchArgs) -> anyhow::Result<Vec<Contender>> {
    let by_milter = |address: &Address, name: String, pid: Option<u32>, noop: Option<Noop>| {
        // Each has numbers of its own: both may be the same filter.
        let first = first_number()?;
        let generator = generator(args, address, first).with_context(|| name.clone())?;
        let peer = generator.peer();
        Contender::new(name, Way::Milter(Box::new(generator), noop), pid, peer)
    };
    let mut contenders = vec![by_milter(&args.socket, args.socket.to_string(), args.pid, None)?];
    match &args.against {
        None => {}
        Some(Against::Filter(address)) => {
            contenders.push(by_milter(address, address.to_string(), args.against_pid, None)?);
        }
        Some(Against::Noop(does)) => {
            let noop = Noop::start(*does, &args.socket)?;
            let name = if *does == crate::load::bare::Bare::Data { "noop" } else { "noop-headers" };
            let (address, pid) = (noop.address().clone(), noop.pid());
            contenders.push(by_milter(&address, name.to_owned(), Some(pid), Some(noop))?);
        }
    }
    Ok(contenders)
}

/// A load for one filter, which is reached for that.
pub fn generator(args: &BenchArgs, address: &Address, first: u64) -> Result<Generator, Failure> {
    Generator::new(address.clone(), args.profile(), &args.shape(), args.timeout, first)
}

/// Numbers make Message-IDs and queue ids: another run's must be others.
pub fn first_number() -> anyhow::Result<u64> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).context("no random numbers")?;
    // Of 16 digits, the last eight are for the messages of this run.
    Ok(u64::from(u32::from_ne_bytes(random) % 100_000_000) * 100_000_000)
}

impl Contender {
    /// `pid`: as the operator says; `peer`: as the socket says.
    pub fn new(name: String, way: Way, pid: Option<u32>, peer: Option<u32>) -> anyhow::Result<Self> {
        let (process, unknown_process) = match (pid, peer) {
            (Some(pid), _) => match Process::new(pid) {
                Some(process) => (Some(process), None),
                None => bail!("there is no process {pid}"),
            },
            // With socket activation it is systemd that listens.
            (None, Some(1)) => {
                (None, Some("process 1 listens at its socket: name the filter's with --pid".to_owned()))
            }
            // A filter that went into the background after that, or that is in another container.
            (None, Some(peer)) => match Process::new(peer) {
                Some(process) => (Some(process), None),
                None => {
                    (None, Some("who opened its socket has ended: name its process with --pid".to_owned()))
                }
            },
            (None, None) => (None, Some("its process is not known: name it with --pid".to_owned())),
        };
        Ok(Self {
            name,
            way,
            process,
            unknown_process,
            turns: Vec::new(),
            all: Outcome::default(),
            seconds: 0.0,
            memory: None,
            warm_up: None,
        })
    }

    /// A short turn that does not count.
    pub fn warm_up(&mut self, load: Load) -> Result<(), TurnError> {
        // At a fixed rate it lasts no longer for a number of messages.
        let in_time = load.rate.map_or(WARM_UP_MESSAGES, |rate| (rate * WARM_UP.as_secs_f64()).ceil() as u64);
        let end = match load.end {
            End::After(end) => End::After(end.min(WARM_UP)),
            End::Messages(count) => End::Messages(count.min(WARM_UP_MESSAGES).min(in_time)),
        };
        let (outcome, failure) = self.drive(Load { end, ..load }, |_, _| {});
        self.warm_up = Some(outcome.messages);
        failure.map_or(Ok(()), Err)?;
        self.settle()
    }

    /// A turn that counts.
    pub fn turn(&mut self, load: Load, tick: impl FnMut(Duration, u64)) -> Result<(), TurnError> {
        self.warm_up = None;
        let (before, own_before) = (self.cpu(), own_cpu());
        let (outcome, failure) = self.drive(load, tick);
        self.all.add(&outcome);
        self.seconds += outcome.elapsed.as_secs_f64();
        if let Some(failure) = failure {
            return Err(failure);
        }
        let cpu = before.zip(self.cpu()).map(|(before, after)| after.saturating_sub(before));
        let own_cpu = own_cpu().saturating_sub(own_before);
        let (p50, p99) = (outcome.quantile(0.5), outcome.quantile(0.99));
        self.turns.push(Turn { messages: outcome.messages, rate: outcome.rate(), p50, p99, cpu, own_cpu });
        self.memory = self.process.and_then(Process::memory);
        self.settle()
    }

    /// Lets what is left of a turn end.
    fn settle(&self) -> Result<(), TurnError> {
        match &self.way {
            Way::Milter(..) => Ok(()),
            Way::Postfix(site) => site.settle(),
        }
    }

    /// An error, with what is known about the process.
    pub fn told(&self, error: &TurnError) -> String {
        let ended = match (error, self.process) {
            (TurnError::Load(Failure::HungUp { .. } | Failure::Connect { .. }), Some(process)) => {
                if ends(process) {
                    format!("; its process {} has ended", process.pid())
                } else {
                    String::new()
                }
            }
            _ => String::new(),
        };
        let (when, messages) = match self.warm_up {
            Some(messages) => ("while warming up, ", messages),
            None => ("", self.all.messages),
        };
        let messages = super::super::figures::grouped(messages);
        format!("{}: {error}{ended} ({when}after {messages} messages)", self.name)
    }

    fn drive(&mut self, load: Load, tick: impl FnMut(Duration, u64)) -> (Outcome, Option<TurnError>) {
        match &mut self.way {
            Way::Milter(generator, _) => {
                let (outcome, failure) = generator.run(load, tick);
                (outcome, failure.map(TurnError::Load))
            }
            Way::Postfix(site) => site.run(load, tick),
        }
    }

    fn cpu(&self) -> Option<Duration> {
        self.process.and_then(Process::cpu)
    }
}

/// Whether it is gone. Its sockets are closed a moment before it is.
fn ends(process: Process) -> bool {
    const MOMENT: Duration = Duration::from_millis(500);
    let watch = Stopwatch::start();
    while process.is_alive() {
        if watch.elapsed() > MOMENT {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
