//! Whatever is sent, to whatever route: a clear answer, no 5xx, and what was refused has changed nothing.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;

use becalm::admin::api::Routes;
use becalm::admin::http::{Limits, Rules};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

use crate::site::{ALL, Answer, Site, exchange};

/// Every route, as the daemon itself lists them.
fn routes(site: &Site) -> Vec<(String, String)> {
    let answer = exchange(&mut site.unix(), b"GET /api/v1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let routes: Routes = serde_json::from_str(&answer.body).unwrap();
    assert!(routes.routes.len() > 12);
    routes.routes.into_iter().map(|route| (route.method, route.path)).collect()
}

#[derive(Clone, Debug)]
struct Sent {
    method: String,
    target: String,
    fields: Vec<String>,
    body: Vec<u8>,
}

impl Sent {
    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for field in &self.fields {
            text.push_str(&format!("{field}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [text.as_bytes(), &self.body].concat()
    }
}

fn requests(routes: Vec<(String, String)>) -> impl Strategy<Value = Sent> {
    let methods = select(vec!["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]);
    let known = select(routes);
    let route = prop_oneof![
        6 => known.clone(),
        2 => (methods, known.clone()).prop_map(|(method, (_, path))| (method.to_owned(), path)),
        1 => (known.clone(), "[a-z/%.]{1,9}").prop_map(|((method, path), tail)| (method, format!("{path}{tail}"))),
        1 => (known, "/[!-\"$-~]{0,60}").prop_map(|((method, _), path)| (method, path)),
    ];
    let names =
        ["ids", "storm", "list", "author", "reason", "older_than_s", "limit", "after", "id", "Limit", ""];
    let pair =
        (select(names.to_vec()), "[!-\"$%'-;=-~]{0,20}").prop_map(|(name, value)| format!("{name}={value}"));
    let number =
        (select(vec!["limit", "older_than_s"]), any::<i128>()).prop_map(|(name, n)| format!("{name}={n}"));
    let query = prop_oneof![
        3 => Just(String::new()),
        3 => prop::collection::vec(prop_oneof![pair, number], 0..4).prop_map(|pairs| format!("?{}", pairs.join("&"))),
        1 => "\\?[!-\"$-~]{0,80}".prop_map(|query| query),
    ];
    let value = "[ -~]{0,30}";
    let field = prop_oneof![
        4 => Just("content-type: application/json".to_owned()),
        1 => value.prop_map(|value| format!("content-type: {value}")),
        1 => value.prop_map(|value| format!("origin: {value}")),
        1 => Just("origin: http://mx1".to_owned()),
        1 => select(vec!["same-origin", "none", "cross-site", "same-site", ""]).prop_map(|v| format!("sec-fetch-site: {v}")),
        1 => value.prop_map(|value| format!("authorization: {value}")),
        1 => value.prop_map(|value| format!("accept-language: {value}")),
        1 => ("[a-z-]{1,20}", value)
            .prop_filter("no framing of its own", |(name, _)| !matches!(name.as_str(), "content-length" | "te" | "host"))
            .prop_map(|(name, value)| format!("x-{name}: {value}")),
    ];
    let text =
        prop_oneof![Just(ALL.to_owned()), "\\PC{0,40}", "4fV1sQ2C8s[0-9]{1,2}", "<[a-z]{1,8}@[a-z]{1,8}>"];
    let texts = text.clone();
    let leaf = prop_oneof![
        text.clone().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        (0..10_000_u64).prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
        prop::collection::vec(text, 0..60).prop_map(serde_json::Value::from),
    ];
    let keys = ["list", "which", "for_s", "conversation", "reason", "ids", "on", "limit", "On", "x"];
    let object = prop::collection::btree_map(select(keys.to_vec()), leaf, 0..4);
    let sensible = prop_oneof![
        texts.clone().prop_map(|list| serde_json::json!({ "which": list })),
        (texts.clone(), any::<u64>())
            .prop_map(|(list, span)| serde_json::json!({ "list": list, "for_s": span })),
        prop::collection::vec(texts, 0..60).prop_map(|ids| serde_json::json!({ "ids": ids })),
        any::<bool>().prop_map(|on| serde_json::json!({ "on": on })),
    ];
    let body = prop_oneof![
        1 => Just(Vec::new()),
        4 => sensible.prop_map(|body| body.to_string().into_bytes()),
        4 => object.prop_map(|body| serde_json::to_vec(&body).unwrap_or_default()),
        2 => prop::collection::vec(any::<u8>(), 0..300),
        1 => (60_000..70_000_usize).prop_map(|length| vec![b'['; length]),
    ];
    let anything = (route, query, prop::collection::vec(field, 0..5), body).prop_map(
        |((method, path), query, mut fields, body)| {
            fields.push("host: mx1".to_owned());
            Sent { method, target: format!("{path}{query}"), fields, body }
        },
    );
    // Among so much that is wrong, an act is right by chance a few times in a run, and in some runs never.
    let right = any::<bool>().prop_map(|on| Sent {
        method: "POST".to_owned(),
        target: "/api/v1/observe".to_owned(),
        fields: vec!["content-type: application/json".to_owned(), "host: mx1".to_owned()],
        body: serde_json::json!({ "on": on }).to_string().into_bytes(),
    });
    prop_oneof![19 => anything, 1 => right]
}

#[test]
fn every_route_answers_whatever_it_is_asked() {
    let site = Site::start(Limits::default(), Rules::default());
    let routes = routes(&site);
    let mut runner = TestRunner::new(ProptestConfig { cases: 1500, ..ProptestConfig::default() });
    let outcome = runner.run(&requests(routes), |sent| {
        let before = site.state();
        let answer = exchange(&mut site.unix(), &sent.bytes())
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        let fine = (200..300).contains(&answer.status);
        let not_ready = answer.status == 503 && sent.target.starts_with("/readyz");
        prop_assert!(fine || not_ready || (400..500).contains(&answer.status), "{answer:?}");
        if !fine {
            prop_assert_eq!(before, site.state());
            check_refusal(&answer, sent.method == "HEAD")?;
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
    assert!(std::fs::metadata(site.folder.path().join("audit.log")).is_ok(), "some acts were right");
}

/// With a body that says what is wrong, unless hyper itself refused (which it does without).
fn check_refusal(answer: &Answer, head: bool) -> Result<(), TestCaseError> {
    if head || answer.header("content-length") == "0" || answer.header("content-security-policy").is_empty() {
        prop_assert!(head || matches!(answer.status, 400 | 414 | 431), "{:?}", answer);
        return Ok(());
    }
    if answer.status != 503 {
        prop_assert!(!answer.code().is_empty());
    }
    prop_assert_eq!(answer.header("cache-control"), "no-store");
    prop_assert_eq!(answer.header("content-type"), "application/json");
    Ok(())
}

#[test]
fn what_is_no_http_gets_a_400_or_nothing() {
    let site = Site::start(Limits::default(), Rules::default());
    let before = site.state();
    let line = prop_oneof![
        Just("POST /api/v1/observe HTTP/1.1".to_owned()),
        Just("transfer-encoding: chunked".to_owned()),
        Just("content-length: 5".to_owned()),
        Just("content-length: -1".to_owned()),
        Just("content-type: application/json".to_owned()),
        Just("expect: 100-continue".to_owned()),
        Just("upgrade: h2c".to_owned()),
        Just(String::new()),
        Just("ffffffffffffffffff".to_owned()),
        Just("PRI * HTTP/2.0".to_owned()),
        Just("{\"on\":1}".to_owned()),
        "[ -~]{0,60}",
    ];
    let lines = prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\r\n").into_bytes());
    let noise = prop::collection::vec(any::<u8>(), 0..400);
    let huge = (1..40_usize)
        .prop_map(|n| format!("GET /healthz HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(n * 1000)).into_bytes());
    let mut runner = TestRunner::new(ProptestConfig { cases: 800, ..ProptestConfig::default() });
    let outcome = runner.run(&prop_oneof![lines, noise, huge], |bytes| {
        let mut stream = site.unix();
        // It may have heard enough before everything is sent.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        // What was not read of us is a reset for us.
        if let Err(error) = stream.read_to_end(&mut said) {
            prop_assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        if !said.is_empty() {
            let status = String::from_utf8_lossy(said.get(9..12).unwrap_or_default()).into_owned();
            prop_assert!(said.starts_with(b"HTTP/1.1 ") || said.starts_with(b"HTTP/1.0 "), "{:?}", said);
            prop_assert!(status.starts_with(['2', '4']) || status == "100", "{status}");
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failed| panic!("{failed}"));
    assert_eq!(before, site.state());
    assert_eq!(exchange(&mut site.unix(), b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap().status, 200);
}

#[test]
fn refusals_name_what_is_wrong() {
    let site = Site::start(Limits::default(), Rules::default());
    let act = "content-type: application/json\r\n";
    let long = "x".repeat(70_000);
    let ids = format!("{{\"ids\":[{}\"\"]}}", "\"a\",".repeat(50));
    let cases: &[(&str, &str, &str, u16, &str, &str)] = &[
        ("GET /api/v1/nothing", "", "", 404, "no_such_path", "/api/v1/nothing"),
        ("GET /api/v1/status/", "", "", 404, "no_such_path", ""),
        ("DELETE /api/v1/status", "", "", 405, "no_such_method", "DELETE"),
        ("GET /api/v1/observe", "", "", 405, "no_such_method", "GET"),
        ("GET /api/v1/quarantine?colour=red", "", "", 400, "bad_query", "colour"),
        ("GET /api/v1/quarantine?limit=many", "", "", 400, "bad_query", "limit"),
        ("GET /api/v1/quarantine?limit=1&limit=2", "", "", 400, "bad_query", "limit"),
        ("GET /api/v1/quarantine?limit=5001", "", "", 400, "bad_limit", "1 to 5000"),
        ("GET /api/v1/quarantine?limit=0", "", "", 400, "bad_limit", "1 to 5000"),
        ("GET /api/v1/quarantine?after=x", "", "", 400, "bad_after", "next"),
        ("GET /api/v1/audit?limit=1001", "", "", 400, "bad_limit", "1 to 1000"),
        ("GET /api/v1/status?x=1", "", "", 400, "bad_query", "x"),
        ("GET /healthz?verbose=1", "", "", 400, "bad_query", "verbose"),
        ("POST /api/v1/observe?on=true", act, "{\"on\":true}", 400, "bad_query", "on"),
        ("POST /api/v1/observe", "", "{\"on\":true}", 415, "not_json", "application/json"),
        ("POST /api/v1/observe", "content-type: text/plain\r\n", "{\"on\":true}", 415, "not_json", ""),
        ("POST /api/v1/observe", act, "{\"on\":1}", 400, "bad_body", "boolean"),
        ("POST /api/v1/observe", act, "{}", 400, "bad_body", "`on`"),
        ("POST /api/v1/observe", act, "{\"on\":true,\"off\":1}", 400, "bad_body", "`off`"),
        ("POST /api/v1/observe", act, "{\"on\":true} x", 400, "bad_body", "trailing"),
        ("POST /api/v1/observe", act, &long, 413, "too_large", "65536"),
        ("POST /api/v1/alerts/test", act, "{\"way\":\"fax\"}", 404, "no_such_way", "`fax`"),
        ("POST /api/v1/storms/end", act, "{\"which\":\"x\"}", 404, "no_such_storm", "x is neither"),
        ("POST /api/v1/storms/start", act, "{\"list\":\"x\",\"for_s\":9}", 404, "no_such_list", "no list"),
        (
            "POST /api/v1/storms/start",
            act,
            "{\"list\":\"all@example.org\",\"for_s\":0}",
            400,
            "bad_span",
            "30 days",
        ),
        ("POST /api/v1/quarantine/release", act, &ids, 400, "too_many", "50"),
    ];
    let before = site.state();
    for (line, fields, body, status, code, words) in cases {
        let length = body.len();
        let request = format!("{line} HTTP/1.1\r\nhost: x\r\n{fields}content-length: {length}\r\n\r\n{body}");
        let answer =
            exchange(&mut site.unix(), request.as_bytes()).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!((answer.status, answer.code().as_str()), (*status, *code), "{line}: {answer:?}");
        assert!(answer.body.contains(words), "{line}: {}", answer.body);
    }
    let answer = exchange(&mut site.unix(), b"DELETE /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    assert!(answer.header("allow").contains("GET"), "{answer:?}");
    // The same without a length in advance.
    let chunked = format!(
        "POST /api/v1/observe HTTP/1.1\r\nhost: x\r\n{act}transfer-encoding: chunked\r\n\r\n11170\r\n{long}\r\n0\r\n\r\n"
    );
    assert_eq!(exchange(&mut site.unix(), chunked.as_bytes()).unwrap().code(), "too_large");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(100));
    assert_eq!(exchange(&mut site.unix(), head.as_bytes()).unwrap().status, 431);
    let head = format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20_000));
    assert_eq!(exchange(&mut site.unix(), head.as_bytes()).unwrap().status, 431);
    assert_eq!(before, site.state());
}

#[test]
fn held_mail_comes_page_by_page() {
    let site = Site::start(Limits::default(), Rules::default());
    let mut stream = site.unix();
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let request = format!("GET /api/v1/quarantine?limit=7{after} HTTP/1.1\r\nhost: x\r\n\r\n");
        let page: serde_json::Value =
            serde_json::from_str(&exchange(&mut stream, request.as_bytes()).unwrap().body).unwrap();
        let ids = page["messages"].as_array().unwrap().iter();
        seen.extend(ids.map(|item| item["queue_id"].as_str().unwrap().to_owned()));
        // Those that have gone meanwhile do not move the others.
        site.daemon.shared.ledger.remove(&seen[0]);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 30);
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!(distinct.len(), 30);
    let request = b"GET /api/v1/quarantine?ids=4fV1sQ2C8s3,4fV1sQ2C8s4,none&author=person4%40example.org HTTP/1.1\r\nhost: x\r\n\r\n";
    let one: serde_json::Value = serde_json::from_str(&exchange(&mut stream, request).unwrap().body).unwrap();
    assert_eq!(one["messages"].as_array().unwrap().len(), 1, "{one}");
}
