//! The thread that watches over the daemon: signals, reloads, the directory, the passing of time.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use super::listen::{self, Listener};
use super::workers::Workers;
use super::{Daemon, StartError, site};
use crate::account;
use crate::admin::server::{self, Allowed};
use crate::config::Config;
use crate::directory::Outcome;

/// How often the supervisor looks around: storms that end without mail, the observe flag, sums for the log.
const TICK: Duration = Duration::from_secs(1);

impl Daemon {
    /// Serves until SIGTERM or SIGINT. Calls `ready` once everything is up.
    pub fn run(self, listeners: Vec<Listener>, ready: impl FnOnce(&Self)) -> Result<(), StartError> {
        let system = |what| move |source| StartError::System { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(system("cannot start a runtime"))?;
        let daemon = Arc::new(self);
        let threads = daemon.standing().config.listen.threads;
        let served = runtime.block_on(async {
            let mut signals = Signals::new().map_err(system("cannot listen for signals"))?;
            daemon.open_admin_socket()?;
            daemon.keeper.start().map_err(system("cannot start the keeper of the quarantine"))?;
            let workers = Workers::start(threads, &listeners, &daemon.shared)
                .map_err(system("cannot start the worker threads"))?;
            // Only the workers hold the sockets from here on: when they stop accepting, nobody listens.
            drop(listeners);
            ready(&daemon);
            notify(sd_notify::NotifyState::Ready);
            daemon.supervise(&mut signals).await;
            daemon.keeper.stop();
            notify(sd_notify::NotifyState::Stopping);
            daemon.drain(workers, &mut signals).await;
            Ok(())
        });
        // A read that hangs must not keep the process.
        runtime.shutdown_background();
        served
    }

    async fn supervise(self: &Arc<Self>, signals: &mut Signals) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next_refresh = self.next_refresh();
        let mut reload_asked = false;
        // Reading sources may hang (a file server that is gone): signals and the passing of time go on meanwhile.
        let mut reading: Option<JoinHandle<()>> = None;
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
                _ = signals.terminate.recv() => return,
                _ = signals.interrupt.recv() => return,
                () = finished(&mut reading) => {
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

    /// Storms that fell quiet, the observe flag, sums for the log.
    fn tick(&self) {
        let events = self.shared.engine.tick(self.shared.clock.now());
        self.shared.publish(&events);
        self.shared.report_suppressed();
        let flag = self.observe_flag.exists();
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
        let mut directory = self.directory();
        directory.reload(new.directory.clone(), new.addresses.clone(), now);
        let snapshot = Arc::clone(directory.snapshot());
        site::report_sources(&snapshot);
        let waits = self.standing().at_start.needs_restart(&new);
        if !waits.is_empty() {
            warn!(settings = waits.join(", "), "these wait for a restart, the rest is in force");
        }
        self.shared
            .engine
            .set_world(site::parts(&new, snapshot), site::policy(&new), now)
            .map_err(|error| format!("[limits]: {error}"))?;
        self.shared.set_limits(site::patience(&new), new.listen.max_connections);
        // The history of lists that are new begins now.
        self.shared.memory.checkpoint_soon();
        self.keeper.set(new.quarantine.clone());
        self.standing().config = new;
        Ok(())
    }

    /// Looks at the sources; takes over what changed.
    async fn refresh(self: &Arc<Self>) {
        let daemon = Arc::clone(self);
        let refreshed = spawn_blocking(move || {
            let now = daemon.shared.clock.now();
            let outcome = daemon.directory().refresh(now);
            let (Outcome::Changed(snapshot) | Outcome::Status(snapshot)) = outcome else { return };
            site::report_sources(&snapshot);
            let lists = snapshot.lists().len();
            let config = daemon.standing().config.clone();
            match daemon.shared.engine.set_world(site::parts(&config, snapshot), site::policy(&config), now) {
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

    fn open_admin_socket(self: &Arc<Self>) -> Result<(), StartError> {
        let admin = self.standing().config.admin.clone();
        let listener = match listen::bind_unix(&admin.socket, admin.mode, admin.group.as_deref()) {
            Ok(listener) => listener,
            Err(error) => {
                // The filter's work does not depend on it.
                warn!(%error, "no admin socket: `becalm status`, `lists` and `storms` cannot be answered");
                return Ok(());
            }
        };
        let allowed = Allowed {
            users: admin.users.iter().filter_map(|user| account::user_id(user).ok()).collect(),
            group: admin.group.as_deref().and_then(|group| account::group_id(group).ok()),
        };
        let listener = tokio::net::UnixListener::from_std(listener)
            .map_err(|source| StartError::System { what: "cannot watch the admin socket", source })?;
        let daemon = Arc::clone(self);
        tokio::spawn(server::serve(listener, allowed, move |request, peer| {
            Arc::clone(&daemon).answer(request, peer)
        }));
        Ok(())
    }

    /// Takes no new sessions, serves those that are there for a bounded time, then ends them. A second signal
    /// ends them at once.
    async fn drain(&self, workers: Workers, signals: &mut Signals) {
        let patience = self.standing().config.listen.drain;
        info!(sessions = self.shared.sessions(), ?patience, "stopping: no new sessions");
        self.shared.begin_draining();
        workers.stop_accepting();
        tokio::select! {
            () = self.shared.wait_until_empty() => {}
            () = tokio::time::sleep(patience) => {
                warn!(sessions = self.shared.sessions(), "sessions that are still open are closed now");
            }
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
        self.shared.stop_sessions();
        if let Err(panic) = spawn_blocking(move || workers.join()).await {
            error!(%panic, "waiting for the workers failed");
        }
        let shared = Arc::clone(&self.shared);
        let flushed = spawn_blocking(move || shared.memory.close()).await;
        if !flushed.unwrap_or(false) {
            warn!("the journal could not be written to its end; the last events are lost");
        }
        info!("stopped");
    }
}

/// Resolves when the task is done; never where there is none.
async fn finished(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => {
            if let Err(panic) = task.await {
                error!(%panic, "reading the configuration or the sources failed");
            }
        }
        None => std::future::pending().await,
    }
}

struct Signals {
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
}

/// Tells systemd, if it listens. Whether it hears is its own affair.
fn notify(state: sd_notify::NotifyState<'_>) {
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
