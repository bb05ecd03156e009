//! The run: mail in order of time to an engine, at its own time, and what came of it.
//!
//! Nothing waits for anything: between two messages the clock is put forward, suspicions whose time has come are
//! released (and make their author known), and storms that fell quiet end. The engine is the daemon's own.

mod known;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::header::{self, Names};
use super::judge::{Declared, Judge, Posting, Verdict};
use super::ledger::{Judged, Ledger, Part};
use super::near::Count;
use super::report::Report;
use crate::directory::snapshot::List;
use crate::engine::{Action, Capacity, Engine, Parts, Reason, Share, Transaction, World};
use crate::journal::event::Event;
use crate::mail::{AddressBuf, Head};
use crate::storm::detector::{Judgement, Scope};
use crate::storm::limits::RateError;
use crate::storm::policy::{Mode, Policy};
use crate::storm::state::Phase;
use crate::time::Timestamp;
use known::{Distinct, Lists, Spellings};

/// The secret of a run's tables: mail that is past crafts nothing, and the same mail gives the same report.
const SECRET: [u8; 16] = [7; 16];

/// Fields of one message that are looked at: of more, Postfix would have cut most.
const MAX_FIELDS: usize = 5000;

/// Recipients that are no lists, of one message: more are no more watched.
const MAX_PLAIN: usize = 1000;

/// Spellings of lists in one message that are told apart.
const MAX_SPELLINGS: usize = 32;

/// Recipients that are counted at once.
const RECIPIENTS: usize = 1024;

/// What a message to many recipients and no list is counted under.
const NO_LIST: &str = "many recipients";

/// A message as it arrived.
#[derive(Clone, Copy, Debug)]
pub struct Mail<'a> {
    /// When.
    pub at: Timestamp,
    /// The envelope sender, if a `Return-Path` does not say otherwise; empty for the null sender.
    pub sender: &'a [u8],
    /// The list it went to, where that is known without its headers.
    pub list: Option<&'a [u8]>,
    /// Its header block.
    pub head: &'a [u8],
    /// Where the lines of that end, each with its end of line, if somebody has found out; empty: nobody has.
    pub lines: &'a [u32],
}

/// An engine, other rules beside it, and their books.
pub struct Run {
    engine: Engine,
    world: Arc<World>,
    tx: Transaction,
    name: String,
    fallback: Option<Vec<u8>>,
    known: Lists,
    judges: Vec<Box<dyn Judge>>,
    /// becalm's own first, then one for each judge.
    ledgers: Vec<Ledger>,
    /// Lists with an open storm.
    stormy: SmallVec<[usize; 2]>,
    conversations: Distinct,
    clock: Option<Timestamp>,
    first: Option<Timestamp>,
    messages: u64,
    list_messages: u64,
    late: u64,
    shares: SmallVec<[Seen; 2]>,
    spellings: Spellings,
}

/// A share of a message, as the detector saw it.
struct Seen {
    posting: Posting,
    counts: [Count; 3],
    window: Duration,
    calm: bool,
}

impl Run {
    /// A run under the policies of `parts` and `policy`, put to hold where they observe, as are rate limits. No list is young in it:
    /// past mail begins somewhere, but the lists were there before.
    ///
    /// # Errors
    /// A rate that cannot be kept.
    pub fn new(
        name: &str,
        parts: Parts,
        policy: impl Fn(&List) -> Policy,
        capacity: Capacity,
    ) -> Result<Self, RateError> {
        let mut parts = Parts { default_policy: enforced(parts.default_policy), ..parts };
        if parts.limits.mode == Mode::Observe {
            parts.limits.mode = Mode::Hold;
        }
        let policy = |list: &List| enforced(policy(list));
        // Who writes to whom beside the lists is nobody's question here, and memory that is not taken costs no time.
        let capacity = Capacity { recipients: capacity.recipients.min(RECIPIENTS), ..capacity };
        let engine = Engine::new(SECRET, capacity, parts, policy, Timestamp::default())?;
        Ok(Self {
            world: engine.world(),
            tx: engine.session(None),
            engine,
            name: name.to_owned(),
            fallback: None,
            known: Lists::default(),
            judges: Vec::new(),
            ledgers: vec![Ledger::new(true)],
            stormy: SmallVec::new(),
            conversations: Distinct::default(),
            clock: None,
            first: None,
            messages: 0,
            list_messages: 0,
            late: 0,
            shares: SmallVec::new(),
            spellings: Spellings::default(),
        })
    }

    /// Another rule, to be told of the same mail. Before the first message.
    pub fn beside(&mut self, judge: Box<dyn Judge>) {
        self.judges.push(judge);
        self.ledgers.push(Ledger::new(false));
    }

    /// Takes mail that names no list for mail to this one.
    pub fn take_for(&mut self, list: &str) {
        self.fallback = Some(list.as_bytes().to_vec());
    }

    /// Makes an author known to a list from earlier days.
    pub fn introduce(&self, list: &str, author: &str, at: Timestamp) {
        self.engine.make_known(list, author, at);
    }

    /// Plays a message: becalm's verdict. One that comes before the last is played at the last one's time.
    pub fn play(&mut self, mail: &Mail<'_>) -> Verdict {
        self.messages += 1;
        let now = mail.at.max(self.clock.unwrap_or(mail.at));
        self.late += u64::from(now > mail.at);
        self.first.get_or_insert(now);
        self.clock = Some(now);
        self.advance(now);

        let mut fields: SmallVec<[header::Field<'_>; 64]> = SmallVec::new();
        if mail.lines.is_empty() {
            fields.extend(header::fields(mail.head).take(MAX_FIELDS));
        } else {
            let ends = mail.lines.iter().map(|end| *end as usize);
            fields.extend(header::fields_of_lines(mail.head, ends).take(MAX_FIELDS));
        }
        let return_path = fields.iter().find(|(name, _)| header::is_return_path(name));
        let sender = return_path.map_or(mail.sender, |(_, path)| path);
        self.engine.begin(&mut self.tx, sender, None, now);
        match mail.list {
            Some(list) => drop(self.engine.recipient(&mut self.tx, list)),
            None => self.add_recipients(&fields),
        }
        if !self.engine.at_data(&mut self.tx) {
            return Verdict::Pass;
        }
        for (name, value) in &fields {
            self.tx.header(name, value);
        }
        self.judge(&fields, now)
    }

    /// Lets time pass until nothing waits and no storm is open, and reports: becalm first, then the other rules.
    /// `skipped`: what could not be played, by reason.
    pub fn finish(mut self, skipped: &std::collections::BTreeMap<String, u64>) -> Vec<Report> {
        self.advance(Timestamp::from_millis(u64::MAX));
        let names = std::iter::once(self.name).chain(self.judges.iter().map(|judge| judge.name()));
        let known = &self.known.all;
        let list = |index: usize| {
            known.get(index).map_or_else(Default::default, |list| (list.address.clone(), list.members))
        };
        let reports = self.ledgers.into_iter().zip(names).map(|(ledger, policy)| Report {
            policy,
            messages: self.messages,
            list_messages: self.list_messages,
            conversations: self.conversations.count,
            first: self.first,
            last: self.clock,
            out_of_order: self.late,
            skipped: skipped.clone(),
            ..ledger.finish(list)
        });
        reports.collect()
    }

    /// The lists that the headers name; without any, the one that all mail is taken for; without that, all the
    /// people they name.
    fn add_recipients(&mut self, fields: &[header::Field<'_>]) {
        let (world, engine, tx) = (&self.world, &self.engine, &mut self.tx);
        let mut buffer = AddressBuf::new();
        let mut id = Vec::new();
        // Named in To and in Cc, and by its own field, it is sent to once.
        let mut found: SmallVec<[u64; 4]> = SmallVec::new();
        let spellings = &mut self.spellings;
        let mut add_list = |raw: &[u8]| {
            let list = spellings.list(raw, |raw| {
                let canonical = world.rules().canonical(raw, &mut buffer);
                canonical.is_some_and(|address| world.snapshot.lookup(&address).is_some())
            });
            if let Some(list) = list.filter(|list| !found.contains(list)) {
                engine.recipient(tx, raw);
                // Nobody spells his lists in more ways; what is not kept here is only found out again.
                if found.len() < MAX_SPELLINGS {
                    found.push(list);
                }
            }
        };
        for (name, value) in fields {
            match header::names(name) {
                Some(Names::Recipients) => header::addresses(value).for_each(&mut add_list),
                Some(Names::List) => header::list_post(value).into_iter().for_each(&mut add_list),
                Some(Names::ListId) => header::list_id(value, &mut id).into_iter().for_each(&mut add_list),
                None => {}
            }
        }
        if !found.is_empty() {
            return;
        }
        if let Some(list) = &self.fallback {
            engine.recipient(tx, list);
            return;
        }
        let people = fields.iter().filter(|(name, _)| header::names(name) == Some(Names::Recipients));
        for raw in people.flat_map(|(_, value)| header::addresses(value)).take(MAX_PLAIN) {
            engine.recipient(tx, raw);
        }
    }

    fn judge(&mut self, fields: &[header::Field<'_>], now: Timestamp) -> Verdict {
        let (known, shares, number) = (&mut self.known, &mut self.shares, self.messages - 1);
        shares.clear();
        let mut tell = |share: &Share<'_>| shares.push(Seen::new(share, known, number, now));
        let decision = self.engine.judge_and_tell(&self.tx, None, now, &mut tell);
        let verdict = match (&decision.action, decision.reason) {
            (Action::Accept, _) => Verdict::Pass,
            (_, Reason::Suspicion { until }) => Verdict::HoldUntil(until),
            _ => Verdict::Hold,
        };
        let mut parts: SmallVec<[Part; 2]> = self.shares.iter().map(|seen| seen.part()).collect();
        if parts.is_empty() {
            // Exempt, or come again: judged for what it was before.
            for list in self.tx.lists() {
                let list = self.known.number(Some(list), list.members);
                if parts.iter().all(|part| part.list != list) {
                    parts.push(Part { list, conversation: 0, newcomer: false });
                }
            }
        }
        if parts.is_empty() && decision.audience >= u64::from(self.world.watch.many_recipients) {
            let list = self.known.number(None, decision.audience);
            parts.push(Part { list, conversation: 0, newcomer: false });
        }
        if parts.is_empty() {
            // Read only because its sender had just written to a list.
            return verdict;
        }
        self.list_messages += 1;
        let decisive = decision.list.as_deref().unwrap_or(NO_LIST);
        if let Some(at) = parts.iter().position(|part| self.known.address(part.list) == decisive) {
            parts.swap(0, at);
        }
        for seen in &self.shares {
            self.conversations.see(seen.posting.conversation);
        }
        let subject = || {
            let mut head = Head::new();
            let field = fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"subject"));
            if let Some((name, value)) = field {
                head.push(name, value);
            }
            head.subject().base.into_owned()
        };
        let judged = Judged {
            at: now,
            parts: &parts,
            copies: decision.audience,
            author: decision.author.as_deref(),
            subject: &subject,
        };
        for event in &decision.events {
            self.note(event, Some(&judged));
        }
        if let Some(ledger) = self.ledgers.first_mut() {
            for seen in &self.shares {
                ledger.counts(seen.part(), now, seen.counts, seen.window, seen.calm, &subject);
            }
            match &decision.action {
                Action::Strip { recipients } if verdict == Verdict::Hold => {
                    let left = self.tx.lists_without(recipients);
                    let known = &self.known;
                    let stays =
                        |part: &Part| left.iter().any(|list| known.by_key.get(&list.key) == Some(&part.list));
                    ledger.stripped(&judged, self.tx.reached_without(recipients), stays);
                }
                _ => ledger.message(&judged, verdict),
            }
            if verdict == Verdict::Hold {
                ledger.stopped(decision.action.name(), matches!(decision.reason, Reason::Limit(_)));
            }
        }
        self.ask_the_others(&judged);
        verdict
    }

    /// The other rules, each on every share; the strictest verdict is the message's.
    fn ask_the_others(&mut self, judged: &Judged<'_>) {
        let others = self.ledgers.iter_mut().skip(1);
        for (judge, ledger) in self.judges.iter_mut().zip(others) {
            let mut verdict = Verdict::Pass;
            let mut parts: SmallVec<[Part; 2]> = SmallVec::from_slice(judged.parts);
            for seen in &self.shares {
                let ruling = judge.judge(&seen.posting);
                if ruling.verdict > verdict {
                    verdict = ruling.verdict;
                    if let Some(at) = parts.iter().position(|part| part.list == seen.posting.list) {
                        parts.swap(0, at);
                    }
                }
                if let Some(declared) = ruling.storm {
                    let conversation = (!declared.whole_list).then_some(seen.posting.conversation);
                    let place = (seen.posting.list, conversation);
                    let (list, members) = (self.known.address(place.0), seen.posting.members);
                    let its_own = Judged { parts: &[seen.part()], ..*judged };
                    ledger.storm_started(place, &declared, true, &its_own, list, members);
                }
            }
            ledger.message(&Judged { parts: &parts, ..*judged }, verdict);
        }
    }

    /// Puts the clock forward: what waits and is due goes, storms that fell quiet end.
    fn advance(&mut self, now: Timestamp) {
        for ledger in self.ledgers.iter_mut().skip(1) {
            while ledger.next_release().is_some_and(|due| due <= now) {
                ledger.release();
            }
            ledger.close_due(now);
        }
        loop {
            let Some(ledger) = self.ledgers.first_mut() else { return };
            let release = ledger.next_release().filter(|due| *due <= now);
            let end = self.stormy.iter().filter_map(|list| self.known.quiet(*list)).min();
            match (release, end.filter(|end| *end <= now)) {
                (Some(due), end) if end.is_none_or(|end| due <= end) => {
                    let Some(waiting) = ledger.release() else { return };
                    if let Some(author) = &waiting.author {
                        for part in &waiting.parts {
                            self.engine.make_known(self.known.address(part.list), author, waiting.until);
                        }
                    }
                }
                (_, Some(end)) => {
                    for event in self.engine.tick(end) {
                        self.note(&event, None);
                    }
                    // A storm ends when it is told to be over: were it not, this would never end.
                    let known = &self.known;
                    self.stormy.retain(|list| known.quiet(*list).is_none_or(|quiet| quiet > end));
                }
                _ => break,
            }
        }
        if let Some(ledger) = self.ledgers.first_mut() {
            ledger.close_due(now);
        }
    }

    /// What the engine tells of becalm's own storms.
    fn note(&mut self, event: &Event, judged: Option<&Judged<'_>>) {
        let Some(ledger) = self.ledgers.first_mut() else { return };
        match event {
            Event::StormStarted { list, members, trigger, at, .. } => {
                let Some(judged) = judged else { return };
                let address = list.as_deref().unwrap_or(NO_LIST);
                let Some(part) = judged.parts.iter().find(|part| self.known.address(part.list) == address)
                else {
                    return;
                };
                // Without a list there is no phase: the conversation opens again when it has been quiet.
                let quiet = self.world.default_policy.thresholds.quiet;
                let declared = Declared { trigger, until: at.after(quiet), whole_list: list.is_some() };
                let place = (part.list, list.is_none().then_some(part.conversation));
                ledger.storm_started(place, &declared, list.is_none(), judged, address, *members);
                if list.is_some() && !self.stormy.contains(&part.list) {
                    self.stormy.push(part.list);
                }
            }
            Event::StormEnded { list, at, .. } => {
                let Some(number) =
                    self.known.all.iter().position(|known| Some(&known.address) == list.as_ref())
                else {
                    return;
                };
                let policy = self.known.all.get(number).and_then(|known| known.list.as_ref());
                let cooling = policy.map_or(Duration::ZERO, |list| list.policy.thresholds.cooling);
                ledger.storm_ended((number, None), *at, cooling);
                self.stormy.retain(|stormy| *stormy != number);
            }
            Event::PossibleList { .. } | Event::ClawedBack { .. } => {}
        }
    }
}

impl Seen {
    fn new(share: &Share<'_>, known: &mut Lists, message: u64, now: Timestamp) -> Self {
        let Share { list, author, post, outcome, thresholds } = share;
        let members = list.map_or(post.audience, |list| list.members);
        let conversation = Scope::conversation(thresholds, post.audience);
        let posting = Posting {
            at: now,
            message,
            list: known.number(*list, members),
            members,
            audience: post.audience,
            conversation: post.conversation.key,
            author: *author,
            reply: post.conversation.reply,
            automatic: post.automatic,
            newcomer: outcome.newcomer,
        };
        let replies = |people: u32| if post.conversation.reply { people } else { 0 };
        let counts = [
            Count {
                people: replies(outcome.conversation.newcomers),
                threshold: conversation.storm,
                test: "conversation_newcomers",
            },
            Count {
                people: replies(outcome.conversation.authors),
                threshold: thresholds.max,
                test: "conversation_authors",
            },
            Count {
                people: outcome.list.newcomers,
                threshold: Scope::list(thresholds, members).storm,
                test: "list_newcomers",
            },
        ];
        let calm = outcome.started.is_none()
            && !matches!(outcome.judgement, Judgement::Storm)
            && list.is_none_or(|list| list.state.phase(now) == Phase::Calm);
        Self { posting, counts, window: thresholds.window, calm }
    }

    fn part(&self) -> Part {
        let Posting { list, conversation, newcomer, .. } = self.posting;
        Part { list, conversation, newcomer }
    }
}

/// The policy as it would be if it enforced.
fn enforced(mut policy: Policy) -> Policy {
    if policy.mode == Mode::Observe {
        policy.mode = Mode::Hold;
    }
    policy.thresholds.history = Duration::ZERO;
    policy
}
