//! A connection to a filter.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

/// Where a filter listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket.
    Unix(PathBuf),
    /// TCP.
    Tcp(SocketAddr),
}

/// As becalm's configuration writes it: `unix:PATH`, `inet:PORT@HOST`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => write!(f, "inet:{}@{}", address.port(), address.ip()),
        }
    }
}

/// Postfix writes through a buffer of this size (VSTREAM_BUFSIZE), and empties it when it is full or must wait.
const UNIX_BUFFER: usize = 4096;

/// On TCP, the buffer is twice the largest segment (vstream_tweak_tcp); on loopback that is 64 KB.
const TCP_BUFFER: usize = 128 * 1024;

/// A connection that never blocks, or, where it is the only one of its thread, never for longer than told.
#[derive(Debug)]
pub(super) enum Wire {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Wire {
    /// Connects, and waits no longer than `patience` for that.
    pub(super) fn connect(address: &Address, patience: Duration) -> io::Result<Self> {
        match address {
            Address::Unix(path) => {
                let socket = rustix::net::socket_with(
                    AddressFamily::UNIX,
                    SocketType::STREAM,
                    SocketFlags::CLOEXEC,
                    None,
                )?;
                // For connect(2) too, which waits while the filter's queue of connections is full.
                sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(patience))?;
                rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(true)?;
                Ok(Self::Unix(stream))
            }
            Address::Tcp(address) => {
                // Without TCP_NODELAY, as Postfix.
                let stream = TcpStream::connect_timeout(address, patience)?;
                stream.set_nonblocking(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// Connects without waiting. On TCP the connection may still be on its way: what is written waits for it, and
    /// [`Self::read`] fails where it fails. `None`: the filter's queue of connections is full for now.
    pub(super) fn begin(address: &Address) -> io::Result<Option<Self>> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match address {
            Address::Unix(path) => {
                let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
                match rustix::net::connect(&socket, &SocketAddrUnix::new(path)?) {
                    Ok(()) => Ok(Some(Self::Unix(socket.into()))),
                    Err(Errno::AGAIN) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
            Address::Tcp(address) => {
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
                match rustix::net::connect(&socket, address) {
                    Ok(()) | Err(Errno::INPROGRESS) => Ok(Some(Self::Tcp(socket.into()))),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// From now on, reads and writes wait for up to `time`.
    pub(super) fn wait_up_to(&self, time: Duration) -> io::Result<()> {
        sockopt::set_socket_timeout(self, sockopt::Timeout::Recv, Some(time))?;
        sockopt::set_socket_timeout(self, sockopt::Timeout::Send, Some(time))?;
        match self {
            Self::Unix(stream) => stream.set_nonblocking(false),
            Self::Tcp(stream) => stream.set_nonblocking(false),
        }
    }

    /// The process that listens on the other side of a unix socket; `None` for TCP, and for a process that is in
    /// another container.
    pub(super) fn peer(&self) -> Option<u32> {
        let Self::Unix(stream) = self else { return None };
        let credentials = sockopt::socket_peercred(stream).ok()?;
        u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
    }

    /// As much of `bytes` as goes in one of Postfix's writes; 0 if nothing goes now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = match self {
            Self::Unix(_) => UNIX_BUFFER,
            Self::Tcp(_) => TCP_BUFFER,
        };
        let bytes = bytes.get(..size).unwrap_or(bytes);
        let written = match self {
            Self::Unix(stream) => stream.write(bytes),
            Self::Tcp(stream) => stream.write(bytes),
        };
        match written {
            Err(error) if is_for_now(&error) => Ok(0),
            written => written,
        }
    }

    /// What has come; `None` if nothing has. `Some(0)`: the other side has closed the connection.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Option<usize>> {
        let read = match self {
            Self::Unix(stream) => stream.read(into),
            Self::Tcp(stream) => stream.read(into),
        };
        match read {
            Err(error) if is_for_now(&error) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Some(0)),
            read => read.map(Some),
        }
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
