//! A command byte and any body: an argument is always a piece of the body, and what the MTA's side makes of any
//! reply never panics.
#![no_main]

use becalm::milter::command::{Command, Kind};
use becalm::milter::frame::Frame;
use becalm::milter::mta::{Mta, Profile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((command, body)) = data.split_first() else { return };
    let text = |part: &[u8]| {
        assert!(!part.contains(&0), "a string goes up to its NUL");
        within(body, part);
    };
    if let Ok((kind, command)) = Command::parse(Frame { command: *command, body }) {
        match command {
            Command::Helo(part) | Command::Mail(part) | Command::Recipient(part) | Command::Unknown(part) => {
                text(part);
                assert!(body.starts_with(part), "the first string, and all of it");
            }
            Command::Header { name, value } => {
                text(name);
                text(value);
            }
            Command::Connect(client) => text(client.host),
            Command::Macros(list) => {
                for (name, value) in list.iter() {
                    text(name);
                    text(value);
                }
            }
            Command::Body(part) | Command::EndOfMessage(part) => assert_eq!(part, body),
            _ => {}
        }
        assert_eq!(Some(kind), Kind::from_byte(data[0]));
    }

    let mut mta = Mta::new(Profile::sendmail());
    let _ = mta.on_negotiated(body);
    let _ = mta.receive(body, Kind::from_byte(*command));
});

/// Borrowed, not made up.
fn within(body: &[u8], part: &[u8]) {
    let (body, part) = (body.as_ptr_range(), part.as_ptr_range());
    assert!(body.start <= part.start && part.end <= body.end);
}
