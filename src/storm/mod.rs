//! Judging: counters → state → verdict. Pure: time is an argument, nothing is read or written elsewhere.

pub mod detector;
pub mod limits;
pub mod policy;
pub mod state;

#[cfg(test)]
mod tests;
