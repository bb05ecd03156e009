//! The status for everyone.

use super::route::Route;
use crate::admin::api::PublicQuery;
use crate::public::Format;

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::page(
            "/public",
            "Which lists are paused, for everyone; in the reader's language.",
            |daemon, query: PublicQuery, accept| daemon.public(&query, accept),
        ),
        Route::page("/public.json", "The same for programs.", |daemon, query: PublicQuery, accept| {
            let format = query.format.or(Some(Format::Json));
            daemon.public(&PublicQuery { format, ..query }, accept)
        }),
    ]
}
