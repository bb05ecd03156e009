//! Nothing grows, and nobody waits for ever.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::Duration;

use becalm::admin::http::{Limits, Rules};

use crate::site::{Site, exchange, read_answer, wait_until};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";

fn hasty() -> Limits {
    let soon = Duration::from_millis(200);
    Limits { head: soon, body: soon, ..Limits::default() }
}

#[test]
fn a_head_that_does_not_come_ends_the_connection() {
    let site = Site::start(hasty(), Rules::default());
    for begun in ["", "GET /heal", "GET /healthz HTTP/1.1\r\nhost: x\r\nx: "] {
        let mut stream = site.unix();
        stream.write_all(begun.as_bytes()).unwrap();
        let mut said = Vec::new();
        let ended = stream.read_to_end(&mut said);
        assert!(ended.is_ok() && said.is_empty(), "{begun}: {ended:?} {said:?}");
    }
    // Between two requests too, and drop by drop.
    let mut stream = site.unix();
    assert_eq!(exchange(&mut stream, HEALTH).unwrap().status, 200);
    assert_eq!(stream.read(&mut [0; 10]).unwrap(), 0);
    let mut stream = site.unix();
    let ended = HEALTH.iter().cycle().find_map(|byte| {
        std::thread::sleep(Duration::from_millis(20));
        // Never a line's end: the head is never whole.
        let byte = if byte.is_ascii_whitespace() { b'x' } else { *byte };
        stream.write_all(&[byte]).err()
    });
    assert!(ended.is_some());
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let site = Site::start(hasty(), Rules::default());
    let before = site.state();
    let head = b"POST /api/v1/observe HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{\"on\":";
    let answer = exchange(&mut site.unix(), head).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (408, "too_slow"));
    assert_eq!(before, site.state());
}

#[test]
fn one_connection_too_many_is_told_so() {
    let site = Site::start(Limits { connections: 3, ..Limits::default() }, Rules::default());
    let mut taken: Vec<_> = (0..3).map(|_| site.unix()).collect();
    // They are served, and idle.
    for stream in &mut taken {
        assert_eq!(exchange(stream, HEALTH).unwrap().status, 200);
    }
    for request in [HEALTH, &[b'x'; 60_000]] {
        let answer = exchange(&mut site.unix(), request).unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (503, "too_many_connections"));
    }
    // The other socket has places of its own.
    let local = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(exchange(&mut site.tcp(), local).unwrap().status, 200);
    taken.pop();
    wait_until("a place is free", || (exchange(&mut site.unix(), HEALTH).ok()?.status == 200).then_some(()));
}

#[test]
fn a_reader_that_does_not_read_is_hung_up_on() {
    let site =
        Site::start(Limits { write: Duration::from_millis(300), ..Limits::default() }, Rules::default());
    // More than the sockets hold: answers to requests that are sent on and on, and never read.
    let mut stream = site.unix();
    let ended = std::iter::repeat_n(b"GET /api/v1/quarantine HTTP/1.1\r\nhost: x\r\n\r\n", 1_000_000)
        .find_map(|request| stream.write_all(request).err());
    let kind = ended.map(|error| error.kind());
    assert!(matches!(kind, Some(ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)), "{kind:?}");
    assert_eq!(exchange(&mut site.unix(), HEALTH).unwrap().status, 200);
}

#[test]
fn requests_one_after_the_other_and_in_a_row() {
    let site = Site::start(Limits::default(), Rules::default());
    let mut stream = site.unix();
    stream.write_all(&HEALTH.repeat(20)).unwrap();
    for _ in 0..20 {
        assert_eq!(read_answer(&mut stream, false).unwrap().body, "{\"alive\":true}");
    }
    // A body that nobody reads does not become the next request.
    let smuggled = b"GET /healthz HTTP/1.1\r\nhost: x\r\ncontent-length: 37\r\n\r\nGET /api/v1/x HTTP/1.1\r\nhost: x\r\n\r\n12";
    assert_eq!(exchange(&mut stream, smuggled).unwrap().status, 200);
    match exchange(&mut stream, HEALTH) {
        Ok(answer) => assert_eq!(answer.status, 200),
        Err(_) => assert_eq!(exchange(&mut site.unix(), HEALTH).unwrap().status, 200),
    }
}
