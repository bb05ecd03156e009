//! What Prometheus asks.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::Response;
use axum::routing::get;

use super::App;
use super::fail::Failed;
use super::guard::Access;
use super::route::Route;
use crate::admin::backend::Backend;
use crate::telemetry::metrics::Exposition;

pub(super) fn routes() -> Vec<Route> {
    let about = "Metrics for Prometheus (see `docs/metrics.md`); as OpenMetrics where `Accept` asks for it.";
    vec![Route::raw(Access::Read, "/metrics", about, "text/plain", get(metrics))]
}

async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Failed> {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let exposition = Exposition::wanted(accept);
    let text =
        move |daemon: &dyn Backend| Ok((exposition.content_type(), daemon.metrics(exposition).into_bytes()));
    app.compute_text(&app.reads, text).await
}
