//! What Prometheus asks.

use super::route::Route;
use crate::telemetry::metrics::Exposition;

pub(super) fn routes() -> Vec<Route> {
    vec![Route::text(
        "/metrics",
        "Metrics for Prometheus; as OpenMetrics where `Accept` asks for it.",
        |daemon, accept| {
            let exposition = Exposition::wanted(accept);
            (exposition.content_type(), daemon.metrics(exposition))
        },
    )]
}
