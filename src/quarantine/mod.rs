//! Mail on hold: the header by which becalm knows its own, what is known of each message, and the helper that may
//! act upon Postfix's queue.

pub mod client;
pub mod helper;
pub mod keyfile;
pub mod keys;
pub mod ledger;
pub mod mark;
pub mod pace;
pub mod passed;
pub mod protocol;
pub mod queue_file;
pub mod queue_id;
