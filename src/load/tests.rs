//! Whole conversations, with a filter of ours on the other side and no socket in between.
