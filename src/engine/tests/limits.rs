//! Rates in copies, as the engine charges them.

use std::num::NonZeroU32;

use super::*;
use crate::storm::limits::{Limit, Rate};

fn rate(copies: u32) -> Option<Rate> {
    Some(Rate { copies: NonZeroU32::new(copies).unwrap(), per: HOUR })
}

fn limited(author: Option<Rate>, organisation: Option<Rate>, mode: Mode) -> Setup {
    let mut setup = setup(&[(ALL, 600), ("other@example.org", 600)]);
    setup.limits = LimitSettings { author, organisation, mode };
    setup
}

fn exceeded(decision: &Decision) -> Option<Limit> {
    match decision.reason {
        Reason::Limit(exceeded) => Some(exceeded.limit),
        _ => None,
    }
}

fn jo() -> Letter {
    Letter::new("jo@example.org", ALL)
}

#[test]
fn off_by_default() {
    let site = setup(&[(ALL, 1_000_000)]).build();
    for _ in 0..3 {
        assert_eq!(exceeded(&site.send(&jo())), None);
    }
}

#[test]
fn an_author_above_his_rate_waits_and_others_do_not() {
    let mut site = limited(rate(1000), None, Mode::Hold).build();
    assert_eq!(site.send(&jo()).action, Action::Accept);
    let second = site.send(&jo());
    assert_eq!((exceeded(&second), second.action), (Some(Limit::Author), Action::Hold));
    assert_eq!(site.send(&Letter::new("bo@example.org", ALL)).action, Action::Accept);
    site.wait(12 * MINUTE);
    assert_eq!(site.send(&jo()).action, Action::Accept, "200 copies have come back");
}

#[test]
fn the_organisation_has_a_rate_of_its_own() {
    let site = limited(None, rate(1000), Mode::Reject).build();
    assert_eq!(site.send(&jo()).action, Action::Accept);
    let second = site.send(&Letter::new("bo@example.org", "other@example.org"));
    assert_eq!(exceeded(&second), Some(Limit::Organisation));
    assert!(matches!(second.action, Action::Reject { .. }));
}

#[test]
fn what_is_above_the_burst_passes_on_a_full_bucket() {
    let site = limited(rate(100), None, Mode::Hold).build();
    assert_eq!(site.send(&jo()).action, Action::Accept);
    assert_eq!(exceeded(&site.send(&jo())), Some(Limit::Author));
}

#[test]
fn each_mode_of_the_limit() {
    let decide = |mode| {
        let mut setup = limited(rate(600), None, mode);
        setup.policy.limit_text = "{list} {members} {retry}".to_owned();
        let site = setup.build();
        site.send(&jo());
        let decision = site.send(&jo());
        (decision.action, decision.would)
    };
    assert_eq!(decide(Mode::Observe), (Action::Accept, Action::Hold));
    assert_eq!(decide(Mode::Hold), (Action::Hold, Action::Hold));
    let deferred = Action::Defer { text: "all@example.org 600 60".to_owned() };
    assert_eq!(decide(Mode::Defer), (deferred.clone(), deferred));
}

#[test]
fn the_switch_and_lists_never_held_are_above_the_limit() {
    let site = limited(rate(600), None, Mode::Hold).build();
    site.engine.set_observing(true);
    site.send(&jo());
    let decision = site.send(&jo());
    assert_eq!((decision.action, decision.would), (Action::Accept, Action::Hold));

    let emergency = Policy { never_hold: true, ..holding() };
    let site = limited(rate(600), None, Mode::Hold).policy_of(ALL, emergency).build();
    site.send(&jo());
    assert_eq!(site.send(&jo()).action, Action::Accept);

    let site = limited(rate(60), None, Mode::Hold).policy(Policy { never_hold: true, ..holding() }).build();
    let many = Letter::new("jo@example.org", "").with_people(0..60);
    site.send(&many);
    let decision = site.send(&many);
    assert_eq!((decision.action, decision.would), (Action::Accept, Action::Hold), "nor what names no list");
}

#[test]
fn only_what_passes_is_charged() {
    let setup = limited(rate(1200), None, Mode::Hold).policy_of(ALL, touchy(Mode::Hold));
    let site = setup.build();
    site.open_storm(ALL);
    for _ in 0..5 {
        assert_eq!(site.send(&jo()).reason, Reason::Storm);
    }
    let other = Letter::new("jo@example.org", "other@example.org");
    assert_eq!(exceeded(&site.send(&other)), None);
    assert_eq!(exceeded(&site.send(&other)), None);
    for _ in 0..5 {
        assert_eq!(exceeded(&site.send(&other)), Some(Limit::Author), "and what the limit stops is not");
    }
}

#[test]
fn a_retry_is_charged_once() {
    let site = limited(rate(1200), None, Mode::Hold).build();
    let letter = jo().id("again-1@example.org");
    for _ in 0..5 {
        assert_eq!(site.send(&letter).action, Action::Accept);
    }
    assert_eq!(exceeded(&site.send(&jo())), None);
    assert_eq!(exceeded(&site.send(&jo())), Some(Limit::Author));
}

#[test]
fn a_retry_of_what_the_limit_stopped_does_not_slip_through() {
    let mut site = limited(rate(1200), None, Mode::Defer).build();
    site.send(&jo());
    site.send(&jo());
    let letter = jo().id("again-1@example.org");
    assert_eq!(exceeded(&site.send(&letter)), Some(Limit::Author));
    site.wait(5 * MINUTE);
    assert_eq!(exceeded(&site.send(&letter)), Some(Limit::Author), "too early");
    // 600 of 1200 copies an hour have come back; they are taken once.
    site.wait(25 * MINUTE);
    assert_eq!(exceeded(&site.send(&letter)), None);
    assert_eq!(exceeded(&site.send(&letter)), None);
    assert_eq!(exceeded(&site.send(&jo())), Some(Limit::Author));
}

#[test]
fn a_retry_within_the_memory_pays_once_it_may() {
    let mut site = limited(rate(1200), None, Mode::Defer).build();
    site.send(&jo());
    site.send(&jo());
    site.wait(25 * MINUTE);
    let letter = jo().id("again-1@example.org");
    assert_eq!(exceeded(&site.send(&letter)), Some(Limit::Author), "500 of 600 copies are back");
    site.wait(5 * MINUTE);
    assert_eq!(exceeded(&site.send(&letter)), None);
    assert_eq!(exceeded(&site.send(&letter)), None, "this one is paid for");
    assert_eq!(exceeded(&site.send(&jo())), Some(Limit::Author));
}

#[test]
fn each_part_of_a_message_pays_for_itself() {
    let site = limited(rate(120), None, Mode::Hold).build();
    let whole = Letter::new("jo@example.org", "").id("split-1@example.org");
    for people in [0..50, 50..100, 100..120] {
        assert_eq!(exceeded(&site.send(&whole.clone().with_people(people))), None);
    }
    assert_eq!(exceeded(&site.send(&whole.clone().with_people(120..170))), Some(Limit::Author));
}

#[test]
fn a_reload_forgives_nobody() {
    let setup = limited(rate(600), None, Mode::Hold);
    let site = setup.build();
    site.send(&jo());
    site.reload(&setup);
    assert_eq!(exceeded(&site.send(&jo())), Some(Limit::Author));
}

#[test]
fn a_rate_that_cannot_be_kept_changes_nothing() {
    let setup = limited(rate(600), None, Mode::Hold);
    let site = setup.build();
    site.send(&jo());
    let mut wrong = setup.clone();
    wrong.limits.author = Some(Rate { copies: NonZeroU32::MIN, per: Duration::MAX });
    assert!(site.engine.set_world(wrong.parts(), wrong.policies(), site.now).is_err());
    assert_eq!(exceeded(&site.send(&jo())), Some(Limit::Author));
}
