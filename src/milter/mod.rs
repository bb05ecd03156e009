//! The milter protocol, as Postfix and Sendmail speak it: sans-IO, zero-copy, synchronous.
//!
//! ```text
//! bytes read ─▶ frame ─▶ command ─▶ session ─▶ Filter (calls)
//!                                      └─ negotiate, reply ─▶ bytes to write
//! ```
//!
//! [`Session`] is the filter's side of one connection. [`mta`] is the peer's side, for demonstration,
//! benchmark and tests. Reading, writing and timeouts are the caller's.
//!
//! The protocol has no specification but its implementations: Sendmail's `libmilter` (`mfdef.h`,
//! `engine.c`) and Postfix's `milter8.c`.

pub mod command;
pub mod frame;
pub mod mta;
pub mod negotiate;
pub mod reply;
pub mod session;

pub use command::{Client, ClientAddress, Kind, Macros};
pub use frame::{MAX_FRAME, ProtocolError};
pub use reply::{AtData, BadReply, Changes, FinalReply, SmtpReply};
pub use session::{Filter, MAX_REPLIES, Session, SessionLimits, State};

#[cfg(test)]
mod tests;
