//! Where operators ask.

use std::net::SocketAddr;
use std::path::PathBuf;

/// The operators' socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// A unix socket.
    pub socket: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// Its group; `None`: that of the daemon.
    pub group: Option<String>,
    /// Users of this machine who may act, beside root and the daemon's own.
    pub users: Vec<String>,
    /// The same over TCP.
    pub http: AdminHttp,
}

/// The operators' side over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminHttp {
    /// A loopback address; none: there is no TCP.
    pub listen: Option<SocketAddr>,
    /// Looking takes no token.
    pub read_without_token: bool,
    /// Holds the token; read at start and with each reload.
    pub token_file: Option<PathBuf>,
    /// Names under which becalm answers beside localhost, in lower case; at most 16.
    pub allowed_hosts: Vec<String>,
    /// Event streams at once, over all sockets. 1 to 10,000.
    pub max_streams: usize,
}

impl Default for AdminHttp {
    fn default() -> Self {
        Self {
            listen: None,
            read_without_token: false,
            token_file: None,
            allowed_hosts: Vec::new(),
            max_streams: 1024,
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            socket: PathBuf::from("/run/becalm/admin.sock"),
            mode: 0o660,
            group: None,
            users: Vec::new(),
            http: AdminHttp::default(),
        }
    }
}
