use super::*;
use crate::milter::mta::Profile;

fn size(header: &[(String, String)]) -> usize {
    header.iter().map(|(name, value)| name.len() + value.len() + 4).sum()
}

#[test]
fn headers_are_as_many_and_as_long_as_asked_for() {
    for is_reply in [false, true] {
        for headers in [8, 20, 300] {
            for header_bytes in [0, 30_000, 30_001, 30_031] {
                let shape = Shape { headers, header_bytes, ..Shape::default() };
                let header = header(&shape, is_reply);
                assert_eq!(header.len(), headers);
                if header_bytes == 0 {
                    continue;
                }
                let size = size(&header);
                assert!((header_bytes..header_bytes + 2 * headers).contains(&size), "{size}");
                for (name, value) in &header {
                    assert!(!value.ends_with(['\n', '\t']) && !value.contains("\n\n"), "{name}: {value}");
                    assert!(!name.is_empty() && !value.is_empty());
                }
            }
        }
    }
}

#[test]
fn every_message_has_its_own_number_and_author() {
    let mta = Mta::new(Profile::postfix());
    let shape = Shape { mix: Mix::Storm, body: 100, ..Shape::default() };
    let mail = Mail::encode(&mta, &shape);
    let letter = &mail.letters[7];
    assert_eq!((letter.author, letter.is_reply, letter.recipients), (7, true, 1));
    let mut bytes = Vec::new();
    letter.envelope.put(42, letter.author, &mut bytes);
    mail.content(letter).put(42, letter.author, &mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("<Some.Replier0007@mail.example.net>"), "{text}");
    assert!(text.contains("Message-ID\0<0000000000000042.4711@mail.example.net>\0"), "{text}");
    assert!(text.contains("i\x0040000000000000042\0"), "{text}");
    assert!(text.contains("<everybody@example.org>"), "{text}");
    for place in [&NUMBER_PLACE[..], &AUTHOR_PLACE] {
        assert_eq!(memmem::find(&bytes, place), None);
    }
    assert!(text.contains("reply to all.\r\nPlease take me off this list. A\r\n"), "100 bytes: {text}");
}

#[test]
fn the_same_mail_goes_by_smtp() {
    let shape = Shape { mix: Mix::Mixed, recipients: 2, headers: 8, body: 12, ..Shape::default() };
    let posts = Posts::new(&shape);
    let reply = posts.get(0);
    assert_eq!(
        (reply.sender.as_str(), reply.recipients),
        ("Some.Replier0000@mail.example.net", vec!["everybody@example.org"])
    );
    let ordinary = posts.get(8_192 * 7 + 3);
    assert_eq!((ordinary.recipients.len(), ordinary.recipients == posts.get(3).recipients), (2, true));
    let (header, body) = ordinary.text.split_once("\n\n").unwrap();
    assert!(header.contains("\nMessage-ID: <0000000000057347.4711@mail.example.net>\n"), "{header}");
    assert!(header.contains(&format!("<{}>", ordinary.sender)), "{header}");
    assert_eq!(body, "Please tak\n");
}

#[test]
fn one_of_ten_in_mixed_mail_is_a_reply() {
    let mta = Mta::new(Profile::postfix());
    let shape = Shape { mix: Mix::Mixed, recipients: 3, ..Shape::default() };
    let mail = Mail::encode(&mta, &shape);
    assert_eq!(mail.letters.len(), ENVELOPES / 3);
    let replies: Vec<_> = mail.letters.iter().filter(|letter| letter.is_reply).collect();
    assert_eq!(replies.len(), mail.letters.len().div_ceil(10));
    assert_eq!((replies[0].author, replies[1].author), (0, 1));
    let to = |letter: &Letter| if letter.is_reply { 1 } else { 3 };
    assert!(mail.letters.iter().all(|letter| letter.recipients == to(letter)));
}
