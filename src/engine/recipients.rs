//! The recipients of a message: each is looked up, and counted by its author.
//!
//! What is known of mailboxes is larger than the processor's caches. So the many recipients of one message are taken
//! in lots: the memory of a whole lot is asked for before any of it is used, which takes a fraction of the time.

use std::time::Duration;

use super::Engine;
use super::transaction::Transaction;
use super::world::World;
use crate::journal::event::Event;
use crate::mail::AddressBuf;
use crate::window::{AuthorTag, Entry, Hint, LOT, Sought};

/// An address that looks like a list is reported once in this time.
const REPORT_EVERY: Duration = Duration::from_secs(24 * 3600);

/// A list nobody told us of is named alone or among a few. Where many people answer to all of many people, each of
/// these is counted, but not reported.
pub(super) const MAX_REPORTED: u32 = 16;

impl Engine {
    /// A recipient, as it was sent: looked up, and counted by its author.
    pub fn recipient(&self, tx: &mut Transaction, raw: &[u8]) -> Option<Event> {
        if tx.recipients >= MAX_REPORTED {
            self.take_lot(tx, &[raw]);
            return None;
        }
        tx.recipients = tx.recipients.saturating_add(1);
        let hash = self.keys.spelling(raw);
        let known = tx.world.spellings.find(hash);
        let (key, unknown) = match known {
            // A spelling that is remembered is no list's.
            Some((key, _)) => {
                tx.digest = tx.digest.wrapping_add(key);
                (key, true)
            }
            None => tx.add_recipient(raw, hash, &self.keys)?,
        };
        let entry = entry(tx)?;
        let watch = &tx.world.watch;
        let hint = known.map_or(Hint::default(), |(_, hint)| Hint::from_bits(hint));
        let mut sought = Sought { key, hint };
        let tally = self.recipients.observe_sought(&mut sought, entry, tx.now, watch.unknown_list_window);
        if sought.hint != hint && unknown {
            tx.world.spellings.note(hash, key, sought.hint.bits());
        }
        let tally = tally?;
        let reports = unknown
            && tally.authors >= watch.unknown_list_authors
            && self.reported.first_in(key, tx.now, REPORT_EVERY);
        reports.then(|| Event::PossibleList {
            address: readable_address(&tx.world, raw),
            authors: tally.authors,
            at: tx.now,
        })
    }

    /// [`Engine::recipient`] for several that came at once.
    pub fn recipients(&self, tx: &mut Transaction, raw: &[&[u8]]) -> Vec<Event> {
        let reported = MAX_REPORTED.saturating_sub(tx.recipients) as usize;
        let (reported, others) = raw.split_at(reported.min(raw.len()));
        let events = reported.iter().filter_map(|raw| self.recipient(tx, raw)).collect();
        others.chunks(LOT).for_each(|lot| self.take_lot(tx, lot));
        events
    }

    /// At most [`LOT`] recipients beyond those that can be reported.
    fn take_lot(&self, tx: &mut Transaction, lot: &[&[u8]]) {
        tx.recipients = tx.recipients.saturating_add(lot.len() as u32);
        // Loops of few instructions each: the processor looks only so far ahead for memory to ask for.
        let mut hashes = [0; LOT];
        for (hash, raw) in hashes.iter_mut().zip(lot) {
            *hash = self.keys.spelling(raw);
        }
        for hash in hashes.iter().take(lot.len()) {
            tx.world.spellings.fetch(*hash);
        }
        let mut sought = [Sought::default(); LOT];
        let mut addresses = 0;
        for (index, raw) in lot.iter().enumerate() {
            let hash = hashes[index];
            let (key, hint) = match tx.world.spellings.find(hash) {
                Some((key, hint)) => {
                    tx.digest = tx.digest.wrapping_add(key);
                    (key, Hint::from_bits(hint))
                }
                None => match tx.add_recipient(raw, hash, &self.keys) {
                    Some((key, _)) => (key, Hint::default()),
                    None => continue,
                },
            };
            // What is no address leaves no gap.
            hashes[addresses] = hash;
            sought[addresses] = Sought { key, hint };
            addresses += 1;
        }
        let Some(entry) = entry(tx) else { return };
        let sought = &mut sought[..addresses];
        if self.recipients.observe_all(sought, entry, tx.now, tx.world.watch.unknown_list_window) {
            for (sought, hash) in sought.iter().zip(hashes) {
                tx.world.spellings.note(hash, sought.key, sought.hint.bits());
            }
        }
    }
}

/// What a message adds to the count of each of its recipients; nothing where nobody is its author.
fn entry(tx: &Transaction) -> Option<Entry> {
    Some(Entry { author: AuthorTag::new(tx.author_key?), newcomer: false, cost: 1 })
}

fn readable_address(world: &World, raw: &[u8]) -> String {
    let mut buf = AddressBuf::new();
    let address = world.rules().canonical(raw, &mut buf);
    let bytes = address.as_ref().map_or(raw, |address| address.base().unwrap_or(address.full()));
    String::from_utf8_lossy(bytes).into_owned()
}
