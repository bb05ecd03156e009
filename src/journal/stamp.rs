//! Who wrote a record: the node, its run, and the record's number in that run. Each run numbers its records from 0
//! without a gap, so that whoever follows it knows which he has.

use std::collections::HashMap;

/// Runs that are followed at once. A node that restarts once a minute makes as many in a week.
const MOST_RUNS: usize = 10_000;

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp<'s> {
    /// The node's name.
    pub node: &'s str,
    /// The run of becalm on it.
    pub boot: u64,
    /// The record's number in that run.
    pub sequence: u64,
}

/// Which records have come already.
#[derive(Debug, Default)]
pub struct Followed {
    /// For each run the number of the next record.
    next: HashMap<(String, u64), u64>,
}

impl Followed {
    /// For a journal of one's own that is read at start.
    pub fn at_start() -> Self {
        Self::default()
    }

    /// Is this record to be applied? Each is once, in the order of its run.
    pub fn admits(&mut self, stamp: Stamp<'_>) -> bool {
        let run = (stamp.node.to_owned(), stamp.boot);
        if self.next.len() >= MOST_RUNS && !self.next.contains_key(&run) {
            // Records may now come twice, which changes next to nothing: see `Engine::apply`.
            self.next.clear();
        }
        let next = self.next.entry(run).or_default();
        let is_new = stamp.sequence >= *next;
        *next = (*next).max(stamp.sequence.saturating_add(1));
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_admitted_once() {
        let mut followed = Followed::at_start();
        let stamp = |node, boot, sequence| Stamp { node, boot, sequence };
        assert!(followed.admits(stamp("mx2", 7, 0)));
        assert!(!followed.admits(stamp("mx2", 7, 0)));
        assert!(followed.admits(stamp("mx2", 7, 5)), "some were lost");
        assert!(!followed.admits(stamp("mx2", 7, 4)));
        assert!(followed.admits(stamp("mx2", 8, 0)), "it was restarted");
    }

    #[test]
    fn the_memory_of_runs_is_bounded() {
        let mut followed = Followed::at_start();
        for boot in 0..3 * MOST_RUNS as u64 {
            assert!(followed.admits(Stamp { node: "mx1", boot, sequence: 0 }));
            assert!(followed.next.len() <= MOST_RUNS);
        }
    }
}
