//! A POST of JSON over HTTP.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{Failure, printable, secret};
use crate::alert::Alert;
use crate::alert::settings::Body;

/// Of an answer, for the log.
const MAX_ANSWER: u64 = 2 * 1024;

pub(super) fn post(
    url: &str,
    token_file: Option<&Path>,
    body: Body,
    alert: &Alert,
    timeout: Duration,
) -> Result<(), Failure> {
    let token = token_file.map(secret).transpose()?;
    let text = match body {
        Body::Full => serde_json::to_string(alert),
        Body::Text => serde_json::to_string(&json!({ "text": alert.text })),
    };
    let text = text.map_err(|error| Failure::Never(format!("cannot be written as JSON: {error}")))?;
    let mut request = agent(url, timeout)?
        .post(url)
        .header("Content-Type", "application/json")
        // A receiver that got it, and whose answer was lost, need not take it twice.
        .header("Idempotency-Key", &alert.id);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.send(text).map_err(|error| sort(&error))?;
    let status = response.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(());
    }
    let answer = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().unwrap_or_default();
    let answer = format!("HTTP {status}: {}", printable(&answer, 200));
    Err(match status {
        300..=399 => {
            Failure::Never(format!("{answer}; redirects are not followed: name the place itself in `url`"))
        }
        401 | 403 => Failure::Never(format!("{answer}; see `token_file` and the receiver's permissions")),
        404 | 405 | 410 => Failure::Never(format!("{answer}; is `url` the receiver's?")),
        // Request Timeout, Too Early, Too Many Requests.
        408 | 425 | 429 | 500.. => Failure::Later(answer),
        400 => Failure::Never(format!(
            "{answer}; a receiver that takes nothing but text wants `body = \"text\"`"
        )),
        _ => Failure::Never(answer),
    })
}

fn agent(url: &str, timeout: Duration) -> Result<Agent, Failure> {
    let mut config = Agent::config_builder()
        .timeout_global(Some(timeout))
        // A token is for nobody else; and what is said here is said to whom the operator named.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .user_agent(concat!("becalm/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") {
        // The machine's own certificates: an operator's own authority is among them.
        let found = rustls_native_certs::load_native_certs();
        let certificates: Vec<_> =
            found.certs.iter().map(|der| Certificate::from_der(der.as_ref()).to_owned()).collect();
        if certificates.is_empty() {
            let why = found.errors.first().map_or_else(String::new, |error| format!(" ({error})"));
            let remedy = "install the package ca-certificates, or name a file in SSL_CERT_FILE";
            return Err(Failure::Later(format!(
                "this machine has no certificate authorities{why}; {remedy}"
            )));
        }
        let tls = TlsConfig::builder().root_certs(RootCerts::from(certificates)).build();
        config = config.tls_config(tls);
    }
    Ok(Agent::new_with_config(config.build()))
}

fn sort(error: &ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) => Failure::Never(format!("{error}; mend `url`")),
        ureq::Error::HostNotFound => {
            Failure::Later(format!("{error}; see the host's name in `url`, and DNS"))
        }
        ureq::Error::Timeout(_) => {
            Failure::Later(format!("{error}; see `timeout`, and whether a firewall is in between"))
        }
        // How rustls says that it does not believe a certificate.
        ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData => Failure::Later(format!(
            "{error}; does the certificate name the host, and is its authority among this machine's \
             (update-ca-certificates)?"
        )),
        _ => Failure::Later(error.to_string()),
    }
}
