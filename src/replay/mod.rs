//! The engine on invented or past mail, in virtual time: a day in a second.
//!
//! ```text
//! scenario (seeded) ─┐
//!                    ├─▶ Letter ─▶ player: engine.judge at the letter's own time ─▶ Tally
//! mail that was kept ┘
//! ```

mod course;
pub mod date;
pub mod header;
pub mod judge;
mod ledger;
pub mod letter;
pub mod mbox;
mod near;
pub mod report;
pub mod rival;
pub mod run;
pub mod scenario;
pub mod source;
pub mod spread;
pub mod stage;
pub mod tune;

#[cfg(test)]
mod run_tests;
#[cfg(test)]
mod tests;
