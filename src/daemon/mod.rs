//! The daemon: the only place where configuration, directory, engine, sockets and signals meet.
//!
//! Worker threads each run a runtime of their own and serve milter sessions; the supervisor (the caller's
//! thread) reloads, refreshes the directory, lets time pass for storms, answers the admin socket, and ends it
//! all.

mod answer;
mod audit;
pub mod background;
pub mod connection;
mod keeper;
pub mod listen;
mod memory;
pub mod shared;
pub mod site;
mod storms;
mod supervisor;
mod watchdog;
mod workers;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Clock;
use crate::config::{Config, Report};
use crate::directory::Directory;
use crate::engine::Engine;
use crate::quarantine::mark::Marker;
use crate::storm::limits::RateError;
use crate::time::Timestamp;
use audit::Audit;
use keeper::Keeper;
use listen::{ListenError, Listener};
use shared::Shared;

/// Cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has errors.
    #[error("{0}")]
    Config(Box<Report>),
    /// A socket cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A rate limit cannot be kept.
    #[error("[limits]: {0}")]
    Limits(#[from] RateError),
    /// The system refuses something else.
    #[error("{what}: {source}")]
    System {
        /// What becalm tried.
        what: &'static str,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// A daemon whose sockets are bound; [`Daemon::run`] serves.
pub struct Daemon {
    /// What the sessions share.
    pub shared: Arc<Shared>,
    /// As status shows them.
    listening: Vec<String>,
    config_path: Option<PathBuf>,
    /// As at the start: a reload does not move the emergency switch.
    observe_flag: PathBuf,
    started: Timestamp,
    standing: Mutex<Standing>,
    keeper: Arc<Keeper>,
    audit: Audit,
    /// Locked only by the supervisor, for as long as sources are read.
    directory: Mutex<Directory>,
}

/// What the last reload left.
struct Standing {
    /// What waits for a restart is compared with this.
    at_start: Config,
    config: Config,
    reload: Option<String>,
}

impl Daemon {
    /// Reads the directory, allocates the tables and binds the sockets.
    ///
    /// `config_path`: the file that a reload reads again; none: there is no file.
    pub fn start(
        config: Config,
        config_path: Option<PathBuf>,
        clock: Clock,
    ) -> Result<(Self, Vec<Listener>), StartError> {
        let now = clock.now();
        let directory = Directory::load(config.directory.clone(), config.addresses.clone(), now);
        let snapshot = Arc::clone(directory.snapshot());
        site::report_sources(&snapshot);
        let key = site::key(&config);
        let engine = Engine::new(
            site::engine_secret(&key),
            site::capacity(&config),
            site::parts(&config, snapshot),
            site::policy(&config),
            now,
        )?;
        let observe_flag = site::observe_flag(&config);
        engine.set_observing(observe_flag.exists());
        let marker = Marker::new(&key, &config.state.node);
        // What was known comes first: nobody is judged, and nobody connects, before it is there.
        let recalled = memory::recall(&config, &engine, now);
        let listeners = listen::open(&config.listen)?;
        let shared =
            Shared::new(engine, clock, marker, site::patience(&config), config.listen.max_connections);
        let shared = Arc::new(shared);
        recalled.go_on(&config, &shared);
        let daemon = Self {
            keeper: Arc::new(Keeper::new(Arc::clone(&shared), config.quarantine.clone())),
            audit: Audit::new(&config.state.directory),
            shared,
            listening: listeners.iter().map(|listener| listener.name().to_owned()).collect(),
            config_path,
            observe_flag,
            started: now,
            standing: Mutex::new(Standing { at_start: config.clone(), config, reload: None }),
            directory: Mutex::new(directory),
        };
        Ok((daemon, listeners))
    }

    /// Where it listens.
    pub fn listening(&self) -> &[String] {
        &self.listening
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
