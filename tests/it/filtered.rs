//! Mail for becalm alone, by the milter protocol as Postfix speaks it: thousands of messages that no Postfix must
//! take and keep.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use becalm::milter::mta::{Change, Content, Envelope, Mta, Profile, Script, Verdict};
use becalm::milter::{Client, ClientAddress};

use crate::harness::PATIENCE;

/// One session.
pub struct Filtered {
    stream: UnixStream,
    mta: Mta,
    script: Script,
    number: u64,
}

impl Filtered {
    /// On becalm's socket.
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut session =
            Self { stream, mta: Mta::new(Profile::postfix()), script: Script::new(), number: 0 };
        session.stream.write_all(&session.mta.negotiate()).unwrap();
        let mut input = Vec::new();
        while session.mta.on_negotiated(&input).unwrap().is_none() {
            session.read(&mut input);
        }
        let client =
            Client { host: b"client.example.org", address: ClientAddress::Ip([127, 0, 0, 1].into()) };
        session.mta.connection(&client, b"client.example.org", &mut session.script);
        session.fly();
        session
    }

    /// Sends a message of `author`'s to a list that answers `root`, if that is not empty. True: it is held.
    #[track_caller]
    pub fn send(&mut self, author: &str, list: &str, root: &str) -> bool {
        self.number += 1;
        let queue_id = format!("4{:011}", self.number);
        let (sender, recipient) = (format!("<{author}>"), format!("<{list}>"));
        let envelope = Envelope {
            queue_id: queue_id.as_bytes(),
            auth_user: None,
            sender: sender.as_bytes(),
            recipients: &[recipient.as_bytes()],
        };
        self.mta.envelope(&envelope, &mut self.script);
        let mut held = false;
        // Accepted at DATA: nothing more is asked.
        if self.fly().is_none() {
            let id = format!("<{queue_id}.{list}>");
            let answered = format!("<{root}>");
            let mut headers: Vec<(&[u8], &[u8])> =
                vec![(b"From", sender.as_bytes()), (b"Message-ID", id.as_bytes())];
            if !root.is_empty() {
                headers.push((b"In-Reply-To", answered.as_bytes()));
            }
            let content = Content { queue_id: queue_id.as_bytes(), headers: &headers, body: b"me too\r\n" };
            self.mta.content(&content, &mut self.script);
            held = self.fly().expect("a verdict");
        }
        self.mta.abort(&mut self.script);
        self.fly();
        held
    }

    /// Sends what is in the script; what the last answer that was no "continue" said: held or not.
    #[track_caller]
    fn fly(&mut self) -> Option<bool> {
        let script = std::mem::take(&mut self.script);
        let mut fate = None;
        for flight in script.flights() {
            self.stream.write_all(flight.bytes).unwrap();
            if flight.due.is_none() {
                continue;
            }
            let mut input = Vec::new();
            loop {
                let reply = self.mta.receive(&input, flight.due).unwrap();
                let Some(reply) = reply else {
                    self.read(&mut input);
                    continue;
                };
                match reply.verdict {
                    Verdict::Continue | Verdict::Skip => {}
                    Verdict::Accept => {
                        fate =
                            Some(reply.changes.iter().any(|change| matches!(change, Change::Quarantine(_))));
                    }
                    other => panic!("{other:?}"),
                }
                break;
            }
            if fate.is_some() {
                break;
            }
        }
        fate
    }

    #[track_caller]
    fn read(&mut self, input: &mut Vec<u8>) {
        let mut chunk = [0; 4096];
        let size = self.stream.read(&mut chunk).unwrap();
        assert!(size > 0, "becalm hung up");
        input.extend_from_slice(&chunk[..size]);
    }
}
