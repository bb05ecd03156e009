//! The side of the one who is taken over.

use std::io::{self, BufWriter, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::{debug, error, info, warn};

use super::is_trusted;
use super::link::Link;
use super::wire::{self, Frame, Message, OLDEST, PROTOCOL};
use crate::admin::api::Successor;
use crate::daemon::listen::Listener;
use crate::daemon::shared::Shared;
use crate::daemon::{Daemon, memory};

/// For the hello of somebody who has connected.
const HELLO_PATIENCE: Duration = Duration::from_secs(5);

/// For the new one to read the journal and to take connections: less than a second for 100,000 events. Meanwhile
/// nothing is written to the journal, so that it must not be for ever.
const READY_PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who wants to take over, has said who he is, and waits.
pub struct Claim {
    stream: UnixStream,
    pid: u32,
    version: String,
    protocol: u32,
    journal: Option<PathBuf>,
}

impl Claim {
    /// Says no.
    pub fn refuse(mut self, why: &str) {
        warn!(pid = self.pid, version = self.version, why, "a takeover was refused");
        // Whoever has gone meanwhile need not know.
        let _ = wire::send_with(&mut self.stream, &Message::Refused { why: why.to_owned() }, &[]);
    }
}

/// Waits for those who want to take over, for ever. `key`: that of this process's hashes.
pub async fn serve(listener: UnixListener, key: u64, claims: mpsc::Sender<Claim>) {
    loop {
        let stream = match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
            Ok(stream) => stream,
            Err(error) => {
                warn!(%error, "takeover socket: cannot accept");
                // Out of descriptors, most likely: sessions that end give some back.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        // One after the other: who may connect is one of us, and has a bounded time.
        match spawn_blocking(move || meet(stream, key)).await {
            Ok(Ok(claim)) => {
                if let Err(busy) = claims.try_send(claim) {
                    busy.into_inner().refuse("another takeover is under way");
                }
            }
            Ok(Err(error)) => debug!(%error, "takeover socket: a connection broke"),
            Err(panic) => error!(%panic, "takeover socket"),
        }
    }
}

/// Hears who it is.
fn meet(mut stream: UnixStream, key: u64) -> io::Result<Claim> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(HELLO_PATIENCE))?;
    stream.set_write_timeout(Some(HELLO_PATIENCE))?;
    if let Err(user) = is_trusted(&stream) {
        let why = format!("user {user} may not take over; only root and the user that becalm runs as");
        return refuse(stream, why);
    }
    let hello = wire::receive_with(&mut stream)?.ok_or(io::ErrorKind::UnexpectedEof)?.0;
    let Frame::Message(Message::Hello { protocol, oldest, version, pid, key: theirs, journal }) = hello
    else {
        return refuse(stream, "that was no hello".to_owned());
    };
    if let Some(why) = skew(protocol, oldest, &version) {
        return refuse(stream, why);
    }
    if theirs != key {
        let why = "the new one has another key: what is known here would mean nothing to it. Give it the same [state] \
                   directory, and let it read the file `key` there; or stop the one that runs and start the other";
        return refuse(stream, why.to_owned());
    }
    Ok(Claim { stream, pid, version, protocol: protocol.min(PROTOCOL), journal })
}

fn refuse(mut stream: UnixStream, why: String) -> io::Result<Claim> {
    warn!(why, "a takeover was refused");
    wire::send_with(&mut stream, &Message::Refused { why }, &[])?;
    Err(io::Error::other("it was refused"))
}

/// Why two versions cannot speak to each other, if so.
fn skew(newest: u32, oldest: u32, version: &str) -> Option<String> {
    let which = match () {
        () if newest < OLDEST => "old",
        () if oldest > PROTOCOL => "new",
        () => return None,
    };
    Some(format!(
        "becalm {version} is too {which}: it speaks versions {oldest} to {newest} of the takeover protocol, becalm {} \
         speaks {OLDEST} to {PROTOCOL}. Stop the one that runs and start the other",
        env!("CARGO_PKG_VERSION")
    ))
}

impl Daemon {
    /// Gives the sockets and the journal to somebody, and waits until he takes connections; this process goes on
    /// taking them until then. None: he did not; the journal is this process's again.
    pub(in crate::daemon) async fn hand_over(
        self: Arc<Self>,
        claim: Claim,
        sockets: Arc<Vec<Listener>>,
    ) -> Option<Link> {
        let (pid, version) = (claim.pid, claim.version.clone());
        info!(pid, version, "another becalm takes over");
        let why = match self.offer(claim, &sockets).await {
            Ok(mut link) => match tokio::time::timeout(READY_PATIENCE, accepting(&mut link)).await {
                Ok(Ok(())) => {
                    let since = self.shared.clock.now().rfc3339();
                    self.kin.set_after(Some(Successor { pid, version, since }));
                    return Some(link);
                }
                Ok(Err(why)) => why,
                Err(_) => {
                    let why = format!("it was not ready within {} s", READY_PATIENCE.as_secs());
                    link.peer.say(Message::Refused { why: why.clone() });
                    let _ = spawn_blocking(move || link.finish(Duration::from_secs(1))).await;
                    why
                }
            },
            Err(error) => error.to_string(),
        };
        error!(pid, why, "the other becalm did not take over; this one goes on");
        self.resume_journal().await;
        None
    }

    async fn offer(self: &Arc<Self>, claim: Claim, sockets: &Arc<Vec<Listener>>) -> io::Result<Link> {
        let (daemon, sockets) = (Arc::clone(self), Arc::clone(sockets));
        let offered = spawn_blocking(move || {
            let Claim { mut stream, protocol, journal, .. } = claim;
            let shared = &daemon.shared;
            let whole = shared.memory.is_whole(journal.as_deref(), shared.clock.now());
            // First this, then the end of the journal: what is judged now is in one of them, or in both.
            let (peer, outgoing) = shared.memory.peers().add();
            let ended = shared.memory.release();
            if !ended {
                warn!(
                    "the journal could not be written to its end; the last events are lost to the other becalm"
                );
            }
            let offer = Message::Offer {
                protocol,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                generation: daemon.kin.generation(),
                sockets: sockets.iter().map(|socket| socket.name().to_owned()).collect(),
                passed: daemon.kin.sockets_passed(),
                image: !(whole && ended),
            };
            let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            wire::send_with(&mut stream, &offer, &descriptors)
                .and_then(|()| if whole && ended { Ok(()) } else { send_image(&stream, shared) })
                .and_then(|()| Link::start(stream, Arc::clone(&peer), outgoing, shared))
                .inspect_err(|_| shared.memory.peers().remove(&peer))
        });
        offered.await.unwrap_or_else(|panic| Err(io::Error::other(panic)))
    }

    /// Writes the journal again, in a segment after those of whoever wrote it meanwhile.
    pub(in crate::daemon) async fn resume_journal(self: &Arc<Self>) {
        let daemon = Arc::clone(self);
        let resumed = spawn_blocking(move || {
            let config = daemon.standing().at_start.clone();
            memory::resume(&config, &daemon.shared);
        });
        if let Err(panic) = resumed.await {
            error!(%panic, "the journal cannot be written again");
        }
    }
}

/// All that is known here, for one that finds it in no journal.
fn send_image(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let mut stream = BufWriter::new(stream);
    let mut bytes = Vec::new();
    memory::show(shared, &mut |record| {
        bytes.clear();
        wire::put_record(&mut bytes, &record)?;
        stream.write_all(&bytes)
    })?;
    bytes.clear();
    wire::put_message(&mut bytes, &Message::Whole {})?;
    stream.write_all(&bytes)?;
    stream.flush()
}

/// Waits until the other takes connections.
async fn accepting(link: &mut Link) -> Result<(), String> {
    loop {
        match link.messages.recv().await {
            Some(Message::Accepting {}) => return Ok(()),
            Some(Message::Refused { why }) => return Err(why),
            Some(_) => {}
            None => return Err("it has ended, or is dead".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(protocol: u32, oldest: u32, key: u64) -> Message {
        Message::Hello { protocol, oldest, version: "9.9.9".to_owned(), pid: 1, key, journal: None }
    }

    fn answer(say: &[u8]) -> (io::Result<Claim>, Option<String>) {
        let (mut here, there) = UnixStream::pair().unwrap();
        here.write_all(say).unwrap();
        here.shutdown(std::net::Shutdown::Write).unwrap();
        let met = meet(there, 42);
        // One that is let in gets no answer yet.
        here.set_nonblocking(true).unwrap();
        let refusal = match wire::receive_with(&mut here) {
            Ok(Some((Frame::Message(Message::Refused { why }), _))) => Some(why),
            _ => None,
        };
        (met, refusal)
    }

    fn to_bytes(message: &Message) -> Vec<u8> {
        let mut bytes = Vec::new();
        wire::put_message(&mut bytes, message).unwrap();
        bytes
    }

    #[test]
    fn who_speaks_another_protocol_or_has_another_key_is_told_so() {
        let (met, refusal) = answer(&to_bytes(&hello(PROTOCOL + 3, OLDEST, 42)));
        assert_eq!((met.unwrap().protocol, refusal), (PROTOCOL, None), "the newest that both speak");
        let (met, refusal) = answer(&to_bytes(&hello(PROTOCOL + 3, PROTOCOL + 1, 42)));
        let refusal = refusal.unwrap();
        assert!(met.is_err() && refusal.contains("becalm 9.9.9 is too new"), "{refusal}");
        let (met, refusal) = answer(&to_bytes(&hello(OLDEST - 1, OLDEST - 1, 42)));
        let refusal = refusal.unwrap();
        assert!(met.is_err() && refusal.contains("becalm 9.9.9 is too old"), "{refusal}");
        let (met, refusal) = answer(&to_bytes(&hello(PROTOCOL, OLDEST, 43)));
        let refusal = refusal.unwrap();
        assert!(met.is_err() && refusal.contains("another key"), "{refusal}");
        let (met, refusal) = answer(&to_bytes(&Message::Accepting {}));
        assert!(met.is_err() && refusal.unwrap().contains("no hello"));
    }

    #[test]
    fn nonsense_is_no_claim() {
        for bytes in [&b""[..], b"GET / HTTP/1.0\r\n\r\n", &[0; 4], &[0, 0, 0, 3, 0, 1, 2, 3]] {
            assert!(answer(bytes).0.is_err(), "{bytes:?}");
        }
    }
}
