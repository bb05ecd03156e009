//! The room that is left for held mail: messages, bytes, time, and the disk of Postfix's queue.

use std::path::Path;

use super::{Keeper, helper_state, lock};
use crate::alert::watch::Room;
use crate::config::Quarantine;
use crate::time::Timestamp;

impl Keeper {
    /// How much of each limit is taken, and why each helper cannot be asked: for alerts. Waits for nobody.
    pub(in crate::daemon) fn watched(&self) -> (Vec<Room>, Vec<(String, Option<String>)>) {
        let mut helpers = lock(&self.helpers);
        if let Ok(links) = self.links.try_lock() {
            *helpers = links.iter().map(helper_state).collect();
        }
        let helpers = helpers.iter().filter(|helper| helper.state != "not asked yet");
        let helpers = helpers.map(|helper| (helper.socket.clone(), helper.error.clone())).collect();
        (lock(&self.room).clone(), helpers)
    }

    /// Looks at the room that is left. Whether that is worth a warning, is for [`crate::alert::watch`] to say.
    pub(super) fn watch(&self, settings: &Quarantine, now: Timestamp) {
        let disks: Vec<(String, u64)> = self
            .links()
            .iter()
            .filter_map(|link| link.hello().map(|hello| (hello.queue_directory.clone(), hello.min_free)))
            .collect();
        let totals = self.shared.ledger.totals();
        let age = totals.oldest.map_or(0, |oldest| now.since(oldest).as_secs());
        let room = |limit, taken: u64, most: u64, unit: &str| Room {
            limit,
            per_cent: taken.saturating_mul(100).checked_div(most).unwrap_or(0),
            detail: format!("{taken} of {most} {unit}"),
        };
        let mut rooms = Vec::new();
        // Without a helper nobody tells what has left the queue.
        if !settings.helpers.is_empty() {
            rooms.extend([
                room("max_count", totals.count as u64, settings.max_count as u64, "messages"),
                room("max_bytes", totals.bytes, settings.max_bytes, "bytes"),
                room("max_age", age, settings.max_age.as_secs(), "seconds"),
            ]);
        }
        // Twice what smtpd insists on: ordinary mail must not be the first that is refused. Four times as much is
        // when half of the room that is left to it is taken.
        let mut low = false;
        let mut least_free: Option<(u64, u64, String)> = None;
        for (queue, min_free) in disks {
            let Some(free) = free_bytes(Path::new(&queue)) else { continue };
            low |= free < min_free.saturating_mul(2);
            if least_free.as_ref().is_none_or(|(least, ..)| free < *least) {
                least_free = Some((free, min_free, queue));
            }
        }
        if let Some((free, min_free, queue)) = &least_free {
            let half = min_free.saturating_mul(4);
            rooms.push(Room {
                limit: "disk",
                per_cent: half.saturating_mul(50).checked_div(*free).unwrap_or(100),
                detail: format!("{queue} has {free} bytes free; below {}, nothing more is held", half / 2),
            });
        }
        *lock(&self.room) = rooms;
        lock(&self.seen).free_bytes = least_free.map(|(free, ..)| free);
        self.shared.ledger.set_disk_full(low);
    }
}

/// Free bytes for those who are not root, as Postfix reckons. None where the system does not tell.
fn free_bytes(directory: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
