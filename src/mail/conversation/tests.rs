use super::*;

fn parents(references: &[&str], in_reply_to: &[&str]) -> Vec<String> {
    let mut ids = Ids::default();
    for value in references {
        ids.references(value.as_bytes());
    }
    for value in in_reply_to {
        ids.in_reply_to(value.as_bytes());
    }
    ids.parents().into_iter().map(|id| String::from_utf8_lossy(id).into_owned()).collect()
}

fn id(value: &str) -> Option<String> {
    message_id(value.as_bytes()).map(|id| String::from_utf8_lossy(&id).into_owned())
}

#[test]
fn message_ids_in_every_shape() {
    for (value, expected) in [
        ("<a@example.org>", Some("a@example.org")),
        ("\n <a@example.org>", Some("a@example.org")),
        ("<a@exam\n ple.org>", Some("a@example.org")),
        ("<a b@example.org>", Some("ab@example.org")),
        ("<<a@example.org>>", Some("a@example.org")),
        ("<a@example.org> (added by postmaster@example.org)", Some("a@example.org")),
        ("a@example.org", Some("a@example.org")),
        ("N77056c0a550a010202b5c", Some("N77056c0a550a010202b5c")),
        ("<a@example.org", Some("a@example.org")),
        ("<\u{e4}@example.org>", Some("\u{e4}@example.org")),
        ("<>", None),
        ("", None),
        ("<@>", None),
        ("<0>", None),
    ] {
        assert_eq!(id(value).as_deref(), expected, "{value:?}");
    }
    assert_eq!(id(&format!("<{}>", "x".repeat(MAX_ID))).map(|id| id.len()), Some(MAX_ID));
    assert_eq!(id(&format!("<{}>", "x".repeat(MAX_ID + 1))), None);
}

#[test]
fn references_from_the_newest() {
    assert_eq!(parents(&["<root@a> <mid@a>\n <last@a>"], &["<last@a>"]), ["last@a", "mid@a", "root@a"]);
    assert_eq!(parents(&["<root@a>, <last@a>"], &[]), ["last@a", "root@a"]);
    assert_eq!(parents(&["<root@a><last@a><root@a><last@a>"], &[]), ["last@a", "root@a"]);
    assert_eq!(parents(&["<root@a> <cut-off <last@a>"], &["<other@a>"]), ["last@a", "root@a", "other@a"]);
    assert_eq!(parents(&["<root@a>", "<last@a>"], &[]), ["root@a", "last@a"]);
    assert_eq!(parents(&["root@a last@a"], &[]), ["last@a", "root@a"]);
    assert_eq!(parents(&[""], &[" "]), Vec::<String>::new());
    assert_eq!(parents(&["<root@a> <\n  folded-\n long@a>"], &[]), ["folded-long@a", "root@a"]);
}

#[test]
fn long_references_keep_the_newest_and_the_oldest() {
    let many: String = (0..200).map(|n| format!("<{n}@example.org>\n ")).collect();
    let found = parents(&[&many], &["<199@example.org>"]);
    assert_eq!(found.len(), MAX_PARENT_IDS);
    assert_eq!(found[0], "199@example.org");
    assert_eq!(found[MAX_PARENT_IDS - 2], "151@example.org");
    assert_eq!(found[MAX_PARENT_IDS - 1], "0@example.org");
    // In-Reply-To finds room, and the oldest stays.
    let found = parents(&[&many], &["<other@example.org>"]);
    assert_eq!(found.len(), MAX_PARENT_IDS);
    assert_eq!(found[MAX_PARENT_IDS - 3..], ["152@example.org", "0@example.org", "other@example.org"]);
    let some: String = (0..45).map(|n| format!("<{n}@example.org>\n\t")).collect();
    assert_eq!(parents(&[&some], &[]).len(), 45);
}

#[test]
fn in_reply_to_in_every_shape() {
    for (value, expected) in [
        ("<a@example.org>", &["a@example.org"][..]),
        ("a@example.org", &["a@example.org"]),
        (
            "Your message of \"Mon, 1 Jan 2001 00:00:00 GMT.\"\n <200101010000.AA1@example.org>",
            &["200101010000.AA1@example.org"],
        ),
        ("Message from Jo <jo@example.org> of \"Mon\" <id1@example.org>", &["id1@example.org"]),
        ("<id1@example.org>; from jo@example.org on Mon, Jan 1", &["id1@example.org"]),
        ("<one@example.org> <two@example.org>", &["one@example.org", "two@example.org"]),
        ("Your message of Monday", &[]),
        ("jo@example.org's message of Monday", &[]),
        ("N77056c0a550a010202b5c", &["N77056c0a550a010202b5c"]),
        ("yesterday", &[]),
    ] {
        assert_eq!(parents(&[], &[value]), expected, "{value:?}");
    }
    assert_eq!(
        parents(&[], &["<one@example.org>", "<two@example.org>"]),
        ["one@example.org", "two@example.org"]
    );
}

#[test]
fn a_header_of_bad_ids_is_soon_given_up() {
    let bad = "<x>".repeat(20_000);
    assert_eq!(parents(&[&format!("<root@example.org>{bad}")], &[&bad]), ["root@example.org"]);
}

#[test]
fn thread_index_names_the_conversation() {
    let first = ThreadIndex::parse(b"AQHVAQL5MIhdQT8Fok2ZjXIeTk3EpqZYaLiw").expect("a reply's");
    assert!(first.answers);
    // Bytes 6 to 21 of the decoded value (MS-OXOMSG 2.2.1.3).
    assert_eq!(
        first.guid,
        [0x30, 0x88, 0x5d, 0x41, 0x3f, 0x05, 0xa2, 0x4d, 0x99, 0x8d, 0x72, 0x1e, 0x4e, 0x4d, 0xc4, 0xa6]
    );
    let again = ThreadIndex::parse(b"AQHVAQL5MIhdQT8Fok2ZjXIeTk3Epg==").expect("a first message's");
    assert_eq!((again.guid, again.answers), (first.guid, false));
    assert_eq!(ThreadIndex::parse(b"AQHVAQL5MIhdQT8Fok2ZjX\n IeTk3Epg"), Some(again));
    for broken in
        [&b""[..], b"AQHV", b"!!!!", b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", b"AQHVAQL5MIhdQT8Fok2ZjXIeTk3E"]
    {
        assert_eq!(ThreadIndex::parse(broken), None, "{broken:?}");
    }
}
