use proptest::prelude::*;

use super::*;

fn rules() -> AddressRules {
    AddressRules {
        myorigin: "example.org".into(),
        local_domains: vec!["example.org".into()],
        recipient_delimiter: [b'+', b'-'].into(),
        ..AddressRules::default()
    }
}

fn is_list(address: &[u8]) -> bool {
    address.starts_with(b"all@") || address.starts_with(b"staff@")
}

fn wrote(auth: Option<&str>, fields: &[(&str, &str)], sender: &str) -> Option<String> {
    let mut head = Head::new();
    for (name, value) in fields {
        head.push(name.as_bytes(), value.as_bytes());
    }
    author(&rules(), auth.map(str::as_bytes), Some(&head), sender.as_bytes(), is_list)
        .map(|found| String::from_utf8_lossy(&found).into_owned())
}

fn from(value: &str) -> Option<String> {
    wrote(None, &[("From", value)], "<>")
}

fn sent(sender: &str) -> Option<String> {
    author(&rules(), None, None, sender.as_bytes(), is_list)
        .map(|found| String::from_utf8_lossy(&found).into_owned())
}

#[test]
fn from_in_every_shape() {
    for value in [
        "jo@example.net",
        "<jo@example.net>",
        "Jo <Jo@Example.net>",
        "\"Doe, Jo\" <jo@example.net>",
        "Doe, Jo <jo@example.net>",
        "jo@example.net (Jo (the first))",
        "(Jo) jo@example.net",
        "\"a@b.c\" <jo@example.net>",
        "a@b.c <jo@example.net>",
        "Jo <jo@example.net>, Al <al@example.net>",
        "Team: jo@example.net, al@example.net;",
        "Team: Jo <jo@example.net>;",
        "\"Jo <jo@example.net>",
        "Jo <@relay.example:jo@example.net>",
        "=?utf-8?q?Jo=2C_Doe?= <jo@example.net>",
        "Jo\n <jo@example.net>",
        "jo@example.net, al@example.net",
        "\"Jo\\\"\" <jo@example.net>",
        "Jo <jo@example.net",
        "undisclosed: ;, jo@example.net",
        "Jo <>, <jo@example.net>",
        "jo+private@example.net",
    ] {
        assert_eq!(from(value).as_deref(), Some("jo@example.net"), "{value}");
    }
    assert_eq!(from("root").as_deref(), Some("root@example.org"));
    assert_eq!(from("\"j d\"@example.net").as_deref(), Some("\"j d\"@example.net"));
    for value in ["", "Jo Doe", "<>", "\"", "(", "Jo:;"] {
        assert_eq!(from(value), None, "{value}");
    }
}

#[test]
fn the_authenticated_user_comes_first() {
    let fields = [("From", "other@example.net")];
    assert_eq!(wrote(Some("Jo"), &fields, "x@example.net").as_deref(), Some("jo@example.org"));
    assert_eq!(wrote(Some("jo@example.net"), &fields, "x@example.net").as_deref(), Some("jo@example.net"));
    assert_eq!(wrote(Some("CORP\\jo"), &fields, "x@example.net").as_deref(), Some("jo@example.org"));
    assert_eq!(wrote(Some(""), &fields, "x@example.net").as_deref(), Some("other@example.net"));
}

#[test]
fn a_list_that_writes_in_its_own_name() {
    let list = ("From", "Jo via All <all+x@example.org>");
    let bounces = "<bounces@lists.example.net>";
    assert_eq!(
        wrote(None, &[list, ("Reply-To", "staff@example.org, jo@example.net")], bounces).as_deref(),
        Some("jo@example.net")
    );
    assert_eq!(
        wrote(
            None,
            &[list, ("Reply-To", "all@example.org"), ("X-Original-From", "Jo <jo@example.net>")],
            bounces
        )
        .as_deref(),
        Some("jo@example.net")
    );
    assert_eq!(
        wrote(None, &[list, ("Sender", "jo@example.net")], bounces).as_deref(),
        Some("bounces@lists.example.net")
    );
    // Where nothing else is said the list itself is the author.
    assert_eq!(wrote(None, &[list], "all@example.org").as_deref(), Some("all@example.org"));
    assert_eq!(wrote(None, &[list], "<>").as_deref(), Some("all@example.org"));
    // Reply-To counts for a list only.
    assert_eq!(
        wrote(None, &[("From", "al@example.net"), ("Reply-To", "jo@example.net")], bounces).as_deref(),
        Some("al@example.net")
    );
}

#[test]
fn envelope_senders_are_unwrapped() {
    for (sender, expected) in [
        ("<Jo@example.net>", "jo@example.net"),
        ("jo", "jo@example.org"),
        ("<SRS0=HHHH=TT=example.net=jo@forwarder.example>", "jo@example.net"),
        ("<SRS0+HHHH=TT=example.net=jo@forwarder.example>", "jo@example.net"),
        ("<SRS0=HHHH=TT=example.net=j=o@forwarder.example>", "j=o@example.net"),
        ("<SRS1=GGGG=first.example==HHHH=TT=example.net=jo@second.example>", "jo@example.net"),
        ("<prvs=126700a846=jo@example.net>", "jo@example.net"),
        ("<btv1==0123abcde==jo@example.net>", "jo@example.net"),
        ("<SRS0=HHHH=TT=example.net=prvs=126700a846=jo@forwarder.example>", "jo@example.net"),
        ("<list-bounces+user=example.com@example.net>", "list-bounces@example.net"),
        ("<bounce-123-user=example.com@example.net>", "bounce@example.net"),
        ("<list-return-5-user=example.com@example.net>", "list-return@example.net"),
        ("<bounces+12-ab-user=example.com@example.net>", "bounces@example.net"),
        ("<srs0=HHHH@example.net>", "srs0=hhhh@example.net"),
        ("<a=b@example.net>", "a=b@example.net"),
        ("<user=example.com@example.net>", "user=example.com@example.net"),
    ] {
        assert_eq!(sent(sender).as_deref(), Some(expected), "{sender}");
    }
    assert_eq!(sent("<>"), None);
    assert_eq!(sent(""), None);
}

#[test]
fn only_our_own_delimiter_is_known() {
    assert_eq!(sent("jo-x@example.org").as_deref(), Some("jo@example.org"));
    assert_eq!(sent("jean-luc@example.net").as_deref(), Some("jean-luc@example.net"));
    assert_eq!(sent("jean-luc+x@example.net").as_deref(), Some("jean-luc@example.net"));
    assert_eq!(sent("jean+x-y@example.net").as_deref(), Some("jean@example.net"));
}

proptest! {
    #[test]
    fn one_author_however_often_wrapped(hash in "[A-Z0-9]{4}", time in "[A-Z0-9]{2}", tag in "[0-9a-f]{10}") {
        let srs0 = format!("SRS0={hash}={time}=example.net=jo@f.example");
        let srs1 = format!("SRS1={hash}=f.example=={time}=TT=example.net=jo@g.example");
        let batv = format!("prvs={tag}=jo@example.net");
        for sender in [srs0, srs1, batv] {
            prop_assert_eq!(sent(&sender), Some("jo@example.net".to_owned()));
        }
    }

    #[test]
    fn plain_fields_are_read_as_all_others(field in "(\"[a-z@<>,;:() \\\\]{0,8}\"?)?[a-zé .]{0,6}(<[a-z@. ]{0,8}>|[a-z@. ]{0,9})[a-z> ]{0,3}<?") {
        // A comma at the end takes it off the short way.
        let long_way = format!("{field},");
        if let Some(mailbox) = plain_mailbox(field.as_bytes()) {
            prop_assert_eq!(plain_mailbox(long_way.as_bytes()), None);
            let found = mailboxes(long_way.as_bytes());
            prop_assert!(!found.is_empty() && found.iter().all(|found| *found == mailbox));
        }
    }

    #[test]
    fn any_sender_and_user_are_answered_for(sender in prop::collection::vec(any::<u8>(), 0..80), user in prop::collection::vec(any::<u8>(), 0..40), wrapped in "(SRS[01]|prvs|btv1|bounce)?[-=+@.a-z0-9]{0,40}") {
        for sender in [&sender[..], wrapped.as_bytes()] {
            if let Some(found) = author(&rules(), Some(&user), None, sender, is_list) {
                prop_assert!((1..=320).contains(&found.len()));
            }
            author(&rules(), None, None, sender, is_list);
        }
    }
}
