//! The admin side: what operators, monitoring and the dashboard ask a running daemon, over HTTP.
//!
//! ```text
//! command line ──client──▶ unix socket ─┐                              ┌─▶ backend: the daemon, behind a trait
//! browser, Prometheus ──▶ loopback TCP ─┴─▶ http::serve ─▶ http::guard ─▶ http::… routes
//! ```
//!
//! On the unix socket the kernel says who the peer is: root, the daemon's own user, and the users named in the
//! configuration may ask and act.

pub mod api;
pub mod backend;
pub mod client;
pub mod http;
