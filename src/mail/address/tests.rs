use proptest::prelude::*;

use super::*;

fn rules() -> AddressRules {
    AddressRules {
        myorigin: "example.org".into(),
        local_domains: vec!["example.org".into(), "mail.example.org".into(), "localhost".into()],
        domain_aliases: [
            ("old.example", "new.example"),
            ("older.example", "old.example"),
            ("was-local.example", "mail.example.org"),
            ("a.cycle", "b.cycle"),
            ("b.cycle", "c.cycle"),
            ("c.cycle", "a.cycle"),
        ]
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .into(),
        recipient_delimiter: [b'+'].into(),
    }
}

fn with_delimiters(delimiters: &[u8]) -> AddressRules {
    AddressRules { recipient_delimiter: delimiters.iter().copied().collect(), ..rules() }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Full and base form.
fn under(rules: &AddressRules, raw: &[u8]) -> Option<(String, Option<String>)> {
    let mut buf = AddressBuf::new();
    rules.canonical(raw, &mut buf).map(|found| (show(found.full()), found.base().map(show)))
}

fn full(raw: &str) -> Option<String> {
    under(&rules(), raw.as_bytes()).map(|found| found.0)
}

fn delivered(rules: &AddressRules, raw: &str) -> Option<String> {
    under(rules, raw.as_bytes()).map(|(full, base)| base.unwrap_or(full))
}

#[test]
fn every_spelling_of_a_list_comes_to_one_address() {
    for raw in [
        "all@example.org",
        "<all@example.org>",
        "All+x@Example.ORG",
        "<ALL+x+y@example.org>",
        "all+@example.org",
        "all",
        "<all>",
        "<@relay.example:all@example.org>",
        "<@a.example,@b.example:all@example.org>",
        "@a.example:@b.example:all+x@example.org",
        "\"all\"@example.org",
        "<\"a\\ll\"@example.org>",
        "a\\ll@example.org",
        "\"all+x\"@example.org",
        "all@example.org.",
        "all@mail.example.org",
        "all@LocalHost",
        "all@was-local.example",
        "all@WAS-local.example.",
        "all(everybody (here))@example.org",
        " < all @ example . org > ",
        "\"all\"",
        "all+x",
    ] {
        assert_eq!(delivered(&rules(), raw).as_deref(), Some("all@example.org"), "{raw}");
    }
}

#[test]
fn other_addresses_stay_apart() {
    for (raw, expected) in [
        ("all@example.com", "all@example.com"),
        ("all@sub.example.org", "all@sub.example.org"),
        ("user%example.net@example.org", "user%example.net@example.org"),
        ("host!user", "host!user@example.org"),
        ("\"a b\"@example.org", "\"a b\"@example.org"),
        ("a b@example.org", "\"a b\"@example.org"),
        ("a@b@example.com", "\"a@b\"@example.com"),
        ("a..b@example.com", "\"a..b\"@example.com"),
        (".a@example.com", "\".a\"@example.com"),
        ("\"a\\\"b\\\\\"@example.com", "\"a\\\"b\\\\\"@example.com"),
        ("x@[192.0.2.1]", "x@[192.0.2.1]"),
        ("x@[IPv6:2001:DB8::1]", "x@[ipv6:2001:db8::1]"),
        ("x@OLD.example", "x@new.example"),
        ("x@older.example", "x@new.example"),
        ("x@a.cycle", "x@a.cycle"),
        ("x@b.cycle", "x@b.cycle"),
        ("ÄLLE@BÜRO.example", "älle@büro.example"),
    ] {
        assert_eq!(full(raw).as_deref(), Some(expected), "{raw}");
    }
}

#[test]
fn what_is_no_address_has_no_form() {
    for raw in [
        "",
        "<>",
        " ",
        "@",
        "<@>",
        "@example.org",
        "<@relay:>",
        "<@relay.example>",
        "\"\"@example.org",
        "x@",
        "x@.",
        "x@a..b",
        "x@.a",
        "x@a..",
        "x@a b\u{7f}",
        "\"open@example.org",
        "x(open@example.org",
        "a,b@c",
        "x@[]",
        "x@a/b",
        "<a<b@c>",
        "x\0y@example.org",
        "\"x\0\"@example.org",
        "x\\",
    ] {
        assert_eq!(full(raw), None, "{raw:?}");
    }
}

#[test]
fn length_is_bounded_after_rewriting() {
    let bare = "x".repeat(MAX_ADDRESS - "@example.org".len());
    assert_eq!(full(&bare).map(|found| found.len()), Some(MAX_ADDRESS));
    assert_eq!(full(&format!("{bare}x")), None);
    let routed = format!("<@{}:all@example.org>", "r".repeat(1000));
    assert_eq!(full(&routed).as_deref(), Some("all@example.org"));
    assert_eq!(full(&format!("<@{}:all@example.org>", "r".repeat(MAX_RAW))), None);
    // Escapes count: the quoted form is what is kept.
    assert_eq!(full(&format!("\"{}\"@example.org", "\\\"".repeat(200))), None);
    // The longest address with an extension leaves room for its base form.
    let longest = format!("a+{}@example.org", "x".repeat(MAX_ADDRESS - "a+@example.org".len()));
    assert_eq!(delivered(&rules(), &longest).as_deref(), Some("a@example.org"));
}

#[test]
fn splits_as_postfix_does() {
    let split = |delimiters: &[u8], local: &str| {
        under(&with_delimiters(delimiters), format!("{local}@example.com").as_bytes())
            .and_then(|found| found.1)
            .map(|base| base.trim_end_matches("@example.com").to_owned())
    };
    assert_eq!(split(b"+-", "a+b-c").as_deref(), Some("a"));
    assert_eq!(split(b"+-", "a-b+c").as_deref(), Some("a"));
    assert_eq!(split(b"-", "a+b-c").as_deref(), Some("a+b"));
    assert_eq!(split(b"+", "+a"), None);
    assert_eq!(split(b"+", "+a+b"), None);
    assert_eq!(split(b"", "a+b"), None);
    assert_eq!(split(b"+", "a+").as_deref(), Some("a"));
    assert_eq!(split(b"+", "a.+x").as_deref(), Some("\"a.\""));
    assert_eq!(split(b"-", "Mailer-Daemon"), None);
    assert_eq!(split(b"-", "double-bounce"), None);
    assert_eq!(split(b"-", "mailer-daemons").as_deref(), Some("mailer"));
    assert_eq!(split(b"m", "postmaster"), None);
    assert_eq!(split(b"-", "Owner-all"), None);
    assert_eq!(split(b"-", "all-Request"), None);
    assert_eq!(split(b"-", "-request"), None);
    assert_eq!(split(b"-+", "owner-all+x"), None);
    assert_eq!(split(b"+", "owner-all+x").as_deref(), Some("owner-all"));
    assert_eq!(split(b"+", "\"a b+c\"").as_deref(), Some("\"a b\""));
}

#[test]
fn a_bare_name_stays_bare_without_an_origin() {
    let rules = AddressRules::default();
    let mut buf = AddressBuf::new();
    let found = rules.canonical(b"All", &mut buf).expect("an address");
    assert_eq!((found.full(), found.local(), found.domain()), (&b"all"[..], &b"all"[..], &b""[..]));
    let found = rules.canonical(b"All@B.example", &mut buf).expect("an address");
    assert_eq!(
        (found.full(), found.local(), found.domain()),
        (&b"all@b.example"[..], &b"all"[..], &b"b.example"[..])
    );
}

/// Anything, but mostly made of what means something in an address.
fn raw_address() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "a", "B", "all", "+", "-", "owner-", "-request", ".", "@", "@", "<", ">", "\"", "\\", "(", ")", ":", ",",
            " ", "\n", "%", "!", "[", "]", "example.org", "localhost", "old.example", "a.cycle", "É", "İ", "ß", "\0",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn canonical_forms_are_fixed_points(raw in raw_address(), delimiters in "[-+=._]{0,3}") {
        let rules = with_delimiters(delimiters.as_bytes());
        let (mut first, mut second) = (AddressBuf::new(), AddressBuf::new());
        if let Some(found) = rules.canonical(&raw, &mut first) {
            prop_assert!(found.full().len() <= MAX_ADDRESS);
            let again = rules.canonical(found.full(), &mut second).expect("a canonical form is an address");
            prop_assert_eq!(show(again.full()), show(found.full()));
            prop_assert_eq!(again.base().map(show), found.base().map(show));
            if let Some(base) = found.base() {
                let again = rules.canonical(base, &mut second).expect("a base form is an address");
                prop_assert_eq!((show(again.full()), again.base()), (show(base), None));
            }
        }
    }

    #[test]
    fn the_fast_path_agrees_with_the_other(local in "[a-zA-Z0-9+.-]{1,12}", domain in "[a-zA-Z0-9.-]{0,12}", delimiters in "[-+]{0,2}") {
        let rules = with_delimiters(delimiters.as_bytes());
        let raw = format!("<{local}@{domain}>");
        let (mut fast, mut slow) = (AddressBuf::new(), AddressBuf::new());
        if let Some(fast_layout) = rules.plain(raw.as_bytes(), &mut fast) {
            let slow_layout = rules.involved(raw.as_bytes(), &mut slow);
            prop_assert_eq!(Some(fast_layout), slow_layout);
            prop_assert_eq!(&fast.bytes[..fast_layout.base_end], &slow.bytes[..fast_layout.base_end]);
        }
    }

    #[test]
    fn case_never_matters(raw in "[ -~]{0,30}") {
        let (mut upper, mut lower) = (AddressBuf::new(), AddressBuf::new());
        let upper_raw = raw.to_ascii_uppercase();
        let lower_raw = raw.to_ascii_lowercase();
        let upper = rules().canonical(upper_raw.as_bytes(), &mut upper).map(|found| show(found.full()));
        let lower = rules().canonical(lower_raw.as_bytes(), &mut lower).map(|found| show(found.full()));
        prop_assert_eq!(upper, lower);
    }
}
