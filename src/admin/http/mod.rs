//! HTTP/1.1: routes, who may use them, and the loop that serves them.
//!
//! A new route is one more [`Route`] in the `routes()` of its module, and that module's line in [`all`]: what is
//! declared there is checked before the handler runs, and is what the reference says.

mod fail;
mod operators;
mod public;
mod route;
mod serve;

use std::sync::Arc;

use axum::Router;
use tokio::sync::Semaphore;

pub use self::serve::{Allowed, serve};
use super::backend::Backend;
use route::Route;

/// Answers that are put together at the same time: they read tables and write text, and the processors are the mail's.
const MAX_READS: usize = 4;

/// Acts at the same time: each waits for its helper, which does one after the other.
const MAX_ACTS: usize = 8;

/// What handlers share.
pub(super) struct App {
    daemon: Arc<dyn Backend>,
    reads: Semaphore,
    acts: Semaphore,
}

/// Every route.
fn all() -> Vec<Route> {
    [operators::routes(), public::routes()].into_iter().flatten().collect()
}

/// The service that answers for a daemon.
pub fn router(daemon: Arc<impl Backend>) -> Router {
    let app = App { daemon, reads: Semaphore::new(MAX_READS), acts: Semaphore::new(MAX_ACTS) };
    let router = all().into_iter().fold(Router::new(), |router, route| route.add_to(router));
    router
        .fallback(fail::no_such_path)
        .method_not_allowed_fallback(fail::no_such_method)
        .with_state(Arc::new(app))
}
