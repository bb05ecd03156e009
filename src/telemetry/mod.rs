//! What becalm says of itself: log and counters.

pub mod counters;
pub mod gate;
pub mod log;
