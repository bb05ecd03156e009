//! The answering side. Knows nothing of the daemon: it is given a function that answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::api::{MAX_REQUEST, Reply, Request};

/// Operators and monitoring, not the public: more at a time is a mistake.
const MAX_CONNECTIONS: usize = 32;

/// For a request to arrive.
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);

/// For one request and its reply. Acts upon held mail wait for the helper, which has a minute at most.
const PATIENCE: Duration = Duration::from_secs(90);

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

/// Who asks, as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user's number.
    pub user: u32,
}

/// Answers requests until the listener fails for good. `answer` must not block.
pub async fn serve<F, A>(listener: UnixListener, allowed: Allowed, answer: F)
where
    F: Fn(Request, Peer) -> A + Send + Sync + 'static,
    A: Future<Output = Reply> + Send + 'static,
{
    let answer = Arc::new(answer);
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
        let (answer, allowed) = (Arc::clone(&answer), allowed.clone());
        tokio::spawn(async move {
            let _place = place;
            let outcome = tokio::time::timeout(PATIENCE, converse(stream, &allowed, answer.as_ref())).await;
            match outcome {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%error, "admin socket: a connection broke"),
                Err(_) => debug!("admin socket: a peer took too long"),
            }
        });
    }
}

async fn converse<F, A>(mut stream: UnixStream, allowed: &Allowed, answer: &F) -> std::io::Result<()>
where
    F: Fn(Request, Peer) -> A,
    A: Future<Output = Reply>,
{
    let peer = stream.peer_cred()?;
    let reply = if allowed.admits(peer.uid(), peer.gid()) {
        let mut line = Vec::new();
        let (reader, _) = stream.split();
        let mut reader = BufReader::new(reader.take(MAX_REQUEST as u64));
        tokio::time::timeout(REQUEST_PATIENCE, reader.read_until(b'\n', &mut line)).await??;
        match serde_json::from_slice::<Request>(&line) {
            Ok(request) => answer(request, Peer { user: peer.uid() }).await,
            Err(error) => Reply::Error { message: format!("not a request: {error}") },
        }
    } else {
        warn!(user = peer.uid(), "admin socket: refused");
        Reply::Error {
            message: format!("user {} may not ask; add it to [admin] users in becalm.toml", peer.uid()),
        }
    };
    let mut text = serde_json::to_vec(&reply).map_err(std::io::Error::other)?;
    text.push(b'\n');
    stream.write_all(&text).await?;
    stream.shutdown().await
}
