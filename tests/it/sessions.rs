//! SMTP sessions as clients have them: several messages, RSET, and ends without a word.

use crate::harness::{Letter, Site, TOUCHY, person, queued, start_storm, wait_until};

const ALL: &str = "all@example.org";
const FRIEND: &str = "friend@example.org";

#[test]
fn messages_of_one_session_have_nothing_to_do_with_each_other() {
    let site = Site::new(&format!(
        "[[list]]\naddress = '{ALL}'\nmode = 'hold'\n{TOUCHY}
         [[list]]\naddress = 'no@example.org'\nmode = 'reject'\n{TOUCHY}"
    ));
    start_storm(&site, ALL);
    start_storm(&site, "no@example.org");
    let mut client = site.client();
    let mut number = 0;
    let mut send = |client: &mut _, to: &[&str]| {
        number += 1;
        Letter::new(&person(number), &format!("m{number}")).send(client, to)
    };
    // A hold in the middle of a session, and after it.
    let mut expected = Vec::new();
    for to in [FRIEND, ALL, FRIEND, FRIEND, ALL, ALL, FRIEND] {
        expected.push((queued(&send(&mut client, &[to])), to == ALL));
    }
    // A refusal is of one message.
    assert_eq!(send(&mut client, &["no@example.org"]).code, 550);
    expected.push((queued(&send(&mut client, &[FRIEND])), false));
    assert_eq!(send(&mut client, &["no@example.org", FRIEND]).code, 550);
    // RSET in every state: what was said before it is forgotten.
    let commands = ["MAIL FROM:<p@example.org>", "RCPT TO:<no@example.org>", "RCPT TO:<all@example.org>"];
    for said in 0..=commands.len() {
        for command in &commands[..said] {
            assert_eq!(client.command(command).unwrap().code, 250);
        }
        assert_eq!(client.rset().unwrap().code, 250);
        expected.push((queued(&send(&mut client, &[FRIEND])), false));
        expected.push((queued(&send(&mut client, &[ALL])), true));
    }
    // So is a session that begins anew.
    client.command(commands[0]).unwrap();
    client.command(commands[1]).unwrap();
    client.ehlo("again.example.org").unwrap();
    expected.push((queued(&send(&mut client, &[FRIEND])), false));
    // Commands out of order, unknown ones, recipients that Postfix itself refuses.
    assert_eq!(client.data().unwrap().code, 503);
    assert_eq!(client.rcpt(ALL).unwrap().code, 503);
    client.command("WHAT IS THIS").unwrap();
    client.command(commands[0]).unwrap();
    assert_eq!(client.command("RCPT NONSENSE").unwrap().code, 501);
    assert_eq!(client.data().unwrap().code, 554, "no valid recipients");
    assert_eq!(client.rcpt(ALL).unwrap().code, 250);
    assert_eq!(client.data().unwrap().code, 354);
    let letter = Letter::new("p@example.org", "last");
    expected.push((queued(&client.text(&letter.text()).unwrap()), true));
    assert_eq!(client.quit().unwrap().code, 221);

    let fates = site.fates();
    for (n, (id, held)) in expected.iter().enumerate() {
        assert_eq!((fates.held.contains(id), fates.is_delivered(id)), (*held, !*held), "message {n}");
    }
    let counts = site.becalm.status().counts;
    assert_eq!(counts.failed_open + counts.sessions_failed + counts.watched_unfinished, 0, "{counts:?}");
}

#[test]
fn a_client_may_leave_at_any_moment() {
    let site = Site::new(&format!("[[list]]\naddress = '{ALL}'\nmode = 'hold'\n{TOUCHY}"));
    start_storm(&site, ALL);
    let steps: [&[u8]; 6] = [
        b"EHLO client.example.org\r\n",
        b"MAIL FROM:<p@example.org>\r\n",
        b"RCPT TO:<all@example.org>\r\n",
        b"DATA\r\n",
        b"From: <p@example.org>\r\nMessage-ID: <gone@example.org>\r\n",
        b"\r\nhalf a messa",
    ];
    for said in 0..=steps.len() {
        let mut client = becalm::postfix::smtp::Client::connect(site.postfix.address()).unwrap();
        for (n, step) in steps[..said].iter().enumerate() {
            client.write(step).unwrap();
            // The message itself is not answered.
            if n < 4 {
                assert!(client.reply().unwrap().is_positive());
            }
        }
        drop(client);
    }
    wait_until("becalm is alone", || (site.becalm.status().connections == 0).then_some(()));
    let counts = site.becalm.status().counts;
    assert_eq!(counts.watched_unfinished, 3, "those that left after DATA: {counts:?}");
    assert_eq!((counts.held, counts.sessions_failed, counts.failed_open), (1, 0, 0), "{counts:?}");
    // None of these was an attempt, and the next one is judged.
    assert_eq!(site.becalm.storms().open[0].held, 1);
    let id = queued(&site.send(&Letter::new("p@example.org", "gone"), &[ALL]));
    assert!(site.fates().held.contains(&id));
}

/// Postfix shows a message's content only when it has all of it: large ones take no more of becalm's time.
#[test]
fn large_messages_and_many_recipients() {
    let site = Site::with(&format!("[[list]]\naddress = '{ALL}'\nmode = 'hold'\n{TOUCHY}"), |postfix| {
        postfix.default_action("tempfail").set("message_size_limit", "30000000")
    });
    start_storm(&site, ALL);
    let mut letter = Letter::new(&person(1), "large");
    // As many and as long fields as Postfix lets through: headers are capped at 60,000 bytes.
    for n in 0..500 {
        letter = letter.field(&format!("X-Field-{n}: {}", "x".repeat(90)));
    }
    let ids: Vec<String> = (0..900).map(|n| format!("<{n}.{}@example.org>", "y".repeat(40))).collect();
    let letter = letter.field(&format!("References: {}", ids.join("\n ")));
    let text = letter.text() + &"A line of the body, as long as lines are.\n".repeat(400_000);
    let mut client = site.client();
    let id = queued(&client.send(&person(1), &[ALL], &text).unwrap());
    assert!(site.fates().held.contains(&id));

    let people: Vec<String> = (0..1000).map(|n| format!("reader{n}@example.org")).collect();
    let people: Vec<&str> = people.iter().map(String::as_str).collect();
    let id = queued(&Letter::new(&person(2), "many").send(&mut client, &people));
    assert_eq!(site.fates().recipients(&id).len(), 1000);
}
