//! Whole conversations, with no socket in between.

use std::io::{Read, Write};
use std::time::Duration;

use super::conversation::{Conversation, Step};
use super::mail::Mail;
use super::{Address, End, Failure, Fate, Generator, Load, Mix, Shape, Trouble};
use crate::milter::Kind;
use crate::milter::mta::{Mta, MtaError, Profile};

/// What a filter answers to the negotiation.
fn agreed(version: u32, actions: u32, protocol: u32) -> Vec<u8> {
    let numbers = [version, actions, protocol].map(u32::to_be_bytes).concat();
    [&13_u32.to_be_bytes()[..], b"O", &numbers].concat()
}

/// As libmilter's filters that ask for nothing.
fn nothing() -> Vec<u8> {
    agreed(6, 0, 0)
}

/// No HELO, no body, and answers at DATA and at the end only: as becalm.
fn quiet() -> Vec<u8> {
    agreed(6, 0x20, 0x4_f192)
}

fn reply(command: u8) -> Vec<u8> {
    vec![0, 0, 0, 1, command]
}

/// Plays one conversation: `messages` times, the filter answering what `answer` says. Returns what came of each,
/// the commands that were sent (macros apart, a blank where an answer was waited for), and the round trips.
fn play(
    profile: Profile,
    shape: &Shape,
    hello: &[u8],
    messages: u64,
    mut answer: impl FnMut(Kind) -> Vec<u8>,
) -> Result<(Vec<Fate>, String, u64), Trouble> {
    let mut mta = Mta::new(profile);
    mta.on_negotiated(hello).unwrap().unwrap();
    let mail = Mail::encode(&mta, shape);
    let mut talk = Conversation::new(&mta, &mail, hello);
    talk.open();
    let (mut fates, mut sent) = (Vec::new(), String::new());
    let mut begun = 0;
    let mut write = |talk: &mut Conversation<'_>| {
        let bytes = talk.unsent().to_vec();
        talk.wrote(bytes.len());
        let mut rest = &bytes[..];
        while let Some((length, after)) = rest.split_first_chunk::<4>() {
            let (frame, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            if frame[0] != b'D' {
                sent.push(char::from(frame[0]));
            }
            rest = after;
        }
        sent.push(' ');
    };
    loop {
        write(&mut talk);
        let due = talk.due().expect("something is waited for");
        let input = if due == Kind::Negotiate { hello.to_vec() } else { answer(due) };
        // Byte by byte, as it may come.
        let mut step = Step::On;
        for byte in input {
            assert_eq!(step, Step::On, "nothing follows what settles it");
            step = talk.receive(&[byte])?;
        }
        match step {
            Step::On => continue,
            Step::Ready => {}
            Step::Settled(fate) => fates.push(fate),
        }
        if begun == messages {
            talk.close();
            write(&mut talk);
            return Ok((fates, sent.trim_end().to_owned(), talk.round_trips));
        }
        talk.begin(&mail.letters[begun as usize], begun);
        begun += 1;
    }
}

fn small() -> Shape {
    Shape { headers: 8, body: 100, ..Shape::default() }
}

#[test]
fn steps_that_need_no_reply_go_out_with_what_follows_and_abort_with_the_next_message() {
    let accept = |due| {
        assert_eq!(due, Kind::Data);
        reply(b'a')
    };
    let (fates, sent, trips) = play(Profile::postfix(), &small(), &quiet(), 2, accept).unwrap();
    assert_eq!((fates, trips), (vec![Fate::Accepted; 2], 2));
    assert_eq!(sent, "O CMRT AMRT AQ");

    let hold = |due| match due {
        Kind::Data => reply(b'c'),
        _ => [b"\0\0\0\x05qwhy\0", reply(b'p').as_slice(), &reply(b'a')].concat(),
    };
    let shape = Shape { mix: Mix::Storm, ..small() };
    let (fates, sent, trips) = play(Profile::postfix(), &shape, &quiet(), 1, hold).unwrap();
    assert_eq!((fates, trips), (vec![Fate::Held], 2));
    assert_eq!(sent, "O CMRT LLLLLLLLNE AQ");
}

#[test]
fn a_filter_that_asks_for_nothing_answers_each_step() {
    let go_on = |_| reply(b'c');
    let shape = Shape { recipients: 2, body: 70_000, ..small() };
    let (fates, sent, trips) = play(Profile::postfix(), &shape, &nothing(), 2, go_on).unwrap();
    assert_eq!(fates, [Fate::Accepted; 2]);
    assert_eq!(sent, "O C H M R R T L L L L L L L L N B B E AM R R T L L L L L L L L N B B E AQ");
    assert_eq!(trips, 2 * 16);
}

#[test]
fn nobody_answers_where_only_the_end_of_the_message_is_answered() {
    // Every SMFIP_NR_* there is.
    let silent = agreed(6, 0, 0xff080);
    let (fates, sent, _) = play(Profile::postfix(), &small(), &silent, 2, |due| {
        assert_eq!(due, Kind::EndOfMessage);
        reply(b'd')
    })
    .unwrap();
    assert_eq!(fates, [Fate::Discarded; 2]);
    assert_eq!(sent, "O CHMRTLLLLLLLLNBE AMRTLLLLLLLLNBE AQ");
}

#[test]
fn old_versions_have_no_data_command() {
    for version in 2..=6 {
        let go_on = |_| reply(b'c');
        let hello = agreed(version, 0, 0);
        let (_, sent, _) = play(Profile::postfix_version(version), &small(), &hello, 1, go_on).unwrap();
        let data = if version < 4 { "" } else { "T " };
        assert_eq!(sent, format!("O C H M R {data}L L L L L L L L N B E AQ"), "version {version}");
    }
}

#[test]
fn a_message_goes_on_as_long_as_it_has_a_recipient() {
    let shape = Shape { recipients: 3, ..small() };
    let refusing = |how_many: usize, with: Vec<u8>| {
        let mut refused = 0;
        move |due| match due {
            Kind::Recipient if refused < how_many => {
                refused += 1;
                with.clone()
            }
            Kind::Recipient => reply(b'c'),
            Kind::Data => reply(b'a'),
            _ => reply(b'c'),
        }
    };
    let code = |text: &[u8]| [&(text.len() as u32 + 1).to_be_bytes()[..], b"y", text].concat();
    let run = |answer: &mut dyn FnMut(Kind) -> Vec<u8>| {
        play(Profile::postfix(), &shape, &nothing(), 1, answer).unwrap()
    };
    let (fates, sent, _) = run(&mut refusing(2, reply(b'r')));
    assert_eq!((fates, sent.as_str()), (vec![Fate::Accepted], "O C H M R R R T AQ"));
    let (fates, sent, _) = run(&mut refusing(3, code(b"550 5.7.1 no\0")));
    assert_eq!((fates, sent.as_str()), (vec![Fate::Rejected], "O C H M R R R AQ"));
    let (fates, ..) = run(&mut refusing(3, code(b"450 4.7.1 later\0")));
    assert_eq!(fates, [Fate::Deferred]);
}

#[test]
fn verdicts_end_a_message_where_they_come() {
    for (at, answer, fate, sent) in [
        (Kind::Mail, b't', Fate::Deferred, "O C H M AQ"),
        (Kind::Data, b'r', Fate::Rejected, "O C H M R T AQ"),
        (Kind::Header, b'a', Fate::Accepted, "O C H M R T L AQ"),
        (Kind::EndOfHeaders, b'd', Fate::Discarded, "O C H M R T L L L L L L L L N AQ"),
    ] {
        let verdict = |due| reply(if due == at { answer } else { b'c' });
        let played = play(Profile::postfix(), &small(), &nothing(), 1, verdict).unwrap();
        assert_eq!((played.0, played.1.as_str()), (vec![fate], sent));
    }
}

#[test]
fn skip_leaves_out_the_rest_of_its_kind() {
    let skip = |due| reply(if matches!(due, Kind::Body | Kind::Header) { b's' } else { b'c' });
    let shape = Shape { body: 200_000, ..small() };
    let (_, sent, _) = play(Profile::postfix(), &shape, &agreed(6, 0, 0x400), 1, skip).unwrap();
    assert_eq!(sent, "O C H M R T L N B E AQ");
}

#[test]
fn what_no_mta_could_make_sense_of_is_trouble() {
    let play =
        |answer: &mut dyn FnMut(Kind) -> Vec<u8>| play(Profile::postfix(), &small(), &nothing(), 1, answer);
    let settled = play(&mut |_| reply(b'a')).unwrap_err();
    assert_eq!(settled, Trouble::Settled { verdict: "\"accept\"".to_owned(), after: Kind::Connect });
    let odd = play(&mut |due| reply(if due == Kind::Mail { b'q' } else { b'c' })).unwrap_err();
    let expected = MtaError::Unexpected { reply: b'q', after: Kind::Mail };
    assert!(
        matches!(odd, Trouble::Protocol(error) if error == expected || error == MtaError::Malformed { reply: b'q' })
    );

    let mut mta = Mta::new(Profile::postfix());
    mta.on_negotiated(&quiet()).unwrap().unwrap();
    let mail = Mail::encode(&mta, &small());
    let hello = quiet();
    let mut talk = Conversation::new(&mta, &mail, &hello);
    talk.open();
    assert_eq!(talk.receive(&nothing()), Err(Trouble::Fickle));
    talk.open();
    assert_eq!(talk.receive(&quiet()), Ok(Step::Ready));
    let not_due = Err(Trouble::Protocol(MtaError::NotDue { reply: Some(b'c') }));
    assert_eq!(talk.receive(&reply(b'c')), not_due);
    // Nor may an answer overtake its command.
    talk.begin(&mail.letters[0], 0);
    talk.wrote(talk.unsent().len() - 1);
    assert_eq!(talk.receive(&reply(b'c')), not_due);
    talk.wrote(1);
    assert_eq!(talk.receive(&reply(b'c')), Ok(Step::On));
}

/// Takes two connections, the negotiation's and one more, and leaves the others in its queue, which is soon full.
fn taking_two(folder: &std::path::Path) -> Address {
    let socket = folder.join("filter.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    // Two are in the queue beside the one that is served.
    rustix::net::listen(&listener, 1).unwrap();
    std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 17]).unwrap();
            stream.write_all(&quiet()).unwrap();
            let mut length = [0; 4];
            while stream.read_exact(&mut length).is_ok() {
                let mut frame = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut frame).unwrap();
                if frame == b"T" {
                    stream.write_all(&reply(b'a')).unwrap();
                }
            }
        }
        // Whoever is in the queue waits on, and is not hung up on.
        loop {
            std::thread::park();
        }
    });
    Address::Unix(socket)
}

#[test]
fn a_connection_that_has_to_wait_keeps_no_other_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let address = taking_two(folder.path());
    let patience = Duration::from_millis(500);
    let generator = Generator::new(address, Profile::postfix(), &small(), patience, 0).unwrap();
    let end = End::After(Duration::from_secs(60));
    let load = Load { connections: 64, messages_per_session: u64::MAX, rate: None, end };
    let (outcome, failure) = generator.run(load, |_, _| ());
    assert!(outcome.accepted > 0, "{outcome:?}");
    // The queue is full for good, or those in it wait for their answer.
    assert!(
        matches!(
            failure,
            Some(Failure::Connect { .. } | Failure::Silent { after: Some(Kind::Negotiate), .. })
        ),
        "{failure:?}"
    );
}
