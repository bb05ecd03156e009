//! The event stream.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use becalm::admin::http::{Limits, Rules, Token};
use becalm::journal::event::Event;
use becalm::time::Timestamp;
use serde_json::Value;

use crate::site::{PATIENCE, Site, exchange, read_answer, wait_until};

const STREAM: &[u8] = b"GET /api/v1/events HTTP/1.1\r\nhost: x\r\n\r\n";

fn possible_list(address: &str) -> Event {
    Event::PossibleList { address: address.to_owned(), authors: 20, at: Timestamp::from_millis(1) }
}

/// A stream whose greeting was read.
fn open(site: &Site) -> BufReader<UnixStream> {
    let mut stream = site.unix();
    let answer = exchange(&mut stream, STREAM).unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert_eq!(answer.header("connection"), "close");
    let mut stream = BufReader::new(stream);
    let mut said = String::new();
    while !said.contains("retry: ") {
        assert!(stream.read_line(&mut said).unwrap() > 0, "{said}");
    }
    stream
}

/// The next event, with its data. None: the stream has ended.
fn next(stream: &mut BufReader<impl Read>) -> Option<(String, Value)> {
    let mut name = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).unwrap() == 0 {
            return None;
        }
        if let Some(event) = line.strip_prefix("event: ") {
            event.trim().clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            return Some((name, serde_json::from_str(data).unwrap()));
        }
    }
}

#[test]
fn everybody_hears_the_same_and_figures_come_where_they_changed() {
    let site = Site::start(Limits::default(), Rules::default());
    let mut streams = [open(&site), open(&site)];
    // Whoever is new learns the figures.
    for stream in &mut streams {
        let (name, pulse) = next(stream).unwrap();
        assert_eq!((name.as_str(), &pulse["held"]), ("pulse", &30.into()));
        assert!(pulse["counts"]["messages"].is_u64() && pulse["storms"].is_u64() && pulse["now"].is_string());
    }
    site.daemon.shared.publish(&[possible_list("a@example.org"), possible_list("b\"\n@example.org")]);
    site.daemon.shared.counters.watched.add_one();
    for stream in &mut streams {
        let mut heard: Vec<_> =
            std::iter::from_fn(|| next(stream)).filter(|(name, _)| name != "pulse").take(2).collect();
        assert_eq!(heard.remove(0).1["address"], "a@example.org");
        let (name, event) = heard.remove(0);
        assert_eq!((name.as_str(), &event["address"]), ("possible_list", &"b\"\n@example.org".into()));
        let counted = std::iter::from_fn(|| next(stream)).find(|(_, pulse)| pulse["counts"]["watched"] == 1);
        assert_eq!(counted.unwrap().0, "pulse");
    }
    // Nothing has changed since, and a third who comes makes them all hear the figures again: no pulse in between.
    let mut third = open(&site);
    assert_eq!(next(&mut third).unwrap().0, "pulse");
}

#[test]
fn there_are_as_many_streams_as_may_be_and_they_take_no_connection_s_place() {
    let limits = Limits { connections: 1, streams: 3, ..Limits::default() };
    let site = Site::start(limits, Rules::default());
    let mut streams: Vec<_> = (0..3).map(|_| open(&site)).collect();
    let answer = exchange(&mut site.unix(), STREAM).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (503, "no_stream"));
    streams.pop();
    let mut again = wait_until("a stream is free", || {
        let mut stream = site.unix();
        let answer = exchange(&mut stream, STREAM).ok()?;
        (answer.status == 200).then_some(stream)
    });
    site.daemon.shared.publish(&[possible_list("a@example.org")]);
    let mut said = [0; 10];
    again.read_exact(&mut said).unwrap();
    assert!(std::iter::from_fn(|| next(&mut streams[0])).any(|(name, _)| name == "possible_list"));
}

#[test]
fn who_does_not_read_is_dropped_and_the_others_are_not() {
    let limits = Limits { streams: 2, write: Duration::from_millis(300), ..Limits::default() };
    let site = Site::start(limits, Rules::default());
    let mut stuck = site.unix();
    std::io::Write::write_all(&mut stuck, STREAM).unwrap();
    assert_eq!(read_answer(&mut stuck, false).unwrap().status, 200);
    let mut reader = open(&site);
    let (heard, hears) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let all = std::iter::from_fn(|| next(&mut reader)).filter(|(name, _)| name == "possible_list");
        for (_, event) in all {
            // Nobody listens any more: the test is over.
            if heard.send(event["address"].as_str().unwrap().to_owned()).is_err() {
                break;
            }
        }
    });
    // More than the kernel and becalm keep for one that does not read; the other one is waited for.
    let long = format!("{}@example.org", "x".repeat(8000));
    for _ in 0..400 {
        site.daemon.shared.publish(&[possible_list(&long)]);
        assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), long);
    }
    // Its place is free.
    let mut instead = wait_until("the stuck one is gone", || {
        let mut stream = site.unix();
        (exchange(&mut stream, STREAM).ok()?.status == 200).then_some(stream)
    });
    site.daemon.shared.publish(&[possible_list("last@example.org")]);
    assert_eq!(hears.recv_timeout(PATIENCE).unwrap(), "last@example.org");
    drop(hears);
    instead.read_exact(&mut [0; 10]).unwrap();
    // What was on its way can still be read; then there is an end, not silence.
    let mut rest = Vec::new();
    let _ = stuck.read_to_end(&mut rest);
    assert!(rest.len() < 400 * 8000, "{}", rest.len());
    drop(site);
    thread.join().unwrap();
}

#[test]
fn a_stream_ends_with_the_token_that_opened_it() {
    const OLD: &str = "0123456789abcdef0123456789abcdef";
    let rules = |token: &str| Rules { token: Some(Token::new(token.as_bytes())), ..Rules::default() };
    let site = Site::start(Limits::default(), rules(OLD));
    let ask =
        format!("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OLD}\r\n\r\n");
    let mut stream = site.tcp();
    assert_eq!(exchange(&mut stream, ask.as_bytes()).unwrap().status, 200);
    let mut stream = BufReader::new(stream);
    assert_eq!(next(&mut stream).unwrap().0, "pulse");
    // The same rules again, as after any reload: nobody is sent away.
    site.gate.set(rules(OLD));
    site.daemon.shared.counters.watched.add_one();
    assert_eq!(next(&mut stream).unwrap().1["counts"]["watched"], 1);
    const NEW: &str = "another one, of thirty-two bytes or so";
    site.gate.set(rules(NEW));
    // Whoever comes with the new one is not sent away together with those of before.
    let mut comes = site.tcp();
    assert_eq!(exchange(&mut comes, ask.replace(OLD, NEW).as_bytes()).unwrap().status, 200);
    assert_eq!(std::iter::from_fn(|| next(&mut stream)).find(|(name, _)| name != "pulse"), None);
    assert_eq!(exchange(&mut site.tcp(), ask.as_bytes()).unwrap().status, 401);
    let mut comes = BufReader::new(comes);
    for watched in 2..5 {
        site.daemon.shared.counters.watched.add_one();
        let heard =
            std::iter::from_fn(|| next(&mut comes)).find(|(_, data)| data["counts"]["watched"] == watched);
        assert!(heard.is_some(), "the stream was ended");
    }
}
