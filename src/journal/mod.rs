//! What happened, in a form that can be kept, and where it is kept: the memory that outlives the process.
//!
//! ```text
//! engine ── Record ──▶ outbox (bounded, never waits) ──▶ writer's thread ──▶ segment 17 ── sync, 4 times a second
//!                                                             │               … 18, 19
//!                                                             └─ now and then ─▶ checkpoint 19: all of what is known
//! start:  newest good checkpoint ─▶ segments from its number on ─▶ Engine::apply
//! ```
//!
//! [`event`] is what people are told; [`record`] is what is kept, [`codec`] its bytes, [`frame`] how they lie in a
//! file, so that every record proves itself. [`store`] is the directory, [`writer`] fills it, [`replay`] reads it.

pub mod checkpoint;
pub mod codec;
pub mod event;
pub mod frame;
pub mod health;
pub mod outbox;
pub mod record;
pub mod replay;
pub mod settings;
pub mod stamp;
pub mod store;
pub mod writer;
