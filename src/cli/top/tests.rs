//! Frames, to the letter.

use std::time::Duration;

use serde_json::json;

use super::view::{Sample, View};
use crate::admin::api::{HeldInfo, Near, Nears, OpenList, Status, Storms};

fn status(messages: u64) -> Status {
    serde_json::from_value(json!({
        "version": "0.1.0", "node": "mx1", "now": "2016-11-14T10:15:00Z", "started": "2016-11-14T08:00:00Z", "pid": 7,
        "before": null, "after": null, "observing": false, "draining": false, "config": null, "reload": null,
        "listening": [], "connections": 3, "max_connections": 500,
        "counts": { "messages": messages, "watched": messages / 10, "held": messages / 20, "copies_prevented": 25_200_000_u64 },
        "lists": 12, "storms": 1, "cooling": 0, "memory_only": false,
        "sources": [{ "name": "aliases", "lists": 12, "members": 9, "read_at": "", "age_s": 3, "stale": null, "warnings": [] }],
        "tables": [{ "name": "conversations", "occupied": 500, "capacity": 1000, "evictions": 0, "refused": 0, "bytes": 1 }],
        "journal": { "folder": null, "state": "ok", "why": null, "since": null, "written": 0, "waiting": 0, "dropped": 0,
            "lag_ms": 0, "segments": 0, "bytes": 0, "checkpoint": null, "recalled": { "records": 0, "events": 0,
            "damaged": 0, "torn": 0, "took_ms": 0, "remarks": [] } },
        "quarantine": { "held": 30, "copies": 1, "bytes": 90_000, "waiting": 2, "oldest": null, "oldest_age_s": 660,
            "max_count": 20_000, "max_bytes": 2_000_000_000_u64, "max_age_s": 9, "full": null, "free_bytes": null,
            "others": 0, "reconciled": null, "helpers": [] },
    }))
    .unwrap()
}

fn open(n: u64) -> OpenList {
    OpenList {
        list: Some(format!("all{n}@example.org")),
        members: 840_000,
        phase: if n < 2 { "storm" } else { "cooling" }.to_owned(),
        storm: None,
        time: "2016-11-14T10:04:00Z".to_owned(),
        closed_until: None,
        last_attempt: "2016-11-14T10:14:00Z".to_owned(),
        held: 30,
        copies_held: 25_200_000,
        delivered: 2,
        copies_delivered: 1_680_000,
        mode: "hold".to_owned(),
    }
}

fn suspicion(n: u64) -> HeldInfo {
    HeldInfo {
        queue_id: format!("4fV1sQ2C8sz{n}"),
        list: Some("staff@example.org".to_owned()),
        author: Some("a\u{1b}[31m\u{202e}b\u{7}@example.org".to_owned()),
        reason: "suspicion".to_owned(),
        storm: None,
        copies: 9,
        size: None,
        since: "2016-11-14T10:10:00Z".to_owned(),
        until: Some("2016-11-14T10:20:00Z".to_owned()),
        held: true,
        trouble: None,
    }
}

fn sample(second: u64, messages: u64, lists: u64) -> Sample {
    let storms = Storms {
        open: (0..lists).map(open).collect(),
        storms: Vec::new(),
        suspicions: (0..lists.min(2)).map(suspicion).collect(),
    };
    let near = Nears {
        now: "2016-11-14T10:15:00Z".to_owned(),
        near: (0..lists.min(3)).map(near).collect(),
        total: lists.min(3) as usize,
    };
    Sample { at: Duration::from_secs(second), status: status(messages), storms, near }
}

fn near(n: u64) -> Near {
    Near {
        list: (n > 0).then(|| format!("staff{n}@a-rather-long-name.department.example.org")),
        members: 52_000,
        conversation: (n < 2).then(|| format!("{n:016x}")),
        test: if n < 2 { "conversation_newcomers" } else { "list_newcomers" }.to_owned(),
        people: 8 + n as u32,
        threshold: 12,
        since: "2016-11-14T10:01:00Z".to_owned(),
        copies: 416_000,
        projected_copies: 1_664_000,
    }
}

fn text(view: &View, width: usize, height: usize) -> String {
    let frame = view.frame(width, height);
    assert_eq!(frame.len(), height);
    assert!(frame.iter().all(|(_, line)| line.chars().count() <= width));
    assert!(!frame.iter().any(|(_, line)| line.contains(|c: char| c.is_control() || c == '\u{202e}')));
    frame.iter().map(|(_, line)| line.trim_end().to_owned() + "\n").collect()
}

fn storm() -> View {
    let mut view = View::default();
    view.take(Ok(sample(1, 1000, 40)));
    view.take(Ok(sample(3, 1500, 40)));
    view
}

#[test]
fn golden_frames() {
    insta::assert_snapshot!("storm_80x24", text(&storm(), 80, 24));
    insta::assert_snapshot!("storm_200x60", text(&storm(), 200, 60));
    let mut calm = View::default();
    calm.take(Ok(sample(1, 0, 0)));
    insta::assert_snapshot!("calm_80x24", text(&calm, 80, 24));
}

#[test]
fn a_daemon_that_is_lost_is_told_and_regained() {
    let mut view = View::default();
    view.take(Err("no such file".to_owned()));
    assert!(text(&view, 80, 24).contains("No daemon: no such file"));
    view = storm();
    view.take(Err("it is gone".to_owned()));
    let said = text(&view, 200, 24);
    assert!(
        said.contains("NO ANSWER") && said.contains("it is gone") && said.contains("all0@example.org"),
        "{said}"
    );
    view.take(Ok(sample(9, 2100, 0)));
    let said = text(&view, 80, 24);
    assert!(said.contains("live") && said.contains("Calm") && said.contains("mail      100.0/s"), "{said}");
}

/// Whatever the width, what stands there stands there whole.
#[test]
fn nothing_is_cut_off_within_a_word() {
    let mut view = storm();
    let mut trouble = sample(5, 2000, 40);
    trouble.status.quarantine.full = Some("max_count".to_owned());
    trouble.status.journal.why =
        Some("no space left on the device; the journal goes on when there is some".to_owned());
    view.take(Ok(trouble));
    let wide = text(&view, 1000, 60);
    let whole: std::collections::HashSet<&str> = wide.split_whitespace().collect();
    for width in 60..200 {
        for word in text(&view, width, 60).split_whitespace().filter(|word| !word.starts_with('(')) {
            // Above and below differ with the room.
            let counted = word.ends_with(',') || word.ends_with(')') || word.contains('\u{2026}');
            assert!(whole.contains(word) || counted, "{width}: {word:?}");
        }
    }
    let narrow = text(&view, 80, 24);
    assert!(
        narrow.contains("Near a storm: 3")
            && narrow.contains("8 of 12 newcomers  many recipients  1,664,000 copies within the hour"),
        "{narrow}"
    );
}

#[test]
fn no_size_and_no_scroll_is_too_much() {
    for (width, height) in [(0, 0), (1, 1), (3, 9), (80, 12), (500, 500)] {
        let mut view = storm();
        view.scroll = [usize::MAX, 7, 9];
        view.focus = 1;
        text(&view, width, height);
    }
}
