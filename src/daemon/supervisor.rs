//! The thread that watches over the daemon: signals, reloads, the directory, the passing of time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::drain::Drained;
use super::listen::{self, ListenError, Listener};
use super::pulse::Guard;
use super::takeover::{self, Claim, Link, Message};
use super::workers::Workers;
use super::{Daemon, StartError, site};
use crate::account;
use crate::config::{Config, GivenBy, Listen, ListenAddress};
use crate::directory::Outcome;

/// How often the supervisor looks around: storms that end without mail, the observe flag, sums for the log.
pub(super) const TICK: Duration = Duration::from_secs(1);

impl Daemon {
    /// Serves until SIGTERM or SIGINT, or until another becalm has taken over. Calls `ready` once everything is up.
    pub fn run(self, listeners: Vec<Listener>, ready: impl FnOnce(&Self)) -> Result<(), StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("cannot start a runtime"))?;
        let daemon = Arc::new(self);
        let served = runtime.block_on(async {
            let mut signals = Signals::new().map_err(system("cannot listen for signals"))?;
            let before = daemon.before.lock().unwrap_or_else(PoisonError::into_inner).take();
            let takes_over = before.is_some();
            // Before anything can happen.
            daemon.alerts.listen(&daemon.standing().config);
            let mut admin = if takes_over { None } else { Some(daemon.open_admin(false)?) };
            let mut workers = vec![daemon.start_workers(&listeners)?];
            if let Some(before) = before
                && let Err(error) = daemon.kin.confirm(before).await
            {
                // The one that runs goes on, and writes the journal again: at once, not when the last session here
                // has ended. What is judged here until then is told to nobody; it is little.
                drop(listeners);
                let shared = Arc::clone(&daemon.shared);
                if spawn_blocking(move || shared.memory.release()).await.is_err() {
                    warn!("the journal could not be let go: the becalm that runs writes it when this one has ended");
                }
                stop_accepting(&workers).await;
                daemon.drain(&mut None, &mut None, &mut closed(), &mut signals).await;
                daemon.end(workers, None).await;
                return Err(error.into());
            }
            if takes_over {
                admin = Some(daemon.open_admin(true)?);
            }
            // For a becalm that takes over. When nobody accepts and it is dropped, nobody listens.
            let mut sockets = Some(Arc::new(listeners));
            let mut claims = daemon.open_takeover_socket();
            // One keeper at a time: the one before has stopped its own.
            daemon.start_keeper(takes_over)?;
            daemon.alerts.start().map_err(system("cannot start the thread of alerts"))?;
            daemon.serving.store(true, Ordering::Release);
            ready(&daemon);
            notify(sd_notify::NotifyState::Ready);
            let guard = Guard::of(&workers);
            let after = loop {
                let mut after = daemon.supervise(&mut signals, sockets.as_ref(), &mut claims).await;
                if after.is_none() {
                    notify(sd_notify::NotifyState::Stopping);
                }
                if after.is_some()
                    && let Some(admin) = &mut admin
                {
                    admin.make_way();
                }
                daemon.keeper.stop();
                stop_accepting(&workers).await;
                if let Some(link) = &after {
                    link.peer.say(Message::Stopped {});
                }
                match daemon.drain(&mut after, &mut sockets, &mut claims, &mut signals).await {
                    Drained::Over => break after,
                    Drained::Bereft => {
                        workers.extend(daemon.take_back(sockets.as_ref()).await?);
                        guard.watch(&workers);
                        admin = Some(daemon.open_admin(true)?);
                        claims = daemon.open_takeover_socket();
                    }
                }
            };
            daemon.end(workers, after).await;
            Ok(())
        });
        // A read that hangs must not keep the process.
        runtime.shutdown_background();
        served
    }

    fn start_workers(&self, listeners: &[Listener]) -> Result<Workers, StartError> {
        let threads = self.standing().at_start.listen.threads;
        Workers::start(threads, listeners, &self.shared)
            .map_err(|source| StartError::System { what: "cannot start the worker threads", source })
    }

    fn start_keeper(&self, goes_on: bool) -> Result<(), StartError> {
        self.keeper.start(goes_on).map_err(|source| StartError::System {
            what: "cannot start the keeper of the quarantine",
            source,
        })
    }

    /// The becalm that had taken over is dead: all is as it was before.
    async fn take_back(
        self: &Arc<Self>,
        sockets: Option<&Arc<Vec<Listener>>>,
    ) -> Result<Option<Workers>, StartError> {
        error!("the becalm that had taken over is dead: this one takes connections again");
        self.kin.set_after(None);
        self.shared.end_draining();
        // First this: mail waits.
        let workers = sockets.map(|sockets| self.start_workers(sockets)).transpose()?;
        self.resume_journal().await;
        self.start_keeper(true)?;
        Ok(workers)
    }

    /// Until a signal to end, or until another becalm (which is returned) takes connections.
    async fn supervise(
        self: &Arc<Self>,
        signals: &mut Signals,
        sockets: Option<&Arc<Vec<Listener>>>,
        claims: &mut mpsc::Receiver<Claim>,
    ) -> Option<Link> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_refresh = self.next_refresh();
        let mut reload_asked = false;
        // Reading sources may hang (a file server that is gone): signals and the passing of time go on meanwhile.
        let mut reading: Option<JoinHandle<()>> = None;
        let mut handing: Option<JoinHandle<Option<Link>>> = None;
        loop {
            if reload_asked && reading.is_none() {
                reload_asked = false;
                let daemon = Arc::clone(self);
                reading = Some(tokio::spawn(async move {
                    notify_reloading();
                    daemon.reload().await;
                    notify(sd_notify::NotifyState::Ready);
                }));
            }
            tokio::select! {
                _ = signals.reload.recv() => reload_asked = true,
                _ = signals.terminate.recv() => return None,
                _ = signals.interrupt.recv() => return None,
                Some(claim) = claims.recv() => match sockets {
                    Some(sockets) if handing.is_none() => {
                        handing = Some(tokio::spawn(Arc::clone(self).hand_over(claim, Arc::clone(sockets))));
                    }
                    _ => claim.refuse("another takeover is under way"),
                },
                link = finished(&mut handing) => {
                    handing = None;
                    if let Some(link) = link.flatten() {
                        // It tells this one's predecessor what it judges; that one need not stand in any more.
                        self.kin.settle();
                        return Some(link);
                    }
                }
                _ = finished(&mut reading) => {
                    reading = None;
                    next_refresh = self.next_refresh();
                }
                () = tokio::time::sleep_until(next_refresh), if reading.is_none() => {
                    let daemon = Arc::clone(self);
                    reading = Some(tokio::spawn(async move { daemon.refresh().await }));
                }
                _ = tick.tick() => self.tick(),
            }
        }
    }

    /// A group that is not there would keep the next becalm from starting.
    fn check_group(&self, new: &Listen) -> Result<(), String> {
        let old = self.standing().at_start.listen.clone();
        let is_used = old.given_by != GivenBy::Supervisor
            && new.sockets.iter().any(|socket| matches!(socket, ListenAddress::Unix(_)));
        match &new.group {
            Some(group) if is_used && new.group != old.group => account::group_id(group)
                .map(drop)
                .map_err(|error| format!("[listen] group: {error}; create it, or name another")),
            _ => Ok(()),
        }
    }

    /// Storms that fell quiet, the observe flag, sums for the log.
    fn tick(&self) {
        let events = self.shared.engine.tick(self.shared.clock.now());
        self.shared.publish(&events);
        self.shared.report_suppressed();
        self.sample_minute();
        self.look_at_flag();
        self.look_at_keys();
    }

    /// The emergency switch.
    pub(super) fn look_at_flag(&self) {
        // Where that cannot be told, nothing changes: an operator who let all mail pass has a reason.
        let Ok(flag) = self.observe_flag.try_exists() else { return };
        if flag != self.shared.engine.is_observing() {
            self.shared.engine.set_observing(flag);
            if flag {
                warn!("everything is put to observe: no mail is touched until `becalm observe off`");
            } else {
                warn!("lists are enforced again, each in its own mode");
            }
        }
    }

    /// Reads the configuration and the sources anew. A file with an error changes nothing.
    async fn reload(self: &Arc<Self>) {
        let Some(path) = self.config_path.clone() else {
            warn!("SIGHUP, but there is no configuration file to read; start with -c FILE");
            return;
        };
        let daemon = Arc::clone(self);
        let outcome = spawn_blocking(move || {
            let (new, remarks) = Config::load(&path, true).map_err(|report| report.to_string())?;
            daemon.adopt(new).map(|()| remarks)
        })
        .await
        .unwrap_or_else(|panic| Err(panic.to_string()));
        let mut standing = self.standing();
        match outcome {
            Ok(remarks) => {
                standing.reload = Some("ok".to_owned());
                for line in remarks.to_string().lines() {
                    warn!("{line}");
                }
                info!("the configuration was read anew");
            }
            Err(report) => {
                error!("the configuration was not taken over, the old one stays in force:\n{report}");
                standing.reload = Some(report);
            }
        }
    }

    /// Puts a checked configuration in force: all of it, or nothing.
    fn adopt(&self, new: Config) -> Result<(), String> {
        let now = self.shared.clock.now();
        // Before anything is locked: it asks another program.
        self.check_group(&new.listen)?;
        let mut directory = self.directory();
        // First what can fail, for nothing must have changed then: neither here nor for the next look at the sources.
        let unkept = |error| format!("[limits]: {error}");
        new.limits.validate().map_err(unkept)?;
        directory.reload(new.directory.clone(), new.addresses.clone(), now);
        let snapshot = Arc::clone(directory.snapshot());
        site::report_sources(&snapshot);
        self.shared.engine.set_world(site::parts(&new, snapshot), site::policy(&new), now).map_err(unkept)?;
        let waits = self.standing().at_start.needs_restart(&new);
        if !waits.is_empty() {
            warn!(settings = waits.join(", "), "these wait for a restart, the rest is in force");
        }
        self.shared.set_limits(site::patience(&new), new.listen.max_connections);
        self.admit_files(self.standing().at_start.admin.http.max_streams);
        // The history of lists that are new begins now.
        self.shared.memory.checkpoint_soon();
        self.keeper.set(new.quarantine.clone());
        self.alerts.set(&new);
        self.public.set(&new.public);
        self.read_token(&new.admin.http);
        self.standing().config = new;
        Ok(())
    }

    /// Looks at the sources; takes over what changed.
    async fn refresh(self: &Arc<Self>) {
        let daemon = Arc::clone(self);
        let refreshed = spawn_blocking(move || {
            let now = daemon.shared.clock.now();
            let outcome = daemon.directory().refresh(now);
            let is_changed = matches!(outcome, Outcome::Changed(_));
            let (Outcome::Changed(snapshot) | Outcome::Status(snapshot)) = outcome else { return };
            site::report_sources(&snapshot);
            let lists = snapshot.lists().len();
            let config = daemon.standing().config.clone();
            match daemon.shared.engine.set_world(site::parts(&config, snapshot), site::policy(&config), now) {
                // Only how its sources are doing.
                Ok(()) if !is_changed => {}
                Ok(()) => {
                    daemon.shared.memory.checkpoint_soon();
                    info!(lists, "the directory changed");
                }
                Err(error) => error!(%error, "the directory changed, but cannot be taken over"),
            }
        });
        if let Err(panic) = refreshed.await {
            error!(%panic, "looking at the directory's sources failed; the last good snapshot stays");
        }
    }

    fn next_refresh(&self) -> tokio::time::Instant {
        self.now_plus(self.standing().config.directory.refresh)
    }

    fn now_plus(&self, span: Duration) -> tokio::time::Instant {
        tokio::time::Instant::now() + span
    }

    /// Where a becalm that wants to take over says so.
    fn open_takeover_socket(self: &Arc<Self>) -> mpsc::Receiver<Claim> {
        let path = takeover::socket_path(&self.standing().at_start.admin.socket);
        let (claims, receiver) = mpsc::channel(1);
        // Only those may connect who may take over; and only this process, or one that it has replaced, was there.
        let listener = listen::place_unix(&path, 0o600, None).and_then(|listener| {
            tokio::net::UnixListener::from_std(listener)
                .map_err(|source| ListenError::Bind { address: path.display().to_string(), source })
        });
        match listener {
            Ok(listener) => {
                tokio::spawn(takeover::serve(listener, self.shared.engine.key_check(), claims));
            }
            Err(error) => {
                warn!(%error, "no socket for takeovers: `becalm run --takeover` cannot replace this one")
            }
        }
        receiver
    }
}

async fn stop_accepting(workers: &[Workers]) {
    for workers in workers {
        workers.accept_no_more().await;
    }
}

/// Where nobody can come from.
fn closed() -> mpsc::Receiver<Claim> {
    mpsc::channel(1).1
}

/// Resolves when the task is done; never where there is none.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Option<T> {
    match task {
        Some(task) => task
            .await
            .inspect_err(
                |panic| error!(%panic, "reading the configuration or the sources, or a takeover, failed"),
            )
            .ok(),
        None => std::future::pending().await,
    }
}

pub(super) struct Signals {
    reload: Signal,
    terminate: Signal,
    interrupt: Signal,
    /// Held, never waited for: without it a file that grows beyond a limit (`LimitFSIZE=`) would end the process
    /// where it should fail the write.
    _file_too_large: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            reload: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_too_large: signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?,
        })
    }

    /// Resolves when this process is told to end.
    pub(super) async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Tells systemd, if it listens. Whether it hears is its own affair.
pub(super) fn notify(state: sd_notify::NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

fn notify_reloading() {
    match sd_notify::NotifyState::monotonic_usec_now() {
        Ok(stamp) => {
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Reloading, stamp]);
        }
        Err(_) => notify(sd_notify::NotifyState::Reloading),
    }
}
