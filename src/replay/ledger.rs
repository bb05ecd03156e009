//! What became of each message under one rule, kept as counts and episodes, and brought into a report.

mod pictures;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use hdrhistogram::Histogram;
use smallvec::SmallVec;

use super::course::Course;
use super::judge::{Declared, Verdict};
use super::near::{Count, NearStorms};
use super::report::{ListReport, MAX_EPISODES, MAX_LISTS, Report, StormReport, SuspicionReport};
use crate::time::Timestamp;
use pictures::{Drawn, Fate, Recent};

/// Messages that wait at once. becalm's waiting ones are a handful a list; a rule that makes more wait than this
/// sees the first of them go early. One takes about 150 bytes.
const MAX_WAITING: usize = 1 << 20;

/// Storms that are open at once and end by themselves; a rule that opens more sees the rest of them unreported.
const MAX_OPEN: usize = 65_536;

/// What came shortly before a storm is part of its picture.
const BEFORE: Duration = Duration::from_secs(3600);

/// ... and so is what comes after.
const AFTER: Duration = Duration::from_secs(3600);

/// Posts of a list that are kept for so long; of more, the oldest are no longer part of a picture.
const MAX_RECENT: usize = 4096;

/// The longest delay that is told apart from longer ones, in seconds: ten years.
const LONGEST_DELAY: u64 = 10 * 366 * 86_400;

/// The greatest threshold that can be set (see [`Thresholds::max`](crate::storm::policy::Thresholds::max)).
const MAX_THRESHOLD: u32 = 20;

/// ... and the smallest.
const MIN_THRESHOLD: u32 = 2;

/// A message's share in one list, as a ledger needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub list: usize,
    pub conversation: u64,
    pub newcomer: bool,
}

/// A message that was judged.
pub(super) struct Judged<'a> {
    pub at: Timestamp,
    /// Its lists, the one that decided first.
    pub parts: &'a [Part],
    pub copies: u64,
    pub author: Option<&'a str>,
    /// Its base subject, found out where it is asked for.
    pub subject: &'a dyn Fn() -> String,
}

/// A message that waits for its release.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub until: Timestamp,
    at: Timestamp,
    pub parts: SmallVec<[Part; 1]>,
    copies: u64,
    pub author: Option<String>,
}

/// Where a storm is: a list, or one conversation of it.
pub(super) type Place = (usize, Option<u64>);

/// The books of one rule.
pub(super) struct Ledger {
    /// becalm's own: its storms overtake what waits, and its counts are known.
    ours: bool,
    delayed: u64,
    held: u64,
    /// Of the held ones, by what a client meets; those above a rate limit.
    stopped: BTreeMap<String, u64>,
    limited: u64,
    copies_with: u64,
    copies_without: u64,
    delays: Histogram<u64>,
    longest: Duration,
    lists: Vec<ListBooks>,
    /// By time of release, then in order of arrival; the messages beside it.
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    waiting: HashMap<u64, Waiting>,
    arrived: u64,
    storms: Vec<Storm>,
    open: HashMap<Place, Open>,
    /// With their lists.
    suspicions: Vec<(usize, SuspicionReport)>,
    near: NearStorms,
    course: Option<Course>,
    drawn: Vec<Drawn>,
    left_out: u64,
}

#[derive(Default)]
struct ListBooks {
    messages: u64,
    held: u64,
    delayed: u64,
    storms: u64,
    newcomers: u32,
    authors: u32,
    list_newcomers: u32,
    suspicion: Option<Suspicion>,
    recent: VecDeque<Recent>,
}

struct Suspicion {
    report: SuspicionReport,
    waiting: u64,
}

struct Storm {
    list: usize,
    report: StormReport,
    cooling: Duration,
}

struct Open {
    /// In `storms`; none if there were too many.
    storm: Option<usize>,
    until: Option<Timestamp>,
}

impl Ledger {
    /// Empty books. `ours`: becalm's.
    pub fn new(ours: bool) -> Self {
        Self {
            ours,
            delayed: 0,
            held: 0,
            stopped: BTreeMap::new(),
            limited: 0,
            copies_with: 0,
            copies_without: 0,
            delays: Histogram::new_with_bounds(1, LONGEST_DELAY, 3).expect("these bounds are valid"),
            longest: Duration::ZERO,
            lists: Vec::new(),
            queue: BinaryHeap::new(),
            waiting: HashMap::new(),
            arrived: 0,
            storms: Vec::new(),
            open: HashMap::new(),
            suspicions: Vec::new(),
            near: NearStorms::default(),
            course: None,
            drawn: Vec::new(),
            left_out: 0,
        }
    }

    /// When the next message is due that waits.
    pub fn next_release(&mut self) -> Option<Timestamp> {
        // Those that a storm overtook are gone.
        while self.queue.peek().is_some_and(|Reverse((_, number))| !self.waiting.contains_key(number)) {
            self.queue.pop();
        }
        self.queue.peek().map(|Reverse((until, _))| *until)
    }

    /// Lets the message go that is due first.
    pub fn release(&mut self) -> Option<Waiting> {
        self.next_release()?;
        let Reverse((_, number)) = self.queue.pop()?;
        let waiting = self.waiting.remove(&number)?;
        let delay = waiting.until.since(waiting.at);
        self.delayed += 1;
        self.longest = self.longest.max(delay);
        self.delays.saturating_record(delay.as_secs().max(1));
        self.copies_with = self.copies_with.saturating_add(waiting.copies);
        for part in &waiting.parts {
            self.books(part.list).delayed += 1;
        }
        self.settle(&waiting.parts, waiting.until, waiting.copies, Fate::Released);
        if let Some(part) = waiting.parts.first() {
            self.wait_is_over(part.list, waiting.until, 1, false);
        }
        Some(waiting)
    }

    /// Ends the storms that end by themselves.
    pub fn close_due(&mut self, now: Timestamp) {
        let mut due: SmallVec<[(Place, Timestamp); 4]> = SmallVec::new();
        for (place, open) in &self.open {
            if let Some(until) = open.until.filter(|until| *until <= now) {
                due.push((*place, until));
            }
        }
        for (place, until) in due {
            self.storm_ended(place, until, Duration::ZERO);
        }
    }

    /// A storm was declared, or is kept open.
    pub fn storm_started(
        &mut self,
        place: Place,
        declared: &Declared,
        ends_by_itself: bool,
        judged: &Judged<'_>,
        list: &str,
        members: u64,
    ) {
        let until = ends_by_itself.then_some(declared.until);
        if let Some(open) = self.open.get_mut(&place) {
            open.until = open.until.max(until);
            return;
        }
        self.books(place.0).storms += 1;
        self.near.forget(place.0);
        let storm =
            (self.storms.len() < MAX_EPISODES && self.open.len() < MAX_OPEN).then_some(self.storms.len());
        if storm.is_some() {
            let mut report = StormReport {
                list: list.to_owned(),
                members,
                conversation: (judged.subject)(),
                trigger: declared.trigger.to_owned(),
                started: judged.at,
                ended: None,
                replies_delivered: 0,
                replies_held: 0,
                copies_delivered: 0,
                copies_held: 0,
            };
            self.look_back(place, judged, &mut report);
            self.storms.push(Storm { list: place.0, report, cooling: Duration::ZERO });
        } else {
            self.left_out += 1;
        }
        if self.open.len() < MAX_OPEN {
            self.open.insert(place, Open { storm, until });
        }
        if self.ours {
            self.overtake(place, judged.at);
        }
    }

    /// A storm is over.
    pub fn storm_ended(&mut self, place: Place, at: Timestamp, cooling: Duration) {
        let Some(Open { storm: Some(index), .. }) = self.open.remove(&place) else { return };
        if let Some(storm) = self.storms.get_mut(index) {
            storm.report.ended = Some(at);
            storm.cooling = cooling;
        }
        for drawn in self.drawn.iter_mut().filter(|drawn| drawn.storm == index) {
            drawn.until = at.after(AFTER);
        }
    }

    /// A message and what becomes of it.
    pub fn message(&mut self, judged: &Judged<'_>, verdict: Verdict) {
        let Judged { at, parts, copies, .. } = *judged;
        self.copies_without = self.copies_without.saturating_add(copies);
        for part in parts {
            self.books(part.list).messages += 1;
        }
        let fate = match verdict {
            Verdict::Pass => {
                self.copies_with = self.copies_with.saturating_add(copies);
                Fate::Delivered
            }
            Verdict::Hold => {
                self.held += 1;
                for part in parts {
                    self.books(part.list).held += 1;
                }
                Fate::Held
            }
            Verdict::HoldUntil(until) => {
                self.wait(judged, until);
                Fate::Waits
            }
        };
        self.settle(parts, at, copies, fate);
    }

    /// A message that was taken off the lists on which it does not stay, and that reaches `passed` mailboxes nonetheless.
    pub fn stripped(&mut self, judged: &Judged<'_>, passed: u64, stays: impl Fn(&Part) -> bool) {
        let Judged { at, parts, copies, .. } = *judged;
        self.copies_without = self.copies_without.saturating_add(copies);
        self.copies_with = self.copies_with.saturating_add(passed);
        self.held += 1;
        let course = self.course.get_or_insert_with(|| Course::new(at));
        Fate::Held.draw(course, at, copies);
        // One message, of which copies come after all.
        Fate::Released.draw(course, at, passed);
        for part in parts {
            let books = self.books(part.list);
            books.messages += 1;
            if stays(part) {
                self.remember(part, at, passed, Fate::Delivered);
            } else {
                books.held += 1;
                self.remember(part, at, copies.saturating_sub(passed), Fate::Held);
            }
        }
    }

    /// A message that was stopped at once: what its client meets, and whether it was above a rate limit.
    pub fn stopped(&mut self, action: &str, limited: bool) {
        match self.stopped.get_mut(action) {
            Some(count) => *count += 1,
            None => drop(self.stopped.insert(action.to_owned(), 1)),
        }
        self.limited += u64::from(limited);
    }

    /// The counts that becalm's rule saw: of a conversation's newcomers, of its authors, of the list's newcomers,
    /// each within the list's `window`. `calm`: no storm is open on the list, nor was one declared.
    pub fn counts(
        &mut self,
        part: Part,
        at: Timestamp,
        counts: [Count; 3],
        window: Duration,
        calm: bool,
        subject: &dyn Fn() -> String,
    ) {
        let [newcomers, authors, list_newcomers] = counts;
        let books = self.books(part.list);
        books.newcomers = books.newcomers.max(newcomers.people);
        books.authors = books.authors.max(authors.people);
        books.list_newcomers = books.list_newcomers.max(list_newcomers.people);
        if calm {
            let here = (part.list, Some(part.conversation));
            self.near.see(here, newcomers, at, window, || Some(subject()));
            self.near.see(here, authors, at, window, || Some(subject()));
            self.near.see((part.list, None), list_newcomers, at, window, || None);
        }
    }

    /// The report; what all rules share is still missing in it. `list`: address and members.
    pub fn finish(mut self, list: impl Fn(usize) -> (String, u64)) -> Report {
        let (near, near_left_out) = std::mem::take(&mut self.near).finish(|index| list(index).0);
        let timelines = self.timelines();
        let mut suspicions: Vec<SuspicionReport> = std::mem::take(&mut self.suspicions)
            .into_iter()
            .map(|(index, suspicion)| SuspicionReport { list: list(index).0, ..suspicion })
            .collect();
        suspicions.sort_by_key(|suspicion| suspicion.started);
        let mut lists: Vec<ListReport> = Vec::new();
        for (index, books) in self.lists.iter().enumerate() {
            let (address, members) = list(index);
            let peak = books.newcomers.max(books.authors).max(books.list_newcomers);
            let quietest = peak.saturating_add(1).max(MIN_THRESHOLD);
            lists.push(ListReport {
                address,
                members,
                messages: books.messages,
                held: books.held,
                delayed: books.delayed,
                storms: books.storms,
                near_storms: near.iter().filter(|(of, _)| *of == index).count() as u64,
                peak_newcomers: books.newcomers,
                peak_authors: books.authors,
                peak_list_newcomers: books.list_newcomers,
                quietest: (self.ours && quietest <= MAX_THRESHOLD).then_some(quietest),
            });
        }
        lists.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.address.cmp(&b.address)));
        let lists_left_out = lists.len().saturating_sub(MAX_LISTS) as u64;
        lists.truncate(MAX_LISTS);
        let longest = self.longest.as_secs_f64();
        let p99 = if self.delayed == 0 { 0.0 } else { self.delays.value_at_quantile(0.99) as f64 };
        Report {
            storms: self.storms.into_iter().map(|storm| storm.report).collect(),
            suspicions,
            near_storms: near.into_iter().map(|(_, near)| near).collect(),
            lists,
            messages_delayed: self.delayed,
            delay_p99_s: p99.min(longest),
            delay_max_s: longest,
            messages_held_for_good: self.held,
            stopped_by_action: self.stopped,
            messages_over_limit: self.limited,
            is_becalms: self.ours,
            copies_with: self.copies_with,
            copies_without: self.copies_without,
            timelines,
            left_out: self.left_out.saturating_add(near_left_out).saturating_add(lists_left_out),
            ..Report::default()
        }
    }

    fn books(&mut self, list: usize) -> &mut ListBooks {
        if self.lists.len() <= list {
            self.lists.resize_with(list + 1, ListBooks::default);
        }
        // The last one, at most: it has just been made.
        let last = self.lists.len() - 1;
        &mut self.lists[list.min(last)]
    }

    fn wait(&mut self, judged: &Judged<'_>, until: Timestamp) {
        if self.waiting.len() >= MAX_WAITING {
            self.release();
        }
        let waiting = Waiting {
            until,
            at: judged.at,
            parts: judged.parts.iter().copied().collect(),
            copies: judged.copies,
            author: judged.author.map(str::to_owned),
        };
        self.queue.push(Reverse((until, self.arrived)));
        self.waiting.insert(self.arrived, waiting);
        self.arrived += 1;
        let Some(list) = judged.parts.first().map(|part| part.list) else { return };
        match &mut self.books(list).suspicion {
            Some(suspicion) => {
                suspicion.waiting += 1;
                suspicion.report.messages += 1;
            }
            none => {
                let report = SuspicionReport {
                    list: String::new(),
                    conversation: (judged.subject)(),
                    started: judged.at,
                    ended: judged.at,
                    messages: 1,
                    became_storm: false,
                };
                *none = Some(Suspicion { report, waiting: 1 });
            }
        }
    }

    /// So many messages of a list wait no more.
    fn wait_is_over(&mut self, list: usize, at: Timestamp, messages: u64, became_storm: bool) {
        let Some(suspicion) = &mut self.books(list).suspicion else { return };
        suspicion.waiting = suspicion.waiting.saturating_sub(messages);
        if suspicion.waiting > 0 && !became_storm {
            return;
        }
        if let Some(Suspicion { mut report, .. }) = self.books(list).suspicion.take() {
            report.ended = at;
            report.became_storm = became_storm;
            if self.suspicions.len() < MAX_EPISODES {
                self.suspicions.push((list, report));
            } else {
                self.left_out += 1;
            }
        }
    }

    /// A storm cancels the timers of what waits on its list: it stays held.
    fn overtake(&mut self, place: Place, at: Timestamp) {
        let (list, conversation) = place;
        let overtaken = |waiting: &Waiting| {
            waiting.parts.first().is_some_and(|part| {
                part.list == list && conversation.is_none_or(|conversation| part.conversation == conversation)
            })
        };
        let taken: Vec<(u64, Waiting)> = self.waiting.extract_if(|_, waiting| overtaken(waiting)).collect();
        let storm = self.open.get(&place).and_then(|open| open.storm);
        for (_, waiting) in &taken {
            self.held += 1;
            self.stopped("hold", false);
            for part in &waiting.parts {
                self.books(part.list).held += 1;
            }
            if let Some(storm) = storm.and_then(|index| self.storms.get_mut(index)) {
                storm.report.replies_held += 1;
                storm.report.copies_held = storm.report.copies_held.saturating_add(waiting.copies);
            }
        }
        self.wait_is_over(list, at, taken.len() as u64, conversation.is_none());
    }

    /// Remembers what became of a message on its lists, in the open storms and in the pictures.
    fn settle(&mut self, parts: &[Part], at: Timestamp, copies: u64, fate: Fate) {
        fate.draw(self.course.get_or_insert_with(|| Course::new(at)), at, copies);
        for part in parts {
            self.remember(part, at, copies, fate);
        }
    }

    /// The same on one of them.
    fn remember(&mut self, part: &Part, at: Timestamp, copies: u64, fate: Fate) {
        let recent = &mut self.books(part.list).recent;
        while recent.front().is_some_and(|first| at.since(first.at) > BEFORE) || recent.len() >= MAX_RECENT {
            recent.pop_front();
        }
        recent.push_back(Recent { at, part: *part, copies, fate });
        for place in [(part.list, None), (part.list, Some(part.conversation))] {
            let index =
                if self.open.is_empty() { None } else { self.open.get(&place).and_then(|open| open.storm) };
            let Some(storm) = index.and_then(|index| self.storms.get_mut(index)) else { continue };
            let report = &mut storm.report;
            match fate {
                Fate::Delivered | Fate::Released => {
                    report.replies_delivered += 1;
                    report.copies_delivered = report.copies_delivered.saturating_add(copies);
                }
                Fate::Held => {
                    report.replies_held += 1;
                    report.copies_held = report.copies_held.saturating_add(copies);
                }
                Fate::Waits => {}
            }
        }
        for drawn in self.drawn.iter_mut().filter(|drawn| drawn.list == part.list && at <= drawn.until) {
            fate.draw(&mut drawn.course, at, copies);
        }
    }
}
