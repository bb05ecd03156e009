//! The asking side, for the command line. Blocking: a command asks once and ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::public::Format;

use super::api::{
    Act, Decision, Failure, HeldInfo, Ids, Nears, ProbeTicket, Quarantine, Reply, Request, Selection,
    StartProbe, Tried, TryWay,
};

/// A reply to `lists` of a very large site has some megabytes; more than this is no reply of becalm's.
const MAX_REPLY: usize = 256 * 1024 * 1024;

/// A daemon that is alive answers at once, or within a directory's reload.
const PATIENCE: Duration = Duration::from_secs(10);

/// An act upon held mail waits for the helper.
const PATIENCE_FOR_ACTS: Duration = Duration::from_secs(100);

/// The emergency switch works without the daemon too: whoever throws it does not wait for one that hangs.
const PATIENCE_FOR_THE_SWITCH: Duration = Duration::from_secs(3);

/// A test of a way waits for its receiver: at most a minute for those before the last, and five for that.
const PATIENCE_FOR_WAYS: Duration = Duration::from_secs(370);

/// Held messages in one answer: the most that there may be.
const PAGE: usize = 5000;

/// `max_count` is 100,000 at most, and a few more may have come by other ways.
const MOST_HELD: usize = 1_000_000;

/// Could not ask.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No daemon listens there, or this user may not ask.
    #[error("cannot ask becalm on {socket}: {source}; is it running, and may this user use the socket?")]
    Connect {
        /// The admin socket.
        socket: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("becalm did not answer within {0:?}")]
    Slow(Duration),
    /// This process could not get what it needs to ask.
    #[error("cannot ask becalm: {0}")]
    System(#[from] std::io::Error),
    /// It hung up, or speaks no HTTP.
    #[error("becalm did not answer as it should: {0}; do command and daemon have the same version?")]
    Http(#[from] hyper::Error),
    /// Not a reply of this version.
    #[error("becalm's answer makes no sense: {0}; do command and daemon have the same version?")]
    Garbled(String),
    /// The daemon says no.
    #[error("{message}")]
    Refused {
        /// For programs.
        code: String,
        /// For a person.
        message: String,
    },
}

/// Asks the daemon behind `socket`. Not to be called where a runtime runs already.
///
/// # Errors
/// See [`AskError`].
pub fn ask(socket: &Path, request: &Request) -> Result<Reply, AskError> {
    Ok(match request {
        Request::Status {} => Reply::Status(Box::new(get(socket, "/api/v1/status")?)),
        Request::Lists {} => Reply::Lists(get(socket, "/api/v1/lists")?),
        Request::Storms {} => Reply::Storms(get(socket, "/api/v1/storms")?),
        Request::Quarantine { select } => Reply::Quarantine(get(socket, &quarantine(select))?),
        Request::Decide(Decision::EndStorm(end)) => {
            Reply::ByHand(post(socket, "/api/v1/storms/end", end, PATIENCE)?)
        }
        Request::Decide(Decision::Close(start)) => {
            Reply::ByHand(post(socket, "/api/v1/storms/start", start, PATIENCE)?)
        }
        Request::Observe(observe) => {
            Reply::Observing(post(socket, "/api/v1/observe", observe, PATIENCE_FOR_THE_SWITCH)?)
        }
        Request::Act { act, ids } => {
            let path = match act {
                Act::Release => "/api/v1/quarantine/release",
                Act::Return => "/api/v1/quarantine/return",
            };
            Reply::Acted(post(socket, path, &Ids { ids: ids.clone() }, PATIENCE_FOR_ACTS)?)
        }
    })
}

/// All held messages that fit, the oldest first, page by page. Messages that come meanwhile are the last.
///
/// # Errors
/// See [`AskError`].
pub fn held(socket: &Path, select: Selection) -> Result<Vec<HeldInfo>, AskError> {
    let mut select = Selection { limit: Some(PAGE), ..select };
    let mut found = Vec::new();
    while found.len() < MOST_HELD {
        let page: Quarantine = get(socket, &quarantine(&select))?;
        found.extend(page.messages);
        match page.next {
            Some(next) => select.after = Some(next),
            None => break,
        }
    }
    Ok(found)
}

/// What is near a storm, and none.
///
/// # Errors
/// See [`AskError`].
pub fn near(socket: &Path) -> Result<Nears, AskError> {
    get(socket, "/api/v1/near")
}

/// A token for a probe of a list.
///
/// # Errors
/// See [`AskError`].
pub fn probe(socket: &Path, list: &str) -> Result<ProbeTicket, AskError> {
    post(socket, "/api/v1/probe", &StartProbe { list: list.to_owned() }, PATIENCE)
}

/// A test alert, by one of the daemon's ways.
///
/// # Errors
/// See [`AskError`].
pub fn try_way(socket: &Path, way: &str) -> Result<Tried, AskError> {
    post(socket, "/api/v1/alerts/test", &TryWay { way: way.to_owned() }, PATIENCE_FOR_WAYS)
}

/// The status for everyone, as the daemon writes it.
///
/// # Errors
/// See [`AskError`].
pub fn public(socket: &Path, language: Option<&str>, format: Format) -> Result<String, AskError> {
    let lang = language.map_or_else(String::new, |language| format!("&lang={}", escaped(language)));
    let path = format!("/public?format={}{lang}", format.name());
    let text = fetch(socket, hyper::Request::get(path), Bytes::new(), PATIENCE)?;
    String::from_utf8(text.into()).map_err(|error| AskError::Garbled(error.to_string()))
}

fn get<A: DeserializeOwned>(socket: &Path, path: &str) -> Result<A, AskError> {
    exchange(socket, hyper::Request::get(path), Bytes::new(), PATIENCE)
}

fn post<A: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: &impl Serialize,
    patience: Duration,
) -> Result<A, AskError> {
    let text = serde_json::to_vec(body).map_err(|error| AskError::Garbled(error.to_string()))?;
    let head = hyper::Request::post(path).header(CONTENT_TYPE, "application/json");
    exchange(socket, head, text.into(), patience)
}

fn exchange<A: DeserializeOwned>(
    socket: &Path,
    head: hyper::http::request::Builder,
    body: Bytes,
    patience: Duration,
) -> Result<A, AskError> {
    let text = fetch(socket, head, body, patience)?;
    serde_json::from_slice(&text).map_err(|error| AskError::Garbled(error.to_string()))
}

fn fetch(
    socket: &Path,
    head: hyper::http::request::Builder,
    body: Bytes,
    patience: Duration,
) -> Result<Bytes, AskError> {
    let request = head.header(HOST, "localhost").body(Full::new(body));
    let request = request.map_err(|error| AskError::Garbled(error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = async {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| AskError::Connect { socket: socket.to_owned(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await?;
        let fine = answer.status().is_success();
        let text = Limited::new(answer.into_body(), MAX_REPLY).collect().await;
        let text = text.map_err(|error| AskError::Garbled(error.to_string()))?.to_bytes();
        connection.abort();
        Ok((fine, text))
    };
    let (fine, text) = runtime.block_on(async {
        tokio::time::timeout(patience, asked).await.unwrap_or(Err(AskError::Slow(patience)))
    })?;
    if fine {
        return Ok(text);
    }
    let Failure { error } =
        serde_json::from_slice(&text).map_err(|error| AskError::Garbled(error.to_string()))?;
    Err(AskError::Refused { code: error.code, message: error.message })
}

/// The route with its query.
fn quarantine(select: &Selection) -> String {
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    let ids = (!select.ids.is_empty()).then(|| select.ids.join(","));
    let parameters = [
        ("ids", ids),
        ("storm", select.storm.clone()),
        ("list", select.list.clone()),
        ("author", select.author.clone()),
        ("reason", select.reason.clone()),
        ("older_than_s", number(select.older_than_s)),
        ("limit", number(select.limit.map(|limit| limit as u64))),
        ("after", select.after.clone()),
    ];
    let given =
        parameters.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(&value?))));
    let query = given.collect::<Vec<_>>().join("&");
    if query.is_empty() { "/api/v1/quarantine".to_owned() } else { format!("/api/v1/quarantine?{query}") }
}

/// As a value in a query (RFC 3986, 2.1).
fn escaped(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b',' | b'@' => {
                out.push(byte.into())
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_stands_in_a_parameter_arrives_as_it_was() {
        let select = Selection {
            ids: vec!["4fV1sQ2C8szl".to_owned(), "x".to_owned()],
            author: Some("a+b&c=%d é\"@example.org".to_owned()),
            limit: Some(5),
            ..Selection::default()
        };
        let uri = quarantine(&select).parse::<hyper::Uri>().unwrap();
        let read = axum::extract::Query::<Selection>::try_from_uri(&uri).unwrap();
        assert_eq!(read.0, select);
        assert_eq!(quarantine(&Selection::default()), "/api/v1/quarantine");
    }
}
