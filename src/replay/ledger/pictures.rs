//! The pictures of a ledger: courses over time, of the whole mail and of each storm.

use super::super::course::Course;
use super::super::report::{MAX_TIMELINES, State, StormReport, Timeline};
use super::{BEFORE, Judged, Ledger, Part, Place};
use crate::time::Timestamp;

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Delivered,
    Waits,
    Released,
    Held,
}

impl Fate {
    /// Adds itself to a course.
    pub(super) fn draw(self, course: &mut Course, at: Timestamp, copies: u64) {
        let bucket = course.at(at);
        if self == Self::Released {
            bucket.copies_with = bucket.copies_with.saturating_add(copies);
            return;
        }
        bucket.replies += 1;
        bucket.copies_without = bucket.copies_without.saturating_add(copies);
        match self {
            Self::Delivered => {
                bucket.delivered += 1;
                bucket.copies_with = bucket.copies_with.saturating_add(copies);
            }
            Self::Waits => bucket.delayed += 1,
            Self::Held => bucket.held += 1,
            Self::Released => {}
        }
    }
}

/// A storm's picture that is being drawn.
pub(super) struct Drawn {
    pub(super) storm: usize,
    pub(super) list: usize,
    pub(super) course: Course,
    pub(super) until: Timestamp,
}

/// A message of the last hour, for the picture of a storm that it may lead to.
#[derive(Clone, Copy)]
pub(super) struct Recent {
    pub(super) at: Timestamp,
    pub(super) part: Part,
    pub(super) copies: u64,
    pub(super) fate: Fate,
}

impl Ledger {
    /// What of the hour before belongs to a storm: newcomers, and the conversation that tripped it. And its
    /// picture.
    pub(super) fn look_back(&mut self, place: Place, judged: &Judged<'_>, report: &mut StormReport) {
        let conversation =
            judged.parts.iter().find(|part| part.list == place.0).map_or(0, |part| part.conversation);
        let mut course = Course::new(Timestamp::from_millis(
            judged.at.as_millis().saturating_sub(BEFORE.as_millis() as u64),
        ));
        let recent = &self.books(place.0).recent;
        for recent in recent.iter().filter(|recent| judged.at.since(recent.at) <= BEFORE) {
            recent.fate.draw(&mut course, recent.at, recent.copies);
            let delivered = matches!(recent.fate, Fate::Delivered | Fate::Released);
            if delivered && (recent.part.newcomer || recent.part.conversation == conversation) {
                report.replies_delivered += 1;
                report.copies_delivered = report.copies_delivered.saturating_add(recent.copies);
            }
        }
        if self.drawn.len() < MAX_TIMELINES {
            let until = Timestamp::from_millis(u64::MAX);
            self.drawn.push(Drawn { storm: self.storms.len(), list: place.0, course, until });
        }
    }

    /// The pictures, with the states drawn in.
    pub(super) fn timelines(&mut self) -> Vec<Timeline> {
        let (storms, suspicions) = (&self.storms, &self.suspicions);
        let draw_states = |course: &mut Course, list: Option<usize>| {
            for storm in storms.iter().filter(|storm| list.is_none_or(|list| storm.list == list)) {
                let ended = storm.report.ended.unwrap_or(Timestamp::from_millis(u64::MAX));
                course.mark(storm.report.started, ended, State::Storm);
                if !storm.cooling.is_zero() {
                    course.mark(ended, ended.after(storm.cooling), State::Cooling);
                }
            }
            for (_, suspicion) in suspicions.iter().filter(|(of, _)| list.is_none_or(|list| *of == list)) {
                course.mark(suspicion.started, suspicion.ended, State::Suspicion);
            }
        };
        let mut timelines = Vec::new();
        if let Some(mut course) = self.course.take() {
            draw_states(&mut course, None);
            timelines.push(course.finish(None));
        }
        for Drawn { storm, list, mut course, .. } in std::mem::take(&mut self.drawn) {
            draw_states(&mut course, Some(list));
            timelines.push(course.finish(Some(storm)));
        }
        timelines
    }
}
