//! Who may do what.

use becalm::admin::http::{Limits, Rules, Token};

use crate::site::{Answer, Site, exchange};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn rules() -> Rules {
    Rules {
        token: Some(Token::new(SECRET.as_bytes())),
        hosts: vec!["mail.example.org".to_owned()],
        ..Rules::default()
    }
}

#[track_caller]
fn ask(site: &Site, line: &str, fields: &[String]) -> Answer {
    let body = if line.starts_with("POST") { "{\"on\":true}" } else { "" };
    let request =
        format!("{line} HTTP/1.1\r\n{}content-length: {}\r\n\r\n{body}", fields.concat(), body.len());
    exchange(&mut site.tcp(), request.as_bytes()).unwrap()
}

fn field(name: &str, value: &str) -> String {
    format!("{name}: {value}\r\n")
}

#[test]
fn by_tcp_only_who_has_the_token() {
    let site = Site::start(Limits::default(), rules());
    let host = field("host", "localhost:8025");
    let bearer = |token: &str| field("authorization", &format!("Bearer {token}"));
    let json = field("content-type", "application/json");
    let code = |line: &str, fields: &[String]| {
        let answer = ask(&site, line, fields);
        match answer.status {
            200 => "fine".to_owned(),
            401 => {
                assert_eq!(answer.header("www-authenticate"), "Bearer");
                answer.code()
            }
            _ => answer.code(),
        }
    };
    let status = "GET /api/v1/status";
    let observe = "POST /api/v1/observe";
    assert_eq!(code("GET /healthz", std::slice::from_ref(&host)), "fine");
    assert_eq!(code(status, std::slice::from_ref(&host)), "token_needed");
    for wrong in ["", "x", &SECRET[1..], &format!("{SECRET}x"), &SECRET.to_uppercase()] {
        assert_eq!(code(status, &[host.clone(), bearer(wrong)]), "wrong_token", "{wrong}");
        assert_eq!(code(observe, &[host.clone(), json.clone(), bearer(wrong)]), "wrong_token", "{wrong}");
    }
    assert_eq!(
        code(status, &[host.clone(), field("authorization", &format!("Basic {SECRET}"))]),
        "wrong_token"
    );
    assert_eq!(code(status, &[host.clone(), bearer(SECRET)]), "fine");
    assert_eq!(code(status, &[host.clone(), field("authorization", &format!("bearer  {SECRET}"))]), "fine");
    assert_eq!(code(observe, &[host.clone(), json.clone()]), "token_needed");
    assert!(!site.daemon.shared.engine.is_observing());

    // Looking without a token, where that is wanted; a wrong one is wrong all the same, and acts take it.
    site.gate.set(Rules { read_without_token: true, ..rules() });
    assert_eq!(code(status, std::slice::from_ref(&host)), "fine");
    assert_eq!(code(status, &[host.clone(), bearer("x")]), "wrong_token");
    assert_eq!(code(observe, &[host.clone(), json.clone()]), "token_needed");
    assert!(!site.daemon.shared.engine.is_observing());
    assert_eq!(code(observe, &[host.clone(), json.clone(), bearer(SECRET)]), "fine");
    assert!(site.daemon.shared.engine.is_observing());
    let audit = std::fs::read_to_string(site.folder.path().join("audit.log")).unwrap();
    let entry: serde_json::Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&entry["user"], &entry["act"], &entry["on"]),
        (&"token".into(), &"observe".into(), &true.into())
    );
    assert!(entry["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")), "{entry}");
    assert_eq!(audit.lines().count(), 1, "what was refused at the door is no act: {audit}");

    // Nobody has it where there is none.
    site.gate.set(Rules { token: None, ..rules() });
    assert_eq!(code(status, &[host.clone(), bearer(SECRET)]), "no_token");
}

#[test]
fn by_tcp_only_under_its_own_names() {
    let site = Site::start(Limits::default(), rules());
    let code = |line: &str, fields: &[String]| {
        let answer = ask(&site, line, fields);
        (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
    };
    let fine = (200, String::new());
    for host in ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:8025", "[::1]:8025", "Mail.Example.org"]
    {
        assert_eq!(code("GET /healthz", &[field("host", host)]), fine, "{host}");
    }
    for host in
        ["evil.example", "localhost.evil.example", "127.0.0.2", "mail.example.org.evil.example", "[::2]"]
    {
        assert_eq!(code("GET /healthz", &[field("host", host)]), (403, "wrong_host".to_owned()), "{host}");
        // No route is reached under such a name, not even one that is not there.
        assert_eq!(code("GET /x", &[field("host", host)]), (403, "wrong_host".to_owned()), "{host}");
    }
    let bad = (400, "bad_host".to_owned());
    assert_eq!(code("GET /healthz", &[]), bad);
    assert_eq!(code("GET /healthz", &[field("host", "")]), bad);
    assert_eq!(code("GET /healthz", &[field("host", "localhost"), field("host", "localhost")]), bad);
    assert_eq!(code("GET /healthz", &[field("host", "local host")]), bad);
    // A name in the request line counts too.
    let both = [field("host", "localhost")];
    assert_eq!(code("GET http://evil.example/healthz", &both), (403, "wrong_host".to_owned()));
    assert_eq!(code("GET http://localhost/healthz", &both), fine);
}

#[test]
fn no_page_of_another_origin_acts() {
    let site = Site::start(Limits::default(), rules());
    let common = [
        field("host", "localhost:8025"),
        field("content-type", "application/json"),
        field("authorization", &format!("Bearer {SECRET}")),
    ];
    let observe = |fields: &[String]| {
        let answer = ask(&site, "POST /api/v1/observe", &[&common[..], fields].concat());
        if answer.status == 200 { "fine".to_owned() } else { answer.code() }
    };
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:8026"),
        ("origin", "http://localhost"),
        ("origin", "ftp://localhost:8025"),
        ("origin", ""),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(observe(&[field(name, value)]), "cross_origin", "{name}: {value}");
    }
    let own = field("origin", "http://localhost:8025");
    assert_eq!(observe(&[own.clone(), field("sec-fetch-site", "cross-site")]), "cross_origin");
    assert_eq!(observe(&[own.clone(), field("origin", "http://evil.example")]), "cross_origin");
    assert!(!site.daemon.shared.engine.is_observing());
    assert_eq!(observe(&[own, field("sec-fetch-site", "same-origin")]), "fine");
}

#[test]
fn every_answer_keeps_to_itself() {
    let site = Site::start(Limits::default(), rules());
    let host = [field("host", "localhost")];
    for line in ["GET /healthz", "GET /api/v1/status", "GET /nothing", "PUT /healthz", "POST /api/v1/observe"]
    {
        let answer = ask(&site, line, &host);
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"),
            "{answer:?}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(
            answer.header("set-cookie").is_empty() && answer.header("access-control-allow-origin").is_empty()
        );
    }
}
