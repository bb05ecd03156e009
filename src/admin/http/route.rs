//! A route: what it is, who may use it, and what answers.

use std::any::type_name;
use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Extension, Query, Request, State};
use axum::http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::App;
use super::fail::Failed;
use super::guard::{self, Access, Caller};
use crate::admin::api::{Nothing, RouteInfo};
use crate::admin::backend::{Backend, Page, Refusal, Who};

/// Longest body of a request, in bytes: fifty queue ids have two thousand.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// One route, as it is served and as the reference tells of it.
pub(super) struct Route {
    path: &'static str,
    method: &'static str,
    access: Access,
    about: &'static str,
    /// The type of the query or body.
    takes: &'static str,
    /// The type of the answer.
    answers: &'static str,
    /// The handler reads the query itself.
    has_query: bool,
    handler: MethodRouter<Arc<App>>,
}

impl Route {
    /// Something to look at: `answer` gets the query.
    pub(super) fn get<Q, A>(
        path: &'static str,
        about: &'static str,
        answer: fn(&dyn Backend, Q) -> Result<A, Refusal>,
    ) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
        A: Serialize + 'static,
    {
        let handler = get(async move |State(app): State<Arc<App>>, uri: Uri| {
            let query: Q = query(&uri)?;
            app.compute(&app.reads, move |daemon| answer(daemon, query)).await
        });
        let (takes, answers) = (name::<Q>(), name::<A>());
        Self { path, method: "GET", access: Access::Read, about, takes, answers, has_query: true, handler }
    }

    /// Something to read for people: `answer` gets the query, and the languages that the reader likes.
    pub(super) fn page<Q>(
        path: &'static str,
        about: &'static str,
        answer: fn(&dyn Backend, Q, Option<&str>) -> Result<Page, Refusal>,
    ) -> Self
    where
        Q: DeserializeOwned + Send + 'static,
    {
        let handler = get(async move |State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap| {
            let query: Q = query(&uri)?;
            let accept =
                headers.get(ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let page =
                app.off_thread(&app.reads, move |daemon| Ok(answer(daemon, query, accept.as_deref())?));
            let Page { content_type, language, text } = page.await?;
            let headers = [
                (CONTENT_TYPE, content_type),
                (CONTENT_LANGUAGE, &language),
                (VARY, "accept-language"),
                (CACHE_CONTROL, "max-age=15"),
                // The page's own style is all that it needs.
                (
                    CONTENT_SECURITY_POLICY,
                    "default-src 'none'; style-src 'unsafe-inline'; \
                     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                ),
            ];
            Ok::<_, Failed>((headers, text).into_response())
        });
        let (takes, answers) = (name::<Q>(), "PublicStatus");
        Self { path, method: "GET", access: Access::Open, about, takes, answers, has_query: true, handler }
    }

    /// Something to do: `answer` gets the body, and who wants it.
    pub(super) fn act<B, A>(
        path: &'static str,
        about: &'static str,
        answer: fn(&dyn Backend, B, &Who) -> Result<A, Refusal>,
    ) -> Self
    where
        B: DeserializeOwned + Send + 'static,
        A: Serialize + 'static,
    {
        let handler =
            post(async move |State(app): State<Arc<App>>, Extension(who): Extension<Who>, body: Body| {
                let body: B = app.read(body).await?;
                app.compute(&app.acts, move |daemon| answer(daemon, body, &who)).await
            });
        let (takes, answers) = (name::<B>(), name::<A>());
        Self { path, method: "POST", access: Access::Act, about, takes, answers, has_query: false, handler }
    }

    /// Something to look at that is not JSON, or has a status of its own. It takes no query.
    pub(super) fn raw(
        access: Access,
        path: &'static str,
        about: &'static str,
        answers: &'static str,
        handler: MethodRouter<Arc<App>>,
    ) -> Self {
        Self {
            path,
            method: "GET",
            access,
            about,
            takes: name::<Nothing>(),
            answers,
            has_query: false,
            handler,
        }
    }

    /// For those who ask what there is.
    pub(super) fn info(&self) -> RouteInfo {
        RouteInfo {
            method: self.method.to_owned(),
            path: self.path.to_owned(),
            access: self.access.name().to_owned(),
            about: self.about.to_owned(),
            takes: self.takes.to_owned(),
            answers: self.answers.to_owned(),
        }
    }

    /// Puts it among others, with what is checked before its handler runs.
    pub(super) fn add_to(self, app: &Arc<App>, router: Router<Arc<App>>) -> Router<Arc<App>> {
        let (access, has_query) = (self.access, self.has_query);
        let check = move |State(app): State<Arc<App>>,
                          Extension(caller): Extension<Caller>,
                          mut request: Request,
                          next: Next| async move {
            let who = app.gate.admit(access, caller, request.headers())?;
            if access == Access::Act {
                guard::check_act(request.headers())?;
            }
            if !has_query {
                guard::check_no_query(&request)?;
            }
            // An act is never admitted without.
            if let Some(who) = who {
                request.extensions_mut().insert(who);
            }
            let patience = if access == Access::Act { app.limits.act } else { app.limits.answer };
            timeout(patience, next.run(request)).await.map_err(|_| {
                let message = "this takes too long; what was begun goes on";
                Failed::new(StatusCode::SERVICE_UNAVAILABLE, "too_slow", message)
            })
        };
        router.route(self.path, self.handler.route_layer(from_fn_with_state(Arc::clone(app), check)))
    }
}

impl App {
    /// The daemon's answer as JSON, put together off the runtime's thread.
    async fn compute<A: Serialize + 'static>(
        self: &Arc<Self>,
        places: &Arc<Semaphore>,
        answer: impl FnOnce(&dyn Backend) -> Result<A, Refusal> + Send + 'static,
    ) -> Result<Response, Failed> {
        let json = move |daemon: &dyn Backend| {
            let answer = answer(daemon).map_err(Failed::from)?;
            let text = serde_json::to_vec(&answer).map_err(|error| failed(&error))?;
            Ok(("application/json", text))
        };
        self.compute_text(places, json).await
    }

    /// The daemon's answer as text of some type, put together in the same way.
    pub(super) async fn compute_text(
        self: &Arc<Self>,
        places: &Arc<Semaphore>,
        answer: impl FnOnce(&dyn Backend) -> Result<(&'static str, Vec<u8>), Failed> + Send + 'static,
    ) -> Result<Response, Failed> {
        let (kind, text) = self.off_thread(places, answer).await?;
        Ok(([(CONTENT_TYPE, kind)], text).into_response())
    }

    /// What `answer` makes of the daemon, off the runtime's thread.
    async fn off_thread<A: Send + 'static>(
        self: &Arc<Self>,
        places: &Arc<Semaphore>,
        answer: impl FnOnce(&dyn Backend) -> Result<A, Failed> + Send + 'static,
    ) -> Result<A, Failed> {
        let place = Arc::clone(places).acquire_owned().await.map_err(|closed| failed(&closed))?;
        let app = Arc::clone(self);
        let text = spawn_blocking(move || {
            // Kept to the end, even where nobody waits for it any more.
            let _place = place;
            answer(&*app.daemon)
        });
        text.await.map_err(|panic| failed(&panic))?
    }

    /// The body of a request.
    async fn read<B: DeserializeOwned>(&self, body: Body) -> Result<B, Failed> {
        let too_large = || {
            let message = format!("the body has more than {MAX_BODY} bytes");
            Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
        };
        if body.size_hint().lower() > MAX_BODY as u64 {
            return Err(too_large());
        }
        let read = timeout(self.limits.body, axum::body::to_bytes(body, MAX_BODY)).await;
        let text = match read {
            Ok(Ok(text)) => text,
            Ok(Err(error)) if is_limit(&error) => return Err(too_large()),
            Ok(Err(error)) => return Err(Failed::bad("bad_body", in_full(&error))),
            Err(_) => {
                let message = "the body did not come in time";
                return Err(Failed::new(StatusCode::REQUEST_TIMEOUT, "too_slow", message));
            }
        };
        serde_json::from_slice(&text).map_err(|error| Failed::bad("bad_body", error.to_string()))
    }
}

/// 500: it is becalm's own fault.
fn failed(error: &dyn Error) -> Failed {
    let message = format!("becalm failed on this: {error}");
    Failed::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
}

fn query<Q: DeserializeOwned>(uri: &Uri) -> Result<Q, Failed> {
    let Query(query) = Query::try_from_uri(uri).map_err(|error| Failed::bad("bad_query", in_full(&error)))?;
    Ok(query)
}

fn is_limit(error: &axum::Error) -> bool {
    error.source().is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}

/// An error with its causes.
fn in_full(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.contains(&error.to_string()) {
            text = format!("{text}: {error}");
        }
        cause = error.source();
    }
    text
}

/// The last word of a type's path.
fn name<T>() -> &'static str {
    type_name::<T>().rsplit("::").next().unwrap_or_default()
}
