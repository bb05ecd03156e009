//! The connections to the helpers: made when needed, made again when they break, and not too often.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};

use crate::quarantine::client::{Client, ClientError, Done};
use crate::quarantine::protocol::{HeldMail, Hello, Reason, Refusal, Request};
use crate::time::Timestamp;

/// Waits between two attempts: the first, and the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The helper has not done it.
#[derive(Debug)]
pub(super) enum Failure {
    /// It refuses this.
    Refused(Refusal),
    /// It is not there, or does not answer.
    Down(String),
}

/// What is on hold.
pub(super) struct Listed {
    /// Ours.
    pub(super) held: Vec<HeldMail>,
    /// How many messages are not.
    pub(super) others: u64,
    /// Every helper has told.
    pub(super) is_whole: bool,
}

/// All helpers: each knows the queue of one Postfix.
#[derive(Default)]
pub(super) struct Links(Vec<Link>);

impl Links {
    /// The helpers to ask from now on.
    pub(super) fn set_sockets(&mut self, sockets: &[PathBuf]) {
        let mut before = std::mem::take(&mut self.0);
        let kept = |socket: &PathBuf| {
            let at = before.iter().position(|link| link.socket == *socket);
            at.map_or_else(|| Link::new(socket.clone()), |at| before.swap_remove(at))
        };
        self.0 = sockets.iter().map(kept).collect();
    }

    /// Each of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.0.iter()
    }

    /// May any be asked by now?
    pub(super) fn is_any_ready(&self, now: Timestamp) -> bool {
        self.0.iter().any(|link| link.is_ready(now))
    }

    /// Has the helper act upon a message that has the message: the queue ids of two Postfix instances differ. One that
    /// does not answer is left alone for a while, but for an `eager` operator.
    pub(super) fn act(&mut self, request: &Request, eager: bool, now: Timestamp) -> Result<Done, Failure> {
        let mut not_found = None;
        let mut down = None;
        for link in &mut self.0 {
            if !eager && !link.is_ready(now) {
                down = Some("a helper is waited for".to_owned());
                continue;
            }
            match link.with(now, |client| client.act(request)) {
                Err(Failure::Refused(refusal)) if refusal.reason == Reason::NotFound => {
                    not_found = Some(refusal)
                }
                Err(Failure::Down(why)) => down = Some(why),
                answer => return answer,
            }
        }
        match (down, not_found) {
            (Some(why), _) => Err(Failure::Down(why)),
            (None, Some(refusal)) => Err(Failure::Refused(refusal)),
            (None, None) => Err(Failure::Down("no helper is configured: [quarantine] helpers".to_owned())),
        }
    }

    /// What is on hold, as far as the helpers tell: an error only where none of them does.
    pub(super) fn list(&mut self, now: Timestamp) -> Result<Listed, Failure> {
        let mut all = Listed { held: Vec::new(), others: 0, is_whole: true };
        let mut failure = Failure::Down("a helper is waited for".to_owned());
        let mut told = 0;
        for link in &mut self.0 {
            let listed = if link.is_ready(now) { Some(link.with(now, Client::list)) } else { None };
            match listed {
                Some(Ok((held, others))) => {
                    told += 1;
                    all.held.extend(held);
                    all.others = all.others.saturating_add(others);
                }
                Some(Err(why)) => {
                    if let Failure::Refused(refusal) = &why {
                        let (socket, reason) = (link.socket.display(), &refusal.message);
                        warn!(%socket, reason, "the helper cannot tell what is on hold");
                    }
                    (failure, all.is_whole) = (why, false);
                }
                None => all.is_whole = false,
            }
        }
        if told > 0 { Ok(all) } else { Err(failure) }
    }
}

/// A connection, or the memory of why there is none.
pub(super) struct Link {
    socket: PathBuf,
    client: Option<Client>,
    /// What it said when it last answered.
    hello: Option<Hello>,
    /// Since when it does not answer, and why.
    down: Option<(Timestamp, String)>,
    retry_at: Timestamp,
    wait: Duration,
}

impl Link {
    fn new(socket: PathBuf) -> Self {
        Self {
            socket,
            client: None,
            hello: None,
            down: None,
            retry_at: Timestamp::default(),
            wait: Duration::ZERO,
        }
    }

    /// The helper's socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// What it said when it last answered.
    pub(super) fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Since when it does not answer, and why.
    pub(super) fn down(&self) -> Option<&(Timestamp, String)> {
        self.down.as_ref()
    }

    /// May it be asked by now? (Operators need not wait.)
    fn is_ready(&self, now: Timestamp) -> bool {
        self.down.is_none() || now >= self.retry_at
    }

    fn with<T>(
        &mut self,
        now: Timestamp,
        mut ask: impl FnMut(&mut Client) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        // A connection that lay idle may have been closed: that says nothing of the helper. (To ask twice is safe:
        // what was done is found to be done.)
        if let Some(client) = &mut self.client {
            match ask(client) {
                Ok(answer) => return Ok(answer),
                Err(ClientError::Refused(refusal)) if !of_the_site(refusal.reason) => {
                    return Err(Failure::Refused(refusal));
                }
                Err(_) => self.client = None,
            }
        }
        let mut client = Client::connect(&self.socket).map_err(|error| self.is_down(&error, now))?;
        let answer = ask(&mut client);
        let hello = client.hello().clone();
        match answer {
            Ok(answer) => {
                self.is_up(hello, client);
                Ok(answer)
            }
            Err(ClientError::Refused(refusal)) if !of_the_site(refusal.reason) => {
                self.is_up(hello, client);
                Err(Failure::Refused(refusal))
            }
            Err(error) => {
                self.hello = Some(hello);
                Err(self.is_down(&error, now))
            }
        }
    }

    fn is_up(&mut self, hello: Hello, client: Client) {
        if self.down.take().is_some() || self.hello.is_none() {
            info!(postfix = hello.postfix, queue = hello.queue_directory, "the helper answers");
        }
        if !hello.long_queue_ids && self.hello.as_ref() != Some(&hello) {
            warn!(
                "Postfix has short queue ids: held mail cannot be released; set enable_long_queue_ids = yes"
            );
        }
        self.client = Some(client);
        self.wait = Duration::ZERO;
        self.hello = Some(hello);
    }

    fn is_down(&mut self, error: &ClientError, now: Timestamp) -> Failure {
        let why = error.to_string();
        // Another reason than before needs another remedy: a helper that is there now may refuse its Postfix.
        if self.down.as_ref().is_none_or(|(_, before)| *before != why) {
            warn!(%error, "no help from the helper: held mail stays on hold until it comes back");
        }
        let since = self.down.as_ref().map_or(now, |(since, _)| *since);
        self.down = Some((since, why.clone()));
        self.wait = self.wait.saturating_mul(2).clamp(FIRST_WAIT, LONGEST_WAIT);
        self.retry_at = now.after(self.wait);
        Failure::Down(why)
    }
}

/// Refused for a reason that has nothing to do with the message: the next one would fare no better.
fn of_the_site(reason: Reason) -> bool {
    match reason {
        Reason::Peer
        | Reason::Busy
        | Reason::BadRequest
        | Reason::Version
        | Reason::ShortId
        | Reason::NoKey => true,
        Reason::BadId
        | Reason::NotFound
        | Reason::NotOurs
        | Reason::Forged
        | Reason::NoSender
        | Reason::TooYoung
        | Reason::Begun
        | Reason::Unsupported
        | Reason::Failed => false,
    }
}
