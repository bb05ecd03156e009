//! The `becalm` command.
fn main() {}
