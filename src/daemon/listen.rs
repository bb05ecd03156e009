//! Sockets: bound by becalm or passed by systemd, and the loop that takes connections from them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::io::{AsyncRead, AsyncWrite};
use tracing::{debug, warn};

use super::connection::{self, SessionError};
use super::shared::Shared;
use crate::account;
use crate::config::{Listen, ListenAddress};

/// How many connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;

/// Cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// As in the configuration.
        address: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// There is no folder for the socket.
    #[error(
        "cannot listen on unix:{path}: its folder is not there; create it for becalm's user, or name another socket by --listen or [listen] sockets"
    )]
    NoFolder {
        /// The socket.
        path: PathBuf,
    },
    /// Somebody answers there.
    #[error("cannot listen on {0}: another process listens there; stop it first")]
    InUse(String),
    /// Something that is no socket is in the way.
    #[error("cannot listen on {0}: there is a file that is not a socket; move it away")]
    NotASocket(String),
    /// The group of the configuration does not exist here.
    #[error("cannot give {path} to group {group}: {source}; create the group, or set [listen] group")]
    Group {
        /// The socket.
        path: PathBuf,
        /// The group's name.
        group: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A descriptor that systemd passed is of another kind.
    #[error("a socket that was passed to becalm is neither a unix nor a TCP stream socket: {0}")]
    Passed(#[source] io::Error),
}

/// A listening socket, not yet tied to a runtime, so that every worker can have its own copy.
pub enum Listener {
    /// With its path.
    Unix(std::os::unix::net::UnixListener, String),
    /// With its address.
    Tcp(std::net::TcpListener, String),
}

impl Listener {
    /// As status shows it.
    pub fn name(&self) -> &str {
        match self {
            Self::Unix(_, name) | Self::Tcp(_, name) => name,
        }
    }

    /// From a descriptor that was handed over.
    ///
    /// # Errors
    /// It is no listening stream socket.
    pub fn from_descriptor(socket: OwnedFd, name: String) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is no listening socket"));
        if !sockopt::socket_acceptconn(&socket)? || sockopt::socket_type(&socket)? != SocketType::STREAM {
            return Err(wrong());
        }
        match sockopt::socket_domain(&socket)? {
            AddressFamily::UNIX => Ok(Self::Unix(socket.into(), name)),
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp(socket.into(), name)),
            _ => Err(wrong()),
        }
    }

    /// Another handle on the same socket.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(listener, name) => Self::Unix(listener.try_clone()?, name.clone()),
            Self::Tcp(listener, name) => Self::Tcp(listener.try_clone()?, name.clone()),
        })
    }
}

/// What there is to listen on.
pub struct Sockets {
    /// Each.
    pub listeners: Vec<Listener>,
    /// They came from systemd; what the configuration names is not opened then.
    pub passed: bool,
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener, _) => listener.as_fd(),
            Self::Tcp(listener, _) => listener.as_fd(),
        }
    }
}

/// The sockets that systemd passed; without any, those of the configuration. `inherited`: those of the becalm that
/// is taken over, which are used where they are the same. One that is not wanted is closed.
pub fn open(settings: &Listen, inherited: Option<Sockets>) -> Result<Sockets, ListenError> {
    let passed = passed()?;
    if !passed.is_empty() {
        return Ok(Sockets { listeners: passed, passed: true });
    }
    let mut inherited = match inherited {
        Some(sockets) if sockets.passed => return Ok(sockets),
        Some(sockets) => sockets.listeners,
        None => Vec::new(),
    };
    let listeners = settings.sockets.iter().map(|address| {
        let name = address.to_string();
        match inherited.iter().position(|listener| listener.name() == name) {
            Some(at) => Ok(inherited.swap_remove(at)),
            None => bind(address, settings),
        }
    });
    let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
    Ok(Sockets { listeners, passed: false })
}

/// A unix socket with the given mode and group.
pub fn bind_unix(
    path: &Path,
    mode: u32,
    group: Option<&str>,
) -> Result<std::os::unix::net::UnixListener, ListenError> {
    clear_way(path)?;
    place_unix(path, mode, group)
}

/// The same, in the place of whatever socket is there.
pub fn place_unix(
    path: &Path,
    mode: u32,
    group: Option<&str>,
) -> Result<std::os::unix::net::UnixListener, ListenError> {
    let failed = |source| ListenError::Bind { address: format!("unix:{}", path.display()), source };
    // Bound under another name and moved into place when mode and group are right: nobody sees it half made.
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let listener = std::os::unix::net::UnixListener::bind(&draft).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ListenError::NoFolder { path: path.to_owned() },
        _ => failed(error),
    })?;
    let dress = || -> Result<(), ListenError> {
        std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(mode)).map_err(failed)?;
        if let Some(group) = group {
            give_to_group(&draft, group).map_err(|source| ListenError::Group {
                path: path.to_owned(),
                group: group.to_owned(),
                source,
            })?;
        }
        std::fs::rename(&draft, path).map_err(failed)
    };
    dress().inspect_err(|_| {
        let _ = std::fs::remove_file(&draft);
    })?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Takes connections for ever. To be cancelled by dropping it.
pub async fn accept(listener: Listener, shared: Arc<Shared>) -> io::Result<()> {
    match listener {
        Listener::Unix(listener, name) => {
            let listener = tokio::net::UnixListener::from_std(listener)?;
            loop {
                let stream = listener.accept().await.map(|(stream, _)| stream);
                take(stream, &name, &shared).await;
            }
        }
        Listener::Tcp(listener, name) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let stream = listener.accept().await.and_then(|(stream, _)| {
                    // Replies are small and awaited: none may wait for an acknowledgement of the last.
                    stream.set_nodelay(true)?;
                    Ok(stream)
                });
                take(stream, &name, &shared).await;
            }
        }
    }
}

async fn take<S>(stream: io::Result<S>, name: &str, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = match stream {
        Ok(stream) => stream,
        Err(error) => {
            if shared.peer_lines.admits(shared.clock.now()) {
                warn!(%error, listener = name, "cannot take a connection");
            }
            // Out of descriptors, most likely: sessions that end give some back. Others are still served.
            shared.watchdogs.watchdog().sleep(Duration::from_millis(100)).await;
            return;
        }
    };
    let Some(place) = shared.place() else {
        shared.counters.connections_refused.add_one();
        if shared.peer_lines.admits(shared.clock.now()) {
            let max = shared.max_connections();
            warn!(
                listener = name,
                max, "too many connections: one was closed, Postfix goes on without becalm there"
            );
        }
        return;
    };
    shared.counters.connections_accepted.add_one();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _place = place;
        if let Err(error) = connection::serve(stream, Arc::clone(&shared)).await {
            shared.counters.sessions_failed.add_one();
            let line = shared.peer_lines.admits(shared.clock.now());
            match error {
                _ if !line => {}
                SessionError::Protocol(_) => {
                    warn!(%error, "a milter session ended: the peer broke the protocol")
                }
                SessionError::Io(_) | SessionError::Timeout(_) => debug!(%error, "a milter session ended"),
            }
        }
    });
}

fn passed() -> Result<Vec<Listener>, ListenError> {
    let mut fds = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..fds.len() {
        match fds.take_unix_listener(index) {
            Ok(Some(listener)) => {
                listener.set_nonblocking(true).map_err(ListenError::Passed)?;
                let path =
                    listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
                let name = path
                    .map_or_else(|| "unix:(passed)".to_owned(), |path| format!("unix:{}", path.display()));
                listeners.push(Listener::Unix(listener, name));
            }
            Ok(None) => {}
            Err(_) => {
                if let Some(listener) = fds.take_tcp_listener(index).map_err(ListenError::Passed)? {
                    listener.set_nonblocking(true).map_err(ListenError::Passed)?;
                    let name = listener.local_addr().map_or_else(|_| "inet:(passed)".to_owned(), inet_name);
                    listeners.push(Listener::Tcp(listener, name));
                }
            }
        }
    }
    Ok(listeners)
}

fn bind(address: &ListenAddress, settings: &Listen) -> Result<Listener, ListenError> {
    match address {
        ListenAddress::Unix(path) => {
            let listener = bind_unix(path, settings.mode, settings.group.as_deref())?;
            Ok(Listener::Unix(listener, address.to_string()))
        }
        ListenAddress::Inet { host, port } => {
            let failed = |source: io::Error| match source.kind() {
                io::ErrorKind::AddrInUse => ListenError::InUse(address.to_string()),
                _ => ListenError::Bind { address: address.to_string(), source },
            };
            let listener = std::net::TcpListener::bind((*host, *port)).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            // The standard library listens with a backlog of 128; listening again only changes that number.
            rustix::net::listen(&listener, BACKLOG).map_err(|errno| failed(errno.into()))?;
            let name = listener.local_addr().map_or_else(|_| address.to_string(), inet_name);
            Ok(Listener::Tcp(listener, name))
        }
    }
}

fn inet_name(address: std::net::SocketAddr) -> String {
    format!("inet:{}@{}", address.port(), address.ip())
}

/// A socket that a dead process left is removed; one that answers, or a plain file, is not.
fn clear_way(path: &Path) -> Result<(), ListenError> {
    let name = || format!("unix:{}", path.display());
    let Ok(there) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !there.file_type().is_socket() {
        return Err(ListenError::NotASocket(name()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse(name())),
        Err(_) => Ok(()),
    }
}

fn give_to_group(path: &Path, group: &str) -> io::Result<()> {
    let gid = account::group_id(group)?;
    std::os::unix::fs::chown(path, None, Some(gid))
}
