//! The event stream (server-sent events): what happens with storms, and once a second the figures, where they changed.
//!
//! One task writes each event once, for all streams; a stream that does not keep up is ended, and its reader comes
//! again.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use hyper::body::{Bytes, Frame};
use serde::Serialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use super::App;
use super::fail::Failed;
use super::guard::{Access, Edition, Gate};
use super::route::Route;
use super::serve::Place;
use crate::admin::api::{Missed, Pulse};
use crate::admin::backend::Backend;

/// How often the figures are looked at.
const BEAT: Duration = Duration::from_secs(1);

/// After so many beats without an event comes a comment, so that both sides know that the other is there.
const KEEP_ALIVE: u32 = 15;

/// Events that wait for one stream: a minute of figures. With more it is ended.
const BACKLOG: usize = 64;

/// First words of a stream: come again two seconds after an end.
const GREETING: &str = "retry: 2000\n: becalm\n\n";

pub(super) fn routes() -> Vec<Route> {
    let about = "Server-sent events: `storm_started`, `storm_ended`, `possible_list` with the event; `pulse` once a second \
                 where the figures changed; `missed` where there were more events than could be sent.";
    vec![Route::raw(
        Access::Read,
        "/api/v1/events",
        about,
        "Event, Pulse, Missed",
        axum::routing::get(stream),
    )]
}

async fn stream(
    State(app): State<Arc<App>>,
    Extension(place): Extension<Place>,
    Extension(edition): Extension<Edition>,
) -> Result<Response, Failed> {
    let events = app.hub.subscribe(edition).ok_or_else(|| {
        let message =
            "too many event streams ([admin.http] max_streams), or another becalm has taken over: come again";
        Failed::new(StatusCode::SERVICE_UNAVAILABLE, "no_stream", message)
    })?;
    // It has a place of its own among the streams.
    place.leave();
    // The connection ends with it.
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CONNECTION, "close")];
    Ok((headers, Body::new(events)).into_response())
}

/// All streams.
pub(super) struct Hub(Mutex<Streams>);

struct Streams {
    /// None: another becalm has taken over.
    open: Option<Vec<(Edition, mpsc::Sender<Bytes>)>>,
    most: usize,
    /// One came since the last beat: it wants to know the figures.
    newcomer: bool,
}

impl Hub {
    pub(super) fn new(most: usize) -> Self {
        Self(Mutex::new(Streams { open: Some(Vec::new()), most, newcomer: false }))
    }

    /// One more stream; none where there are as many as may be.
    fn subscribe(&self, edition: Edition) -> Option<Events> {
        let mut streams = self.streams();
        let most = streams.most;
        let open = streams.open.as_mut()?;
        open.retain(|(_, stream)| !stream.is_closed());
        if open.len() >= most {
            return None;
        }
        let (sender, receiver) = mpsc::channel(BACKLOG);
        open.push((edition, sender));
        streams.newcomer = true;
        Some(Events { greeting: Some(Bytes::from_static(GREETING.as_bytes())), receiver })
    }

    /// To every stream. One that is full does not read, and is ended.
    fn send(&self, text: &Bytes) {
        if let Some(open) = &mut self.streams().open {
            open.retain(|(_, stream)| stream.try_send(text.clone()).is_ok());
        }
    }

    /// Streams that are open, and whether one of them is new.
    fn look(&self) -> (usize, bool) {
        let mut streams = self.streams();
        let newcomer = std::mem::take(&mut streams.newcomer);
        (streams.open.as_ref().map_or(0, Vec::len), newcomer)
    }

    /// Ends the streams that were asked for under other rules; whoever still may, comes again.
    fn end_all_but(&self, edition: Edition) {
        if let Some(open) = &mut self.streams().open {
            open.retain(|(began, _)| *began == edition);
        }
    }

    /// Ends all streams, for good.
    pub(super) fn close(&self) {
        self.streams().open = None;
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes the events for all streams, for as long as the daemon lives. Where other people may look from now on, the
/// streams of before are ended: a token that was taken away is no good for a stream either.
pub(super) async fn produce(daemon: Arc<dyn Backend>, hub: Arc<Hub>, gate: Arc<Gate>) {
    let mut feed = daemon.feed();
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last: Option<Pulse> = None;
    let mut silent = 0;
    loop {
        let said = tokio::select! {
            event = feed.recv() => match event {
                Ok(event) => {
                    let name = serde_json::to_value(&event).ok();
                    let name = name.as_ref().and_then(|value| value.get("event")?.as_str()).unwrap_or("event");
                    Some(in_words(name, &event))
                }
                Err(RecvError::Lagged(count)) => Some(in_words("missed", &Missed { count })),
                Err(RecvError::Closed) => return,
            },
            _ = beat.tick() => {
                hub.end_all_but(gate.edition());
                let (open, newcomer) = hub.look();
                if open == 0 {
                    continue;
                }
                let asked = Arc::clone(&daemon);
                let pulse = match spawn_blocking(move || asked.pulse()).await {
                    Ok(pulse) => pulse,
                    Err(panic) => {
                        error!(%panic, "the figures for the event streams could not be had");
                        continue;
                    }
                };
                let same = last.as_ref().is_some_and(|last| last.same_but_for_time(&pulse));
                silent += 1;
                let said = match (same && !newcomer, silent >= KEEP_ALIVE) {
                    (false, _) => Some(in_words("pulse", &pulse)),
                    (true, true) => Some(Bytes::from_static(b":\n\n")),
                    (true, false) => None,
                };
                last = Some(pulse);
                said
            }
        };
        if let Some(text) = said {
            silent = 0;
            hub.send(&text);
        }
    }
}

/// As it goes over the wire. JSON has no line feeds.
fn in_words(name: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "{}".to_owned());
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// The body of a stream.
struct Events {
    greeting: Option<Bytes>,
    receiver: mpsc::Receiver<Bytes>,
}

impl hyper::body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(greeting) = self.greeting.take() {
            return Poll::Ready(Some(Ok(Frame::data(greeting))));
        }
        self.receiver.poll_recv(cx).map(|text| text.map(|text| Ok(Frame::data(text))))
    }
}
