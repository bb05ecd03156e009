//! Milter peers that are not Postfix: too many of them, silent ones, slow ones, broken ones.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use becalm::milter::mta::{Content, Envelope, Mta, Profile, Script, Verdict};
use becalm::milter::{Client, ClientAddress};

use crate::harness::{Becalm, Letter, PATIENCE, Site, TOUCHY, person, queued, wait_until};

const ALL: &str = "all@example.org";

/// An MTA's end of a milter connection.
struct Peer {
    stream: UnixStream,
    mta: Mta,
}

impl Peer {
    /// Connects; nothing is said yet.
    fn connect(becalm: &Becalm) -> Self {
        let stream = UnixStream::connect(becalm.socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, mta: Mta::new(Profile::postfix()) }
    }

    /// Negotiates. False: the connection was closed instead.
    fn negotiate(&mut self) -> bool {
        if self.stream.write_all(&self.mta.negotiate()).is_err() {
            return false;
        }
        let mut input = Vec::new();
        while self.mta.on_negotiated(&input).unwrap().is_none() {
            if self.read(&mut input) == 0 {
                return false;
            }
        }
        true
    }

    /// How many bytes came; 0: the connection is closed.
    fn read(&mut self, input: &mut Vec<u8>) -> usize {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(count) => {
                input.extend_from_slice(&bytes[..count]);
                count
            }
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("becalm does not answer: {error}"),
        }
    }

    /// Plays a script and returns the last answer.
    fn play(&mut self, script: &Script) -> String {
        let mut last = String::new();
        for flight in script.flights() {
            self.stream.write_all(flight.bytes).unwrap();
            let mut input = Vec::new();
            while flight.due.is_some() {
                if let Some(reply) = self.mta.receive(&input, flight.due).unwrap() {
                    last = match reply.verdict {
                        Verdict::Code(line) => String::from_utf8_lossy(line).into_owned(),
                        verdict => format!("{verdict:?}"),
                    };
                    break;
                }
                assert!(self.read(&mut input) > 0, "becalm hung up");
            }
        }
        last
    }

    /// A session's beginning, and a message's up to DATA.
    fn begin(&mut self, sender: &str, recipient: &str) -> String {
        let mut script = Script::new();
        let address = ClientAddress::Ip([192, 0, 2, 7].into());
        self.mta.connection(&Client { host: b"client.example.org", address }, b"client", &mut script);
        let envelope = Envelope {
            queue_id: b"4XyZ",
            auth_user: None,
            sender: sender.as_bytes(),
            recipients: &[recipient.as_bytes()],
        };
        self.mta.envelope(&envelope, &mut script);
        self.play(&script)
    }

    /// The rest of it.
    fn finish(&mut self) -> String {
        let mut script = Script::new();
        let headers: &[(&[u8], &[u8])] = &[(b"From", b"p@example.org"), (b"Message-ID", b"<x@example.org>")];
        self.mta.content(&Content { queue_id: b"4XyZ", headers, body: b"text\r\n" }, &mut script);
        self.mta.abort(&mut script);
        self.play(&script)
    }

    /// Waits until the connection is closed.
    fn wait_for_end(&mut self) {
        let mut rest = Vec::new();
        while self.read(&mut rest) > 0 {}
    }
}

#[test]
fn one_connection_too_many_is_closed_and_the_others_are_served() {
    let site = Site::with(
        &format!(
            "listen.max_connections = 2\n[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"
        ),
        |postfix| postfix.default_action("accept"),
    );
    // smtpd was asked once already, when it was found to answer.
    wait_until("becalm is alone", || (site.becalm.status().connections == 0).then_some(()));
    let mut peers = [Peer::connect(&site.becalm), Peer::connect(&site.becalm)];
    assert!(peers.iter_mut().all(Peer::negotiate));
    let mut third = Peer::connect(&site.becalm);
    assert!(!third.negotiate(), "closed at once");
    // Postfix takes its default action, and the mail passes.
    let id = queued(&site.send(&Letter::new(&person(1), "m1"), &[ALL]));
    assert!(!site.delivered_text(&id).contains("X-Becalm"));
    let status = site.becalm.status();
    assert_eq!((status.connections, status.max_connections), (2, 2));
    assert!(status.counts.connections_refused >= 2, "{:?}", status.counts);
    assert!(site.becalm.log().iter().any(|line| line.contains("too many connections")));
    // Those that are there have noticed nothing.
    for peer in &mut peers {
        assert_eq!(peer.begin("p@example.org", "friend@example.org"), "Accept");
    }
    drop(peers);
    wait_until("their places are free", || (site.becalm.status().connections == 0).then_some(()));
    let id = queued(&site.send(&Letter::new(&person(2), "m2"), &[ALL]));
    assert!(site.delivered_text(&id).contains("X-Becalm"), "the filter is back");
    // A higher limit needs no restart.
    site.becalm.rewrite(|config| config.replace("max_connections = 2", "max_connections = 3"));
    assert!(site.becalm.reload());
    let mut peers: Vec<Peer> = (0..3).map(|_| Peer::connect(&site.becalm)).collect();
    assert!(peers.iter_mut().all(Peer::negotiate));
}

#[test]
fn silent_and_slow_peers_are_sent_away_and_nobody_else_notices() {
    let site = Site::new(&format!(
        "listen.idle_timeout = '10s'\nlisten.message_timeout = '10s'\nlisten.packet_timeout = '1s'\nlisten.threads = 1
         [verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"
    ));
    let becalm = &site.becalm;
    let connect = || Peer::connect(becalm);
    let negotiated = || {
        let mut peer = connect();
        assert!(peer.negotiate());
        peer
    };
    // Says nothing at all; nothing after the negotiation; nothing after DATA.
    let silent = connect();
    let polite = negotiated();
    let mut undecided = negotiated();
    assert_eq!(undecided.begin("p@example.org", ALL), "Continue");
    // Half a packet, and a packet that claims to be long.
    let mut half = negotiated();
    half.stream.write_all(b"\0\0\0\x10M<p@ex").unwrap();
    let mut long = negotiated();
    long.stream.write_all(b"\0\0\xff\xffB").unwrap();
    // A packet that comes byte by byte, each in good time, and never ends.
    let mut drip = negotiated();
    drip.stream.write_all(b"\0\0\x10\0M").unwrap();
    drip.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // Asks and asks, and does not read the answers.
    let mut deaf = negotiated();
    assert_eq!(deaf.begin("deaf@example.org", "friend@example.org"), "Accept");
    deaf.stream.set_nonblocking(true).unwrap();

    std::thread::scope(|scope| {
        for mut peer in [silent, polite, undecided, half, long] {
            scope.spawn(move || peer.wait_for_end());
        }
        scope.spawn(move || {
            wait_until("the slow peer is sent away", || {
                let sent = drip.stream.write_all(b"x");
                let ended = matches!(drip.stream.read(&mut [0; 16]), Ok(0)) || sent.is_err();
                ended.then_some(())
            });
        });
        scope.spawn(move || {
            let mut script = Script::new();
            deaf.mta.envelope(
                &Envelope {
                    queue_id: b"4XyZ",
                    auth_user: None,
                    sender: b"<>",
                    recipients: &[b"<friend@example.org>"],
                },
                &mut script,
            );
            deaf.mta.abort(&mut script);
            wait_until("the deaf peer is sent away", || {
                loop {
                    match deaf.stream.write(script.bytes()) {
                        Ok(count) if count == script.bytes().len() => {}
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break None,
                        // Part of a packet was taken: the rest will not be, for nobody reads.
                        Ok(_) => break None,
                        Err(_) => break Some(()),
                    }
                }
            });
        });
        // Meanwhile mail flows.
        let mut client = site.client();
        for n in 0..20 {
            let to = if n % 2 == 0 { ALL } else { "friend@example.org" };
            queued(&Letter::new(&person(n), &format!("m{n}")).send(&mut client, &[to]));
        }
    });
    // Postfix's own connection has been idle for a shorter time than any of these; it goes, too.
    let counts = becalm.status().counts;
    assert_eq!((counts.sessions_failed, counts.held), (7, 9), "{counts:?}");
    assert_eq!(counts.watched_unfinished, 1, "the one that was silent after DATA");
    let mut next = connect();
    assert!(next.negotiate());
    assert_eq!(
        (next.begin("next@example.org", ALL).as_str(), next.finish().as_str()),
        ("Continue", "Accept")
    );
}

#[test]
fn a_peer_that_talks_nonsense_harms_only_itself() {
    let becalm = Becalm::start(&format!("[[list]]\naddress = '{ALL}'\nmode = 'hold'\n{TOUCHY}"));
    let mut good = Peer::connect(&becalm);
    assert!(good.negotiate());
    assert_eq!(good.begin("good@example.org", ALL), "Continue");
    let nonsense: [&[u8]; 7] = [
        b"GET / HTTP/1.1\r\nHost: becalm\r\n\r\n",
        b"\xff\xff\xff\xffO",
        b"\0\0\0\0",
        b"\0\0\0\x01Z",
        b"\0\0\0\x01E",
        b"\0\0\0\x05O\0\0\0\x06",
        b"\0\0\0\x0dO\0\0\0\x01\0\0\0\x01\0\0\0\x01",
    ];
    for bytes in nonsense {
        let mut peer = Peer::connect(&becalm);
        peer.stream.write_all(bytes).unwrap();
        peer.wait_for_end();
    }
    // And in the middle of a message.
    let mut peer = Peer::connect(&becalm);
    assert!(peer.negotiate());
    assert_eq!(peer.begin("p@example.org", ALL), "Continue");
    peer.stream.write_all(b"\0\0\0\x01?").unwrap();
    peer.wait_for_end();

    assert_eq!(good.finish(), "Accept");
    let counts = becalm.status().counts;
    assert_eq!((counts.sessions_failed, counts.watched_unfinished, counts.passed), (8, 1, 1), "{counts:?}");
    assert!(becalm.log().iter().any(|line| line.contains("broke the protocol")));
}
