//! The HTTP side with a real daemon behind it, in this process: what may be sent there, by whom, and how much of it.
//!
//! `tests/it/http.rs` has the program as it runs.

mod access;
mod bad_input;
mod bounds;
mod events;
mod site;
