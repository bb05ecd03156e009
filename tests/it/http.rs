//! becalm's HTTP side as it runs: takeovers, reloads, readiness. What may be sent there is in `tests/http`.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Becalm, PATIENCE, open_folder, wait_until};

/// One that was free a moment ago.
fn address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Asks, and returns the status and the body.
fn ask(
    stream: &mut (impl Read + Write),
    line: &str,
    fields: &str,
    body: &str,
) -> std::io::Result<(u16, Value)> {
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
    )?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let status = said.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
    let body = said.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, serde_json::from_str(body).unwrap_or_default()))
}

fn by_tcp(address: SocketAddr, line: &str, fields: &str, body: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream, line, fields, body)
}

fn by_socket(becalm: &Becalm, line: &str) -> std::io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(becalm.home().join("admin.sock"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    ask(&mut stream, line, "", "")
}

/// An event stream that has begun.
fn follow(mut stream: impl Read + Write) -> BufReader<impl Read> {
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut stream = BufReader::new(stream);
    let mut said = String::new();
    while !said.contains("event: pulse") {
        assert!(stream.read_line(&mut said).unwrap() > 0, "{said}");
    }
    stream
}

#[test]
fn who_takes_over_answers_at_the_same_addresses() {
    let tcp = address();
    let becalm =
        Becalm::start(&format!("admin.http.listen = '{tcp}'\nadmin.http.read_without_token = true\n"));
    let pid = |value: &Value| value["pid"].as_u64();
    let old = by_tcp(tcp, "GET /api/v1/status", "", "").unwrap();
    assert_eq!((old.0, pid(&old.1)), (200, Some(becalm.status().pid.into())));
    let admin = becalm.home().join("admin.sock");
    let connected = TcpStream::connect(tcp).unwrap();
    connected.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut by_tcp_stream = follow(connected);
    let connected = UnixStream::connect(&admin).unwrap();
    connected.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut by_unix_stream = follow(connected);
    // A session keeps the old one: it is not its end that makes way.
    let session = UnixStream::connect(becalm.socket()).unwrap();
    wait_until("the session is served", || (becalm.status().connections == 1).then_some(()));

    let new = becalm.take_over();
    let answer = wait_until("the new one answers by TCP", || {
        let (status, value) = by_tcp(tcp, "GET /api/v1/status", "", "").ok()?;
        (status == 200 && pid(&value) == Some(new.status().pid.into())).then_some(value)
    });
    assert_eq!(answer["generation"], 2);
    // Dashboards are sent on.
    for stream in [&mut by_tcp_stream as &mut dyn Read, &mut by_unix_stream] {
        stream.read_to_end(&mut Vec::new()).unwrap();
    }
    follow(TcpStream::connect(tcp).unwrap());
    let (status, value) = by_socket(&new, "GET /readyz").unwrap();
    assert_eq!((status, &value["ready"]), (200, &true.into()), "{value}");
    drop(session);
    let mut becalm = becalm;
    assert!(becalm.wait());
}

#[test]
fn the_one_that_takes_back_answers_again() {
    let tcp = address();
    let becalm =
        Becalm::start(&format!("admin.http.listen = '{tcp}'\nadmin.http.read_without_token = true\n"));
    let _session = UnixStream::connect(becalm.socket()).unwrap();
    wait_until("the session is served", || (becalm.status().connections == 1).then_some(()));
    let mut new = becalm.take_over();
    new.signal(Signal::KILL);
    new.wait_until_still();
    for _ in 0..2 {
        wait_until("the old one answers again", || {
            let (status, value) = by_tcp(tcp, "GET /readyz", "", "").ok()?;
            (status == 200 && value["ready"] == true).then_some(())
        });
        let (_, value) = by_tcp(tcp, "GET /api/v1/status", "", "").unwrap();
        assert_eq!(value["generation"], 1);
    }
    assert_eq!(by_socket(&becalm, "GET /healthz").unwrap().0, 200);
}

#[test]
fn the_token_is_read_anew_with_a_reload() {
    let folder = open_folder();
    let file = folder.path().join("token");
    let write = |token: &str, mode: u32| {
        std::fs::write(&file, format!("{token}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let (first, second) = ("1".repeat(40), "2".repeat(40));
    write(&first, 0o600);
    let tcp = address();
    let config =
        |file: &Path| format!("admin.http.listen = '{tcp}'\nadmin.http.token_file = '{}'\n", file.display());
    let becalm = Becalm::start(&config(&file));
    let observe = |token: &str, on: bool| {
        let fields = format!("content-type: application/json\r\nauthorization: Bearer {token}\r\n");
        by_tcp(tcp, "POST /api/v1/observe", &fields, &format!("{{\"on\":{on}}}")).unwrap()
    };
    assert_eq!(observe(&first, true).0, 200);
    assert!(becalm.status().observing);
    assert_eq!(observe(&second, false).1["error"]["code"], "wrong_token");

    write(&second, 0o600);
    assert!(becalm.reload());
    assert_eq!(observe(&first, false).1["error"]["code"], "wrong_token");
    assert!(becalm.status().observing);
    assert_eq!(observe(&second, false).0, 200);
    assert!(!becalm.status().observing);

    // One that everybody may read is no token.
    write(&second, 0o644);
    assert!(becalm.reload());
    assert!(becalm.wait_for_log("no token is good").contains("chmod"));
    assert_eq!(observe(&second, true).1["error"]["code"], "no_token");

    let (status, value) = by_socket(&becalm, "GET /api/v1/audit?limit=2").unwrap();
    assert_eq!(status, 200);
    let on: Vec<_> = value["entries"].as_array().unwrap().iter().map(|entry| &entry["on"]).collect();
    assert_eq!(on, [&Value::from(false), &Value::from(true)], "the latest first: {value}");
}

#[test]
fn readiness_ends_before_the_process_does() {
    let mut becalm = Becalm::start("listen.drain = '5m'\n");
    assert_eq!(
        by_socket(&becalm, "GET /readyz").unwrap(),
        (200, serde_json::json!({ "ready": true, "reasons": [] }))
    );
    let session = UnixStream::connect(becalm.socket()).unwrap();
    wait_until("the session is served", || (becalm.status().connections == 1).then_some(()));
    becalm.signal(Signal::TERM);
    wait_until("it drains", || (by_socket(&becalm, "GET /readyz").ok()?.0 == 503).then_some(()));
    assert_eq!(by_socket(&becalm, "GET /readyz").unwrap().1["reasons"], serde_json::json!(["draining"]));
    assert_eq!(by_socket(&becalm, "GET /healthz").unwrap().0, 200);
    drop(session);
    assert!(becalm.wait());
}

#[test]
fn an_address_that_others_can_reach_is_refused() {
    for (address, words) in [
        ("0.0.0.0:8025", "can be reached from other machines"),
        ("192.0.2.1:8025", "can be reached from other machines"),
        ("[::]:8025", "can be reached from other machines"),
        ("localhost:8025", "write \"127.0.0.1:8025\""),
        ("127.0.0.1", "write \"127.0.0.1:8025\""),
    ] {
        let folder = open_folder();
        let file = folder.path().join("becalm.toml");
        std::fs::write(&file, format!("[admin.http]\nlisten = \"{address}\"\n")).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_becalm"))
            .args(["run", "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && said.contains(words) && said.contains("becalm.toml:2"),
            "{address}: {said}"
        );
    }
}
