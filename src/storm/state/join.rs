//! What was heard of a list from elsewhere (an earlier run, another node) joined with what is known here.
//!
//! A storm is known by when it began, and each list has a latest one, open or ended. Two reports of it join to the
//! later storm, and an ended one is later than the same one open; times join to the later, figures to the larger.
//! So every order of the same reports, and every repetition of them, ends in the same state.

use super::{LIST_TAG, ListState, StormFigures};
use crate::sync::Ordering;
use crate::time::Timestamp;
use crate::window::Entries;

/// The state of a list as data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateImage {
    /// When the list was first seen.
    pub since: Timestamp,
    /// When the open storm was declared; the epoch: none is open.
    pub storm: Timestamp,
    /// When the latest storm was declared that has ended; the epoch: none.
    pub ended: Timestamp,
    /// The last post that a storm or its cooling stopped.
    pub last_attempt: Timestamp,
    /// Until when the list is on guard.
    pub cooling_until: Timestamp,
    /// Of the present storm, or of the last one.
    pub figures: StormFigures,
    /// Entries of newcomers.
    pub newcomers: Entries,
    /// Entries of automatic mail.
    pub automatic: Entries,
}

impl ListState {
    /// The state as data, without entries that count no more at `now`.
    pub fn image(&self, now: Timestamp) -> StateImage {
        let read = |cell: &crate::sync::AtomicU64| Timestamp::from_millis(cell.load(Ordering::Acquire));
        StateImage {
            since: self.since(),
            // In this order: a storm that ends meanwhile is at worst shown both open and ended, which is ended.
            storm: read(&self.storm_since),
            ended: read(&self.ended),
            last_attempt: self.last_attempt(),
            cooling_until: self.cooling_until(),
            figures: self.figures(),
            newcomers: self.newcomers.entries(LIST_TAG, now),
            automatic: self.automatic.entries(LIST_TAG, now),
        }
    }

    /// Joins an image with this state. For a start: nobody else may count on this list meanwhile.
    pub fn put_back(&self, image: &StateImage, now: Timestamp) {
        self.seen(image.since);
        self.end(image.ended, image.cooling_until);
        self.join_storm(image.storm, image.last_attempt, &image.figures);
        self.remember_attempt(image.last_attempt);
        if image.storm == Timestamp::default() {
            self.join_figures(&image.figures);
        }
        self.newcomers.put_back(LIST_TAG, &image.newcomers, now);
        self.automatic.put_back(LIST_TAG, &image.automatic, now);
    }

    /// The list was there at `at`.
    pub fn seen(&self, at: Timestamp) {
        self.since.fetch_min(at.as_millis(), Ordering::Relaxed);
    }

    /// A storm that was declared at `since` was open, its last attempt at `attempt`, with these figures. Nothing
    /// happens if it is known to have ended, or a later one is known.
    pub fn join_storm(&self, since: Timestamp, attempt: Timestamp, figures: &StormFigures) {
        let epoch = since.as_millis();
        let ended = || self.ended.load(Ordering::Acquire) >= epoch;
        // Acquire and Release, here and below: as in `open` and `close_if_quiet`.
        let mut open = self.storm_since.load(Ordering::Acquire);
        while epoch > open && !ended() {
            // Before the storm can be seen, or a tick might close it at once.
            self.remember_attempt(attempt);
            match self.storm_since.compare_exchange(open, epoch, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    self.tally.clear();
                    open = epoch;
                    if ended() {
                        // Meanwhile. Lost against a later storm: that one stays.
                        let _ =
                            self.storm_since.compare_exchange(epoch, 0, Ordering::AcqRel, Ordering::Acquire);
                    }
                }
                Err(now) => open = now,
            }
        }
        if open == epoch && epoch != 0 {
            self.remember_attempt(attempt);
            self.join_figures(figures);
        }
    }

    /// The storm that was declared at `since` has ended, and with it all before it; the list is on guard until
    /// `cooling_until`. True for the one caller who closed it here.
    pub fn end(&self, since: Timestamp, cooling_until: Timestamp) -> bool {
        let epoch = since.as_millis();
        // Before the storm is closed, so that nobody sees the list calm in between.
        self.cooling_until.fetch_max(cooling_until.as_millis(), Ordering::AcqRel);
        self.ended.fetch_max(epoch, Ordering::AcqRel);
        let open = self.storm_since.load(Ordering::Acquire);
        open != 0
            && open <= epoch
            && self.storm_since.compare_exchange(open, 0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Each figure only grows while a storm lasts.
    fn join_figures(&self, figures: &StormFigures) {
        let tally = &self.tally;
        for (cell, figure) in [
            (&tally.held, figures.held),
            (&tally.copies_held, figures.copies_held),
            (&tally.delivered, figures.delivered),
            (&tally.copies_delivered, figures.copies_delivered),
        ] {
            cell.fetch_max(figure, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::state::Phase;
    use proptest::prelude::*;

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    fn held(messages: u64) -> StormFigures {
        StormFigures { held: messages, copies_held: 10 * messages, ..StormFigures::default() }
    }

    #[test]
    fn what_is_heard_late_of_a_storm_that_ended_opens_nothing() {
        let list = ListState::new(at(1));
        list.join_storm(at(100), at(150), &held(3));
        assert_eq!(list.phase(at(160)), Phase::Storm { since: at(100) });
        assert!(list.end(at(100), at(500)));
        assert!(!list.end(at(100), at(500)), "ended once");
        list.join_storm(at(100), at(170), &held(4));
        list.join_storm(at(90), at(170), &held(9));
        assert_eq!(list.phase(at(200)), Phase::Cooling { until: at(500) });
        list.join_storm(at(300), at(310), &held(1));
        assert_eq!(list.phase(at(320)), Phase::Storm { since: at(300) });
        assert_eq!(list.figures(), held(1));
        assert!(!list.end(at(100), at(400)), "an end of an earlier one is no end of this one");
        assert_eq!(list.phase(at(320)), Phase::Storm { since: at(300) });
    }

    #[derive(Clone, Debug)]
    enum Report {
        Storm(u64, u64, u64),
        End(u64, u64),
        Seen(u64),
    }

    fn reports() -> impl Strategy<Value = Vec<Report>> {
        let report = prop_oneof![
            (1..6_u64, 1..20_u64, 0..9_u64)
                .prop_map(|(since, attempt, held)| Report::Storm(since, attempt, held)),
            (1..6_u64, 1..50_u64).prop_map(|(since, until)| Report::End(since, until)),
            (1..50_u64).prop_map(Report::Seen),
        ];
        proptest::collection::vec(report, 0..12)
    }

    fn join(list: &ListState, report: &Report) {
        match *report {
            // An attempt belongs to its storm, and comes after its beginning.
            Report::Storm(since, attempt, messages) => {
                list.join_storm(at(since * 100), at(since * 100 + attempt), &held(messages));
            }
            Report::End(since, until) => drop(list.end(at(since * 100), at(since * 100 + until))),
            Report::Seen(when) => list.seen(at(when)),
        }
    }

    /// What decides about mail. The last attempt does so only while a storm is open, and the figures belong to it.
    fn state(list: &ListState) -> (Timestamp, Phase, Option<(Timestamp, StormFigures)>) {
        let phase = list.phase(at(0));
        let open = matches!(phase, Phase::Storm { .. }).then(|| (list.last_attempt(), list.figures()));
        (list.since(), phase, open)
    }

    proptest! {
        #[test]
        fn every_order_and_every_repetition_ends_in_the_same_state(
            (reports, shuffled, again) in reports().prop_flat_map(|reports| {
                let shuffled = Just(reports.clone()).prop_shuffle();
                let again = proptest::collection::vec(any::<proptest::sample::Index>(), 0..6);
                (Just(reports), shuffled, again)
            })
        ) {
            let (one, other) = (ListState::new(at(99)), ListState::new(at(99)));
            reports.iter().for_each(|report| join(&one, report));
            shuffled.iter().for_each(|report| join(&other, report));
            for index in again.iter().filter(|_| !shuffled.is_empty()) {
                join(&other, index.get(&shuffled));
            }
            prop_assert_eq!(state(&one), state(&other));
        }
    }
}
