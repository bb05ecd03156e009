//! What a message says about itself.

pub mod address;
