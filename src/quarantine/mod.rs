//! Mail on hold: the header by which becalm knows its own.

pub mod ledger;
pub mod mark;
