//! The admin side: what operators ask a running daemon, over a unix socket.
//!
//! One request, one reply, each a line of JSON. Who may ask, and act upon held mail: root, the daemon's own user,
//! and the users named in the configuration; the kernel says who the peer is.

pub mod api;
pub mod client;
pub mod server;
