//! HTTP/1.1: routes, who may use them, and the loops that serve them.
//!
//! ```text
//! serve: places, time limits ─▶ guard: Host ─▶ routing ─▶ guard: token, origin, type ─▶ handler ─▶ guard: headers
//! ```
//!
//! A new route is one more `Route` in the `routes()` of its module, and that module's line in `all`: what is
//! declared there is checked before the handler runs, and is what the reference (`docs/api.md`) says.

mod dashboard;
mod events;
mod fail;
mod guard;
mod health;
mod metrics;
mod operators;
mod public;
#[cfg(test)]
mod reference;
mod route;
mod serve;
mod slow;
mod token;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::sync::Semaphore;

pub use self::guard::{Gate, Rules};
pub use self::serve::{Allowed, Server};
pub use self::token::{Token, TokenError};
use super::backend::Backend;
use events::Hub;
use route::Route;

/// Answers that are put together at the same time: they read tables and write text, and the processors are the mail's.
const MAX_READS: usize = 4;

/// Acts at the same time: each waits for its helper, which does one after the other.
const MAX_ACTS: usize = 8;

/// How much is served at once, and how long it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of each socket that are no event streams. Operators and monitoring, not the public: more at a time
    /// is a mistake.
    pub connections: usize,
    /// Event streams, of all sockets.
    pub streams: usize,
    /// For the head of a request to arrive, and between two requests.
    pub head: Duration,
    /// For its body to arrive.
    pub body: Duration,
    /// For an answer to be put together.
    pub answer: Duration,
    /// The same for an act: it waits for the helper, which has a minute at most.
    pub act: Duration,
    /// For the peer to take what was written.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            streams: 1024,
            head: Duration::from_secs(10),
            body: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            act: Duration::from_secs(90),
            write: Duration::from_secs(30),
        }
    }
}

/// What handlers share.
struct App {
    daemon: Arc<dyn Backend>,
    gate: Arc<Gate>,
    hub: Arc<Hub>,
    limits: Limits,
    reads: Arc<Semaphore>,
    acts: Arc<Semaphore>,
}

/// Every route.
fn all() -> Vec<Route> {
    [
        operators::routes(),
        events::routes(),
        health::routes(),
        metrics::routes(),
        dashboard::routes(),
        public::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn router(app: &Arc<App>) -> Router {
    let router = all().into_iter().fold(Router::new(), |router, route| route.add_to(app, router));
    router
        .fallback(fail::no_such_path)
        .method_not_allowed_fallback(fail::no_such_method)
        .with_state(Arc::clone(app))
}
