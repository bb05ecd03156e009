//! Files: read, watched, and kept at their last good content. The only part of the directory that does I/O;
//! it blocks, so the daemon runs it beside its runtime.

mod file;
mod tree;

pub use self::tree::{Source, Trust};
