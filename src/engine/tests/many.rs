//! Messages to many: their recipients come in lots.

use super::*;
use crate::engine::recipients::MAX_REPORTED;

type Facts = (u32, u64, u32, Vec<Box<[u8]>>);

fn facts(tx: &Transaction) -> Facts {
    let lists = tx.lists.iter().map(|recipient| recipient.raw.clone()).collect();
    (tx.recipients, tx.digest, tx.list_recipients, lists)
}

fn begun(site: &Site, author: &str) -> Transaction {
    let mut tx = site.engine.session(None);
    site.engine.begin(&mut tx, author.as_bytes(), None, site.now);
    tx
}

/// Mailboxes, and among them lists, addresses that match a pattern, and what is no address.
fn recipients() -> Vec<String> {
    let recipient = |number| match number % 10 {
        3 => format!("<{ALL}>"),
        5 => format!("<team-{number}@example.org>"),
        7 => String::new(),
        _ => format!("<box-{number}@example.net>"),
    };
    (0..150).map(recipient).collect()
}

#[test]
fn what_comes_in_lots_is_what_comes_one_by_one() {
    let mut setup = setup(&[(ALL, 100), ("team-*@example.org", 10)]);
    setup.capacity.recipients = 4096;
    let (mut single, mut lots) = (setup.build(), setup.build());
    let to = recipients();
    let to: Vec<&[u8]> = to.iter().map(|recipient| recipient.as_bytes()).collect();
    let mut reported = 0;
    for round in 0..50 {
        // Each comes twice, once where it was seen a moment ago.
        let author = stranger(round / 2);
        let (mut one, mut other) = (begun(&single, &author), begun(&lots, &author));
        let events: Vec<Event> =
            to.iter().filter_map(|recipient| single.engine.recipient(&mut one, recipient)).collect();
        let (first, rest) = to.split_at(round as usize);
        let mut at_once = lots.engine.recipients(&mut other, first);
        at_once.extend(lots.engine.recipients(&mut other, rest));
        assert_eq!(at_once, events, "round {round}");
        reported += events.len();
        assert_eq!(facts(&one), facts(&other), "round {round}");
        let (total, _, on_lists, named) = facts(&one);
        assert_eq!((total, on_lists, named.len()), (150, 30, 30));
        single.wait(20 * SECOND);
        lots.wait(20 * SECOND);
    }
    let is_box = |recipient: &&&[u8]| recipient.starts_with(b"<box");
    assert_eq!(reported, to.iter().take(MAX_REPORTED as usize).filter(is_box).count(), "each once");
    let mut boxes = 0;
    for recipient in to.into_iter().skip(MAX_REPORTED as usize) {
        let say = |site: &Site| {
            let event = site.engine.recipient(&mut begun(site, &stranger(100)), recipient);
            event.map(|event| match event {
                Event::PossibleList { authors, .. } => authors,
                other => panic!("{other:?}"),
            })
        };
        let said = [say(&single), say(&lots)];
        let expected = recipient.starts_with(b"<box").then_some(26);
        assert_eq!(said, [expected; 2], "{}", String::from_utf8_lossy(recipient));
        boxes += usize::from(expected.is_some());
    }
    assert!(boxes > 80);
}
