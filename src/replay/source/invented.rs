//! A scenario as mail.

use super::{Arrived, Skipped, Source};
use crate::replay::scenario::{EPOCH, Scenario};

/// A scenario's posts, from [`EPOCH`] on.
pub struct ScenarioSource {
    list: Vec<u8>,
    posts: std::vec::IntoIter<crate::replay::scenario::Post>,
    skipped: Skipped,
}

impl ScenarioSource {
    /// Posts to `list`.
    pub fn new(scenario: Scenario, list: &str) -> Self {
        Self {
            list: list.as_bytes().to_vec(),
            posts: scenario.posts.into_iter(),
            skipped: Skipped::default(),
        }
    }
}

impl Source for ScenarioSource {
    fn next(&mut self, message: &mut Arrived) -> std::io::Result<bool> {
        let Some(post) = self.posts.next() else { return Ok(false) };
        message.reset();
        message.at = EPOCH.after(post.letter.at);
        post.letter.write_head(&mut message.head);
        message.sender = post.letter.sender.into_bytes();
        message.list = Some(self.list.clone());
        Ok(true)
    }

    fn skipped(&self) -> &Skipped {
        &self.skipped
    }
}
