//! becalm stops reply-all storms at the mail server.
#![forbid(unsafe_code)]

pub mod admin;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod directory;
pub mod engine;
pub mod journal;
pub mod mail;
pub mod milter;
pub mod replay;
pub mod storm;
mod sync;
pub mod telemetry;
pub mod time;
pub mod window;
