//! Who may do what, and what every answer says about itself.
//!
//! On the unix socket the kernel names the peer. On TCP nobody is known without the token, and a browser of this
//! machine may be sent here by any page of the world: hence the names under which becalm answers (a page may have its
//! name resolve to 127.0.0.1), no acts for other origins, and no cookies.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::extract::Request;
use axum::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use tokio::time::Instant;
use tracing::warn;

use super::fail::Failed;
use super::token::Token;
use crate::admin::backend::Who;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Everybody who can connect.
    Open,
    /// Who may ask.
    Read,
    /// Who may act.
    Act,
}

impl Access {
    /// As the reference says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Act => "act",
        }
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caller {
    /// The unix socket: this user, who may ask and act, or may not.
    Unix { user: u32, admitted: bool },
    /// TCP.
    Tcp { peer: SocketAddr },
}

/// What the configuration says about TCP.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Looking takes no token.
    pub read_without_token: bool,
    /// Names under which becalm answers, in lower case, beside those of this machine.
    pub hosts: Vec<String>,
    /// Without one nobody is known.
    pub token: Option<Token>,
}

/// Which rules about who may look: whoever was let in under an earlier edition may not be welcome any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edition(u64);

/// Decides. Its rules can be changed while it does.
#[derive(Debug, Default)]
pub struct Gate {
    rules: ArcSwap<Rules>,
    /// How often the rules about who may look were changed.
    changes: AtomicU64,
    complaints: Complaints,
}

impl Gate {
    /// New rules, for requests that come from now on. Event streams that were opened under others are ended.
    pub fn set(&self, rules: Rules) {
        let before = self.rules.swap(Arc::new(rules));
        if !before.admits_the_same(&self.rules.load()) {
            self.changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Under which rules requests are looked at now.
    pub(super) fn edition(&self) -> Edition {
        Edition(self.changes.load(Ordering::Acquire))
    }

    /// Is the request meant for becalm?
    pub(super) fn check_host(
        &self,
        caller: Caller,
        request_uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(), Failed> {
        let Caller::Tcp { .. } = caller else { return Ok(()) };
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(Failed::bad("bad_host", "a request names its host, once"));
        };
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
        let Some(host) = host else { return Err(Failed::bad("bad_host", "the Host header makes no sense")) };
        // `GET http://name/path` names another one than the header, perhaps.
        for authority in [Some(&host), request_uri.authority()].into_iter().flatten() {
            if !self.rules.load().knows(authority.host()) {
                let message = format!(
                    "becalm does not answer as {}; add it to [admin.http] allowed_hosts in becalm.toml",
                    authority.host().chars().take(255).collect::<String>()
                );
                return Err(Failed::new(StatusCode::FORBIDDEN, "wrong_host", message));
            }
        }
        Ok(())
    }

    /// May this caller use a route? Who it is; none: it does not matter.
    pub(super) fn admit(
        &self,
        access: Access,
        caller: Caller,
        headers: &HeaderMap,
    ) -> Result<Option<Who>, Failed> {
        match caller {
            _ if access == Access::Open => Ok(None),
            Caller::Unix { user, admitted: true } => Ok(Some(Who::User(user))),
            Caller::Unix { user, admitted: false } => {
                self.complaints.note(&format!("user {user} may not ask"));
                let message = format!("user {user} may not ask; add it to [admin] users in becalm.toml");
                Err(Failed::new(StatusCode::FORBIDDEN, "not_allowed", message))
            }
            Caller::Tcp { peer } => {
                let rules = self.rules.load();
                let given = headers.get(AUTHORIZATION);
                match (bearer(given), &rules.token) {
                    (Some(given), Some(token)) if token.is(given) => Ok(Some(Who::Token(peer))),
                    _ if given.is_none() && access == Access::Read && rules.read_without_token => Ok(None),
                    (_, None) => {
                        let message = "becalm has no token: set [admin.http] token_file in becalm.toml";
                        Err(unauthorized("no_token", message))
                    }
                    _ if given.is_none() => {
                        Err(unauthorized("token_needed", "this takes the header Authorization: Bearer TOKEN"))
                    }
                    _ => {
                        self.complaints.note("a wrong token came by TCP");
                        Err(unauthorized("wrong_token", "this is not the token of [admin.http] token_file"))
                    }
                }
            }
        }
    }
}

impl Rules {
    /// Do others let the same people look?
    fn admits_the_same(&self, others: &Self) -> bool {
        let same = match (&self.token, &others.token) {
            (Some(one), Some(other)) => one.is_same(other),
            (None, None) => true,
            _ => false,
        };
        same && self.read_without_token == others.read_without_token && self.hosts == others.hosts
    }

    fn knows(&self, host: &str) -> bool {
        let own = ["localhost", "127.0.0.1", "[::1]"].into_iter();
        own.chain(self.hosts.iter().map(String::as_str)).any(|known| known.eq_ignore_ascii_case(host))
    }
}

/// An act is asked for by becalm's own page, or by no page at all, and in JSON, which no form can send.
pub(super) fn check_act(headers: &HeaderMap) -> Result<(), Failed> {
    let cross = |what: &str| {
        Failed::new(StatusCode::FORBIDDEN, "cross_origin", format!("another page asks for this ({what})"))
    };
    let site = HeaderName::from_static("sec-fetch-site");
    if headers.get_all(site).iter().any(|site| !matches!(site.as_bytes(), b"same-origin" | b"none")) {
        return Err(cross("Sec-Fetch-Site"));
    }
    let host = headers.get(HOST).map(HeaderValue::as_bytes);
    for origin in headers.get_all(ORIGIN) {
        let origin = origin.as_bytes();
        let named = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        if named.is_none() || named != host {
            return Err(cross("Origin"));
        }
    }
    let json = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
        kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
    });
    if !json {
        let message = "an act is sent as application/json";
        return Err(Failed::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not_json", message));
    }
    Ok(())
}

/// For routes that take no query: the first parameter that is there is named.
pub(super) fn check_no_query(request: &Request) -> Result<(), Failed> {
    match request.uri().query() {
        None | Some("") => Ok(()),
        Some(query) => {
            let name: String = query.split(['=', '&']).next().unwrap_or_default().chars().take(100).collect();
            Err(Failed::bad("bad_query", format!("{name}: unknown parameter; this takes none")))
        }
    }
}

/// What every answer says: a page of becalm's loads and sends nothing elsewhere, and nothing here is kept.
pub(super) fn dress(response: &mut Response) {
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    );
    let headers = response.headers_mut();
    // A page that needs less, or another thing, says so itself.
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
}

/// A refusal before there is a route.
pub(super) fn refuse(failed: Failed) -> Response {
    failed.into_response()
}

fn unauthorized(code: &'static str, message: &str) -> Failed {
    Failed::new(StatusCode::UNAUTHORIZED, code, message)
}

/// What follows `Bearer` (RFC 6750, 2.1; the scheme is case-insensitive).
fn bearer(header: Option<&HeaderValue>) -> Option<&[u8]> {
    let (scheme, token) = header?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii_start())
}

/// Lines about callers that are refused: one every ten seconds, whoever calls how often.
#[derive(Debug, Default)]
struct Complaints(Mutex<Option<(Instant, u64)>>);

impl Complaints {
    fn note(&self, what: &str) {
        const PAUSE: Duration = Duration::from_secs(10);
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *last {
            Some((at, unsaid)) if now.saturating_duration_since(*at) < PAUSE => {
                *unsaid = unsaid.saturating_add(1)
            }
            last => {
                let unsaid = last.map_or(0, |(_, unsaid)| unsaid);
                *last = Some((now, 0));
                warn!(unsaid, "admin: refused: {what}");
            }
        }
    }
}
