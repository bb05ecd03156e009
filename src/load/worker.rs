//! A thread that looks after some of the connections: it sends what is due, waits for whichever answers first,
//! and goes on with that one.
//!
//! A thread for each connection, as Postfix has a process for each, costs a switch of threads for each message,
//! which is more than a fast filter costs. The filter cannot tell the difference.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::conversation::{Conversation, Step};
use super::outcome::{Fate, Outcome};
use super::schedule::{End, Schedule};
use super::wire::Wire;
use super::{Failure, Generator, Load};
use crate::clock::Stopwatch;

/// Between two looks at what no connection tells of: the end, another thread's failure, a filter that hangs.
const LOOK_UP: Duration = Duration::from_millis(20);

/// So many times its patience a load waits for an answer that comes by pieces, or is only promised: where a filter
/// may be silent for ten seconds that is as long as Postfix waits for the end of a message.
const PROMISES: u32 = 30;

/// Before the next attempt where the filter's queue of connections is full: short beside what it takes to serve one.
const TRY_AGAIN: Duration = Duration::from_millis(1);

/// One read: what a filter answers to a message is far shorter.
const READ: usize = 16 * 1024;

/// Answers that are taken at once; the others wait for the next time.
const EVENTS: usize = 64;

/// What the threads of one load share.
pub(super) struct Shared {
    /// When it began.
    pub(super) watch: Stopwatch,
    /// Messages that were begun (not at a fixed rate, where the schedule knows).
    pub(super) begun: AtomicU64,
    /// One of them has failed.
    pub(super) failed: AtomicBool,
}

/// One connection.
struct Line<'g> {
    talk: Conversation<'g>,
    wire: Option<Wire>,
    /// Messages until the session ends.
    left: u64,
    /// A message is under way: since when it counts.
    busy: Option<Duration>,
    /// When something last came or went.
    active: Duration,
    /// Since when an answer is on its way, by pieces or by promises of progress.
    promised: Option<Duration>,
    letter: usize,
    unwritten: bool,
    /// Something has come on this connection: it is one.
    connected: bool,
}

/// The thread.
pub(super) struct Worker<'g> {
    generator: &'g Generator,
    load: Load,
    shared: &'g Shared,
    lines: Vec<Line<'g>>,
    /// Lines that have nothing to do, the last to become idle at the end.
    idle: Vec<usize>,
    /// Lines with a message and no connection, as the filter's queue of connections was full.
    waiting: VecDeque<usize>,
    schedule: Option<Schedule>,
    /// There is one line, and nothing to wait for but its answers: a read waits for them as well as poll(2) does,
    /// and saves that.
    alone: bool,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    outcome: Outcome,
}

impl<'g> Worker<'g> {
    /// Number `lane` of `lanes` threads.
    ///
    /// # Errors
    /// When there are no more descriptors.
    pub(super) fn new(
        generator: &'g Generator,
        load: Load,
        shared: &'g Shared,
        lane: usize,
        lanes: usize,
    ) -> Result<Self, Failure> {
        let letters = generator.mail.letters.len();
        let connections = load.connections.max(1);
        let lines: Vec<_> = (lane..connections)
            .step_by(lanes.max(1))
            .map(|number| Line {
                talk: Conversation::new(&generator.mta, &generator.mail, &generator.agreed),
                wire: None,
                left: 0,
                busy: None,
                active: Duration::ZERO,
                promised: None,
                // Each connection begins elsewhere.
                letter: letters / connections * number,
                unwritten: false,
                connected: false,
            })
            .collect();
        let schedule = load.rate.map(|rate| Schedule::new(rate, lane as u64, lanes as u64, load.end));
        let idle = (0..lines.len()).rev().collect();
        let alone = lines.len() == 1 && schedule.is_none();
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| Failure::System(error.into()))?;
        let (events, outcome) = (Vec::with_capacity(EVENTS), Outcome::default());
        let waiting = VecDeque::new();
        Ok(Self { generator, load, shared, lines, idle, waiting, schedule, alone, epoll, events, outcome })
    }

    /// Sends until the end.
    pub(super) fn run(mut self) -> (Outcome, Option<Failure>) {
        // Without it the kernel may be 50 µs late, and messages at a fixed rate with it. Not vital.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let failure = self.work().err();
        if failure.is_some() {
            // Relaxed: nothing else is read because of it.
            self.shared.failed.store(true, Ordering::Relaxed);
        }
        // After a failure, another thread's too, nobody was late: the rest was never tried.
        let schedule = self.schedule.as_ref().filter(|_| !self.shared.failed.load(Ordering::Relaxed));
        self.outcome.end(self.shared.watch.elapsed(), schedule);
        (self.outcome, failure)
    }

    fn work(&mut self) -> Result<(), Failure> {
        let mut buffer = vec![0; READ];
        let mut ready: Vec<(usize, bool)> = Vec::new();
        loop {
            let now = self.shared.watch.elapsed();
            self.connect_again()?;
            let may_come = self.start(now)?;
            if self.shared.failed.load(Ordering::Relaxed) {
                return Ok(());
            }
            if !may_come && self.lines.iter().all(|line| line.busy.is_none()) {
                return self.hang_up();
            }
            self.wait(now, may_come, &mut ready)?;
            let now = self.shared.watch.elapsed();
            for (index, readable) in ready.drain(..) {
                self.attend(index, readable, &mut buffer)?;
            }
            self.look_for_hangs(now)?;
        }
    }

    /// Begins messages on idle lines, as far as there are any; false when there will be no more.
    fn start(&mut self, now: Duration) -> Result<bool, Failure> {
        loop {
            let Some(&index) = self.idle.last() else { return Ok(true) };
            let Some(since) = self.next_message(now) else { return Ok(self.next_due(now).is_some()) };
            self.idle.pop();
            if self.schedule.is_some() {
                // A line that becomes free takes what is due by then: this one was free before.
                self.outcome.count_lateness(now.saturating_sub(since));
            }
            self.begin(index, since, now)?;
        }
    }

    /// Takes the next message if it may be sent now, and says since when it counts.
    fn next_message(&mut self, now: Duration) -> Option<Duration> {
        let Some(schedule) = &mut self.schedule else {
            let goes_on = match self.load.end {
                End::After(end) => now < end,
                // Relaxed: each number once is all that is asked.
                End::Messages(count) => self.shared.begun.fetch_add(1, Ordering::Relaxed) < count,
            };
            return goes_on.then_some(now);
        };
        schedule.take(now)
    }

    /// When the next message may be sent that may not be sent now.
    fn next_due(&self, now: Duration) -> Option<Duration> {
        self.schedule.as_ref().filter(|schedule| !schedule.is_over(now))?.next_due()
    }

    /// The next message, in the session there is or in a new one.
    fn begin(&mut self, index: usize, since: Duration, now: Duration) -> Result<(), Failure> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(()) };
        line.busy = Some(since);
        line.active = now;
        if line.wire.is_some() {
            line.begin(self.generator);
            return line.write(&self.epoll, index);
        }
        if self.waiting.is_empty() && self.connect(index)? {
            return Ok(());
        }
        self.waiting.push_back(index);
        Ok(())
    }

    /// Those that have waited longest first.
    fn connect_again(&mut self) -> Result<(), Failure> {
        while let Some(&index) = self.waiting.front() {
            if !self.connect(index)? {
                return Ok(());
            }
            self.waiting.pop_front();
        }
        Ok(())
    }

    /// Opens a session; false where the filter has no room for it now.
    fn connect(&mut self, index: usize) -> Result<bool, Failure> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(true) };
        let Generator { address, patience, .. } = self.generator;
        // One that is alone keeps nobody waiting.
        let wire =
            if self.alone { Wire::connect(address, *patience).map(Some) } else { Wire::begin(address) };
        let Some(wire) = wire.map_err(|source| Failure::connect(address, source))? else { return Ok(false) };
        if self.alone {
            wire.wait_up_to(LOOK_UP).map_err(Failure::System)?;
        }
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &wire, data, epoll::EventFlags::IN)
            .map_err(|error| Failure::System(error.into()))?;
        line.wire = Some(wire);
        line.connected = false;
        line.left = self.load.messages_per_session.max(1);
        line.talk.open();
        self.outcome.sessions += 1;
        line.write(&self.epoll, index)?;
        Ok(true)
    }

    /// Waits until a line can go on, the next message is due, or it is time to look up.
    fn wait(&mut self, now: Duration, may_come: bool, ready: &mut Vec<(usize, bool)>) -> Result<(), Failure> {
        if let (true, [line]) = (self.alone, self.lines.as_slice())
            && line.wire.is_some()
            && !line.unwritten
        {
            ready.push((0, true));
            return Ok(());
        }
        let look_up = if self.waiting.is_empty() { LOOK_UP } else { TRY_AGAIN };
        let mut timeout = look_up;
        if let (true, false, Some(due)) = (may_come, self.idle.is_empty(), self.next_due(now)) {
            // epoll_wait(2) counts milliseconds, poll(2) nanoseconds.
            let time = due.saturating_sub(now).min(look_up);
            let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
            let mut descriptors = [PollFd::new(&self.epoll, PollFlags::IN)];
            if !matches!(poll(&mut descriptors, Some(&time)), Ok(1..)) {
                return Ok(());
            }
            timeout = Duration::ZERO;
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: timeout.subsec_nanos().into() };
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Failure::System(error.into())),
        }
        let lines = self.events.iter().map(|event| {
            let (index, flags) = (event.data.u64(), event.flags);
            (usize::try_from(index).unwrap_or(usize::MAX), flags != epoll::EventFlags::OUT)
        });
        ready.extend(lines);
        Ok(())
    }

    /// A line has answered, or takes more.
    fn attend(&mut self, index: usize, readable: bool, buffer: &mut [u8]) -> Result<(), Failure> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(()) };
        let mut step = Step::On;
        if readable {
            let Some(wire) = &mut line.wire else { return Ok(()) };
            let read = wire.read(buffer).map_err(|error| match line.connected {
                true => Failure::System(error),
                false => Failure::connect(&self.generator.address, error),
            })?;
            line.connected |= read.is_some_and(|read| read > 0);
            match read {
                None => return Ok(()),
                Some(0) => return Err(Failure::HungUp { after: line.talk.due() }),
                Some(read) => step = line.talk.receive(buffer.get(..read).unwrap_or_default())?,
            }
        }
        let now = self.shared.watch.elapsed();
        line.active = now;
        line.promised = line.talk.is_midway().then(|| line.promised.unwrap_or(now));
        match step {
            Step::On => line.write(&self.epoll, index),
            Step::Ready => {
                line.begin(self.generator);
                line.write(&self.epoll, index)
            }
            Step::Settled(fate) => self.settled(index, fate, now),
        }
    }

    fn settled(&mut self, index: usize, fate: Fate, now: Duration) -> Result<(), Failure> {
        let Some(line) = self.lines.get_mut(index) else { return Ok(()) };
        let since = line.busy.take().unwrap_or(now);
        self.outcome.count(fate, now.saturating_sub(since));
        self.outcome.round_trips += std::mem::take(&mut line.talk.round_trips);
        self.outcome.headers_read += std::mem::take(&mut line.talk.headers_read);
        self.outcome.recipients_refused += std::mem::take(&mut line.talk.recipients_refused);
        line.left = line.left.saturating_sub(1);
        if line.left == 0 {
            line.hang_up(&self.epoll, index)?;
        }
        // Straight on with this line where nothing else waits for its turn.
        match self.next_message(now) {
            Some(since) => self.begin(index, since, now),
            None => {
                self.idle.push(index);
                Ok(())
            }
        }
    }

    fn look_for_hangs(&self, now: Duration) -> Result<(), Failure> {
        let patience = self.generator.patience;
        let hangs = |line: &&Line<'_>| line.busy.is_some() && now.saturating_sub(line.active) > patience;
        if let Some(line) = self.lines.iter().find(hangs) {
            if line.wire.is_none() {
                let source = std::io::ErrorKind::WouldBlock.into();
                return Err(Failure::connect(&self.generator.address, source));
            }
            return Err(Failure::Silent { after: line.talk.due(), patience });
        }
        let limit = patience.saturating_mul(PROMISES);
        let stalls = |line: &&Line<'_>| line.promised.is_some_and(|since| now.saturating_sub(since) > limit);
        match self.lines.iter().find(stalls) {
            Some(line) => Err(Failure::Stalls { after: line.talk.due(), limit }),
            None => Ok(()),
        }
    }

    fn hang_up(&mut self) -> Result<(), Failure> {
        let mut lines = self.lines.iter_mut().enumerate();
        lines.try_for_each(|(index, line)| line.hang_up(&self.epoll, index))
    }
}

impl<'g> Line<'g> {
    fn begin(&mut self, generator: &'g Generator) {
        if let Some(letter) = generator.mail.letters.get(self.letter) {
            self.talk.begin(letter, generator.number());
        }
        self.letter = (self.letter + 1) % generator.mail.letters.len().max(1);
    }

    /// Sends what can be sent.
    fn write(&mut self, epoll: &OwnedFd, index: usize) -> Result<(), Failure> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        let full = loop {
            let bytes = self.talk.unsent();
            if bytes.is_empty() {
                break false;
            }
            match wire.write(bytes) {
                Ok(0) => break true,
                Ok(written) => self.talk.wrote(written),
                Err(error) if is_gone(&error) => return Err(Failure::HungUp { after: self.talk.due() }),
                Err(error) => return Err(Failure::System(error)),
            }
        };
        if full != self.unwritten {
            self.unwritten = full;
            let mut events = epoll::EventFlags::IN;
            events.set(epoll::EventFlags::OUT, full);
            epoll::modify(epoll, wire, epoll::EventData::new_u64(index as u64), events)
                .map_err(|error| Failure::System(error.into()))?;
        }
        Ok(())
    }

    /// Ends the session as Postfix does. What the filter does not take at once it need not have.
    fn hang_up(&mut self, epoll: &OwnedFd, index: usize) -> Result<(), Failure> {
        if self.wire.is_some() {
            self.talk.close();
            self.write(epoll, index)?;
            self.wire = None;
            self.unwritten = false;
        }
        Ok(())
    }
}

fn is_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset)
}
