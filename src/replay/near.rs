//! Near-storms: peaks of half a threshold or more that did not trip.

use std::collections::HashMap;
use std::time::Duration;

use super::report::{MAX_EPISODES, NearStorm};
use crate::time::Timestamp;

/// Peaks that are followed at once; more are closed early. One takes about 200 bytes.
const MAX_OPEN: usize = 4096;

/// One test's count, and what it would have had to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// People within the window.
    pub people: u32,
    /// So many are a storm.
    pub threshold: u32,
    /// The test's word in the report.
    pub test: &'static str,
}

impl Count {
    /// Is it half or more, and no storm?
    fn is_near(&self) -> bool {
        self.people.saturating_mul(2) >= self.threshold && self.people < self.threshold
    }

    /// How near, for comparison.
    fn is_nearer_than(&self, other: &Self) -> bool {
        u64::from(self.people) * u64::from(other.threshold)
            > u64::from(other.people) * u64::from(self.threshold)
    }
}

/// A list, and one of its conversations or all of them together.
type Place = (usize, Option<u64>);

/// The peaks so far.
#[derive(Default)]
pub(super) struct NearStorms {
    open: HashMap<Place, Open>,
    found: Vec<Found>,
    swept: Timestamp,
    left_out: u64,
}

struct Open {
    count: Count,
    at: Timestamp,
    last: Timestamp,
    /// It is over when its counts have stayed below half for as long.
    window: Duration,
    conversation: Option<String>,
}

struct Found {
    place: Place,
    count: Count,
    at: Timestamp,
    window: Duration,
    conversation: Option<String>,
}

impl NearStorms {
    /// Takes in a count of a calm list, within its `window`. `conversation`: its subject.
    pub fn see(
        &mut self,
        place: Place,
        count: Count,
        at: Timestamp,
        window: Duration,
        conversation: impl FnOnce() -> Option<String>,
    ) {
        if !count.is_near() {
            return;
        }
        if at.since(self.swept) > window || self.open.len() >= MAX_OPEN {
            self.sweep(at);
        }
        match self.open.get_mut(&place) {
            Some(open) => {
                open.last = at;
                if count.is_nearer_than(&open.count) {
                    (open.count, open.at) = (count, at);
                }
            }
            None => {
                let conversation = conversation();
                self.open.insert(place, Open { count, at, last: at, window, conversation });
            }
        }
    }

    /// A storm was declared: what led to it on this list is none.
    pub fn forget(&mut self, list: usize) {
        self.open.retain(|place, _| place.0 != list);
    }

    /// Those of each list, in order of time, and how many were left out.
    pub fn finish(mut self, address: impl Fn(usize) -> String) -> (Vec<(usize, NearStorm)>, u64) {
        self.close(|_| true);
        self.found.sort_by_key(|found| (found.at, found.place));
        // The list's own count says again what that of a conversation says.
        let said_already = |found: &Found| {
            found.place.1.is_none()
                && self.found.iter().any(|other| {
                    other.place.0 == found.place.0
                        && other.place.1.is_some()
                        && other.at.since(found.at).max(found.at.since(other.at)) <= found.window
                })
        };
        let kept = self.found.iter().filter(|found| !said_already(found)).map(|found| {
            let near = NearStorm {
                list: address(found.place.0),
                conversation: found.conversation.clone(),
                at: found.at,
                peak: found.count.people,
                threshold: found.count.threshold,
                test: found.count.test.to_owned(),
            };
            (found.place.0, near)
        });
        (kept.collect(), self.left_out)
    }

    fn sweep(&mut self, now: Timestamp) {
        self.swept = now;
        self.close(|open| now.since(open.last) > open.window);
        if self.open.len() >= MAX_OPEN {
            self.close(|_| true);
        }
    }

    fn close(&mut self, over: impl Fn(&Open) -> bool) {
        for (place, open) in self.open.extract_if(|_, open| over(open)) {
            if self.found.len() < MAX_EPISODES {
                let Open { count, at, window, conversation, .. } = open;
                self.found.push(Found { place, count, at, window, conversation });
            } else {
                self.left_out = self.left_out.saturating_add(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn count(people: u32) -> Count {
        Count { people, threshold: 10, test: "conversation_newcomers" }
    }

    fn minute(minutes: u64) -> Timestamp {
        Timestamp::from_millis(minutes * 60_000)
    }

    fn peaks(near: NearStorms) -> Vec<(u32, u64)> {
        let (found, _) = near.finish(|_| String::new());
        found.iter().map(|(_, near)| (near.peak, near.at.as_secs() / 60)).collect()
    }

    #[test]
    fn a_peak_is_told_once_and_the_next_is_another() {
        let mut near = NearStorms::default();
        for (people, at) in [(4, 0), (5, 1), (8, 2), (6, 50), (5, 200), (4, 201)] {
            near.see((0, Some(1)), count(people), minute(at), HOUR, || None);
        }
        // A minute, and two minutes and more than an hour later.
        near.see((1, Some(1)), count(9), minute(400), HOUR, || None);
        near.see((0, Some(1)), count(7), minute(401), HOUR, || None);
        assert_eq!(peaks(near), [(8, 2), (5, 200), (9, 400), (7, 401)]);
    }

    #[test]
    fn a_peak_lasts_as_long_as_its_list_counts() {
        let seen = |window| {
            let mut near = NearStorms::default();
            for at in [100, 200] {
                near.see((0, Some(1)), count(8), minute(at), window, || None);
            }
            peaks(near).len()
        };
        assert_eq!((seen(HOUR), seen(3 * HOUR)), (2, 1));
    }

    #[test]
    fn a_storm_is_no_near_storm() {
        let mut near = NearStorms::default();
        near.see((0, Some(1)), count(9), minute(0), HOUR, || None);
        near.see((1, Some(1)), count(6), minute(0), HOUR, || None);
        near.see((0, Some(1)), count(10), minute(1), HOUR, || None);
        near.forget(0);
        assert_eq!(peaks(near), [(6, 0)]);
    }

    #[test]
    fn a_list_is_told_where_its_conversations_are_not() {
        let mut near = NearStorms::default();
        near.see((0, None), count(6), minute(0), HOUR, || None);
        near.see((0, Some(1)), count(5), minute(10), HOUR, || None);
        near.see((1, None), count(7), minute(10), HOUR, || None);
        assert_eq!(peaks(near), [(5, 10), (7, 10)]);
    }
}
