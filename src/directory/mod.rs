//! List → members.

pub mod settings;
