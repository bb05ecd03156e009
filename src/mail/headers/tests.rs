use proptest::prelude::*;

use super::*;

fn head(fields: &[(&str, &str)]) -> Head {
    let mut head = Head::new();
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes());
    }
    head
}

#[test]
fn names_are_told_apart_in_any_case() {
    let head = head(&[
        ("SUBJECT", " Re: x"),
        ("message-ID ", "\n <id@example.org>"),
        ("X-BECALM", "forged"),
        ("x-becalm", ""),
        ("X-Becalm-Own", "own=1"),
    ]);
    assert_eq!(head.subject().base, "x");
    assert_eq!(head.message_id(None), Some(&b"id@example.org"[..]));
    assert_eq!(head.becalm_headers(), 2);
    assert_eq!(head.own_mark(), Some("own=1"));
}

#[test]
fn the_first_field_of_a_name_counts() {
    let head = head(&[
        ("Subject", "one"),
        ("Subject", "two"),
        ("Message-ID", "<>"),
        ("Message-ID", "<first@a>"),
        ("Message-ID", "<second@a>"),
    ]);
    assert_eq!(head.subject().base, "one");
    assert_eq!(head.message_id(None), Some(&b"first@a"[..]));
}

#[test]
fn an_id_that_postfix_made_up_is_none() {
    let made_up = head(&[("Message-ID", "<20261122143846.4ABC123@mail.example.org>")]);
    assert_eq!(made_up.message_id(Some(b"4ABC123")), None);
    assert!(made_up.message_id(Some(b"4ABC124")).is_some());
    assert!(made_up.message_id(Some(b"4ABC12")).is_some());
    assert!(made_up.message_id(None).is_some());
    let other = head(&[("Message-ID", "<4ABC123@mail.example.org>")]);
    assert!(other.message_id(Some(b"4ABC123")).is_some());
}

#[test]
fn redistribution_and_receipts() {
    for (name, value) in [
        ("List-Id", "<all.example.org>"),
        ("Precedence", " bulk"),
        ("precedence", "List"),
        ("Precedence", "junk"),
    ] {
        assert!(head(&[(name, value)]).redistributed(), "{name}: {value}");
        assert_eq!(head(&[(name, value)]).automatic(false), None, "{name}: {value}");
    }
    assert!(!head(&[("Precedence", "first-class"), ("List-Unsubscribe", "<mailto:x@y>")]).redistributed());
    for name in ["Disposition-Notification-To", "return-receipt-to", "X-Confirm-Reading-To"] {
        assert!(head(&[(name, "a@example.org")]).wants_receipt(), "{name}");
        assert!(!head(&[(name, " ")]).wants_receipt(), "{name}");
    }
}

#[test]
fn clear_forgets_everything() {
    let mut head = head(&[
        ("From", "a@example.org"),
        ("Subject", "Re: x"),
        ("Message-ID", "<id@example.org>"),
        ("References", "<root@example.org> <a@example.org>"),
        ("In-Reply-To", "<b@example.org>"),
        ("Thread-Index", "AQHU/4r6KRj7uKGITUSbj+ZaAecFfQ=="),
        ("Auto-Submitted", "auto-replied"),
        ("List-Id", "<x>"),
        ("Return-Receipt-To", "a@example.org"),
        ("X-Becalm", "x"),
    ]);
    assert_eq!(head.automatic(false), Some(Automatic::AutoReply));
    head.clear();
    assert_eq!(head.from(), None);
    assert_eq!(head.subject(), Subject::default());
    assert_eq!(head.message_id(None), None);
    assert!(head.parent_ids().is_empty());
    assert_eq!(head.thread_index(), None);
    assert_eq!(head.automatic(false), None);
    assert!(!head.redistributed() && !head.wants_receipt());
    assert_eq!(head.becalm_headers(), 0);
}

/// The most that any headers may take: the kept fields, the ids, and what vectors reserve in growing.
const BOUND: usize = 2 * (3 * MAX_ADDRESSES + MAX_CLEAN_SUBJECT + MAX_CONTENT_TYPE + conversation::MAX_ID)
    + 2 * 32 * 1024
    + 2048;

#[test]
fn memory_is_bounded_and_given_back() {
    let mut head = Head::new();
    let long = "<".to_owned() + &"x".repeat(900) + ">";
    for round in 0..200 {
        for name in ["From", "Reply-To", "X-Original-From", "Subject", "Content-Type", "Message-ID"] {
            head.push(name.as_bytes(), "y".repeat(60_000).as_bytes());
        }
        let ids: String = (0..60).map(|n| format!("<{round}-{n}{}", &long[1..])).collect();
        head.push(b"References", ids.as_bytes());
        head.push(b"In-Reply-To", ids.as_bytes());
    }
    assert!(head.bytes() <= BOUND, "{}", head.bytes());
    assert!(head.parent_ids().len() <= super::super::MAX_PARENT_IDS);
    head.clear();
    assert!(head.bytes() <= 16 * 1024, "{}", head.bytes());
}

fn field() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "From",
            "Reply-To",
            "X-Original-From",
            "Subject",
            "Content-Type",
            "Message-ID",
            "References",
            "In-Reply-To",
            "Thread-Index",
            "Auto-Submitted",
            "Precedence",
            "List-Id",
            "X-Becalm",
            "Content-Class",
            "X-Autoreply",
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    let piece = prop_oneof![
        prop::sample::select(vec![
            "<",
            ">",
            "@",
            " ",
            "\n ",
            "\"",
            "(",
            ")",
            "\\",
            ",",
            ";",
            ":",
            "a@b.c",
            "<id@host>",
            "Re: ",
            "[list] ",
            "=?utf-8?q?",
            "=?utf-8?b?",
            "?=",
            "=",
            "AQHU/4r6KRj7uKGITUSbj+ZaAecFfQ==",
            "multipart/report;report-type=",
        ])
        .prop_map(|piece| piece.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..8),
    ];
    (name, prop::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat()))
}

proptest! {
    #[test]
    fn any_headers_are_answered_for(fields in prop::collection::vec(field(), 0..20), null_sender: bool) {
        let mut head = Head::new();
        for (name, value) in &fields {
            head.push(name, value);
        }
        prop_assert!(head.bytes() <= BOUND);
        let parents = head.parent_ids();
        prop_assert!(parents.len() <= super::super::MAX_PARENT_IDS);
        for (index, id) in parents.iter().enumerate() {
            prop_assert!((5..=998).contains(&id.len()));
            prop_assert!(!id.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'<' | b'>')));
            prop_assert!(!parents[..index].contains(id));
        }
        drop(parents);
        prop_assert!(head.subject().base.len() <= 250);
        prop_assert!(!null_sender || head.automatic(true).is_some());
        let author = super::super::author(&Default::default(), None, Some(&head), b"s@example.org", |_| false);
        prop_assert!(author.is_some_and(|author| (1..=320).contains(&author.len())));
        head.clear();
        prop_assert!(head.parent_ids().is_empty());
    }
}
