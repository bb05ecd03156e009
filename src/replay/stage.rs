//! Runs on lists that no directory tells of: a scenario's, or one that is assumed.

use std::sync::Arc;

use super::report::Report;
use super::run::{Mail, Run};
use super::scenario::{ACQUAINTANCE, EPOCH, Scenario};
use crate::directory::snapshot::{List, Snapshot};
use crate::engine::{Capacity, Exempt, Parts, Watch};
use crate::mail::AddressRules;
use crate::storm::limits::{LimitSettings, RateError};
use crate::storm::policy::Policy;
use crate::time::Timestamp;

/// Tables for a scenario: the longest has a few thousand posts.
pub const SMALL: Capacity =
    Capacity { conversations: 4096, recipients: 1024, known_authors: 65_536, message_ids: 32_768 };

/// The list that a scenario goes to.
pub fn address(scenario: &str) -> String {
    format!("{scenario}@staff.example")
}

/// A list of `members` of which nothing more is known.
pub fn assumed(address: &str, members: u64) -> List {
    List {
        address: address.to_owned(),
        names: Vec::new(),
        members,
        class: None,
        origin: "assumed".to_owned(),
        contains: Vec::new(),
        pattern: false,
    }
}

/// A run with one list under one policy, and mail that names no list is mail to it.
///
/// # Errors
/// Never, as no rates are set.
pub fn alone(list: &str, members: u64, policy: &Policy, capacity: Capacity) -> Result<Run, RateError> {
    let parts = Parts {
        snapshot: Arc::new(Snapshot::of(vec![assumed(list, members)], AddressRules::default())),
        default_policy: policy.clone(),
        exempt: Exempt::default(),
        watch: Watch::default(),
        limits: LimitSettings::default(),
    };
    let mut run = Run::new("becalm", parts, |_| policy.clone(), capacity)?;
    run.take_for(list);
    Ok(run)
}

/// Makes those known who know the scenario's list from earlier days.
pub fn introduce(run: &Run, scenario: &Scenario, list: &str) {
    let then = Timestamp::from_millis(EPOCH.as_millis().saturating_sub(ACQUAINTANCE.as_millis() as u64));
    for post in scenario.posts.iter().filter(|post| post.known) {
        run.introduce(list, &post.letter.sender, then);
    }
}

/// Plays a scenario alone, under one policy; the reports of becalm and of the rules beside it.
///
/// # Errors
/// Never, as no rates are set.
pub fn play(
    scenario: &Scenario,
    policy: &Policy,
    beside: Vec<Box<dyn super::judge::Judge>>,
) -> Result<Vec<Report>, RateError> {
    let list = address(scenario.name);
    let run = alone(&list, scenario.members, policy, SMALL)?;
    introduce(&run, scenario, &list);
    Ok(play_in(run, scenario, beside))
}

/// Plays a scenario in a run that knows its list and who is known to that; the reports of becalm and of the rules
/// beside it.
pub fn play_in(mut run: Run, scenario: &Scenario, beside: Vec<Box<dyn super::judge::Judge>>) -> Vec<Report> {
    for judge in beside {
        run.beside(judge);
    }
    let list = address(scenario.name);
    let mut head = Vec::new();
    for post in &scenario.posts {
        post.letter.write_head(&mut head);
        run.play(&Mail {
            at: EPOCH.after(post.letter.at),
            sender: post.letter.sender.as_bytes(),
            list: Some(list.as_bytes()),
            head: &head,
            lines: &[],
        });
    }
    run.finish(&Default::default())
}
