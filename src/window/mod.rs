//! Lock-free counters over a sliding window.
//!
//! ```text
//! Table ── key ──▶ set of 8 ways (one cache line) ──▶ slot: Cells (time, tag, newcomer, author; costs beside)
//! Ring  ── the same cells for what has a place of its own (a list of the directory)
//! Recent ─ what was seen a moment ago     Known ─ who is known to a list     Cache ─ the colder path, locked
//! ```
//!
//! Everything here has its memory from the start: nothing grows, what does not fit gives way to what is newer,
//! and that is counted. Nothing is cleared when a place changes hands: every word says whose it is, and what is
//! somebody else's is passed over. Time is passed in; it is kept in whole seconds unless said otherwise, and an
//! entry is gone at age ≥ window. A late event (its `now` lies before what is stored) counts as now.
//!
//! All keys are 64-bit hashes that the caller made with a secret key, so that nobody outside can choose which of
//! them meet in a set.

mod cache;
mod cells;
#[cfg(all(test, becalm_loom))]
mod loom;
mod recent;
mod sets;
mod table;
#[cfg(all(test, not(becalm_loom)))]
mod tests;
mod word;

pub use cache::{Cache, CacheStats};
pub use cells::glance::Glance;
pub use cells::image::Entries;
pub use cells::{CELLS, Ring};
pub use recent::{Known, Recent, SetStats};
pub use table::image::SlotImage;
pub use table::lot::{Hint, LOT, Sought};
pub use table::{Slot, Table, TableStats};

/// The layout of the words that images of rings, tables, [`Recent`] and [`Known`] hold (`words`, `slots`,
/// `entries`). To be raised with every change to what their bits mean: an image of another layout is not put back.
pub const LAYOUT: u8 = 1;

/// Who wrote, as the counters remember it: 20 bits of a hash.
///
/// Two of the at most 31 authors of a ring share a tag with a probability of 31² / 2 / 2²⁰ = 0.05 %; they are then
/// counted as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AuthorTag(u32);

impl AuthorTag {
    const MASK: u64 = (1 << 20) - 1;

    /// The tag of the author with this hash.
    #[inline]
    pub const fn new(hash: u64) -> Self {
        Self((mix(hash) & Self::MASK) as u32)
    }

    /// The 20 bits.
    #[inline]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// From the low 20 bits of a word of our own.
    #[inline]
    const fn from_bits(word: u64) -> Self {
        Self((word & Self::MASK) as u32)
    }
}

/// Whose entry a cell holds: 13 bits of the key's hash, never 0 (an empty cell has 0).
///
/// Where a place has changed hands, an entry of its former owner is taken for one's own with a probability of
/// 1 / 8192, and only while it is within the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyTag(u16);

impl KeyTag {
    /// The tag of the key with this hash.
    #[inline]
    pub const fn new(hash: u64) -> Self {
        Self::from_bits(mix(hash))
    }

    /// From the low 13 bits of a hash that is spread already. (0 becomes 1, which so is twice as likely.)
    #[inline]
    const fn from_bits(bits: u64) -> Self {
        let tag = (bits & ((1 << 13) - 1)) as u16;
        Self(if tag == 0 { 1 } else { tag })
    }
}

/// One attempt to write to a conversation or a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who wrote.
    pub author: AuthorTag,
    /// The author is not known to the list.
    pub newcomer: bool,
    /// Copies the message makes; more than u32::MAX count as that many.
    pub cost: u32,
}

/// What a window holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Distinct authors of any kind.
    pub authors: u32,
    /// Distinct authors who were newcomers when they wrote.
    pub newcomers: u32,
    /// Sum of the costs of the entries; 0 where the table keeps none. A repeat is no entry and adds nothing.
    pub copies: u64,
    /// This author was in the window already, before this call.
    pub repeat: bool,
}

/// Spreads a hash over all 64 bits, one to one: two close keys (or a weak hash) must not share the bits that
/// name the set or the tag. The constants are those of moremur (P. Evensen).
#[inline]
const fn mix(hash: u64) -> u64 {
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x3c79_ac49_2ba7_b653);
    let hash = (hash ^ (hash >> 33)).wrapping_mul(0x1c69_b3f7_4ac4_ae35);
    hash ^ (hash >> 27)
}

/// How far `a` lies ahead of `b` (behind: negative) on a clock face of `BITS` bits, as long as they are less than
/// half a turn apart. The words have no room for a whole time, and this way none of them ever runs out: 30 bits
/// of seconds turn in 34 years, 24 bits of minutes in 32, and a replay may play any year.
#[inline]
const fn ahead<const BITS: u32>(a: u32, b: u32) -> i32 {
    let unused = 32 - BITS;
    (a.wrapping_sub(b) << unused).cast_signed() >> unused
}

/// How old `then` is at `now` on the same clock face; what lies ahead of `now` is 0 old.
#[inline]
const fn age<const BITS: u32>(now: u32, then: u32) -> u32 {
    let ahead = ahead::<BITS>(now, then);
    if ahead < 0 { 0 } else { ahead.cast_unsigned() }
}

/// `span` in units of `unit` milliseconds, rounded up, at least 1 and at most `max`.
#[inline]
fn units(span: std::time::Duration, unit: u64, max: u32) -> u32 {
    // Not `as_millis`: to divide its u128 takes longer than all else that is done with a window.
    let millis = span.as_secs().saturating_mul(1000).saturating_add(u64::from(span.subsec_millis()));
    u32::try_from(millis.div_ceil(unit)).unwrap_or(u32::MAX).clamp(1, max)
}
