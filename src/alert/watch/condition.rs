//! Something that can be bad, and well again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::REPEAT;
use crate::alert::Kind;
use crate::time::Timestamp;

/// How it looks now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Good,
    /// Neither bad enough to be alerted of, nor good enough to be over.
    Between,
    Bad,
}

impl Look {
    pub(super) fn of(bad: bool) -> Self {
        if bad { Self::Bad } else { Self::Good }
    }

    pub(super) fn within(bad: bool, good: bool) -> Self {
        match (bad, good) {
            (true, _) => Self::Bad,
            (false, true) => Self::Good,
            (false, false) => Self::Between,
        }
    }
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Raised,
    Lowered { of: Kind, since: Timestamp },
}

/// A trouble that was alerted of, as it outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    kind: Kind,
    /// Milliseconds since the Unix epoch.
    at: u64,
}

/// One of them, from look to look.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Condition {
    raised: Option<(Kind, Timestamp)>,
    /// Since when it has looked other than what was told.
    differs: Option<Timestamp>,
    last_raised: Option<Timestamp>,
}

impl Condition {
    pub(super) fn recalled(raised: Raised) -> Self {
        let at = Timestamp::from_millis(raised.at);
        Self { raised: Some((raised.kind, at)), differs: None, last_raised: Some(at) }
    }

    pub(super) fn raised(&self) -> Option<Raised> {
        self.raised.map(|(kind, at)| Raised { kind, at: at.as_millis() })
    }

    pub(super) fn look(
        &mut self,
        look: Look,
        kind: Kind,
        lasting: Duration,
        now: Timestamp,
    ) -> Option<Change> {
        let differs = match self.raised {
            Some(_) => look == Look::Good,
            None => look == Look::Bad,
        };
        if !differs {
            self.differs = None;
            return None;
        }
        let since = *self.differs.get_or_insert(now);
        if now.since(since) < lasting {
            return None;
        }
        match self.raised {
            Some((of, since)) => {
                (self.raised, self.differs) = (None, None);
                Some(Change::Lowered { of, since })
            }
            None if self.last_raised.is_some_and(|last| now.since(last) < REPEAT) => None,
            None => {
                self.raised = Some((kind, since));
                self.last_raised = Some(now);
                self.differs = None;
                Some(Change::Raised)
            }
        }
    }
}
