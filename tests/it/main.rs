//! becalm as it runs: the program itself, behind a real Postfix.
//!
//! Every test has a Postfix and a becalm of its own (see [`harness`]); they need root and Postfix, and fail
//! with the remedy where these are missing. Only what becalm does over its sockets, signals, files and command
//! line is looked at.

mod alert_mail;
mod alerts;
mod bench;
mod browser;
mod by_hand;
mod clawback;
mod dashboard;
mod dashboard_trouble;
mod directory;
mod failures;
mod filtered;
mod harness;
mod helper;
mod hostile;
mod http;
mod journal;
mod kills;
mod metrics;
mod miltertest;
mod operators;
mod peers;
mod people;
mod private_postfix;
mod probe;
mod public;
mod quarantine;
mod reload;
mod sessions;
mod storms;
mod system;
mod takeover;
mod takeovers;
mod top;
mod transports;
mod verdicts;
