//! The dashboard: one page, its style and its scripts, embedded as they are in `dashboard/`.
//!
//! They have no secrets, so that nobody needs a token for them: the page asks for one when the API wants it. Style
//! and scripts have the hash of all of them in their path and may be kept for ever; the page names them, and is asked
//! for anew each time.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};

use super::fail::{Failed, no_such_path};
use super::guard::Access;
use super::route::Route;

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type, content.
const ASSETS: &[(&str, &str, &str)] = &[
    ("style.css", "text/css; charset=utf-8", include_str!("dashboard/style.css")),
    ("app.js", SCRIPT, include_str!("dashboard/app.js")),
    ("api.js", SCRIPT, include_str!("dashboard/api.js")),
    ("charts.js", SCRIPT, include_str!("dashboard/charts.js")),
    ("dialogs.js", SCRIPT, include_str!("dashboard/dialogs.js")),
    ("dom.js", SCRIPT, include_str!("dashboard/dom.js")),
    ("held.js", SCRIPT, include_str!("dashboard/held.js")),
    ("now.js", SCRIPT, include_str!("dashboard/now.js")),
    ("site.js", SCRIPT, include_str!("dashboard/site.js")),
    ("words.js", SCRIPT, include_str!("dashboard/words.js")),
];

/// As it is in the source, with `@VERSION@` where the hash belongs.
const PAGE: &str = include_str!("dashboard/index.html");

struct Page {
    text: String,
    /// In quotes, as HTTP wants it.
    tag: String,
    /// Of the assets.
    version: String,
}

static SERVED: LazyLock<Page> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for (name, _, content) in ASSETS {
        hash.update(name);
        hash.update(content);
    }
    let version = short(hash);
    let text = PAGE.replace("@VERSION@", &version);
    let tag = format!("\"{}\"", short(Sha256::new().chain_update(&text)));
    Page { text, tag, version }
});

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::raw(Access::Open, "/", "The dashboard: a page for browsers.", "text/html", get(page)),
        Route::raw(
            Access::Open,
            "/assets/{version}/{name}",
            "Its style and scripts.",
            "text/css, text/javascript",
            get(asset),
        ),
    ]
}

async fn page(headers: HeaderMap) -> Response {
    let page = &*SERVED;
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|tag| tag.as_bytes() == page.tag.as_bytes());
    let about = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, page.tag.as_str()),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, about).into_response();
    }
    (about, page.text.as_str()).into_response()
}

async fn asset(Path((version, name)): Path<(String, String)>, uri: Uri) -> Result<Response, Failed> {
    let found = ASSETS.iter().find(|(known, ..)| *known == name && version == SERVED.version);
    let Some((_, kind, content)) = found else { return Err(no_such_path(uri).await) };
    let about =
        [(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    Ok((about, *content).into_response())
}

/// 48 bits: an accident is out of the question, and nobody gains by a collision.
fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_the_page_and_the_scripts_name_is_there() {
        let mut named = Vec::new();
        for part in SERVED.text.split(&format!("/assets/{}/", SERVED.version)).skip(1) {
            named.push(part.split('"').next().unwrap().to_owned());
        }
        for (_, _, content) in ASSETS {
            for part in content.split("from \"./").skip(1) {
                named.push(part.split('"').next().unwrap().to_owned());
            }
        }
        for name in &named {
            assert!(ASSETS.iter().any(|(known, ..)| known == name), "{name}");
        }
        for (known, ..) in ASSETS {
            assert!(named.iter().any(|name| name == known), "{known} is named nowhere");
        }
    }

    #[test]
    fn nothing_in_the_page_needs_a_weaker_policy() {
        let inline = |word: &str| word.starts_with("style") || (word.starts_with("on") && word.contains('='));
        assert!(!PAGE.contains("<style") && !PAGE.split_whitespace().any(inline), "inline style or script");
        for (name, _, content) in ASSETS {
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"]
            {
                assert!(!content.contains(word), "{name}: {word}");
            }
        }
        let bytes = PAGE.len() + ASSETS.iter().map(|(.., content)| content.len()).sum::<usize>();
        assert!(bytes < 90_000, "{bytes} bytes leave no room for the first answers within 100 KB");
    }
}
