//! Lock-free counters over a sliding window.
