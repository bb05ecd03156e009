//! Which messages belong together. Two different people who answer in one conversation are a storm here, and
//! two conversations none: so a decision says whether a message joined.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

const ROOT: &str = "root-1@example.net";

/// Distinct authors alone count: the list has no history.
fn site() -> Site {
    let mut setup = setup(&[(ALL, 100), ("other@example.org", 100)]).policy(touchy(Mode::Hold));
    setup.age = Duration::ZERO;
    setup.build()
}

fn thread_index(guid: u8, replies: usize) -> String {
    let mut bytes = vec![1, 0xd2, 0x3e, 0x57, 0x46, 0x64];
    bytes.extend([guid; 16]);
    bytes.extend(std::iter::repeat_n([9, 8, 7, 6, 5], replies).flatten());
    STANDARD.encode(bytes)
}

/// Carol starts a conversation, Ann answers it.
fn begun() -> Site {
    let site = site();
    let root = Letter::new("carol@example.org", ALL)
        .id(ROOT)
        .header("Subject", "Lunch")
        .header("Thread-Index", &thread_index(1, 0));
    assert_eq!(site.send(&root).reason, Reason::Calm);
    let answer = Letter::new("ann@example.org", ALL).id("answer-1@example.net").re(ROOT);
    assert_eq!(site.send(&answer.header("Subject", "Re: Lunch")).reason, Reason::Calm);
    site
}

fn joins(site: &Site, letter: &Letter) -> bool {
    let decision = site.send(letter);
    assert_eq!(decision.reason == Reason::Storm, started(&decision) == Some("conversation_authors"));
    decision.reason == Reason::Storm
}

fn bob(headers: &[(&str, &str)]) -> Letter {
    let letter = Letter::new("bob@example.org", ALL);
    headers.iter().fold(letter, |letter, (name, value)| letter.header(name, value))
}

#[test]
fn any_known_id_joins_however_it_is_written() {
    let many = |oldest: &str, count: u32| {
        (0..count).fold(format!("<{oldest}>"), |ids, n| format!("{ids}\n\t<between-{n}@example.net>"))
    };
    let forty_five = many(ROOT, 44);
    let two_hundred = many(ROOT, 199);
    let in_the_middle = format!("<unseen-0@example.net> <{ROOT}> {}", many("unseen-1@example.net", 20));
    for (name, value) in [
        ("In-Reply-To", "<root-1@example.net>"),
        ("In-Reply-To", "<answer-1@example.net>"),
        ("In-Reply-To", "root-1@example.net"),
        ("In-Reply-To", "Message from Carol <carol@example.org> of Monday <root-1@example.net>"),
        ("In-Reply-To", "<root-1@example.net> (Carol's message)"),
        ("References", "<root-1@example.net>"),
        ("References", "<unseen@example.net> <root-1@example.net>"),
        ("References", "<root-1@example.net> <unseen@example.net>"),
        ("References", "root-1@example.net"),
        ("References", "<root-1@example.net> <root-1@example.net>"),
        ("References", "<<root-1@example.net>>"),
        ("References", "<broken <root-1@example.net>"),
        ("References", "<root-1@example\n .net>"),
        ("References", "<unseen@example.net><root-1@example.net>"),
        ("References", "<unseen@example.net>,<root-1@example.net>"),
        ("References", forty_five.as_str()),
        ("References", two_hundred.as_str()),
        ("References", in_the_middle.as_str()),
    ] {
        assert!(joins(&begun(), &bob(&[(name, value)])), "{name}: {value}");
    }
}

#[test]
fn ids_that_name_nothing_known_do_not() {
    for value in ["<unseen@example.net>", "<>", "<@>", "yesterday", "<root-1@example.ne>", ""] {
        assert!(!joins(&begun(), &bob(&[("References", value)])), "{value}");
        assert!(!joins(&begun(), &bob(&[("In-Reply-To", value)])), "{value}");
    }
}

#[test]
fn then_the_thread_index_joins() {
    let (same, reply, other) = (thread_index(1, 0), thread_index(1, 2), thread_index(2, 1));
    assert!(joins(&begun(), &bob(&[("Thread-Index", &reply), ("Subject", "Something else")])));
    assert!(joins(&begun(), &bob(&[("Thread-Index", &same), ("References", "<unseen@example.net>")])));
    assert!(!joins(&begun(), &bob(&[("Thread-Index", &other), ("Subject", "Something else")])));
    assert!(!joins(&begun(), &bob(&[("Thread-Index", "not base64!")])));
}

#[test]
fn then_the_subject_of_a_reply_on_that_list_within_a_day() {
    for subject in ["Re: Lunch", "AW: lunch", "RE: Re: AW:  LUNCH", "=?utf-8?q?Re=3A_Lunch?=", "Re[2]: Lunch"]
    {
        assert!(joins(&begun(), &bob(&[("Subject", subject)])), "{subject}");
    }
    for subject in ["Lunch", "Fwd: Lunch", "Re: Dinner", "Re:", ""] {
        assert!(!joins(&begun(), &bob(&[("Subject", subject)])), "{subject}");
    }
    let elsewhere = Letter::new("bob@example.org", "other@example.org").header("Subject", "Re: Lunch");
    assert!(!joins(&begun(), &elsewhere));
}

#[test]
fn a_subject_is_forgotten_after_a_day_and_an_id_after_a_week() {
    // Nothing is left of the window then, but who began: his own reply does not count.
    let starter_is_remembered = |span: Duration, header: (&str, &str)| {
        let mut site = begun();
        site.wait(span);
        site.send(&Letter::new("carol@example.org", ALL).header(header.0, header.1));
        !joins(&site, &bob(&[header]))
    };
    let (subject, id) = (("Subject", "Re: Lunch"), ("References", "<answer-1@example.net>"));
    assert!(starter_is_remembered(DAY - SECOND, subject));
    assert!(!starter_is_remembered(DAY, subject));
    assert!(starter_is_remembered(7 * DAY - SECOND, id));
    assert!(!starter_is_remembered(7 * DAY, id));
}

#[test]
fn ids_come_before_thread_index_and_that_before_the_subject() {
    let other = |site: &Site| {
        let letter = Letter::new("dan@example.org", ALL)
            .id("dinner-1@example.net")
            .header("Subject", "Dinner")
            .header("Thread-Index", &thread_index(2, 0));
        assert!(!joins(site, &letter));
    };
    let (lunch, dinner) = (thread_index(1, 1), thread_index(2, 1));
    let site = begun();
    other(&site);
    let ids_say_dinner = [
        ("References", "<dinner-1@example.net>"),
        ("Thread-Index", lunch.as_str()),
        ("Subject", "Re: Lunch"),
    ];
    assert!(!joins(&site, &bob(&ids_say_dinner)));

    let site = begun();
    other(&site);
    assert!(!joins(&site, &bob(&[("Thread-Index", &dinner), ("Subject", "Re: Lunch")])));
}

#[test]
fn the_newest_known_id_decides() {
    let site = begun();
    site.send(&Letter::new("dan@example.org", ALL).id("dinner-1@example.net"));
    assert!(!joins(&site, &bob(&[("References", "<root-1@example.net> <dinner-1@example.net>")])));
    let site = begun();
    site.send(&Letter::new("dan@example.org", ALL).id("dinner-1@example.net"));
    assert!(joins(&site, &bob(&[("References", "<dinner-1@example.net> <root-1@example.net>")])));
}

#[test]
fn an_answer_to_two_conversations_does_not_join_them() {
    let site = site();
    site.send(&Letter::new("carol@example.org", ALL).id(ROOT));
    site.send(&Letter::new("dan@example.org", ALL).id("dinner-1@example.net"));
    let both = Letter::new("eve@example.org", ALL)
        .header("References", "<dinner-1@example.net> <root-1@example.net>");
    assert!(!joins(&site, &both));
    assert!(
        !joins(&site, &Letter::new("fred@example.org", ALL).re("dinner-1@example.net")),
        "lunch moved dinner"
    );
    assert!(joins(&site, &bob(&[("References", "<root-1@example.net>")])));
}

#[test]
fn a_subject_joins_where_it_says_that_it_replies() {
    let unseen = ("References", "<unseen-9@example.net>");
    assert!(!joins(&begun(), &bob(&[unseen, ("Subject", "Lunch")])));
    assert!(joins(&begun(), &bob(&[unseen, ("Subject", "Re: Lunch")])));
}

#[test]
fn answers_to_something_unseen_find_each_other() {
    let site = site();
    let answer =
        |author: &str| Letter::new(author, ALL).header("References", "<unseen-1@x.example> <y-2@x.example>");
    assert!(!joins(&site, &answer("ann@example.org")));
    assert!(joins(&site, &answer("bob@example.org")));

    let site = self::site();
    let by_subject = |author: &str| Letter::new(author, ALL).header("Subject", "Re: Remove me");
    assert!(!joins(&site, &by_subject("ann@example.org")));
    assert!(joins(&site, &by_subject("bob@example.org")));
}

#[test]
fn who_began_does_not_count_even_if_answers_come_first() {
    let site = site();
    assert!(!joins(&site, &Letter::new("ann@example.org", ALL).re(ROOT)));
    assert!(!joins(&site, &Letter::new("carol@example.org", ALL).id(ROOT)));
    assert!(!joins(&site, &Letter::new("carol@example.org", ALL).re(ROOT)));
    assert!(joins(&site, &Letter::new("bob@example.org", ALL).re(ROOT)));
}

#[test]
fn a_first_message_to_two_lists_is_a_first_message_on_both() {
    let site = site();
    let root = Letter::new("carol@example.org", ALL).and_to("other@example.org").id(ROOT);
    let root = root.header("Thread-Index", &thread_index(1, 0));
    assert_eq!(site.send(&root).reason, Reason::Calm);
    let answer = Letter::new("ann@example.org", ALL).and_to("other@example.org").re(ROOT);
    assert_eq!(site.send(&answer).reason, Reason::Calm, "Carol was taken for the first to answer");
}

#[test]
fn conversations_of_two_lists_are_two() {
    let site = begun();
    let elsewhere = Letter::new("bob@example.org", "other@example.org").re(ROOT);
    assert!(!joins(&site, &elsewhere));
    assert!(joins(&site, &Letter::new("dan@example.org", "other@example.org").re(ROOT)));
}

#[test]
fn new_mail_answers_nothing() {
    let site = site();
    for n in 0..10 {
        let letter = Letter::new(&stranger(n), ALL).header("Subject", "Remove me");
        assert_eq!(site.send(&letter).reason, Reason::Calm);
    }
}
