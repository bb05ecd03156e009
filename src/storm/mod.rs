//! Judging: counters → state → verdict.

pub mod limits;
pub mod policy;
