//! For whoever starts and watches becalm: is it alive, does it serve?

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::App;
use super::guard::Access;
use super::route::Route;
use crate::admin::api::{Alive, Readiness};

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::raw(Access::Open, "/healthz", "The process lives: always 200.", "Alive", get(healthz)),
        Route::raw(
            Access::Open,
            "/readyz",
            "200 where it serves milter sessions; else 503 with the reasons: `starting`, `draining`, `no_listeners`.",
            "Readiness",
            get(readyz),
        ),
    ]
}

async fn healthz() -> Response {
    axum::Json(Alive { alive: true }).into_response()
}

async fn readyz(State(app): State<Arc<App>>) -> Response {
    let reasons: Vec<String> = app.daemon.unready().into_iter().map(str::to_owned).collect();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Readiness { ready, reasons })).into_response()
}
