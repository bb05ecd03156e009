//! The engine on invented or past mail, in virtual time: a day in a second.
//!
//! ```text
//! scenario (seeded) ─┐
//!                    ├─▶ Letter ─▶ player: engine.judge at the letter's own time ─▶ Tally
//! mail that was kept ┘
//! ```

pub mod judge;
pub mod letter;
pub mod player;
pub mod report;
pub mod rival;
pub mod scenario;

#[cfg(test)]
mod tests;
