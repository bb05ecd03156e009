//! A connection between two becalms that both have sessions: what one judges, the other learns at once.

use std::io::{self, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::wire::{self, Frame, Message};
use crate::daemon::shared::Shared;
use crate::journal::record::Record;

/// Records on their way to the other: in a storm of 100 messages a second it may stand still for a minute before
/// one is lost to it. About 640 bytes each, for as long as the two are connected.
const CAPACITY: usize = 8192;

/// Bytes that are gathered for one write.
const BATCH: usize = 64 * 1024;

/// Messages that wait for the supervisor. There is one a second.
const MESSAGES: usize = 64;

/// Those who are told what is judged here. Nearly always nobody.
#[derive(Default)]
pub struct Peers(ArcSwap<Vec<Arc<Peer>>>);

/// One of them.
pub struct Peer {
    number: u64,
    queue: SyncSender<Out>,
    missed: AtomicU64,
}

/// What waits to be sent to a peer.
pub struct Outgoing(Receiver<Out>);

enum Out {
    Record(Record),
    Message(Message),
    End,
}

impl Peers {
    /// From now on this one is told.
    pub fn add(&self) -> (Arc<Peer>, Outgoing) {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (queue, outgoing) = sync_channel(CAPACITY);
        // Relaxed: it is only to be another number than the others'.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let peer = Arc::new(Peer { number, queue, missed: AtomicU64::new(0) });
        self.0.rcu(|list| list.iter().chain([&peer]).cloned().collect::<Vec<_>>());
        (peer, Outgoing(outgoing))
    }

    /// From now on this one is told nothing.
    pub fn remove(&self, peer: &Peer) {
        self.0
            .rcu(|list| list.iter().filter(|other| other.number != peer.number).cloned().collect::<Vec<_>>());
        let missed = peer.missed.swap(0, Ordering::Relaxed);
        if missed > 0 {
            warn!(missed, "the other becalm was too slow: it has not learnt of so many messages");
        }
    }

    /// Tells all but the one it came from. Never waits.
    #[inline]
    pub fn tell(&self, record: &Record, from: Option<&Peer>) {
        for peer in self.0.load().iter().filter(|peer| from.is_none_or(|from| from.number != peer.number)) {
            if peer.queue.try_send(Out::Record(record.clone())).is_err() {
                peer.missed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Peer {
    /// Sends a message, after what waits already. False: there is no room; the other has not read for a long time.
    pub fn say(&self, message: Message) -> bool {
        self.queue.try_send(Out::Message(message)).is_ok()
    }
}

/// The connection.
pub struct Link {
    /// The other.
    pub peer: Arc<Peer>,
    /// What it says. None: it has closed the connection, or is dead.
    pub messages: mpsc::Receiver<Message>,
    stream: UnixStream,
    /// Says so when all is written.
    written: Receiver<()>,
}

impl Link {
    /// Begins to send and to receive, on two threads of its own. What is received is made known here, and to every
    /// other peer.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn start(
        stream: UnixStream,
        peer: Arc<Peer>,
        outgoing: Outgoing,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        // Whoever is alive is waited for; whoever ends closes the connection.
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        let (to_supervisor, messages) = mpsc::channel(MESSAGES);
        let (finished, written) = sync_channel(1);
        let output = stream.try_clone()?;
        spawn("becalm-to-peer", move || {
            if let Err(error) = send(output, &outgoing.0) {
                debug!(%error, "the connection to the other becalm broke");
            }
            let _ = finished.send(());
        })?;
        let input = stream.try_clone()?;
        let (seen, shared) = (Arc::clone(&peer), Arc::clone(shared));
        spawn("becalm-of-peer", move || {
            if let Err(error) = receive(input, &seen, &shared, &to_supervisor) {
                debug!(%error, "the connection to the other becalm broke");
            }
            shared.memory.peers().remove(&seen);
        })?;
        Ok(Self { peer, messages, stream, written })
    }

    /// Sends what waits, and closes the connection; all within `patience`.
    pub fn finish(self, patience: Duration) {
        let _ = self.peer.queue.try_send(Out::End);
        match self.written.recv_timeout(patience) {
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {}
            Err(RecvTimeoutError::Timeout) => debug!("the other becalm does not read"),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // The threads end by it.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn send(mut stream: UnixStream, outgoing: &Receiver<Out>) -> io::Result<()> {
    let mut bytes = Vec::new();
    // An error means that nobody is left who could say anything.
    while let Ok(first) = outgoing.recv() {
        let mut next = Some(first);
        let mut end = false;
        while let Some(out) = next {
            match out {
                // One that is too long for a frame is in no journal either.
                Out::Record(record) => drop(wire::put_record(&mut bytes, &record)),
                Out::Message(message) => wire::put_message(&mut bytes, &message)?,
                Out::End => end = true,
            }
            next = if end || bytes.len() >= BATCH { None } else { outgoing.try_recv().ok() };
        }
        stream.write_all(&bytes)?;
        bytes.clear();
        if end {
            break;
        }
    }
    Ok(())
}

fn receive(
    stream: UnixStream,
    peer: &Peer,
    shared: &Shared,
    messages: &mpsc::Sender<Message>,
) -> io::Result<()> {
    let mut stream = BufReader::with_capacity(BATCH, stream);
    while let Some(frame) = wire::read(&mut stream)? {
        match frame {
            Frame::Record(Some(record)) => shared.learn(record, peer),
            Frame::Record(None) => {}
            Frame::Message(message) => {
                // An error means that the supervisor has done with this peer; its records still count.
                let _ = messages.blocking_send(message);
            }
        }
    }
    Ok(())
}
