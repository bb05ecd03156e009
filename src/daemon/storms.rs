//! Storms, open and past, as the admin side lists them.

use dashmap::DashMap;

use crate::admin::api::StormRecord;
use crate::journal::event::Event;

/// Built from events alone; bounded, the oldest past storm goes first.
pub struct StormBook {
    records: DashMap<String, StormRecord>,
    most: usize,
}

impl StormBook {
    /// Keeps at most `most` storms.
    pub fn new(most: usize) -> Self {
        Self { records: DashMap::new(), most }
    }

    /// Takes an event in.
    pub fn apply(&self, event: &Event) {
        match event {
            Event::StormStarted { storm, list, members, trigger, at, .. } => {
                self.make_room();
                self.records.insert(
                    storm.clone(),
                    StormRecord {
                        storm: storm.clone(),
                        list: list.clone(),
                        members: *members,
                        trigger: (*trigger).to_owned(),
                        started: at.rfc3339(),
                        ended: None,
                        held: 0,
                        copies_held: 0,
                        delivered: 0,
                        clawed_back: 0,
                        copies_clawed_back: 0,
                    },
                );
            }
            Event::StormEnded { storm, held, copies_held, delivered, at, .. } => {
                if let Some(mut record) = self.records.get_mut(storm) {
                    record.ended = Some(at.rfc3339());
                    record.held = *held;
                    record.copies_held = *copies_held;
                    record.delivered = *delivered;
                }
            }
            Event::ClawedBack { storm, messages, copies, .. } => {
                if let Some(mut record) = self.records.get_mut(storm) {
                    (record.clawed_back, record.copies_clawed_back) = (*messages, *copies);
                }
            }
            Event::PossibleList { .. } => {}
        }
    }

    /// Messages of a storm that were clawed back so far, and their copies.
    pub fn clawed_back(&self, storm: &str) -> (u64, u64) {
        self.records.get(storm).map_or((0, 0), |record| (record.clawed_back, record.copies_clawed_back))
    }

    /// All that are kept, the latest first.
    pub fn list(&self) -> Vec<StormRecord> {
        let mut records: Vec<StormRecord> = self.records.iter().map(|entry| entry.value().clone()).collect();
        records.sort_by(|a, b| b.started.cmp(&a.started).then_with(|| a.storm.cmp(&b.storm)));
        records
    }

    fn make_room(&self) {
        if self.records.len() < self.most {
            return;
        }
        // Those that are over go first.
        let oldest = self
            .records
            .iter()
            .min_by(|a, b| (a.ended.is_none(), &a.started).cmp(&(b.ended.is_none(), &b.started)))
            .map(|entry| entry.key().clone());
        if let Some(oldest) = oldest {
            self.records.remove(&oldest);
        }
    }
}
