//! Plays Postfix: as many connections at once as asked for, each in a thread that waits as smtpd does.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use becalm::clock::Stopwatch;
use becalm::milter::Kind;
use becalm::milter::mta::{Change, Mta, Profile, Verdict};

use super::mail::{Flights, Kinds, Mail};

/// Postfix writes through a buffer of this size (VSTREAM_BUFSIZE), and empties it when it must wait.
const WRITE_BUFFER: usize = 4096;

/// A filter that says nothing for this long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// How the mail is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Connections at once.
    pub connections: usize,
    /// Messages before a connection is closed and another one opened.
    pub messages_per_session: u64,
    /// How long.
    pub duration: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Messages that were answered to the end.
    pub messages: u64,
    /// Of these, messages whose headers the filter wanted.
    pub read: u64,
    /// Of these, messages that were put on hold.
    pub held: u64,
    /// Time from the first connection to the last answer.
    pub elapsed: Duration,
}

/// Sends one kind of mail to one filter, again and again.
pub struct Generator<'a> {
    socket: &'a Path,
    mta: Mta,
    mail: Mail,
    /// The next message's number. No number is used twice, or the message would be taken for a retry.
    next: AtomicU64,
}

impl<'a> Generator<'a> {
    /// Learns what the filter wants, and encodes the mail accordingly.
    pub fn new(socket: &'a Path, kinds: Kinds) -> io::Result<Self> {
        let mut mta = Mta::new(Profile::postfix());
        let mut wire = Wire::connect(socket)?;
        wire.negotiate(&mut mta)?;
        let mail = Mail::encode(&mta, kinds);
        wire.put(&mail.quit)?;
        wire.flush()?;
        Ok(Self { socket, mta, mail, next: AtomicU64::new(1) })
    }

    /// Sends for as long as `load` says.
    pub fn run(&self, load: Load) -> io::Result<Outcome> {
        let stop = AtomicBool::new(false);
        let watch = Stopwatch::start();
        let outcomes = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..load.connections)
                .map(|number| {
                    let stop = &stop;
                    scope.spawn(move || self.connection(number, load, stop))
                })
                .collect();
            std::thread::sleep(load.duration);
            stop.store(true, Ordering::Relaxed);
            let joined = threads.into_iter().map(|thread| thread.join().expect("the thread does not panic"));
            joined.collect::<io::Result<Vec<Outcome>>>()
        })?;
        let mut sum = Outcome { elapsed: watch.elapsed(), ..Outcome::default() };
        for outcome in outcomes {
            sum.messages += outcome.messages;
            sum.read += outcome.read;
            sum.held += outcome.held;
        }
        Ok(sum)
    }

    fn connection(&self, number: usize, load: Load, stop: &AtomicBool) -> io::Result<Outcome> {
        let mut outcome = Outcome::default();
        let mut content = self.mail.content.clone();
        // Each connection begins elsewhere among the envelopes.
        let start = self.mail.envelopes.len() / load.connections.max(1) * number;
        let mut envelopes = self.mail.envelopes.iter().cycle().skip(start);
        while !stop.load(Ordering::Relaxed) {
            let mut wire = Wire::connect(self.socket)?;
            wire.negotiate(&mut self.mta.clone())?;
            for (piece, due) in self.mail.connection.iter() {
                wire.ask(&self.mta, piece, due)?;
            }
            for _ in 0..load.messages_per_session {
                let Some((author, envelope)) = envelopes.next() else { break };
                let mut answer = wire.send(&self.mta, envelope)?;
                if answer == Answer::Continue {
                    outcome.read += 1;
                    // Relaxed: each number once is all that is asked.
                    let number = self.next.fetch_add(1, Ordering::Relaxed);
                    answer = wire.send(&self.mta, content.fill(number, *author))?;
                }
                wire.put(&self.mail.abort)?;
                outcome.messages += 1;
                outcome.held += u64::from(answer == Answer::Held);
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            wire.put(&self.mail.quit)?;
            wire.flush()?;
        }
        Ok(outcome)
    }
}

/// What matters of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Continue,
    Accepted,
    Held,
}

/// A connection with the buffer that Postfix has.
struct Wire {
    stream: UnixStream,
    pending: Vec<u8>,
    input: Vec<u8>,
}

impl Wire {
    fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            pending: Vec::with_capacity(WRITE_BUFFER),
            input: Vec::with_capacity(WRITE_BUFFER),
        })
    }

    fn negotiate(&mut self, mta: &mut Mta) -> io::Result<()> {
        self.put(&mta.negotiate())?;
        self.flush()?;
        loop {
            self.read()?;
            if mta.on_negotiated(&self.input).map_err(io::Error::other)?.is_some() {
                self.input.clear();
                return Ok(());
            }
        }
    }

    /// Sends piece by piece, waiting where an answer is due. Any answer but "continue" ends it.
    fn send(&mut self, mta: &Mta, flights: &Flights) -> io::Result<Answer> {
        for (piece, due) in flights.iter() {
            match self.ask(mta, piece, due)? {
                Answer::Continue => {}
                other => return Ok(other),
            }
        }
        // A filter that says "continue" at the end lets the message pass.
        Ok(Answer::Continue)
    }

    fn ask(&mut self, mta: &Mta, piece: &[u8], due: Option<Kind>) -> io::Result<Answer> {
        self.put(piece)?;
        if due.is_none() {
            return Ok(Answer::Continue);
        }
        self.flush()?;
        let answer = loop {
            self.read()?;
            let Some(reply) = mta.receive(&self.input, due).map_err(io::Error::other)? else { continue };
            let held = reply.changes.iter().any(|change| matches!(change, Change::Quarantine(_)));
            break match reply.verdict {
                Verdict::Continue => Answer::Continue,
                Verdict::Accept if held => Answer::Held,
                Verdict::Accept => Answer::Accepted,
                other => return Err(io::Error::other(format!("{other:?} was answered"))),
            };
        };
        self.input.clear();
        Ok(answer)
    }

    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some((fits, rest)) = bytes.split_at_checked(WRITE_BUFFER - self.pending.len()) {
            self.pending.extend_from_slice(fits);
            self.flush()?;
            bytes = rest;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.stream.write_all(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut chunk = [0; WRITE_BUFFER];
        match self.stream.read(&mut chunk)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the filter closed the connection")),
            read => {
                self.input.extend_from_slice(&chunk[..read]);
                Ok(())
            }
        }
    }
}
