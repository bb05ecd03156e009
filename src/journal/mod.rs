//! What happened, in a form that can be kept: the journal's events.

pub mod event;
