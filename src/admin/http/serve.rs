//! The loop that takes connections and serves them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::fail::Failed;
use crate::admin::backend::Who;

/// Operators and monitoring, not the public: more at a time is a mistake.
const MAX_CONNECTIONS: usize = 64;

/// For the head of a request to arrive, and between two requests.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

/// For one request and its answer. Acts upon held mail wait for the helper, which has a minute at most.
const PATIENCE: Duration = Duration::from_secs(90);

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 * 1024;

/// Who may ask, by user id. The mode of the socket says who can connect at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// root and the daemon's own user come by themselves.
    pub users: Vec<u32>,
    /// Members by primary group.
    pub group: Option<u32>,
}

impl Allowed {
    fn admits(&self, user: u32, group: u32) -> bool {
        user == 0
            || user == rustix::process::geteuid().as_raw()
            || self.users.contains(&user)
            || self.group == Some(group)
    }
}

/// Answers requests until the listener fails for good.
pub async fn serve(listener: UnixListener, allowed: Allowed, router: Router) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "admin socket: cannot accept");
                // Out of descriptors, most likely: others need time to give some back.
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let (allowed, router) = (allowed.clone(), router.clone());
        tokio::spawn(async move {
            let _place = place;
            converse(stream, &allowed, router).await;
        });
    }
}

async fn converse(stream: UnixStream, allowed: &Allowed, router: Router) {
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            debug!(%error, "admin socket: a connection broke");
            return;
        }
    };
    let user = peer.uid();
    let admitted = allowed.admits(user, peer.gid());
    if !admitted {
        warn!(user, "admin socket: refused");
    }
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(Who::User(user));
        let answer = router.call(request.map(Body::new));
        async move {
            if !admitted {
                let message = format!("user {user} may not ask; add it to [admin] users in becalm.toml");
                return Ok(Failed::new(StatusCode::FORBIDDEN, "not_allowed", message).into_response());
            }
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(answer) => answer,
                Err(_) => {
                    let message = "this takes too long; what was begun goes on";
                    Ok(Failed::new(StatusCode::GATEWAY_TIMEOUT, "too_slow", message).into_response())
                }
            }
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = served.await {
        debug!(%error, "admin socket: a connection broke");
    }
}
