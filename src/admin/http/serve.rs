//! The loops that take connections and serve them.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::events::{self, Hub};
use super::guard::{self, Caller, Gate};
use super::slow::Patient;
use super::{App, Limits, MAX_ACTS, MAX_READS, router};
use crate::admin::backend::Backend;

/// Longest head of a request, in bytes: fifty queue ids in a query have a thousand. Also the most that waits to be
/// written for one stream.
const MAX_HEAD: usize = 16 * 1024;

/// Header fields of one request; a browser sends twenty.
const MAX_FIELDS: usize = 64;

/// Callers that are told at the same time that there are too many; others are hung up on.
const MAX_TOLD: usize = 32;

/// For one of them to hear it.
const TELLING: Duration = Duration::from_secs(1);

/// For requests that are being answered while the server makes way.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Who may ask on the unix socket, by user id. The mode of the socket says who can connect at all.
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

/// Answers for a daemon. When it is dropped, its sockets are closed and its event streams ended.
pub struct Server {
    shop: Arc<Shop>,
    tasks: Vec<tokio::task::AbortHandle>,
    /// Dropped: nothing more by TCP.
    tcp: Option<watch::Sender<()>>,
}

/// What serves one connection.
struct Shop {
    app: Arc<App>,
    router: TowerToHyperService<axum::Router>,
}

impl Server {
    /// To be called within the runtime that is to serve.
    pub fn new(daemon: Arc<impl Backend>, gate: Arc<Gate>, limits: Limits) -> Self {
        let app = Arc::new(App {
            daemon,
            gate,
            hub: Arc::new(Hub::new(limits.streams)),
            limits,
            reads: Arc::new(Semaphore::new(MAX_READS)),
            acts: Arc::new(Semaphore::new(MAX_ACTS)),
        });
        let produce = events::produce(Arc::clone(&app.daemon), Arc::clone(&app.hub), Arc::clone(&app.gate));
        let produce = tokio::spawn(produce);
        let router = TowerToHyperService::new(router(&app));
        Self {
            shop: Arc::new(Shop { app, router }),
            tasks: vec![produce.abort_handle()],
            tcp: Some(watch::Sender::new(())),
        }
    }

    /// Serves a unix socket.
    pub fn serve_unix(&mut self, listener: UnixListener, allowed: Allowed) {
        let shop = Arc::clone(&self.shop);
        let places = Places::new(shop.app.limits.connections);
        let serving = tokio::spawn(async move {
            loop {
                let stream = listener.accept().await.map(|(stream, _)| stream);
                let Some(stream) = taken(stream).await else { continue };
                let Ok(peer) = stream.peer_cred() else { continue };
                let (user, group) = (peer.uid(), peer.gid());
                let caller = Caller::Unix { user, admitted: allowed.admits(user, group) };
                places.serve(&shop, stream, caller, None);
            }
        });
        self.tasks.push(serving.abort_handle());
    }

    /// Serves TCP, until the server makes way.
    pub fn serve_tcp(&mut self, listener: TcpListener) {
        let Some(closing) = self.tcp.as_ref().map(watch::Sender::subscribe) else { return };
        let serving = tokio::spawn(accept_tcp(Arc::clone(&self.shop), listener, closing));
        self.tasks.push(serving.abort_handle());
    }

    /// The same, once the address is free: the one before this one is about to leave it.
    pub fn serve_tcp_soon(&mut self, bind: impl Fn() -> io::Result<TcpListener> + Send + 'static) {
        const PAUSE: Duration = Duration::from_millis(50);
        // It leaves when it has heard that this one is there: soon, or never.
        const TRIES: u32 = 600;
        let Some(closing) = self.tcp.as_ref().map(watch::Sender::subscribe) else { return };
        let shop = Arc::clone(&self.shop);
        let serving = tokio::spawn(async move {
            for _ in 0..TRIES {
                match bind() {
                    Ok(listener) => return accept_tcp(shop, listener, closing).await,
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(PAUSE).await,
                    Err(error) => return warn!(%error, "admin: no HTTP over TCP"),
                }
            }
            warn!("admin: no HTTP over TCP: another process has its address");
        });
        self.tasks.push(serving.abort_handle());
    }

    /// Another becalm answers from now on: leaves the TCP address to it, and ends the event streams, so that their
    /// readers go there. What comes by the unix socket is still answered.
    pub fn make_way(&mut self) {
        self.tcp = None;
        self.shop.app.hub.close();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.make_way();
        self.tasks.iter().for_each(tokio::task::AbortHandle::abort);
    }
}

async fn accept_tcp(shop: Arc<Shop>, listener: TcpListener, mut closing: watch::Receiver<()>) {
    let places = Places::new(shop.app.limits.connections);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closing.changed() => return,
        };
        let Some((stream, peer)) = taken(accepted).await else { continue };
        // Events are small, and wanted at once.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "admin: a connection broke");
            continue;
        }
        places.serve(&shop, stream, Caller::Tcp { peer }, Some(closing.clone()));
    }
}

async fn taken<S>(accepted: io::Result<S>) -> Option<S> {
    match accepted {
        Ok(stream) => Some(stream),
        Err(error) => {
            warn!(%error, "admin: cannot accept");
            // Out of descriptors, most likely: others need time to give some back.
            sleep(Duration::from_millis(200)).await;
            None
        }
    }
}

/// The places of one socket.
struct Places {
    served: Arc<Semaphore>,
    told: Arc<Semaphore>,
}

impl Places {
    fn new(most: usize) -> Self {
        Self { served: Arc::new(Semaphore::new(most)), told: Arc::new(Semaphore::new(MAX_TOLD)) }
    }

    /// Serves a connection in a task of its own, or tells it that there is no place.
    fn serve<S>(&self, shop: &Arc<Shop>, stream: S, caller: Caller, closing: Option<watch::Receiver<()>>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Ok(place) = Arc::clone(&self.served).try_acquire_owned() {
            tokio::spawn(Arc::clone(shop).converse(stream, caller, Place::new(place), closing));
        } else if let Ok(told) = Arc::clone(&self.told).try_acquire_owned() {
            tokio::spawn(async move {
                let _told = told;
                // Nothing hangs upon its hearing it.
                let _ = timeout(TELLING, tell_off(stream)).await;
            });
        }
    }
}

/// Says that there are too many. What the caller said meanwhile is read, or it would hear of a reset instead.
async fn tell_off<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    const BODY: &str =
        r#"{"error":{"code":"too_many_connections","message":"too many connections at once: come again"}}"#;
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         retry-after: 2\r\ncache-control: no-store\r\nconnection: close\r\n\r\n",
        BODY.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(BODY.as_bytes()).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    // As much as a request may have; the time is bounded too.
    for _ in 0..128 {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// A connection's place among those that are no event streams.
#[derive(Clone)]
pub(super) struct Place(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Place {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(Mutex::new(Some(permit))))
    }

    /// Gives it up.
    pub(super) fn leave(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Shop {
    async fn converse<S>(
        self: Arc<Self>,
        stream: S,
        caller: Caller,
        place: Place,
        closing: Option<watch::Receiver<()>>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = &self.app.limits;
        let service = service_fn(|request| {
            let (shop, place) = (Arc::clone(&self), place.clone());
            async move { shop.answer(request, caller, place).await }
        });
        let stream = TokioIo::new(Patient::new(stream, limits.write));
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head)
                .max_buf_size(MAX_HEAD)
                .max_headers(MAX_FIELDS)
                .serve_connection(stream, service)
        );
        let served = tokio::select! {
            served = connection.as_mut() => served,
            () = closed(closing) => {
                connection.as_mut().graceful_shutdown();
                timeout(LAST_ANSWERS, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = served {
            debug!(%error, "admin: a connection broke");
        }
    }

    async fn answer(
        &self,
        mut request: hyper::Request<Incoming>,
        caller: Caller,
        place: Place,
    ) -> Result<axum::response::Response, std::convert::Infallible> {
        let mut response = match self.app.gate.check_host(caller, request.uri(), request.headers()) {
            Ok(()) => {
                request.extensions_mut().insert(caller);
                // Taken before the token is looked at, not after.
                request.extensions_mut().insert(self.app.gate.edition());
                request.extensions_mut().insert(place);
                self.router.call(request.map(Body::new)).await?
            }
            Err(failed) => guard::refuse(failed),
        };
        guard::dress(&mut response);
        Ok(response)
    }
}

/// Resolves when the server makes way.
async fn closed(closing: Option<watch::Receiver<()>>) {
    match closing {
        // Nothing is ever sent: an error says that the sender is gone.
        Some(mut closing) => drop(closing.changed().await),
        None => std::future::pending().await,
    }
}
