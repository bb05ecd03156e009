//! The end of a daemon: it was told to stop, or another becalm takes connections in its place.
//!
//! ```text
//! no new sessions ── listen.drain ──▶ watched mail: 421 at DATA; other mail passes ── linger ──▶ the rest is closed
//!        └────────────── with the last session it ends, whenever that is ──────────────┘
//! ```
//!
//! A message whose header is being read at the turn is judged: Postfix has been told to send it, and awaits a
//! verdict.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

use super::Daemon;
use super::listen::Listener;
use super::supervisor::{Signals, TICK};
use super::takeover::{Claim, Link, Message};
use super::workers::Workers;

/// For the last words to the becalm that comes after this one.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a drain came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drained {
    /// Everything has been served, or has had its time.
    Over,
    /// The becalm that took over is dead: this one has to take connections again.
    Bereft,
}

impl Daemon {
    /// Serves the sessions that are there for a bounded time, then ends them. `after`: the becalm that takes
    /// connections now. `sockets`: kept as long as it may be needed to take them again.
    pub(super) async fn drain(
        self: &Arc<Self>,
        after: &mut Option<Link>,
        sockets: &mut Option<Arc<Vec<Listener>>>,
        claims: &mut mpsc::Receiver<Claim>,
        signals: &mut Signals,
    ) -> Drained {
        let listen = self.standing().config.listen.clone();
        let mut stopping = after.is_none();
        let begun = Instant::now();
        let mut refuse_at = begun + listen.drain;
        let mut end_at = refuse_at + if stopping { listen.linger } else { listen.takeover_linger };
        info!(
            sessions = self.shared.sessions(),
            patience = ?listen.drain,
            "{}: no new sessions",
            if stopping { "stopping" } else { "taken over" }
        );
        self.shared.begin_draining();
        if stopping {
            self.kin.settle();
            *sockets = None;
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let relays = after.is_some() && !stopping;
            tokio::select! {
                () = self.all_gone(relays) => return Drained::Over,
                () = sleep_until(refuse_at), if !self.shared.is_refusing() => {
                    info!(sessions = self.shared.sessions(), "watched mail of sessions that are still open is refused for now (421)");
                    self.shared.begin_refusing();
                }
                () = sleep_until(end_at) => {
                    warn!(sessions = self.shared.sessions(), "sessions that are still open are closed now");
                    return Drained::Over;
                }
                () = signals.end() => {
                    if stopping {
                        return Drained::Over;
                    }
                    stopping = true;
                    self.kin.settle();
                    *sockets = None;
                    refuse_at = refuse_at.min(Instant::now() + listen.drain);
                    end_at = end_at.min(Instant::now() + listen.drain + listen.linger);
                }
                Some(claim) = claims.recv() => claim.refuse("it is stopping; start the new one when it has ended"),
                message = hear(after) => match message {
                    Some(Message::Settled {}) => *sockets = None,
                    Some(_) => {}
                    // It ended in order.
                    None if sockets.is_none() => *after = None,
                    None => return Drained::Bereft,
                },
                _ = tick.tick() => {
                    self.look_at_flag();
                    self.shared.report_suppressed();
                    self.tell_sessions(after);
                }
            }
        }
    }

    /// Ends what is left.
    pub(super) async fn end(self: &Arc<Self>, workers: Vec<Workers>, after: Option<Link>) {
        self.kin.settle();
        self.shared.watchdogs.stop();
        let joined = spawn_blocking(move || workers.into_iter().for_each(Workers::join)).await;
        if let Err(panic) = joined {
            error!(%panic, "waiting for the workers failed");
        }
        let (shared, alerts) = (Arc::clone(&self.shared), Arc::clone(&self.alerts));
        let flushed = spawn_blocking(move || {
            let last = after.is_none();
            if let Some(link) = after {
                link.finish(LAST_WORDS);
            }
            // First what must not be lost.
            let kept = shared.memory.close();
            alerts.finish(last);
            kept
        });
        if !flushed.await.unwrap_or(false) {
            warn!("the journal could not be written to its end; the last events are lost");
        }
        info!("stopped");
    }

    /// Neither a session here, nor (where it `relays`) anybody before this one whose judgements reach the one after
    /// it by this one alone.
    async fn all_gone(&self, relays: bool) {
        self.shared.wait_until_empty().await;
        if relays {
            self.kin.wait_until_alone().await;
        }
    }

    fn tell_sessions(&self, after: &Option<Link>) {
        if let Some(link) = after {
            let open = self.shared.sessions() + self.kin.sessions_before();
            // One that does not read learns it another time.
            link.peer.say(Message::Sessions { open, refusing: self.shared.is_refusing() });
        }
    }
}

/// What the one after this says; nothing for ever where there is none.
async fn hear(after: &mut Option<Link>) -> Option<Message> {
    match after {
        Some(link) => link.messages.recv().await,
        None => std::future::pending().await,
    }
}
