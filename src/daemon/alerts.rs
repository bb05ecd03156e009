//! Alerts and notices, wired to the daemon: a thread looks once a second at what happened and how things are, and hands
//! what is worth telling to the ways. It waits for nobody who delivers, and nobody waits for it.
//!
//! Storms that were open before this process, and troubles that were told of by an earlier one (`alerts.json` in the
//! state directory), are not told of again. A becalm that was taken over tells of what its own sessions begin, and no
//! more of how things are: that is for the one that came after it.

use std::collections::VecDeque;
use std::hash::Hasher as _;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tracing::{error, info, warn};

use super::keeper::Keeper;
use super::shared::Shared;
use super::site;
use crate::admin::api::WayState;
use crate::alert::notice::{Candidate, Notices, Told};
use crate::alert::post::{MOST_WAITING, Post};
use crate::alert::settings::Way;
use crate::alert::watch::{Facts, Memo, StormNow, Watch};
use crate::alert::way::{self, Content, Parcel, Stationery};
use crate::alert::{Alert, Kind};
use crate::config::Config;
use crate::journal::event::Event;
use crate::storm::policy::{Mode, Policy};
use crate::storm::state::Phase;
use crate::time::Timestamp;

/// Between two looks.
const ROUND: Duration = Duration::from_secs(1);

/// What was told is written down at most this often.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// How long a daemon that ends waits for what is still to be delivered.
const PATIENCE: Duration = Duration::from_secs(5);

/// Messages whose authors may get a notice, between two rounds.
const MOST_CANDIDATES: usize = 4096;

/// File in the state directory: what was told of.
const FILE: &str = "alerts.json";

/// Longest such file: 50,000 authors of 21 digits each, and some hundred storms.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Messages that were put on hold in a storm, from the sessions to the thread.
#[derive(Default)]
pub struct HeldLetters {
    wanted: AtomicBool,
    waiting: Mutex<VecDeque<Candidate>>,
}

impl HeldLetters {
    /// Is anybody to get a notice at all?
    pub fn are_wanted(&self) -> bool {
        // Relaxed: a setting that takes effect sooner or later.
        self.wanted.load(Ordering::Relaxed)
    }

    /// Takes one, if there is room. Never waits for more than a push.
    pub fn offer(&self, candidate: Candidate) {
        let mut waiting = lock(&self.waiting);
        if waiting.len() < MOST_CANDIDATES {
            waiting.push_back(candidate);
        }
    }
}

/// What tells people. One per daemon.
pub(super) struct Alerts {
    shared: Arc<Shared>,
    keeper: Arc<Keeper>,
    path: PathBuf,
    stationery: Stationery,
    /// For the hashes of those who were told.
    hash_key: [u8; 16],
    inner: Mutex<Inner>,
    stopping: Mutex<bool>,
    stop: Condvar,
}

struct Inner {
    watch: Watch,
    notices: Notices,
    posts: Vec<Post>,
    /// A thread and a queue of its own, so that ten thousand authors do not delay an alert.
    notice_post: Option<Post>,
    events: Option<broadcast::Receiver<Event>>,
    recalled: bool,
    notices_sent: u64,
    memo: Saved,
    dirty: bool,
    saved: Timestamp,
    complained: bool,
}

/// As it outlives the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Saved {
    watch: Memo,
    told: Told,
}

impl Alerts {
    pub(super) fn new(shared: Arc<Shared>, keeper: Arc<Keeper>, config: &Config, key: &[u8; 32]) -> Self {
        let node = config.state.node.as_str();
        let stationery = Stationery { node: node.to_owned(), marker: Some(Arc::clone(&shared.marker)) };
        let inner = Inner {
            watch: Watch::new(node),
            notices: Notices::default(),
            posts: Vec::new(),
            notice_post: None,
            events: None,
            recalled: false,
            notices_sent: 0,
            memo: Saved::default(),
            dirty: false,
            saved: Timestamp::default(),
            complained: false,
        };
        Self {
            shared,
            keeper,
            path: config.state.directory.join(FILE),
            stationery,
            hash_key: site::derived(key, b"becalm: who was told"),
            inner: Mutex::new(inner),
            stopping: Mutex::new(false),
            stop: Condvar::new(),
        }
    }

    /// Hears of all events from now on, and opens the ways.
    pub(super) fn listen(&self, config: &Config) {
        self.inner().events = Some(self.shared.feed());
        self.set(config);
    }

    /// Other settings from now on. What waits for a way that has not changed goes on waiting.
    pub(super) fn set(&self, config: &Config) {
        let mut inner = self.inner();
        inner.watch.set(config.alerts.lasting, config.alerts.silence);
        let mut before = std::mem::take(&mut inner.posts);
        inner.posts = config.alerts.ways.iter().filter_map(|way| self.post(&mut before, way)).collect();
        let mut settings = config.notice.clone();
        settings.domains = config.notice_domains();
        let way = config.mail_way().filter(|_| settings.enabled);
        let way = way.map(|(way, _)| Way { name: format!("{} (notices)", way.name), ..way.clone() });
        let mut before = inner.notice_post.take().into_iter().collect();
        inner.notice_post = way.and_then(|way| self.post(&mut before, &way));
        self.shared.held_letters.wanted.store(inner.notice_post.is_some(), Ordering::Relaxed);
        inner.notices.set(settings);
    }

    /// How the ways are, for `becalm status`.
    pub(super) fn state(&self) -> Vec<WayState> {
        let inner = self.inner();
        let posts = inner.posts.iter().chain(&inner.notice_post);
        let state = |post: &Post| {
            let (waiting, dropped, failing) = post.state();
            WayState { way: post.way().name.clone(), waiting: waiting as u64, dropped, failing }
        };
        posts.map(state).collect()
    }

    fn post(&self, before: &mut Vec<Post>, way: &Way) -> Option<Post> {
        if let Some(at) = before.iter().position(|post| post.way() == way) {
            return Some(before.swap_remove(at));
        }
        Post::start(way.clone(), self.stationery.clone(), self.shared.clock.clone())
            .inspect_err(
                |error| error!(way = way.name, %error, "no thread to deliver alerts: this way is left out"),
            )
            .ok()
    }

    /// Starts the thread.
    pub(super) fn start(self: &Arc<Self>) -> std::io::Result<()> {
        let alerts = Arc::clone(self);
        std::thread::Builder::new().name("becalm-alerts".to_owned()).spawn(move || alerts.run()).map(drop)
    }

    fn run(&self) {
        let mut stopping = lock(&self.stopping);
        while !*stopping {
            let waited = self.stop.wait_timeout_while(stopping, ROUND, |stopping| !*stopping);
            stopping = waited.unwrap_or_else(PoisonError::into_inner).0;
            if *stopping {
                return;
            }
            drop(stopping);
            // A bug here must not silence becalm for ever.
            if std::panic::catch_unwind(AssertUnwindSafe(|| self.round())).is_err() {
                error!("looking for what is worth an alert failed; the next round tries again");
            }
            stopping = lock(&self.stopping);
        }
    }

    /// Tells of what is left, and waits for a bounded time until it is delivered. `save`: nobody comes after this one
    /// who keeps the file.
    pub(super) fn finish(&self, save: bool) {
        *lock(&self.stopping) = true;
        self.stop.notify_all();
        let now = self.shared.clock.now();
        let mut inner = self.inner();
        self.hear(&mut inner);
        self.consider_letters(&mut inner, now);
        inner.keep_memo();
        let posts: Vec<Post> =
            std::mem::take(&mut inner.posts).into_iter().chain(inner.notice_post.take()).collect();
        let due = inner.due_to_save(now, true).filter(|_| save);
        drop(inner);
        if let Some(saved) = due {
            self.save(&saved);
        }
        // All at the same time: each takes no longer than the slowest.
        std::thread::scope(|scope| {
            for post in &posts {
                scope.spawn(|| {
                    if !post.close(PATIENCE) {
                        let (way, left) = (post.way().name.as_str(), post.waiting());
                        warn!(way, left, "becalm ends with alerts that are not delivered");
                    }
                });
            }
        });
    }

    fn round(&self) {
        let now = self.shared.clock.now();
        let serves = !self.shared.is_draining();
        // Files are read and written without the lock: status does not wait for a disk.
        if serves && !std::mem::replace(&mut self.inner().recalled, true) {
            self.recall();
        }
        let mut inner = self.inner();
        self.hear(&mut inner);
        if serves {
            let facts = self.facts(now);
            for alert in inner.watch.look(&facts, now) {
                inner.tell(alert);
            }
        }
        self.consider_letters(&mut inner, now);
        inner.keep_memo();
        let due = if serves { inner.due_to_save(now, false) } else { None };
        drop(inner);
        if let Some(saved) = due {
            self.save(&saved);
        }
    }

    /// Events since the last round.
    fn hear(&self, inner: &mut Inner) {
        loop {
            // Asked anew for each event: where one of them fails, the next round goes on behind it.
            match inner.events.as_mut().map(broadcast::Receiver::try_recv) {
                Some(Ok(event)) => {
                    let enforced = self.is_enforced(&event);
                    if let Some(alert) = inner.watch.event(&event, enforced) {
                        inner.tell(alert);
                    }
                }
                Some(Err(TryRecvError::Lagged(missed))) => {
                    warn!(missed, "so many events that some are not told of")
                }
                Some(Err(TryRecvError::Empty | TryRecvError::Closed)) | None => return,
            }
        }
    }

    fn is_enforced(&self, event: &Event) -> bool {
        match event {
            Event::StormStarted { list, .. } | Event::StormEnded { list, .. } => {
                self.enforces(list.as_deref())
            }
            Event::ClawedBack { .. } | Event::PossibleList { .. } => false,
        }
    }

    /// None: many recipients.
    fn enforces(&self, list: Option<&str>) -> bool {
        let engine = &self.shared.engine;
        let acts = |policy: &Policy| policy.mode != Mode::Observe && !policy.never_hold;
        let enforced = match list {
            Some(list) => {
                let watched = engine.list_named(list.as_bytes(), self.shared.clock.now());
                watched.is_some_and(|list| acts(&list.policy))
            }
            None => acts(&engine.world().default_policy),
        };
        enforced && !engine.is_observing()
    }

    fn facts(&self, now: Timestamp) -> Facts {
        let shared = &self.shared;
        let open = |storm: crate::engine::OpenStorm| {
            matches!(storm.phase, Phase::Storm { .. }).then(|| {
                Some(StormNow {
                    enforced: self.enforces(storm.list.as_deref()),
                    storm: storm.storm?,
                    list: storm.list,
                    members: storm.members,
                    held: storm.figures.held,
                    copies_held: storm.figures.copies_held,
                })
            })?
        };
        let journal = shared.memory.info(now);
        let counts = shared.counters.read();
        let world = shared.engine.world();
        let sources = world.snapshot.sources().iter();
        let (room, helpers) = self.keeper.watched();
        Facts {
            storms: shared.engine.storms(now).into_iter().filter_map(open).collect(),
            held: shared.ledger.count() as u64,
            full: shared.ledger.full().map(|full| full.name()),
            room,
            sources: sources.map(|source| (source.name.clone(), source.stale.clone())).collect(),
            journal: journal.why.filter(|_| journal.state == "degraded"),
            helpers,
            messages: counts.messages,
            watched: counts.watched,
            failed_open: counts.failed_open,
            unfinished: counts.watched_unfinished,
        }
    }

    fn consider_letters(&self, inner: &mut Inner, now: Timestamp) {
        let letters = std::mem::take(&mut *lock(&self.shared.held_letters.waiting));
        let engine = &self.shared.engine;
        for letter in letters {
            let author = self.hash(&letter.sender);
            inner
                .notices
                .consider(&letter, author, |address| engine.list_named(address.as_bytes(), now).is_some());
        }
        let dropped = inner.notices.take_dropped();
        if dropped > 0 {
            warn!(authors = dropped, "too many notices wait: these authors get none for now");
        }
        // Room is looked at first: what is taken out counts as told.
        while inner.notice_post.as_ref().is_some_and(|post| post.waiting() < MOST_WAITING) {
            let Some(notice) = inner.notices.next(now) else { break };
            inner.notices_sent = inner.notices_sent.saturating_add(1);
            let id = format!("{}-{:x}-n{}", self.stationery.node, now.as_millis(), inner.notices_sent);
            let parcel = Parcel { content: Content::Notice(Arc::new(notice), id), to: None };
            if let Some(post) = &inner.notice_post {
                post.push(parcel);
            }
        }
    }

    fn hash(&self, address: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.hash_key);
        hasher.write(address.to_ascii_lowercase().as_bytes());
        hasher.finish()
    }

    fn recall(&self) {
        match read(&self.path) {
            Ok(saved) => {
                let mut inner = self.inner();
                inner.memo = saved.clone();
                inner.watch.recall(saved.watch);
                inner.notices.recall(saved.told);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                warn!(path = %self.path.display(), %error, "cannot be read: troubles may be told of twice");
            }
        }
    }

    fn save(&self, saved: &Saved) {
        let written = write(&self.path, saved);
        let mut inner = self.inner();
        match written {
            Ok(()) => inner.complained = false,
            Err(error) => {
                // Tried again in a while.
                inner.dirty = true;
                if !std::mem::replace(&mut inner.complained, true) {
                    let path = self.path.display();
                    warn!(%path, %error, "cannot be written: troubles may be told of twice after a restart");
                }
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }
}

impl Inner {
    fn tell(&mut self, alert: Alert) {
        let (event, id, title, about) = (alert.event.name(), &alert.id, &alert.title, alert.about.as_deref());
        // What begins or breaks is in the log already, from where it was found; these are found here.
        match alert.event {
            Kind::Held | Kind::Unjudged | Kind::StormGrowing => warn!(event, id, about, "{title}"),
            Kind::Recovered => info!(event, id, about, "{title}"),
            _ => {}
        }
        let alert = Arc::new(alert);
        for post in self.posts.iter().filter(|post| post.way().takes(alert.event, alert.recovers)) {
            for parcel in way::parcels(post.way(), &alert) {
                post.push(parcel);
            }
        }
    }

    /// What is to be written down now, if anything is.
    fn due_to_save(&mut self, now: Timestamp, last: bool) -> Option<Saved> {
        let due = self.dirty && (last || now.since(self.saved) >= SAVE_EVERY);
        due.then(|| {
            (self.dirty, self.saved) = (false, now);
            self.memo.clone()
        })
    }

    fn keep_memo(&mut self) {
        if let Some(watch) = self.watch.memo() {
            self.memo.watch = watch;
            self.dirty = true;
        }
        if let Some(told) = self.notices.memo() {
            self.memo.told = told;
            self.dirty = true;
        }
    }
}

fn read(path: &Path) -> std::io::Result<Saved> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
    serde_json::from_str(&text).map_err(std::io::Error::other)
}

/// Whole, or not at all.
fn write(path: &Path, saved: &Saved) -> std::io::Result<()> {
    let draft = path.with_extension("json.new");
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    // Or a power cut could leave the name with nothing behind it.
    file.sync_data()?;
    std::fs::rename(&draft, path)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
