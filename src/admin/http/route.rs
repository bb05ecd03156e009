//! A route: what it is, who may use it, and what answers.

use std::any::type_name;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::http::header::{
    ACCEPT_LANGUAGE, CACHE_CONTROL, CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::App;
use super::fail::Failed;
use crate::admin::api::RouteInfo;
use crate::admin::backend::{Backend, Page, Refusal, Who};

/// Longest body of a request, in bytes: fifty queue ids have two thousand.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// One route, as it is served and as the reference tells of it.
pub(super) struct Route {
    path: &'static str,
    method: &'static str,
    about: &'static str,
    /// The type of the query or body.
    takes: &'static str,
    /// The type of the answer.
    answers: &'static str,
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
        let handler = async move |State(app): State<Arc<App>>, uri: Uri| {
            let query: Q = query(&uri)?;
            app.compute(&app.reads, move |daemon| answer(daemon, query)).await
        };
        let handler = on(MethodFilter::GET, handler);
        Self { method: "GET", path, about, takes: name::<Q>(), answers: name::<A>(), handler }
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
        let handler = async move |State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap| {
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
                (CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
                (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            ];
            Ok::<_, Failed>((headers, text).into_response())
        };
        let handler = on(MethodFilter::GET, handler);
        Self { method: "GET", path, about, takes: name::<Q>(), answers: name::<Page>(), handler }
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
        let handler = async move |State(app): State<Arc<App>>, Extension(who): Extension<Who>, body: Body| {
            let body: B = body_of(body).await?;
            app.compute(&app.acts, move |daemon| answer(daemon, body, &who)).await
        };
        let handler = on(MethodFilter::POST, handler);
        Self { method: "POST", path, about, takes: name::<B>(), answers: name::<A>(), handler }
    }

    /// For those who ask what there is.
    pub(super) fn info(&self) -> RouteInfo {
        RouteInfo {
            method: self.method.to_owned(),
            path: self.path.to_owned(),
            about: self.about.to_owned(),
            takes: self.takes.to_owned(),
            answers: self.answers.to_owned(),
        }
    }

    /// Puts it among others.
    pub(super) fn add_to(self, router: Router<Arc<App>>) -> Router<Arc<App>> {
        router.route(self.path, self.handler)
    }
}

impl App {
    /// The daemon's answer as JSON, put together off the runtime's thread.
    async fn compute<A: Serialize + 'static>(
        self: &Arc<Self>,
        places: &Semaphore,
        answer: impl FnOnce(&dyn Backend) -> Result<A, Refusal> + Send + 'static,
    ) -> Result<Response, Failed> {
        let text = self.off_thread(places, move |daemon| {
            let answer = answer(daemon).map_err(Failed::from)?;
            serde_json::to_vec(&answer).map_err(|error| failed(error.to_string()))
        });
        Ok(([(CONTENT_TYPE, "application/json")], text.await?).into_response())
    }

    /// What `answer` makes of the daemon, off the runtime's thread.
    async fn off_thread<A: Send + 'static>(
        self: &Arc<Self>,
        places: &Semaphore,
        answer: impl FnOnce(&dyn Backend) -> Result<A, Failed> + Send + 'static,
    ) -> Result<A, Failed> {
        let _place = places.acquire().await.map_err(|closed| failed(closed.to_string()))?;
        let app = Arc::clone(self);
        spawn_blocking(move || answer(&*app.daemon)).await.map_err(|panic| failed(panic.to_string()))?
    }
}

fn failed(error: String) -> Failed {
    Failed::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", format!("becalm failed on this: {error}"))
}

fn query<Q: DeserializeOwned>(uri: &Uri) -> Result<Q, Failed> {
    let Query(query) = Query::try_from_uri(uri).map_err(|error| Failed::bad("bad_query", in_full(&error)))?;
    Ok(query)
}

async fn body_of<B: DeserializeOwned>(body: Body) -> Result<B, Failed> {
    let text = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| {
        let message = format!("the body is not whole, or has more than {MAX_BODY} bytes");
        Failed::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    })?;
    serde_json::from_slice(&text).map_err(|error| Failed::bad("bad_body", error.to_string()))
}

/// An error with its causes.
fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The last word of a type's path.
fn name<T>() -> &'static str {
    type_name::<T>().rsplit("::").next().unwrap_or_default()
}
