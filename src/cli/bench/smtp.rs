//! End to end: SMTP sessions with a private Postfix, once with the filter and once without, as smtp-source(1)
//! would drive it: a command at a time, several messages a session.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context as _;

use super::TurnError;
use super::args::BenchArgs;
use super::turns::{self, Contender, Way};
use crate::clock::Stopwatch;
use crate::load::{Address, End, Fate, Load, Outcome, Posts, Schedule};
use crate::postfix::Postfix;
use crate::postfix::smtp::{self, Client, Reply};

/// For the mail of a turn to leave the queue: it is discarded as fast as Postfix can.
const DELIVERY: Duration = Duration::from_secs(300);

/// Between two looks at whether another session has failed, while a message is not due.
const LOOK_UP: Duration = Duration::from_millis(100);

/// A Postfix of our own.
pub struct Site {
    postfix: Postfix,
    posts: Posts,
    next: AtomicU64,
    asks_filter: bool,
}

/// Postfix with the filter, and Postfix without.
pub fn contenders(args: &BenchArgs) -> anyhow::Result<Vec<Contender>> {
    let first = turns::first_number()?;
    // Reached as Postfix will reach it: a filter that is not there is told of at once. Its process is asked, too.
    let peer = turns::generator(args, &args.socket, first).with_context(|| args.socket.to_string())?.peer();
    let posts = Posts::new(&args.shape());
    let site = |milter: Option<String>| -> anyhow::Result<Way> {
        // A failing filter must be seen, not passed by.
        let builder = Postfix::builder().default_action("tempfail");
        let asks_filter = milter.is_some();
        let builder = match milter {
            Some(milter) => builder.milter(milter),
            None => builder,
        };
        let postfix = builder.set("smtpd_recipient_limit", "10000").start()?;
        Ok(Way::Postfix(Box::new(Site {
            postfix,
            posts: posts.clone(),
            next: AtomicU64::new(first),
            asks_filter,
        })))
    };
    let with = Contender::new(
        format!("Postfix with {}", args.socket),
        site(Some(as_postfix_writes_it(&args.socket)))?,
        args.pid,
        peer,
    )?;
    let mut without = Contender::new("Postfix alone".to_owned(), site(None)?, None, None)?;
    without.unknown_process = None;
    Ok(vec![with, without])
}

fn as_postfix_writes_it(address: &Address) -> String {
    match address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Tcp(address) => format!("inet:{address}"),
    }
}

impl Site {
    /// One turn.
    pub fn run(&self, load: Load, mut tick: impl FnMut(Duration, u64)) -> (Outcome, Option<TurnError>) {
        const TICK: Duration = Duration::from_millis(100);
        let first = self.next.load(Ordering::Relaxed);
        let shared = Shared { watch: Stopwatch::start(), first, failed: AtomicBool::new(false) };
        let (sender, receiver) = channel();
        let (mut outcome, failure) = std::thread::scope(|scope| {
            for lane in 0..load.connections {
                let (sender, shared) = (sender.clone(), &shared);
                let mut session = Session::new(self, load, shared, lane);
                scope.spawn(move || {
                    let done = session.run();
                    if done.is_err() {
                        // Relaxed: nothing else is read because of it.
                        shared.failed.store(true, Ordering::Relaxed);
                    }
                    // The receiver outlives the threads.
                    let _ = sender.send((session.finish(), done.err()));
                });
            }
            drop(sender);
            let (mut all, mut failure) = (Outcome::default(), None);
            loop {
                match receiver.recv_timeout(TICK) {
                    Ok((outcome, failed)) => {
                        all.add(&outcome);
                        failure = failure.or(failed);
                    }
                    Err(RecvTimeoutError::Timeout) => {
                        tick(shared.watch.elapsed(), self.next.load(Ordering::Relaxed).saturating_sub(first));
                    }
                    Err(RecvTimeoutError::Disconnected) => return (all, failure),
                }
            }
        });
        match self.postfix.hold_queue() {
            // By SMTP, a message that is held was accepted.
            Ok(held) => {
                outcome.held = held.len() as u64;
                outcome.accepted = outcome.accepted.saturating_sub(outcome.held);
            }
            Err(error) => return (outcome, Some(error.into())),
        }
        (outcome, failure.map(TurnError::Smtp))
    }

    /// Waits until its mail is gone, so that the next turn has the machine to itself. Fails if Postfix could not
    /// ask the filter.
    pub fn settle(&self) -> Result<(), TurnError> {
        self.postfix.wait_until_idle(DELIVERY)?;
        self.postfix.postsuper(&["-d", "ALL", "hold"])?;
        match self.passed_by() {
            Some(warning) => Err(TurnError::Smtp(warning)),
            None => Ok(()),
        }
    }

    /// What Postfix says where it could not ask the filter: the mail was measured without it then.
    fn passed_by(&self) -> Option<String> {
        if !self.asks_filter {
            return None;
        }
        let log = self.postfix.log();
        let mut warnings = log.lines().filter_map(|line| line.split_once("warning: "));
        let (_, warning) = warnings.find(|(_, warning)| warning.to_ascii_lowercase().contains("milter"))?;
        Some(format!("Postfix: {warning}{}", likely(warning)))
    }
}

/// What is likely behind a warning of Postfix about the filter, and what to do.
fn likely(warning: &str) -> &'static str {
    let says = |what: &str| warning.contains(what);
    if says("Permission denied") {
        "; may the user `postfix` use the filter's socket, and its folders?"
    } else if says("No such file") || says("Connection refused") {
        "; does the filter still run?"
    } else if says("Connection timed out") || says("timeout") {
        "; the filter is too slow, or has no room for so many connections: take fewer --connections"
    } else if says("Broken pipe") || says("reset by peer") || says("read error") || says("lost connection") {
        "; the filter closed the connection: see its log"
    } else {
        ""
    }
}

struct Shared {
    watch: Stopwatch,
    /// The number of the first message.
    first: u64,
    failed: AtomicBool,
}

/// One client that sends message after message.
struct Session<'a> {
    site: &'a Site,
    load: Load,
    shared: &'a Shared,
    schedule: Option<Schedule>,
    outcome: Outcome,
}

impl<'a> Session<'a> {
    fn new(site: &'a Site, load: Load, shared: &'a Shared, lane: usize) -> Self {
        let lanes = load.connections as u64;
        let schedule = load.rate.map(|rate| Schedule::new(rate, lane as u64, lanes, load.end));
        Self { site, load, shared, schedule, outcome: Outcome::default() }
    }

    fn run(&mut self) -> Result<(), String> {
        let mut client: Option<(Client, u64)> = None;
        while let Some((number, since)) = self.next_message() {
            let post = self.site.posts.get(number);
            let (mut own, left) = match client.take() {
                Some(open) => open,
                None => {
                    self.outcome.sessions += 1;
                    (open(self.site.postfix.address()).map_err(in_words)?, self.load.messages_per_session)
                }
            };
            let reply = own.send(&post.sender, &post.recipients, &post.text).map_err(in_words)?;
            let latency = self.shared.watch.elapsed().saturating_sub(since);
            self.outcome.count(fate(&reply), latency);
            match left {
                0 | 1 => drop(own.quit()),
                _ => client = Some((own, left - 1)),
            }
        }
        if let Some((client, _)) = client {
            // All that matters was answered.
            let _ = client.quit();
        }
        Ok(())
    }

    /// Waits for the next message: its number, and since when it counts.
    fn next_message(&mut self) -> Option<(u64, Duration)> {
        // Relaxed, here and below: each number once is all that is asked.
        if self.shared.failed.load(Ordering::Relaxed) {
            return None;
        }
        let mut now = self.shared.watch.elapsed();
        let since = match &mut self.schedule {
            None if matches!(self.load.end, End::After(end) if now >= end) => return None,
            None => now,
            Some(schedule) => {
                let due = schedule.next_due()?;
                let is_free = now < due;
                while let Some(early) = due.checked_sub(now).filter(|early| !early.is_zero()) {
                    if self.shared.failed.load(Ordering::Relaxed) {
                        return None;
                    }
                    std::thread::sleep(early.min(LOOK_UP));
                    now = self.shared.watch.elapsed();
                }
                if is_free {
                    self.outcome.count_lateness(now.saturating_sub(due));
                }
                schedule.take(now)?
            }
        };
        let number = self.site.next.fetch_add(1, Ordering::Relaxed);
        let counted = self.schedule.is_none();
        let over =
            matches!(self.load.end, End::Messages(count) if counted && number - self.shared.first >= count);
        (!over).then_some((number, since))
    }

    fn finish(&mut self) -> Outcome {
        // After a failure, another session's too, nobody was late: the rest was never tried.
        let schedule = self.schedule.as_ref().filter(|_| !self.shared.failed.load(Ordering::Relaxed));
        self.outcome.end(self.shared.watch.elapsed(), schedule);
        std::mem::take(&mut self.outcome)
    }
}

fn open(address: SocketAddr) -> Result<Client, smtp::Error> {
    let mut client = Client::connect(address)?;
    client.ehlo("client.example.net")?;
    Ok(client)
}

fn in_words(error: smtp::Error) -> String {
    error.to_string()
}

fn fate(reply: &Reply) -> Fate {
    match reply.code {
        200..=399 => Fate::Accepted,
        400..=499 => Fate::Deferred,
        _ => Fate::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::likely;

    #[test]
    fn a_hint_fits_what_postfix_says() {
        for (warning, part) in [
            ("connect to Milter service unix:/x: Permission denied", "may the user"),
            ("connect to Milter service unix:/x: No such file or directory", "still run"),
            (
                "milter unix:/x: can't read SMFIC_EOH reply packet header: Broken pipe",
                "closed the connection",
            ),
            ("milter unix:/x: can't read SMFIC_EOH reply packet header: Connection timed out", "too slow"),
        ] {
            assert!(likely(warning).contains(part), "{warning}: {}", likely(warning));
        }
        assert_eq!(likely("milter unix:/x: unreasonable packet length"), "");
    }
}
