//! All of what the engine knows, in pieces that can be kept and put back: a checkpoint is made of them.
//!
//! An image is made while mail is judged: what is counted meanwhile may be in it or not. Whoever keeps it keeps the
//! records of that time, too, and applies them after it.

use std::time::Duration;

use super::Engine;
use super::judging::{COUNTED_MEMORY, RETRY_MEMORY, RetryMemo};
use crate::journal::record::{ByHand, ListImage, Piece, Slot, Words};
use crate::storm::state::{Closure, StateImage, StormFigures};
use crate::time::Timestamp;
use crate::window::{LAYOUT, SlotImage};

/// Items of a piece: it fits in a frame of the journal (64 KiB).
const ITEMS: usize = 1500;

/// No policy knows an author for longer.
const LONGEST_KNOWN: Duration = Duration::from_secs(365 * 86_400);

/// No further part of a message is awaited for longer.
const LONGEST_PARTS: Duration = Duration::from_secs(3600);

impl Engine {
    /// Shows all that is known at `now`, piece by piece. What `show` says is returned at once, and ends it.
    pub fn image<E>(&self, now: Timestamp, show: &mut dyn FnMut(Piece) -> Result<(), E>) -> Result<(), E> {
        for (list, state) in self.states.all() {
            show(Piece::List(list_piece(list, state.image(now))))?;
            let forgiven = state.forgiven();
            if forgiven > Timestamp::default() {
                show(Piece::ByHand(ByHand { list, at: forgiven, ..ByHand::default() }))?;
            }
            if let Some(Closure { at, until }) = state.closure() {
                show(Piece::ByHand(ByHand { list, at, until, ..ByHand::default() }))?;
            }
        }
        for gathering in self.gatherings.all() {
            show(Piece::Gathering(gathering.image(now)))?;
        }
        self.by_hand.all(now).into_iter().try_for_each(|closed| show(Piece::ByHand(closed)))?;
        let (sets, words) = self.detector.known_words(now, LONGEST_KNOWN);
        in_lots(words, |words| show(Piece::Known(Words { layout: LAYOUT, sets: sets as u64, words })))?;
        let (sets, slots) = self.detector.slots(now);
        for slot in slots {
            let SlotImage { set, word, closed, starter, entries } = slot;
            let (words, entries) = ([word, closed, starter], entries.into_vec());
            show(Piece::Conversation(Slot { layout: LAYOUT, sets: sets as u64, set, words, entries }))?;
        }
        let mut threads = Vec::new();
        self.threads.each(now, |key, at, thread| threads.push((key, at, thread)));
        in_lots(threads.into_iter(), |threads| show(Piece::Threads(threads)))?;
        let mut retries = Vec::new();
        self.retries.each(now, COUNTED_MEMORY, |key, at, memo| {
            retries.push((key, at, memo.judgement.into(), memo.limited));
        });
        in_lots(retries.into_iter(), |retries| show(Piece::Retries(retries)))?;
        let mut parts = Vec::new();
        self.parts.each(now, RETRY_MEMORY, |key, at, memo| parts.push((key, at, memo.into())));
        in_lots(parts.into_iter(), |parts| show(Piece::Parts(parts)))?;
        let sets = self.origins.sets() as u64;
        let words = self.origins.words(now, LONGEST_PARTS);
        in_lots(words, |words| show(Piece::Origins(Words { layout: LAYOUT, sets, words })))
    }

    /// Puts a piece back. Only before the first message is judged.
    pub(super) fn put_back(&self, piece: &Piece, now: Timestamp) {
        match piece {
            Piece::Known(words) if words.layout == LAYOUT => {
                for (set, word) in &words.words {
                    self.detector.put_back_known(words.sets as usize, *set, *word);
                }
            }
            Piece::Origins(words) if words.layout == LAYOUT => {
                for (set, word) in &words.words {
                    self.origins.put_back(words.sets as usize, *set, *word);
                }
            }
            Piece::Conversation(slot) if slot.layout == LAYOUT => {
                let [word, closed, starter] = slot.words;
                let entries = slot.entries.as_slice().into();
                let image = SlotImage { set: slot.set, word, closed, starter, entries };
                self.detector.put_back_slot(slot.sets as usize, &image, now);
            }
            Piece::Known(_) | Piece::Origins(_) | Piece::Conversation(_) => {}
            Piece::List(list) => {
                let image = state_image(list, now);
                self.states.state(list.list, image.since).put_back(&image, now);
            }
            Piece::ByHand(done) => self.apply_by_hand(done, now),
            Piece::Gathering(gathering) => self.put_back_gathering(gathering, now),
            Piece::Threads(threads) => {
                for (key, at, thread) in threads {
                    self.threads.put_back(*key, *thread, (*at).min(now));
                }
            }
            Piece::Retries(retries) => {
                for (key, at, verdict, limited) in retries {
                    let memo = RetryMemo { judgement: (*verdict).into(), limited: *limited };
                    self.retries.put_back(*key, memo, (*at).min(now));
                }
            }
            Piece::Parts(parts) => {
                for (key, at, parts) in parts {
                    self.parts.put_back(*key, (*parts).into(), (*at).min(now));
                }
            }
        }
    }
}

fn list_piece(list: u64, image: StateImage) -> ListImage {
    let StateImage { since, storm, ended, last_attempt, cooling_until, figures, newcomers, automatic } =
        image;
    let StormFigures { held, copies_held, delivered, copies_delivered } = figures;
    ListImage {
        layout: LAYOUT,
        list,
        times: [since, storm, ended, last_attempt, cooling_until],
        figures: [held, copies_held, delivered, copies_delivered],
        newcomers: newcomers.into_vec(),
        automatic: automatic.into_vec(),
    }
}

/// Times ahead of `now` count as now: the clock was set back.
fn state_image(list: &ListImage, now: Timestamp) -> StateImage {
    let [since, storm, ended, last_attempt, cooling_until] = list.times;
    let [held, copies_held, delivered, copies_delivered] = list.figures;
    let current = list.layout == LAYOUT;
    StateImage {
        since: since.min(now),
        storm,
        ended,
        last_attempt: last_attempt.min(now),
        cooling_until: cooling_until.min(now.after(super::remember::LONGEST_CLOSURE)),
        figures: StormFigures { held, copies_held, delivered, copies_delivered },
        newcomers: if current { list.newcomers.as_slice().into() } else { Default::default() },
        automatic: if current { list.automatic.as_slice().into() } else { Default::default() },
    }
}

/// Hands items over, so many at a time.
fn in_lots<T, E>(
    mut items: impl Iterator<Item = T>,
    mut show: impl FnMut(Vec<T>) -> Result<(), E>,
) -> Result<(), E> {
    loop {
        let lot: Vec<T> = items.by_ref().take(ITEMS).collect();
        if lot.is_empty() {
            return Ok(());
        }
        show(lot)?;
    }
}
