//! Headers and addresses of any bytes: nothing panics, everything stays within its bounds, and what is promised
//! of canonical addresses and base subjects holds.
//!
//! The input is a header block; the value of its `Return-Path` serves as the envelope sender.
#![no_main]

use becalm::mail::{AddressBuf, AddressRules, Head, MAX_ADDRESS, MAX_PARENT_IDS, author};
use libfuzzer_sys::fuzz_target;

/// Longest subject that leaves room for a prefix within what [`Head`] keeps.
const SUBJECT_WITH_ROOM: usize = 4000;

fuzz_target!(|data: &[u8]| {
    let rules = AddressRules {
        myorigin: "example.org".into(),
        local_domains: vec!["example.org".into(), "localhost".into()],
        domain_aliases: [("old.example".into(), "localhost".into())].into(),
        recipient_delimiter: [b'+', b'-'].into(),
    };
    let mut head = Head::new();
    let mut sender: &[u8] = b"<>";
    for (name, value) in fields(data) {
        head.push(name, value);
        canonical_is_a_fixed_point(&rules, value);
        if name.eq_ignore_ascii_case(b"return-path") {
            sender = value;
        }
        if name.eq_ignore_ascii_case(b"subject") {
            prefixes_keep_the_base(value);
        }
    }

    let parents = head.parent_ids();
    assert!(parents.len() <= MAX_PARENT_IDS);
    for (index, id) in parents.iter().enumerate() {
        assert!((5..=998).contains(&id.len()));
        assert!(!id.iter().any(|byte| byte.is_ascii_whitespace() || matches!(byte, b'<' | b'>')));
        assert!(!parents[..index].contains(id));
    }
    if let Some(id) = head.message_id(Some(b"4ABC")) {
        assert!((5..=998).contains(&id.len()));
    }
    assert!(head.automatic(true).is_some());
    let found = [None, Some(sender)]
        .map(|user| author(&rules, user, Some(&head), sender, |list| list.starts_with(b"a")));
    for found in found.into_iter().flatten() {
        assert!((1..=MAX_ADDRESS).contains(&found.len()));
    }

    drop(parents);
    head.clear();
    assert!(head.parent_ids().is_empty() && head.message_id(None).is_none() && head.thread_index().is_none());
    assert_eq!((head.automatic(false), head.becalm_headers()), (None, 0));
});

fn canonical_is_a_fixed_point(rules: &AddressRules, raw: &[u8]) {
    let (mut first, mut second) = (AddressBuf::new(), AddressBuf::new());
    let Some(found) = rules.canonical(raw, &mut first) else { return };
    assert!((1..=MAX_ADDRESS).contains(&found.full().len()));
    let again = rules.canonical(found.full(), &mut second).expect("a canonical form is an address");
    assert_eq!((again.full(), again.base(), again.domain()), (found.full(), found.base(), found.domain()));
    if let Some(base) = found.base() {
        let again = rules.canonical(base, &mut second).expect("a base form is an address");
        assert_eq!((again.full(), again.base()), (base, None));
    }
}

fn prefixes_keep_the_base(value: &[u8]) {
    if value.len() > SUBJECT_WITH_ROOM {
        return;
    }
    let heads = [&b""[..], b"Re: AW[2]: Fwd: "].map(|prefix| {
        let mut head = Head::new();
        head.push(b"Subject", &[prefix, value].concat());
        head
    });
    let [plain, answered] = heads.each_ref().map(Head::subject);
    assert!(plain.base.len() <= 250);
    assert_eq!(plain.base, answered.base);
    assert!(answered.reply && answered.forward);
}

/// The fields of a header block; a line that begins with a blank goes on with the field before it.
fn fields(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = block;
    std::iter::from_fn(move || {
        let mut end = 0;
        loop {
            end += rest.get(end..)?.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len() - end) + 1;
            if !matches!(rest.get(end), Some(b' ' | b'\t')) {
                break;
            }
        }
        let (field, after) = rest.split_at(end.min(rest.len()));
        if field.is_empty() {
            return None;
        }
        rest = after;
        let colon = field.iter().position(|&byte| byte == b':').unwrap_or(field.len() - 1);
        Some((&field[..colon], &field[colon + 1..]))
    })
}
