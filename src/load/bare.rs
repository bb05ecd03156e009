//! Filters that judge nothing, as fast as we can make them: what others are measured against.
//!
//! They negotiate what becalm negotiates, walk over the frames, and answer where an answer is due. They look at
//! no address and remember nothing.

use std::convert::Infallible;
use std::hint::black_box;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use crate::milter::{AtData, Changes, Client, Filter, FinalReply, Macros, Session, SessionLimits};
use clap::ValueEnum;
use memchr::memchr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Builder;

/// The longest frame: a chunk of a body, its command included.
const MAX_FRAME: usize = 64 * 1024;

/// Before it takes connections again where it could not: short beside a second, and no busy loop.
const TRY_AGAIN: Duration = Duration::from_millis(5);

/// How much a filter does before it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bare {
    /// Accepts at DATA.
    Data,
    /// Has the headers sent, takes each apart, and accepts at the end of the message.
    Headers,
    /// The same, but adds a header field and puts the message on hold.
    Hold,
}

/// What a filter's sessions run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// One runtime that moves sessions between its threads.
    Shared,
    /// A runtime in each thread; a session stays where it was accepted.
    PerThread,
}

/// What a filter listens on.
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// TCP.
    Tcp(TcpListener),
}

impl Listener {
    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Unix(listener) => listener.set_nonblocking(true),
            Self::Tcp(listener) => listener.set_nonblocking(true),
        }
    }

    fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Unix(listener) => listener.try_clone().map(Self::Unix),
            Self::Tcp(listener) => listener.try_clone().map(Self::Tcp),
        }
    }
}

/// Serves until it is killed.
///
/// # Errors
/// When it cannot be started.
pub fn serve(bare: Bare, runtime: Runtime, listener: Listener) -> io::Result<Infallible> {
    listener.set_nonblocking()?;
    let threads = std::thread::available_parallelism()?.get();
    match runtime {
        Runtime::Shared => {
            let runtime = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
            runtime.block_on(accept(listener, bare))
        }
        Runtime::PerThread => std::thread::scope(|scope| {
            for _ in 1..threads {
                let listener = listener.try_clone()?;
                scope.spawn(|| on_this_thread(listener, bare));
            }
            on_this_thread(listener, bare)
        }),
    }
}

fn on_this_thread(listener: Listener, bare: Bare) -> io::Result<Infallible> {
    Builder::new_current_thread().enable_all().build()?.block_on(accept(listener, bare))
}

async fn accept(listener: Listener, bare: Bare) -> io::Result<Infallible> {
    match listener {
        Listener::Unix(listener) => {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            loop {
                take(listener.accept().await.map(|(stream, _)| stream), bare).await;
            }
        }
        Listener::Tcp(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let accepted =
                |(stream, _): (tokio::net::TcpStream, _)| stream.set_nodelay(true).map(|()| stream);
            loop {
                take(listener.accept().await.and_then(accepted), bare).await;
            }
        }
    }
}

async fn take(accepted: io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static>, bare: Bare) {
    match accepted {
        Ok(stream) => drop(tokio::spawn(session(stream, bare))),
        // No descriptor is free, or a client is gone already: those who have one go on, and give it back.
        Err(_) => tokio::time::sleep(TRY_AGAIN).await,
    }
}

async fn session(mut stream: impl AsyncRead + AsyncWrite + Unpin, bare: Bare) -> io::Result<()> {
    let at_data: &[u8] = if bare == Bare::Data { b"\0\0\0\x01a" } else { b"\0\0\0\x01c" };
    let at_end: &[u8] = match bare {
        Bare::Hold => b"\0\0\0\x1ai\0\0\0\0X-Becalm\0value, held\0\0\0\0\x07qstorm\0\0\0\0\x01a",
        _ => b"\0\0\0\x01a",
    };
    let mut input = Vec::with_capacity(64 * 1024);
    let mut out = Vec::with_capacity(1024);
    loop {
        // A frame is 64 KiB at most.
        if input.len() == input.capacity() {
            input.reserve(64 * 1024);
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        let mut rest = &input[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some((frame, after)) = after.split_at_checked(length) else {
                if length > MAX_FRAME {
                    return Ok(());
                }
                break;
            };
            match frame.first() {
                Some(b'T') => out.extend_from_slice(at_data),
                Some(b'E') => out.extend_from_slice(at_end),
                Some(b'L') => read_header(&frame[1..]),
                Some(b'O') if !negotiate(&rest[..4 + frame.len()], &mut out) => return Ok(()),
                Some(b'Q') => return Ok(()),
                _ => {}
            }
            rest = after;
        }
        let left = rest.len();
        input.drain(..input.len() - left);
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}

fn read_header(body: &[u8]) {
    let Some(end) = memchr(0, body) else { return };
    let (name, value) = (&body[..end], &body[end + 1..]);
    black_box((name, value.strip_suffix(b"\0")));
}

/// What becalm answers, whatever that is: the same steps and the same macros. False: this is no offer.
fn negotiate(offer: &[u8], out: &mut Vec<u8>) -> bool {
    Session::new(SessionLimits::default()).feed(offer, &mut Nobody, out).is_ok()
}

struct Nobody;

impl Filter for Nobody {
    fn connect(&mut self, _: Client<'_>) {}
    fn mail(&mut self, _: &[u8], _: &Macros) {}
    fn recipient(&mut self, _: &[u8]) {}
    fn data(&mut self, _: &Macros) -> AtData {
        AtData::Accept
    }
    fn header(&mut self, _: &[u8], _: &[u8]) {}
    fn end_of_message(&mut self, _: &Macros, _: &mut Changes<'_>) -> FinalReply {
        FinalReply::Accept
    }
    fn abort(&mut self) {}
}
