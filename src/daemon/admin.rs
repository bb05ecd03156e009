//! The sockets that operators use: the unix socket, and loopback TCP where it is configured.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{error, info, warn};

use super::{Daemon, StartError, listen};
use crate::account;
use crate::admin::http::{Allowed, Limits, Rules, Server, Token};
use crate::config::AdminHttp;

/// Files that are no connections: the journal, sources, the sockets of helpers and of other becalms.
const OTHER_FILES: u64 = 200;

impl Daemon {
    /// Answers operators from now on, for as long as what is returned lives. `replace`: the one that is there is another
    /// becalm's whose place this one has taken.
    ///
    /// # Errors
    /// The runtime does not take the socket. One that cannot be had is no error: the filter's work does not depend on it.
    pub(super) fn open_admin(self: &Arc<Self>, replace: bool) -> Result<Server, StartError> {
        let standing = self.standing().at_start.clone();
        let admin = &standing.admin;
        self.admit_files(admin.http.max_streams);
        self.gate.set(rules(&self.standing().config.admin.http));
        let limits = Limits { streams: admin.http.max_streams, ..Limits::default() };
        let mut server = Server::new(Arc::clone(self), Arc::clone(&self.gate), limits);
        let bind = if replace { listen::place_unix } else { listen::bind_unix };
        match bind(&admin.socket, admin.mode, admin.group.as_deref()) {
            Ok(listener) => {
                let allowed = Allowed {
                    users: admin.users.iter().filter_map(|user| account::user_id(user).ok()).collect(),
                    group: admin.group.as_deref().and_then(|group| account::group_id(group).ok()),
                };
                let listener = tokio::net::UnixListener::from_std(listener)
                    .map_err(|source| StartError::System { what: "cannot watch the admin socket", source })?;
                server.serve_unix(listener, allowed);
            }
            Err(error) => {
                warn!(%error, "no admin socket: `becalm status`, `lists` and `storms` cannot be answered");
            }
        }
        match admin.http.listen {
            Some(address) if replace => server.serve_tcp_soon(move || bind_tcp(address)),
            Some(address) => match bind_tcp(address) {
                Ok(listener) => server.serve_tcp(listener),
                Err(error) => warn!(%address, %error, "no HTTP over TCP; set another [admin.http] listen"),
            },
            None => {}
        }
        Ok(server)
    }

    /// Who may ask by TCP, as the configuration and the token's file say now.
    pub(super) fn read_token(&self, settings: &AdminHttp) {
        self.gate.set(rules(settings));
    }

    /// Every stream and every milter connection takes a descriptor; the usual limit of 1,024 is for programs that use
    /// select(2).
    pub(super) fn admit_files(&self, streams: usize) {
        let wanted = (self.shared.max_connections() as u64).saturating_add(streams as u64) + OTHER_FILES;
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        if current.is_none_or(|current| current >= wanted) {
            return;
        }
        let most = maximum.map_or(wanted, |maximum| maximum.min(wanted));
        match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum }) {
            Ok(()) if most >= wanted => {}
            Ok(()) | Err(_) => warn!(
                wanted,
                most,
                "not as many files may be open as there may be connections; raise LimitNOFILE= of the service"
            ),
        }
    }
}

/// Where the token cannot be read, nobody has it: who took it away wants it to be no good any more.
fn rules(settings: &AdminHttp) -> Rules {
    let token = settings.token_file.as_deref().filter(|_| settings.listen.is_some()).and_then(|path| {
        Token::read(path)
            .inspect_err(|error| error!(%error, "no token is good: acts by TCP are refused"))
            .ok()
    });
    Rules { read_without_token: settings.read_without_token, hosts: settings.allowed_hosts.clone(), token }
}

fn bind_tcp(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    info!(%address, "HTTP over TCP");
    tokio::net::TcpListener::from_std(listener)
}
