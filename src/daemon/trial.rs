//! `becalm alert test`: by the daemon itself, as its user, in its sandbox and its unit. What works for root in a shell need
//! not work from there.

use std::sync::{Arc, TryLockError};
use std::time::Duration;

use tracing::info;

use super::Daemon;
use super::answer::unwritten;
use crate::admin::api::{Tried, TriedPlace};
use crate::admin::backend::{Refusal, Who};
use crate::alert::Alert;
use crate::alert::way::{self, Stationery};
use crate::clock::Stopwatch;

/// No delivery begins after this time: a way may have sixteen recipients, and whoever asked waits.
const PATIENCE: Duration = Duration::from_secs(60);

impl Daemon {
    /// One attempt, by the settings in force.
    pub(super) fn send_test(&self, name: &str, who: &Who) -> Result<Tried, Refusal> {
        let config = self.standing().config.clone();
        let Some(way) = config.alerts.ways.iter().find(|way| way.name == name) else {
            let message =
                format!("the becalm that runs has no way `{name}`: it reads its file anew with SIGHUP");
            return Err(Refusal::absent("no_such_way", message));
        };
        // Each takes one of the few places for acts.
        let _alone = match self.trial.try_lock() {
            Err(TryLockError::WouldBlock) => {
                let message = "another test is under way; try again when it has ended";
                return Err(Refusal::request("too_many_tests", message));
            }
            Err(TryLockError::Poisoned(free)) => free.into_inner(),
            Ok(free) => free,
        };
        let clock = &self.shared.clock;
        let node = &config.state.node;
        self.audit.tries(clock.now(), who, name).map_err(unwritten)?;
        info!(%who, way = name, "an operator tries a way of alerts");
        let stationery = Stationery { node: node.clone(), marker: Some(Arc::clone(&self.shared.marker)) };
        let alert = Arc::new(Alert::test(clock.now(), node));
        let begun = Stopwatch::start();
        let results = way::parcels(way, &alert).into_iter().map(|parcel| {
            let error = if begun.elapsed() < PATIENCE {
                let outcome = way::deliver(way, &parcel, &stationery, clock.now());
                outcome.err().map(|failure| failure.why().to_owned())
            } else {
                Some("not tried: those before took too long".to_owned())
            };
            TriedPlace { to: way::place(way, &parcel), error }
        });
        Ok(Tried { results: results.collect(), id: alert.id.clone() })
    }
}
