//! The daemon: the only place where configuration, directory, engine, sockets and signals meet.
//!
//! Worker threads each run a runtime of their own and serve milter sessions; the supervisor (the caller's
//! thread) reloads, refreshes the directory, lets time pass for storms, answers the admin socket, and ends it
//! all.

mod admin;
mod alerts;
mod answer;
mod audit;
pub mod background;
mod by_hand;
pub mod connection;
mod drain;
mod keeper;
pub mod listen;
mod memory;
mod metrics;
mod own_mail;
mod probe;
mod public;
mod pulse;
mod rotation;
pub mod sandbox;
pub mod shared;
pub mod site;
mod storms;
mod supervisor;
pub mod takeover;
mod timeline;
mod trial;
mod watchdog;
mod workers;

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admin::http::Gate;
use crate::clock::Clock;
use crate::config::{Config, GivenBy, Report};
use crate::directory::Directory;
use crate::engine::Engine;
use crate::storm::limits::RateError;
use crate::time::Timestamp;
use alerts::Alerts;
use audit::Audit;
use keeper::Keeper;
use listen::{ListenError, Listener, Sockets};
use public::Public;
pub use public::templates as public_templates;
use shared::Shared;
use takeover::{Kin, Link, Taken, TakeoverError};
use timeline::{Minutes, NearsKept};

/// Cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has errors.
    #[error("{0}")]
    Config(Box<Report>),
    /// A socket cannot be had.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Another becalm runs and cannot be taken over.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
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
    kin: Arc<Kin>,
    /// To the becalm that this one takes over from, until it runs itself.
    before: Mutex<Option<Link>>,
    standing: Mutex<Standing>,
    keeper: Arc<Keeper>,
    alerts: Arc<Alerts>,
    audit: Audit,
    /// Taken while a way of alerts is tried.
    trial: Mutex<()>,
    public: Public,
    /// Metrics that were written a moment ago.
    pages: Mutex<metrics::Pages>,
    minutes: Minutes,
    /// What was near a storm a moment ago.
    nears_kept: NearsKept,
    /// Who may ask by TCP.
    gate: Arc<Gate>,
    /// Workers serve, or have served.
    serving: AtomicBool,
    /// The file of the keys as it was when they were read last.
    ring: Mutex<rotation::Seen>,
    sandbox: sandbox::Sandbox,
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
        Self::begin(config, config_path, clock, |_, _| Ok(None))
    }

    /// The same in the place of the becalm that runs, if one does: with its sockets, and what it knows. It takes
    /// connections until [`Daemon::run`] does; where this one fails before that, it goes on as if nothing had been.
    pub fn take_over(
        config: Config,
        config_path: Option<PathBuf>,
        clock: Clock,
    ) -> Result<(Self, Vec<Listener>), StartError> {
        Self::begin(config, config_path, clock, takeover::claim)
    }

    fn begin(
        mut config: Config,
        config_path: Option<PathBuf>,
        clock: Clock,
        claim: impl FnOnce(&Config, u64) -> Result<Option<Taken>, TakeoverError>,
    ) -> Result<(Self, Vec<Listener>), StartError> {
        let now = clock.now();
        let directory = Directory::load(config.directory.clone(), config.addresses.clone(), now);
        let snapshot = Arc::clone(directory.snapshot());
        site::report_sources(&snapshot);
        let keys = site::keys(&config);
        let engine = Engine::new(
            site::engine_secret(&keys.first),
            site::capacity(&config),
            site::parts(&config, snapshot),
            site::policy(&config),
            now,
        )?;
        let observe_flag = site::observe_flag(&config);
        engine.set_observing(observe_flag.try_exists().unwrap_or(true));
        let marker = keys.ring.marker(&config.state.node, now);
        // Everything that can be wrong with the configuration has been seen; from here on the other one waits.
        let mut taken = claim(&config, engine.key_check())?;
        // What was known comes first: nobody is judged, and nobody connects, before it is there.
        let now = clock.now();
        let mut recalled = memory::recall(&config, &engine, now);
        if let Some(taken) = &mut taken {
            recalled.add(taken.take_image(), &engine, now);
        }
        let inherited = taken.as_mut().map(Taken::take_sockets).transpose()?;
        let Sockets { listeners, passed } = listen::open(&config.listen, inherited)?;
        if passed {
            tracing::info!(
                "systemd opened the sockets: [listen] sockets, mode and group, and --listen, are not used"
            );
            config.listen.given_by = GivenBy::Supervisor;
        }
        let shared =
            Shared::new(engine, clock, marker, site::patience(&config), config.listen.max_connections);
        let shared = Arc::new(shared);
        recalled.go_on(&config, &shared);
        let kin = Arc::new(Kin::new(taken.as_ref(), passed, now));
        let link = taken.map(|taken| taken.link(&shared)).transpose();
        let link = link
            .map_err(|source| StartError::System { what: "cannot listen to the running becalm", source })?;
        let keeper = Arc::new(Keeper::new(Arc::clone(&shared), config.quarantine.clone()));
        let daemon = Self {
            alerts: Arc::new(Alerts::new(Arc::clone(&shared), Arc::clone(&keeper), &config, &keys.first)),
            keeper,
            ring: Mutex::new(rotation::look(&config.state)),
            sandbox: sandbox::Sandbox::default(),
            audit: Audit::new(&config.state.directory),
            trial: Mutex::default(),
            public: Public::new(&config.public),
            pages: Mutex::default(),
            minutes: Minutes::default(),
            nears_kept: NearsKept::default(),
            gate: Arc::default(),
            serving: AtomicBool::new(false),
            shared,
            listening: listeners.iter().map(|listener| listener.name().to_owned()).collect(),
            config_path,
            observe_flag,
            started: now,
            kin,
            before: Mutex::new(link),
            standing: Mutex::new(Standing { at_start: config.clone(), config, reload: None }),
            directory: Mutex::new(directory),
        };
        Ok((daemon, listeners))
    }

    /// What its process was confined to before it was started; for `becalm status`.
    pub fn confined(mut self, sandbox: sandbox::Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// What its process is confined to.
    pub fn sandbox(&self) -> sandbox::Sandbox {
        self.sandbox
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
