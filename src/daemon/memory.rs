//! The memory that outlives the process: read before anybody connects, and written from then on.
//!
//! Nothing here can stop a verdict: what cannot be read is begun anew, what cannot be written is counted, and
//! `becalm status` says so.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tracing::{error, info, warn};

use super::shared::Shared;
use super::site;
use super::takeover::{Peer, Peers};
use crate::admin::api::{Journal, Recalled as RecalledInfo};
use crate::clock::{Clock, Stopwatch};
use crate::config::Config;
use crate::engine::Engine;
use crate::journal::outbox::{Inbox, Outbox};
use crate::journal::record::{ClawedBack, Judged, Record};
use crate::journal::replay::{ReplayError, Replayed, replay};
use crate::journal::store::Store;
use crate::journal::writer::{Setup, Writer};
use crate::time::Timestamp;

/// Beginnings and ends of storms that a checkpoint keeps, for `becalm storms`: twice as many as it shows.
const STORM_RECORDS: usize = 2000;

/// How long a stopping daemon waits for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// What has been kept so far, and where what happens now is kept.
#[derive(Default)]
pub struct Memory {
    /// None: it has not been read yet.
    kept: ArcSwapOption<Kept>,
    /// Others on this machine who learn the same.
    peers: Peers,
}

struct Kept {
    outbox: Outbox,
    /// None: the journal is off, or cannot be used.
    writer: Mutex<Option<Writer>>,
    folder: Option<String>,
    /// Another becalm writes it now.
    released: bool,
    recalled: RecalledInfo,
    /// Storms that began and ended, the oldest first.
    storms: Mutex<VecDeque<Record>>,
}

impl Memory {
    /// Keeps what a message wrote. Never waits.
    pub fn keep_judged(&self, judged: Judged) {
        if !judged.is_empty() {
            self.keep(Record::Judged(judged));
        }
    }

    /// Keeps a record. Never waits.
    pub fn keep(&self, record: Record) {
        self.peers.tell(&record, None);
        if let Some(kept) = &*self.kept.load() {
            kept.outbox.push(record);
        }
    }

    /// Keeps the beginning or the end of a storm. The writer is woken: a storm that was declared a moment ago
    /// should survive what comes now.
    pub fn keep_at_once(&self, record: Record) {
        self.peers.tell(&record, None);
        if let Some(kept) = &*self.kept.load() {
            kept.note_storm(&record);
            kept.outbox.push_at_once(record);
        }
    }

    /// Keeps what another becalm on this machine judged. Never waits.
    pub fn keep_from(&self, record: Record, from: &Peer) {
        self.peers.tell(&record, Some(from));
        if let Some(kept) = &*self.kept.load() {
            kept.note_storm(&record);
            kept.outbox.push(record);
        }
    }

    /// Others on this machine who learn what is kept.
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Asks for a checkpoint before its time: there are lists whose history begins now.
    pub fn checkpoint_soon(&self) {
        if let Some(kept) = &*self.kept.load()
            && let Some(writer) = kept.writer().as_ref()
        {
            writer.checkpoint_soon();
        }
    }

    /// Writes what is left, and lets go of the folder. False: the disk did not take it in time.
    pub fn close(&self) -> bool {
        self.kept.load_full().is_none_or(|kept| kept.close())
    }

    /// As [`Memory::close`]; what happens from here on is for another becalm to keep.
    pub fn release(&self) -> bool {
        let Some(kept) = self.kept.load_full() else { return true };
        let released = Kept {
            outbox: Outbox::closed(),
            writer: Mutex::default(),
            folder: kept.folder.clone(),
            released: true,
            recalled: kept.recalled.clone(),
            storms: Mutex::new(kept.storms().clone()),
        };
        self.kept.store(Some(Arc::new(released)));
        kept.close()
    }

    /// Does anything outlive the process?
    pub fn is_kept(&self) -> bool {
        self.kept.load().as_ref().is_some_and(|kept| kept.outbox.is_open() || kept.released)
    }

    /// Is all that is known here also in the journal in this folder, or on its way there?
    pub fn is_whole(&self, folder: Option<&Path>, now: Timestamp) -> bool {
        self.kept.load().as_ref().is_some_and(|kept| {
            let same = kept.folder.as_deref().map(Path::new) == folder;
            same && kept.outbox.is_open() && kept.outbox.health().trouble(now).is_none()
        })
    }

    /// For `becalm status`.
    pub fn info(&self, now: Timestamp) -> Journal {
        let kept = self.kept.load();
        let Some(kept) = kept.as_ref() else {
            return Journal { state: "off".to_owned(), ..Journal::default() };
        };
        // Relaxed: figures.
        let read = |cell: &std::sync::atomic::AtomicU64| cell.load(std::sync::atomic::Ordering::Relaxed);
        let health = kept.outbox.health();
        let trouble = health.trouble(now);
        let state = match (&trouble, kept.outbox.is_open()) {
            (Some(_), _) => "degraded",
            (None, _) if kept.released => "handed over",
            (None, true) => "ok",
            (None, false) => "off",
        };
        let waiting = health.waiting();
        let synced = Timestamp::from_millis(read(&health.synced));
        let time = |millis| (millis > 0).then(|| Timestamp::from_millis(millis).rfc3339());
        Journal {
            folder: kept.folder.clone(),
            state: state.to_owned(),
            since: trouble.as_ref().map(|trouble| trouble.since.rfc3339()),
            why: trouble.map(|trouble| trouble.why),
            written: read(&health.written),
            waiting,
            dropped: read(&health.dropped),
            lag_ms: if waiting > 0 { now.since(synced).as_millis() as u64 } else { 0 },
            segments: read(&health.segments),
            bytes: read(&health.bytes),
            checkpoint: time(read(&health.checkpoint)),
            recalled: kept.recalled.clone(),
        }
    }
}

impl Kept {
    fn close(&self) -> bool {
        let writer = self.writer().take();
        writer.is_none_or(|writer| writer.close(PATIENCE))
    }

    fn writer(&self) -> MutexGuard<'_, Option<Writer>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn storms(&self) -> MutexGuard<'_, VecDeque<Record>> {
        self.storms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_storm(&self, record: &Record) {
        if matches!(record, Record::Opened(_) | Record::Ended(_)) {
            let mut storms = self.storms();
            if storms.len() >= STORM_RECORDS {
                storms.pop_front();
            }
            storms.push_back(record.clone());
        }
    }
}

/// What was read at the start.
pub(super) struct Recollection {
    /// None: the journal is off.
    read: Option<Result<Replayed, ReplayError>>,
    took: Duration,
    /// What is about storms as people see them.
    storms: Vec<Record>,
}

/// Reads the journal, and makes the engine know what it says.
pub(super) fn recall(config: &Config, engine: &Engine, now: Timestamp) -> Recollection {
    let watch = Stopwatch::start();
    let mut storms = Vec::new();
    let read = config.journal.enabled.then(|| {
        replay(&Store::new(&config.journal_folder()), engine.key_check(), |record| {
            engine.apply(&record, now);
            if is_told(&record) {
                storms.push(record);
            }
        })
    });
    Recollection { read, took: watch.elapsed(), storms }
}

/// Is it about storms as people see them?
fn is_told(record: &Record) -> bool {
    matches!(record, Record::Opened(_) | Record::Ended(_) | Record::ClawedBack(_))
}

/// Hands over all that is known, record by record, until one is refused.
pub(super) fn show(shared: &Shared, out: &mut dyn FnMut(Record) -> io::Result<()>) -> io::Result<()> {
    let now = shared.clock.now();
    shared.engine.image(now, &mut |piece| out(Record::Piece(Box::new(piece))))?;
    let kept = shared.memory.kept.load_full();
    let storms: Vec<Record> = kept.map(|kept| kept.storms().iter().cloned().collect()).unwrap_or_default();
    storms.into_iter().try_for_each(&mut *out)?;
    clawed_back(shared, now).into_iter().try_for_each(|record| out(Record::ClawedBack(record)))
}

/// What was clawed back of each storm: the messages that are on hold, and the sums.
fn clawed_back(shared: &Shared, at: Timestamp) -> Vec<ClawedBack> {
    let sums = |storm: &str| <[u64; 2]>::from(shared.storms.clawed_back(storm));
    let on_hold = shared.ledger.clawed_back().into_iter().map(|(queue_id, storm, copies)| {
        let sums = sums(&storm);
        ClawedBack { at, storm, queue_id, copies, sums }
    });
    let storms = shared.storms.list().into_iter().filter(|storm| storm.clawed_back > 0);
    let storms = storms.map(|storm| {
        let sums = sums(&storm.storm);
        ClawedBack { at, storm: storm.storm, sums, ..ClawedBack::default() }
    });
    on_hold.chain(storms).collect()
}

/// Writes the journal again that another becalm wrote for a while. What happened meanwhile is known from that one
/// itself; the next checkpoint, which is made at once, has it.
pub(super) fn resume(config: &Config, shared: &Arc<Shared>) {
    let watch = Stopwatch::start();
    let read = config
        .journal
        .enabled
        .then(|| replay(&Store::new(&config.journal_folder()), shared.engine.key_check(), |_| {}));
    let storms = shared.memory.kept.load_full().map(|kept| kept.storms().iter().cloned().collect());
    Recollection { read, took: watch.elapsed(), storms: storms.unwrap_or_default() }.go_on(config, shared);
    shared.memory.checkpoint_soon();
}

impl Recollection {
    /// What another becalm knows that is not in the journal.
    pub(super) fn add(&mut self, records: Vec<Record>, engine: &Engine, now: Timestamp) {
        for record in records {
            engine.apply(&record, now);
            if is_told(&record) {
                self.storms.push(record);
            }
        }
    }

    /// Tells what was found, and begins to write.
    pub(super) fn go_on(self, config: &Config, shared: &Arc<Shared>) {
        let now = shared.clock.now();
        let folder = config.journal_folder();
        let kept = |outbox, writer, folder, recalled| Kept {
            outbox,
            writer: Mutex::new(writer),
            folder,
            released: false,
            recalled,
            storms: Mutex::default(),
        };
        let name = folder.display().to_string();
        let kept = match self.read {
            None => {
                warn!("the journal is turned off: what is learnt is forgotten when becalm ends");
                kept(Outbox::closed(), None, None, RecalledInfo::default())
            }
            Some(Err(problem @ ReplayError::Newer { .. })) => {
                error!(%problem, "the journal cannot be used; what is learnt is forgotten when becalm ends");
                let outbox = Outbox::broken(problem.to_string(), now);
                kept(outbox, None, Some(name), RecalledInfo::default())
            }
            Some(read) => {
                let replayed = read.inspect_err(|problem| warn!(%problem, "the journal cannot be read")).ok();
                let recalled = replayed.as_ref().map(|found| tell(found, self.took)).unwrap_or_default();
                let (outbox, inbox) = Outbox::new();
                match begin(config, shared, &outbox, inbox, replayed.as_ref()) {
                    Ok(writer) => kept(outbox, Some(writer), Some(name), recalled),
                    Err(problem) => {
                        error!(%problem, "the journal has no thread; what is learnt is forgotten when becalm ends");
                        let outbox = Outbox::broken(format!("no thread to write it: {problem}"), now);
                        kept(outbox, None, Some(name), recalled)
                    }
                }
            }
        };
        for record in &self.storms {
            kept.note_storm(record);
            shared.recall(record);
        }
        shared.memory.kept.store(Some(Arc::new(kept)));
    }
}

fn tell(found: &Replayed, took: Duration) -> RecalledInfo {
    for remark in &found.remarks {
        warn!(remark, "the journal");
    }
    let recalled = RecalledInfo {
        records: found.records,
        events: found.events,
        damaged: found.damaged,
        torn: found.torn,
        took_ms: took.as_millis() as u64,
        remarks: found.remarks.clone(),
    };
    info!(
        records = recalled.records,
        events = recalled.events,
        damaged = recalled.damaged,
        torn_bytes = recalled.torn,
        ?took,
        "the journal was read"
    );
    recalled
}

fn begin(
    config: &Config,
    shared: &Arc<Shared>,
    outbox: &Outbox,
    inbox: Inbox,
    replayed: Option<&Replayed>,
) -> io::Result<Writer> {
    let clock: Clock = shared.clock.clone();
    // Weak: what the sessions share must not live for the journal's sake.
    let known = Arc::downgrade(shared);
    let setup = Setup {
        store: Store::new(&config.journal_folder()),
        node: config.state.node.clone(),
        boot: u64::from_le_bytes(site::random()),
        key: shared.engine.key_check(),
        retention: config.journal.retention,
        size: u64::from(config.journal.size_mib) << 20,
        now: Box::new(move || clock.now()),
        image: Arc::new(move |out| {
            let shared = known.upgrade().ok_or_else(|| io::Error::other("becalm has ended"))?;
            show(&shared, out)
        }),
    };
    Writer::start(setup, outbox, inbox, replayed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::frame::{Frames, HEADER, Header};
    use crate::storm::state::Phase;

    const START: Timestamp = Timestamp::from_millis(1_479_112_140_000);

    fn config(home: &std::path::Path) -> Config {
        let text = format!(
            "state.directory = '{}'\nverdict.mode = 'hold'\n
             tables = {{ conversations = 1024, recipients = 1024, known_authors = 1024, message_ids = 1024 }}
             [[list]]\naddress = 'all@example.org'\nmembers = 840_000\n",
            home.display()
        );
        Config::parse("test", &text).unwrap_or_else(|report| panic!("{report}")).0
    }

    fn engine(config: &Config) -> Engine {
        let directory =
            crate::directory::Directory::load(config.directory.clone(), config.addresses.clone(), START);
        let parts = site::parts(config, Arc::clone(directory.snapshot()));
        Engine::new([7; 16], site::capacity(config), parts, site::policy(config), START).unwrap()
    }

    /// Judges the letter of stranger number `number`.
    fn judge(engine: &Engine, number: u64, now: Timestamp) -> Vec<Record> {
        let mut tx = engine.session(None);
        let author = format!("stranger-{number}@example.org");
        engine.begin(&mut tx, author.as_bytes(), None, now);
        engine.recipient(&mut tx, b"all@example.org");
        engine.at_data(&mut tx);
        tx.header(b"Message-ID", format!("<{number}@example.org>").as_bytes());
        let decision = engine.judge(&tx, None, now);
        let events = decision.events.iter().filter_map(|event| engine.record_of(event));
        events.chain([Record::Judged(decision.record.clone())]).collect()
    }

    /// Everything that a later judgement depends on, as far as the outside can ask for it.
    fn known(engine: &Engine, now: Timestamp) -> (Vec<crate::engine::OpenStorm>, usize, usize) {
        let tables = engine.tables();
        (engine.storms(now), tables.known_authors.occupied, tables.message_ids.occupied)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]

        /// Whatever a journal says, or another node: nothing panics, and mail is judged.
        #[test]
        fn any_records_can_be_applied(
            records in proptest::collection::vec(crate::journal::codec::tests::record(), 0..60),
        ) {
            let home = tempfile::tempdir().unwrap();
            let engine = engine(&config(home.path()));
            for record in &records {
                engine.apply(record, START);
                engine.event_of(record);
            }
            for number in 0..5 {
                judge(&engine, number, START);
            }
            engine.tick(START.after(Duration::from_secs(7200)));
            engine.storms(START);
            engine.image(START, &mut |_| Ok::<(), ()>(())).unwrap();
        }
    }

    /// A power loss: the journal ends anywhere. What is read then is what was whole, to the last record.
    #[test]
    fn cut_at_every_byte_it_knows_what_was_whole() {
        let home = tempfile::tempdir().unwrap();
        let config = config(home.path());
        let now = START.after(Duration::from_secs(90 * 86_400));
        let folder = config.journal_folder();
        let past = engine(&config);
        let (outbox, inbox) = Outbox::new();
        let setup = Setup {
            store: Store::new(&folder),
            node: "mx1".to_owned(),
            boot: 1,
            key: past.key_check(),
            retention: Duration::from_secs(86_400),
            size: 1 << 30,
            now: Box::new(move || now),
            // None is ever whole: the events alone tell.
            image: Arc::new(|_| Err(io::Error::other("not in this test"))),
        };
        let writer = Writer::start(setup, &outbox, inbox, Some(&Replayed::default())).unwrap();
        let records: Vec<Record> = (0..14).flat_map(|number| judge(&past, number, now)).collect();
        records.iter().cloned().for_each(|record| outbox.push(record));
        assert!(writer.close(Duration::from_secs(20)));
        assert!(matches!(known(&past, now).0[..], [ref open] if matches!(open.phase, Phase::Storm { .. })));

        let store = Store::new(&folder);
        let contents = store.contents().unwrap();
        let last = contents.segments.iter().map(|number| store.segment(*number));
        let path = last.max_by_key(|path| std::fs::metadata(path).map_or(0, |file| file.len())).unwrap();
        let whole = std::fs::read(&path).unwrap();
        let header = Header::decode(&whole).unwrap();
        let expected = engine(&config);
        let mut applied = 0;
        for cut in HEADER..=whole.len() {
            let frames = Frames::new(&header, &whole[HEADER..cut]).count();
            while applied < frames {
                expected.apply(&records[applied], now);
                applied += 1;
            }
            // Each engine takes a while; around the ends of records all are tried, in between a few.
            let near = Frames::new(&header, &whole[HEADER..(cut + 2).min(whole.len())]).count() != frames
                || Frames::new(&header, &whole[HEADER..cut.saturating_sub(2).max(HEADER)]).count() != frames;
            if !near && cut % 16 != 0 {
                continue;
            }
            std::fs::write(&path, &whole[..cut]).unwrap();
            let fresh = engine(&config);
            let found = recall(&config, &fresh, now);
            let found = found.read.expect("it is on").expect("it can be read");
            assert_eq!((found.events, found.damaged), (frames as u64, 0), "cut at {cut}");
            assert_eq!(known(&fresh, now), known(&expected, now), "cut at {cut}");
        }
        assert_eq!(applied, records.len());
        assert_eq!(known(&expected, now), known(&past, now));
    }
}
