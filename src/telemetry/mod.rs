//! What becalm says of itself: log, counters and metrics.

pub mod counters;
pub mod gate;
pub mod latency;
pub mod log;
pub mod metrics;
