//! What a message says about itself: addresses, ids, subject, author, and whether a machine wrote it.
//!
//! Everything here takes bytes as a peer sent them and returns data; nothing trusts them.

pub mod address;
mod author;
mod automatic;
pub(crate) mod bytes;
mod conversation;
mod field;
mod headers;
mod subject;

pub use address::{AddressBuf, AddressRules, Canonical, MAX_ADDRESS};
pub use author::{AuthorAddress, author};
pub use automatic::Automatic;
pub use conversation::MAX_PARENT_IDS;
pub use headers::Head;
pub use subject::Subject;
