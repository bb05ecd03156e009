//! Refusals, as JSON.

use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::admin::api::{ErrorInfo, Failure};
use crate::admin::backend::{Fault, Refusal};

/// A refusal with its status.
#[derive(Debug)]
pub(super) struct Failed {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Failed {
    /// With a status of HTTP.
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// 400: the request makes no sense.
    pub(super) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.fault {
            Fault::Request => StatusCode::BAD_REQUEST,
            Fault::Absent => StatusCode::NOT_FOUND,
            Fault::Ours => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, refusal.code, refusal.message)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let error = ErrorInfo { code: self.code.to_owned(), message: self.message };
        (self.status, axum::Json(Failure { error })).into_response()
    }
}

/// 404 for everything that is no route.
pub(super) async fn no_such_path(uri: Uri) -> Failed {
    let path: String = uri.path().chars().take(100).collect();
    Failed::new(StatusCode::NOT_FOUND, "no_such_path", format!("there is nothing at {path}"))
}

/// 405 for a route that is asked in another way.
pub(super) async fn no_such_method(method: Method, uri: Uri) -> Failed {
    let (method, path): (String, String) =
        (method.as_str().chars().take(20).collect(), uri.path().chars().take(100).collect());
    Failed::new(StatusCode::METHOD_NOT_ALLOWED, "no_such_method", format!("{path} knows no {method}"))
}
