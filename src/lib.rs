//! becalm stops reply-all storms at the mail server. It is a milter for Postfix: it knows how many mailboxes
//! each list reaches, follows conversations, and holds the replies of a conversation that becomes a storm.
//!
//! # The way of a message
//!
//! ```text
//! Postfix ──C M R R T──▶ daemon::connection ─▶ milter::session ─▶ engine: watched? ── no ──▶ accept at DATA
//!                                                          │ a list, or many recipients
//!                                              L L L N E ▼
//!                          mail: conversation, author, automatic   directory::snapshot: audience
//!                                                          ▼
//!                              engine::judge ─▶ storm::detector ─▶ window: lock-free counters
//!                                                          ▼
//!   hold queue ◀── header + quarantine + accept ◀── engine::verdict ── events ──▶ log, admin socket, alert ──▶ people
//!                                                              └── records ──▶ journal ── at start ──▶ engine
//!       ▲  └─────── what is held, and why ───────▶ quarantine::ledger ◀── daemon::keeper, operators
//!       └── postsuper ◀── quarantine::helper (a process of its own, root) ◀── unix socket ──┘
//! ```
//!
//! Ordinary mail takes the first line only: one look-up and one counter for each recipient, one reply, no lock.
//!
//! # Who may know whom
//!
//! ```text
//! main → cli → daemon → admin, alert, config, journal, quarantine, directory, telemetry, milter, engine
//! engine → storm, window, directory::snapshot, mail, journal::event, journal::record
//! storm → window        window → sync        milter, mail → nothing of ours
//! admin, daemon, cli → public, which knows nothing of ours
//! replay → engine, mail, directory::snapshot, storm's settings and states, journal::event
//! cli → also replay, load, directory, milter::mta, postfix, quarantine::helper, admin's types
//! load → milter, clock
//! config → the settings types that modules define; nobody below daemon reads config
//! alert → journal::event, quarantine::mark; its ways also clock
//! daemon, postfix, quarantine::helper → account (users and groups of the machine)
//! ```
//!
//! [`time`] is data and everybody's; [`clock`] reads the time and is for the daemon, the helper and the commands.
//! `milter`, `mail`, `window`, `storm`, `engine`, `public`, `replay` but for its sources, and the pure parts of
//! `directory`, `alert`, `journal` and `quarantine` (all but the helper and its client) do no I/O.
//! `tests/architecture.rs` holds this to be true.
//!
//! # What is logged, and how loud
//!
//! | level | what | example |
//! |---|---|---|
//! | error | becalm cannot do what it was told; an operator must act | a configuration that was not taken over |
//! | warn | mail is affected, or may pass by unjudged; an operator should look | a storm; a message that passed because becalm failed; a stale source; too many connections |
//! | info | what an operator wants to find again | start and stop; a reload; a message that was stopped or would have been |
//! | debug | each watched message that passed; sessions that broke off | |
//!
//! Every event about a message has its queue id in the field `queue_id`. A storm does not flood the log: above
//! sixty lines a minute, lines about single messages are counted and reported as a sum
//! ([`telemetry::gate`]). Mail does not wait for the log, which loses lines where nobody takes them
//! ([`telemetry::log`]). Addresses appear only for lists, and for mail that is held ([`quarantine::ledger`]).
#![forbid(unsafe_code)]

mod account;
pub mod admin;
pub mod alert;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod directory;
pub mod engine;
pub mod journal;
pub mod load;
pub mod mail;
pub mod milter;
pub mod postfix;
pub mod public;
pub mod quarantine;
pub mod replay;
pub mod storm;
mod sync;
pub mod telemetry;
pub mod time;
pub mod window;
