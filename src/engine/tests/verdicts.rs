//! From judgements to actions: the modes, and what prevails where lists disagree.

use super::*;
use crate::storm::policy::SuspicionAction;

const OTHER: &str = "other@example.org";

/// A storm is open on the list; the next newcomer meets it.
fn stormy(policy: Policy) -> Site {
    let site = setup(&[(ALL, 100), (OTHER, 200)]).policy_of(ALL, policy).build();
    site.open_storm(ALL);
    site
}

fn newcomer(to: &str) -> Letter {
    Letter::new("jo@example.org", to)
}

#[test]
fn observing_touches_nothing_and_says_what_it_would_have_done() {
    let decision = stormy(touchy(Mode::Observe)).send(&newcomer(ALL));
    assert_eq!(
        (decision.action, decision.would, decision.reason),
        (Action::Accept, Action::Hold, Reason::Storm)
    );
    assert!(!decision.enforced);
    assert!(decision.storm.is_some());
}

#[test]
fn hold_reject_and_defer() {
    let with_texts = |mode| Policy {
        reject_text: "{list} ({members}): {retry} min".to_owned(),
        defer_text: "wait {retry} min for {list} ({members})".to_owned(),
        ..touchy(mode)
    };
    let action = |mode| stormy(with_texts(mode)).send(&newcomer(ALL)).action;
    assert_eq!(action(Mode::Hold), Action::Hold);
    assert_eq!(action(Mode::Reject), Action::Reject { text: "all@example.org (100): 120 min".to_owned() });
    assert_eq!(
        action(Mode::Defer),
        Action::Defer { text: "wait 120 min for all@example.org (100)".to_owned() }
    );
}

#[test]
fn what_passes_is_marked_where_a_list_is_enforced() {
    let site = setup(&[(ALL, 100), (OTHER, 100)]).policy_of(OTHER, Policy::default()).build();
    assert!(site.send(&newcomer(ALL)).enforced);
    assert!(!site.send(&newcomer(OTHER)).enforced);
}

#[test]
fn discard_only_where_every_recipient_wants_it() {
    let site = stormy(touchy(Mode::Discard));
    assert_eq!(site.send(&newcomer(ALL)).action, Action::Discard);
    assert_eq!(site.send(&newcomer(ALL).and_to(ALL)).action, Action::Discard);
    assert_eq!(site.send(&newcomer(ALL).and_to("bo@example.org")).action, Action::Hold);
    assert_eq!(site.send(&newcomer(ALL).and_to("not an address")).action, Action::Hold);
    assert_eq!(site.send(&newcomer(ALL).and_to(OTHER)).action, Action::Hold);
    // More lists than are judged: who knows what the others want.
    let many = (0..300).fold(newcomer(ALL), |letter, _| letter.and_to(ALL));
    assert_eq!(site.send(&many).action, Action::Hold);
}

#[test]
fn discard_by_both_lists() {
    let site = setup(&[(ALL, 100), (OTHER, 100)]).policy(touchy(Mode::Discard)).build();
    site.open_storm(ALL);
    assert_eq!(site.send(&newcomer(ALL).and_to(OTHER)).action, Action::Hold, "one of them is calm");
    site.open_storm(OTHER);
    assert_eq!(site.send(&newcomer(ALL).and_to(OTHER)).action, Action::Discard);
}

fn strip(recipients: &[&str]) -> Action {
    Action::Strip { recipients: recipients.iter().map(|raw| raw.as_bytes().into()).collect() }
}

#[test]
fn strip_takes_the_list_off_in_the_words_that_named_it() {
    let site = stormy(touchy(Mode::Strip));
    let letter = newcomer("<ALL@Example.org>").and_to("<bo@example.org>").and_to("<all+x@example.org>");
    assert_eq!(site.send(&letter).action, strip(&["<ALL@Example.org>", "<all+x@example.org>"]));
    assert_eq!(site.send(&newcomer(ALL).and_to(OTHER)).action, strip(&[ALL]));
}

#[test]
fn strip_never_leaves_nobody() {
    let site = stormy(touchy(Mode::Strip));
    assert_eq!(site.send(&newcomer(ALL)).action, Action::Hold);
    assert_eq!(site.send(&newcomer(ALL).and_to("<all+x@example.org>")).action, Action::Hold);
    let many = (0..300).fold(newcomer(ALL).and_to("bo@example.org"), |letter, _| letter.and_to(ALL));
    assert_eq!(site.send(&many).action, Action::Hold, "not all of them can be taken off");

    let site = setup(&[(ALL, 100), (OTHER, 100)]).policy(touchy(Mode::Strip)).build();
    site.open_storm(ALL);
    site.open_storm(OTHER);
    assert_eq!(site.send(&newcomer(ALL).and_to(OTHER)).action, Action::Hold);
    let letter = newcomer(ALL).and_to(OTHER).and_to("bo@example.org");
    assert_eq!(site.send(&letter).action, strip(&[ALL, OTHER]));
}

#[test]
fn a_part_whose_list_was_taken_off_before_passes() {
    let site = stormy(touchy(Mode::Strip));
    let whole = newcomer(ALL).and_to("bo@example.org").id("split-1@example.org");
    assert_eq!(site.send(&whole).action, strip(&[ALL]));
    assert_eq!(site.send(&whole.clone().with_people(0..10)).action, Action::Accept);
}

#[test]
fn the_strictest_of_two_lists_wins() {
    let order = [Mode::Observe, Mode::Strip, Mode::Hold, Mode::Defer, Mode::Reject];
    for (at, weaker) in order.iter().enumerate() {
        for stronger in &order[at + 1..] {
            let setup = setup(&[(ALL, 100), (OTHER, 100)])
                .policy_of(ALL, touchy(*weaker))
                .policy_of(OTHER, touchy(*stronger));
            let site = setup.build();
            site.open_storm(ALL);
            site.open_storm(OTHER);
            let decision = site.send(&newcomer(ALL).and_to(OTHER).and_to("bo@example.org"));
            let name = match stronger {
                Mode::Strip => "strip",
                Mode::Hold => "hold",
                Mode::Defer => "defer",
                _ => "reject",
            };
            assert_eq!(decision.action.name(), name, "{weaker:?} and {stronger:?}");
        }
    }
}

#[test]
fn a_list_that_is_never_held_protects_the_whole_message() {
    let emergency = Policy { never_hold: true, ..touchy(Mode::Reject) };
    let setup =
        setup(&[(ALL, 100), (OTHER, 100)]).policy_of(ALL, emergency).policy_of(OTHER, touchy(Mode::Reject));
    let site = setup.build();
    site.open_storm(ALL);
    site.open_storm(OTHER);
    let alone = site.send(&newcomer(ALL));
    assert_eq!((alone.action, alone.reason), (Action::Accept, Reason::Storm));
    assert!(matches!(alone.would, Action::Reject { .. }));
    assert_eq!(site.send(&newcomer(ALL).and_to(OTHER)).action, Action::Accept);
    assert!(matches!(site.send(&newcomer(OTHER)).action, Action::Reject { .. }));
}

#[test]
fn the_switch_puts_everything_to_observe_and_back() {
    let site = stormy(touchy(Mode::Hold));
    site.engine.set_observing(true);
    let decision = site.send(&newcomer(ALL));
    assert_eq!(
        (decision.action, decision.would, decision.reason),
        (Action::Accept, Action::Hold, Reason::Storm)
    );
    site.engine.set_observing(false);
    assert_eq!(site.send(&newcomer(ALL)).action, Action::Hold);
}

/// F is 1 and K is 10: the second newcomer who answers is too fast.
fn suspicious(mode: Mode, suspicion: SuspicionAction) -> Policy {
    let thresholds = Thresholds { free: 1, ..Thresholds::default() };
    let defer_text = "{list}: {retry} min".to_owned();
    Policy { thresholds, mode, suspicion, defer_text, ..Policy::default() }
}

#[test]
fn suspicion_has_actions_of_its_own() {
    let action = |mode, suspicion| {
        let site = setup(&[(ALL, 200_000)]).policy(suspicious(mode, suspicion)).build();
        site.send(&Letter::new("first@example.org", ALL).re("root-1@example.net"));
        let decision = site.send(&newcomer(ALL).re("root-1@example.net"));
        assert_eq!(decision.reason, Reason::Suspicion { until: site.now.after(10 * MINUTE) });
        (decision.action, decision.would)
    };
    let deferred = Action::Defer { text: "all@example.org: 10 min".to_owned() };
    for mode in [Mode::Hold, Mode::Reject, Mode::Defer, Mode::Discard, Mode::Strip] {
        assert_eq!(action(mode, SuspicionAction::Hold), (Action::Hold, Action::Hold));
        assert_eq!(action(mode, SuspicionAction::Defer), (deferred.clone(), deferred.clone()));
        assert_eq!(action(mode, SuspicionAction::Pass), (Action::Accept, Action::Accept));
    }
    assert_eq!(action(Mode::Observe, SuspicionAction::Hold), (Action::Accept, Action::Hold));
}

#[test]
fn a_list_that_is_only_observed_is_not_the_reason_for_what_another_does() {
    let setup = setup(&[(ALL, 100), (OTHER, 200_000)])
        .policy_of(ALL, touchy(Mode::Observe))
        .policy_of(OTHER, suspicious(Mode::Hold, SuspicionAction::Hold));
    let site = setup.build();
    site.open_storm(ALL);
    site.send(&Letter::new("first@example.org", OTHER).re("root-1@example.net"));
    let decision = site.send(&newcomer(ALL).and_to(OTHER).re("root-1@example.net"));
    // Held mail of a storm is never released by itself; this is to be.
    assert_eq!(decision.action, Action::Hold);
    assert!(matches!(decision.reason, Reason::Suspicion { .. }), "{decision:?}");
    assert_eq!(decision.list.as_deref(), Some(OTHER));
}

#[test]
fn many_recipients_are_under_the_default_policy() {
    for (mode, name) in [
        (Mode::Observe, "accept"),
        (Mode::Hold, "hold"),
        (Mode::Reject, "reject"),
        (Mode::Defer, "defer"),
        (Mode::Discard, "hold"),
        (Mode::Strip, "hold"),
    ] {
        let site = setup(&[(ALL, 100)]).policy(touchy(mode)).build();
        let answer = |n: u32| Letter::new(&stranger(n), "").with_people(0..60).re("root-1@example.net");
        assert_eq!(site.send(&answer(0)).action, Action::Accept);
        let decision = site.send(&answer(1));
        assert_eq!((decision.action.name(), decision.reason), (name, Reason::Storm), "{mode:?}");
        assert_eq!(decision.list, None);
    }
}

#[test]
fn an_address_cannot_smuggle_placeholders_in() {
    let mut policy = Policy { reject_text: "{list} {members}".to_owned(), ..touchy(Mode::Reject) };
    policy.thresholds.history = Duration::ZERO;
    let site = setup(&[("*{members}*@example.org", 100)]).policy(policy).build();
    site.open_storm("x{members}@example.org");
    let decision = site.send(&newcomer("x{members}@example.org"));
    assert_eq!(decision.action, Action::Reject { text: "x{members}@example.org 100".to_owned() });
}
