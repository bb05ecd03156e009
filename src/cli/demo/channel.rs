//! How a message gets to becalm: by the milter protocol, as Postfix speaks it, or by SMTP through Postfix.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::milter::mta::{Change, Content, Envelope, Mta, MtaReply, Profile, Script, Verdict};
use crate::milter::{Client, ClientAddress};
use crate::postfix::smtp;
use crate::replay::letter::Letter;

/// Messages in one session; then the client comes again, as clients do.
const SESSION: u32 = 20;

/// For one answer. Mail waits longer for less, but a demonstration that hangs should say so.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where channels lead.
#[derive(Clone, Debug)]
pub enum Target {
    /// becalm's socket.
    Milter(PathBuf),
    /// Postfix's port.
    Smtp(SocketAddr),
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Accepted, with or without a header; by SMTP it may be held as well: only the queue knows.
    Accepted,
    /// Accepted as it was, at DATA.
    Untouched,
    /// Held.
    Held,
    /// Anything else.
    Refused,
}

/// A session that sends one message after the other.
pub struct Channel {
    target: Target,
    sender: Option<Sender>,
    left: u32,
    /// Makes queue ids.
    number: u64,
}

enum Sender {
    Milter(Box<Peer>),
    Smtp(smtp::Client),
}

struct Peer {
    stream: UnixStream,
    mta: Mta,
    script: Script,
    input: Vec<u8>,
}

impl Channel {
    /// Number `index` of the channels to `target`.
    pub fn new(target: &Target, index: u64) -> Self {
        Self { target: target.clone(), sender: None, left: 0, number: index << 32 }
    }

    /// Sends a message and waits for its fate.
    pub fn send(&mut self, letter: &Letter, recipient: &str) -> anyhow::Result<Fate> {
        self.number += 1;
        if self.left == 0 {
            self.hang_up()?;
            self.left = SESSION;
        }
        self.left -= 1;
        let sender = match self.sender.take() {
            Some(sender) => sender,
            None => connect(&self.target)?,
        };
        match self.sender.insert(sender) {
            Sender::Milter(peer) => peer.send(letter, recipient, self.number),
            Sender::Smtp(client) => {
                let reply = client.send(&letter.sender, &[recipient], &letter.to_message(recipient))?;
                Ok(if reply.is_positive() { Fate::Accepted } else { Fate::Refused })
            }
        }
    }

    /// Ends the session politely.
    pub fn hang_up(&mut self) -> anyhow::Result<()> {
        match self.sender.take() {
            Some(Sender::Milter(mut peer)) => {
                peer.script.clear();
                peer.mta.quit(&mut peer.script);
                peer.stream.write_all(peer.script.bytes())?;
            }
            Some(Sender::Smtp(client)) => {
                client.quit()?;
            }
            None => {}
        }
        Ok(())
    }
}

fn connect(target: &Target) -> anyhow::Result<Sender> {
    match target {
        Target::Smtp(address) => {
            let mut client = smtp::Client::connect(*address)?;
            client.ehlo("client.staff.example")?;
            Ok(Sender::Smtp(client))
        }
        Target::Milter(path) => {
            let stream = UnixStream::connect(path).context("cannot reach becalm's socket")?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let mut peer =
                Peer { stream, mta: Mta::new(Profile::postfix()), script: Script::new(), input: Vec::new() };
            peer.open()?;
            Ok(Sender::Milter(Box::new(peer)))
        }
    }
}

impl Peer {
    fn open(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&self.mta.negotiate())?;
        self.input.clear();
        while self.mta.on_negotiated(&self.input)?.is_none() {
            self.read()?;
        }
        self.input.clear();
        self.script.clear();
        let address = ClientAddress::Ip(std::net::IpAddr::from([127, 0, 0, 1]));
        let client = Client { host: b"client.staff.example", address };
        self.mta.connection(&client, b"client.staff.example", &mut self.script);
        self.exchange(|_| None)?;
        Ok(())
    }

    fn send(&mut self, letter: &Letter, recipient: &str, number: u64) -> anyhow::Result<Fate> {
        let queue_id = format!("4Demo{number:X}");
        let recipient = format!("<{recipient}>");
        let sender = format!("<{}>", letter.sender);
        self.script.clear();
        self.mta.envelope(
            &Envelope {
                queue_id: queue_id.as_bytes(),
                auth_user: None,
                sender: sender.as_bytes(),
                recipients: &[recipient.as_bytes()],
            },
            &mut self.script,
        );
        let mut fate = self.exchange(|reply| match reply.verdict {
            Verdict::Accept => Some(Fate::Untouched),
            Verdict::Continue | Verdict::Skip => None,
            _ => Some(Fate::Refused),
        })?;
        if fate.is_none() {
            let headers: Vec<(&[u8], &[u8])> =
                letter.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
            self.script.clear();
            self.mta.content(
                &Content { queue_id: queue_id.as_bytes(), headers: &headers, body: b"me too\r\n" },
                &mut self.script,
            );
            fate = self.exchange(|reply| match reply.verdict {
                Verdict::Continue | Verdict::Skip => None,
                Verdict::Accept => {
                    let held = reply.changes.iter().any(|change| matches!(change, Change::Quarantine(_)));
                    Some(if held { Fate::Held } else { Fate::Accepted })
                }
                _ => Some(Fate::Refused),
            })?;
        }
        self.script.clear();
        self.mta.abort(&mut self.script);
        self.stream.write_all(self.script.bytes())?;
        fate.context("becalm gave no verdict")
    }

    /// Sends the script, flight by flight, until an answer settles the message.
    fn exchange(&mut self, settles: impl Fn(&MtaReply<'_>) -> Option<Fate>) -> anyhow::Result<Option<Fate>> {
        let script = std::mem::take(&mut self.script);
        let outcome = self.fly(&script, settles);
        self.script = script;
        outcome
    }

    fn fly(
        &mut self,
        script: &Script,
        settles: impl Fn(&MtaReply<'_>) -> Option<Fate>,
    ) -> anyhow::Result<Option<Fate>> {
        for flight in script.flights() {
            self.stream.write_all(flight.bytes)?;
            if flight.due.is_none() {
                continue;
            }
            self.input.clear();
            loop {
                if let Some(reply) = self.mta.receive(&self.input, flight.due)? {
                    if let Some(fate) = settles(&reply) {
                        return Ok(Some(fate));
                    }
                    break;
                }
                self.read()?;
            }
        }
        Ok(None)
    }

    fn read(&mut self) -> anyhow::Result<()> {
        let mut chunk = [0; 4096];
        let size = self.stream.read(&mut chunk).context("becalm does not answer")?;
        if size == 0 {
            bail!("becalm hung up");
        }
        self.input.extend_from_slice(&chunk[..size]);
        Ok(())
    }
}
