//! Atomics from the standard library, or loom's under `--cfg becalm_loom`, where every interleaving is tried.
//!
//! The name is our own: under `--cfg loom` tokio leaves out its networking, and the crate would not build.

#[cfg(becalm_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(becalm_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
