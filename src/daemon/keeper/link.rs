//! The connection to the helper: made when needed, made again when it breaks, and not too often.

use std::path::PathBuf;
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

/// A connection, or the memory of why there is none.
#[derive(Default)]
pub(super) struct Link {
    socket: Option<PathBuf>,
    client: Option<Client>,
    /// What it said when it last answered.
    hello: Option<Hello>,
    /// Since when it does not answer, and why.
    down: Option<(Timestamp, String)>,
    retry_at: Timestamp,
    wait: Duration,
}

impl Link {
    /// The helper to ask from now on.
    pub(super) fn set_socket(&mut self, socket: Option<PathBuf>) {
        if self.socket != socket {
            *self = Self { socket, ..Self::default() };
        }
    }

    /// What it said when it last answered.
    pub(super) fn hello(&self) -> Option<&Hello> {
        self.hello.as_ref()
    }

    /// Since when it does not answer, and why.
    pub(super) fn down(&self) -> Option<&(Timestamp, String)> {
        self.down.as_ref()
    }

    /// Is there one at all?
    pub(super) fn is_configured(&self) -> bool {
        self.socket.is_some()
    }

    /// May it be asked by now? Operators need not wait.
    pub(super) fn is_ready(&self, now: Timestamp) -> bool {
        self.is_configured() && (self.down.is_none() || now >= self.retry_at)
    }

    /// Has the helper act upon a message.
    pub(super) fn act(&mut self, request: &Request, now: Timestamp) -> Result<Done, Failure> {
        self.with(now, |client| client.act(request))
    }

    /// What is on hold and ours; and how many messages are that are not.
    pub(super) fn list(&mut self, now: Timestamp) -> Result<(Vec<HeldMail>, u64), Failure> {
        self.with(now, Client::list)
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
        let socket =
            self.socket.clone().ok_or_else(|| Failure::Down("no helper is configured".to_owned()))?;
        let mut client = Client::connect(&socket).map_err(|error| self.is_down(&error, now))?;
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
        if self.down.is_none() {
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
        | Reason::Unsupported
        | Reason::Failed => false,
    }
}
