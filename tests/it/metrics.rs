//! The metrics as Prometheus sees them, and the alert rules and the board that are shipped with them.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::{
    Becalm, Helper, Letter, Site, TOUCHY, open_folder, person, queued, say, start_storm, wait_until,
};

const ALL: &str = "all@example.org";

/// Labels that Prometheus adds.
const PROMETHEUS_LABELS: [&str; 2] = ["instance", "job"];

/// A becalm with everything that metrics tell of: lists from a file, a helper, a storm, ordinary mail.
struct Busy {
    site: Site,
    _helper: Helper,
    _folder: TempDir,
    aliases: String,
}

impl Busy {
    fn new() -> Self {
        let folder = open_folder();
        let aliases = folder.path().join("aliases").display().to_string();
        std::fs::write(&aliases, "few: one@example.org, two@example.org\n").unwrap();
        let site = Site::with(
            &format!(
                "postfix.local_domains = ['example.org']\ndirectory.aliases = ['{aliases}']
                 [verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}
                 [[list]]\naddress = 'watched@example.org'\nmode = 'observe'\n{TOUCHY}"
            ),
            |postfix| postfix.default_action("tempfail").set("enable_long_queue_ids", "yes"),
        );
        let helper = Helper::start(&site.postfix, &site.becalm);
        Self { site, _helper: helper, _folder: folder, aliases }
    }

    /// What Prometheus gets, once it says so.
    #[track_caller]
    fn wait_for(&self, line: &str) -> String {
        wait_until(line, || {
            let text = self.metrics();
            text.lines().any(|there| there == line).then_some(text)
        })
    }

    fn metrics(&self) -> String {
        get(&self.site.becalm, "").1
    }
}

/// `GET /metrics`: the type of the answer, and the answer.
#[track_caller]
fn get(becalm: &Becalm, fields: &str) -> (String, String) {
    let mut stream = UnixStream::connect(becalm.home().join("admin.sock")).unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: becalm\r\nConnection: close\r\n{fields}\r\n");
    say(&mut stream, request.as_bytes());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap();
    (kind.to_owned(), body.to_owned())
}

#[test]
fn what_happens_is_told() {
    let busy = Busy::new();
    let site = &busy.site;
    let mut client = site.client();
    for n in 0..3 {
        queued(&Letter::new(&person(n), &format!("lunch{n}")).send(&mut client, &["ann@example.net"]));
    }
    start_storm(site, ALL);
    start_storm(site, "watched@example.org");
    // One who hangs up in the middle.
    let mut leaving = site.client();
    for reply in [leaving.mail(&person(77)), leaving.rcpt(ALL), leaving.data()] {
        assert!(reply.unwrap().is_positive());
    }
    leaving.write(b"Subject: never mind\r\n").unwrap();
    drop(leaving);
    let text = busy.wait_for("becalm_held_messages 1");
    let waited = busy.wait_for("becalm_watched_messages_unfinished_total 1");
    let helper = site.becalm.home().join("helper.sock").display().to_string();
    for line in [
        "becalm_messages_total{verdict=\"ordinary\"} 3",
        "becalm_messages_total{verdict=\"passed\"} 2",
        "becalm_messages_total{verdict=\"observed\"} 1",
        "becalm_messages_total{verdict=\"held\"} 1",
        "becalm_watched_messages_total 5",
        "becalm_copies_passed_total 2520000",
        "becalm_copies_observed_total 840000",
        "becalm_copies_prevented_total 840000",
        "becalm_held_copies 840000",
        "becalm_storms_open 2",
        "becalm_storms_started_total 2",
        "becalm_ordinary_message_duration_seconds_count 3",
        "becalm_ordinary_message_duration_seconds_bucket{le=\"+Inf\"} 3",
        &format!("becalm_directory_source_members{{source=\"aliases {}\"}} 2", busy.aliases),
    ] {
        assert!(waited.lines().any(|there| there == line), "{line}\n{waited}");
    }
    busy.wait_for(&format!("becalm_helper_up{{socket=\"{helper}\"}} 1"));
    // Not one address of mail, and no list's.
    assert!(!text.contains('@'), "{text}");

    // People read the same.
    let status = site.becalm.status();
    assert_eq!((status.counts.copies_prevented, status.counts.copies_observed), (840_000, 840_000));
    let said = site.becalm.command(&["status"]);
    assert!(
        said.contains(
            "2,520,000 passed (840,000 of them would have been stopped), 840,000 prevented (0 of them released"
        ),
        "{said}"
    );

    // What is let go was prevented all the same; what is missing is noticed.
    let id = site.fates().held.pop_first().unwrap();
    site.becalm.command(&["quarantine", "release", &id, "--yes"]);
    busy.wait_for("becalm_copies_released_total 840000");
    busy.wait_for("becalm_held_messages_released_total 1");
    std::fs::remove_file(&busy.aliases).unwrap();
    site.becalm.reload();
    busy.wait_for("becalm_degraded{part=\"directory\"} 1");
    site.becalm.rewrite(|config| format!("nonsense = 1\n{config}"));
    site.becalm.reload();
    busy.wait_for("becalm_last_reload_successful 0");
}

#[test]
fn who_asks_for_openmetrics_gets_it() {
    let becalm = Becalm::start("");
    let (kind, text) = get(&becalm, "");
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    assert!(text.contains("# TYPE becalm_hold_full_deferred_total counter\n"), "{text}");
    // As Prometheus 2.42 asks.
    let accept = "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                  text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n";
    let (kind, text) = get(&becalm, accept);
    assert_eq!(kind, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(
        text.contains("# TYPE becalm_hold_full_deferred counter\n") && text.ends_with("# EOF\n"),
        "{text}"
    );
}

#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    let text = Busy::new().wait_for("becalm_degraded{part=\"helper\"} 0");
    let mut promtool = promtool(&["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = promtool.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success() && out.is_empty() && err.is_empty(), "{out}{err}");
}

#[test]
fn the_alert_rules_fire_when_they_should() {
    run(promtool(&["check", "rules", "--lint=all", "--lint-fatal", "becalm.rules.yml"]));
    run(promtool(&["test", "rules", "becalm.rules.test.yml"]));
    let tests = packaged("prometheus/becalm.rules.test.yml");
    for line in packaged("prometheus/becalm.rules.yml").lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            assert!(tests.contains(alert), "{alert} is not tested in becalm.rules.test.yml");
        }
    }
}

#[test]
fn rules_and_board_use_what_becalm_says() {
    let busy = Busy::new();
    let there = wait_until("the helper has answered", || {
        let text = busy.metrics();
        text.contains("\nbecalm_queue_free_bytes ").then(|| Scrape::read(&text))
    });
    let rules = uses("becalm.rules.yml", &packaged("prometheus/becalm.rules.yml"));
    assert!(rules.len() > 30, "{rules:?}");
    let tests = uses("becalm.rules.test.yml", &packaged("prometheus/becalm.rules.test.yml"));
    let queries = board_queries();
    let board: Vec<Use> = queries.iter().flat_map(|query| uses("becalm.json", &query.expr)).collect();
    assert!(board.len() > 40, "{board:?}");
    // In the tests labels of configured things may be anything.
    let complaints: Vec<String> = rules
        .iter()
        .chain(&board)
        .filter_map(|used| there.complaint(used, true))
        .chain(tests.iter().filter_map(|used| there.complaint(used, false)))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    // What the board writes beside a line is a label of what the line shows.
    for query in &queries {
        for label in between(&query.legend, "{{", "}}") {
            let known = PROMETHEUS_LABELS.contains(&label)
                || uses("", &query.expr).iter().any(|used| there.has_label(&used.metric, label));
            assert!(known, "{}: {} has no label {label}", query.legend, query.expr);
        }
    }
}

#[test]
fn the_boards_queries_are_sound() {
    let folder = tempfile::tempdir().unwrap();
    let mut rules = "groups:\n- name: board\n  rules:\n".to_owned();
    for (number, query) in
        board_queries().iter().enumerate().filter(|(_, query)| !query.expr.starts_with("label_"))
    {
        // As Grafana fills them in.
        let expr = query
            .expr
            .replace("$__rate_interval", "1m")
            .replace("$__range", "6h")
            .replace("$instance", ".*")
            .replace('\'', "''");
        rules.push_str(&format!("  - record: 'query:{number}'\n    expr: '{expr}'\n"));
    }
    let file = folder.path().join("board.yml");
    std::fs::write(&file, &rules).unwrap();
    let mut check = promtool(&["check", "rules"]);
    check.arg(&file);
    run(check);
}

#[test]
fn prometheus_scrapes_it_and_the_alert_comes() {
    let busy = Busy::new();
    start_storm(&busy.site, ALL);
    let prometheus = Prometheus::start(&busy.site.becalm);
    let value = |query: &str| {
        let answer = prometheus.api(&format!("query?query={query}"));
        let value = answer["data"]["result"].get(0)?["value"].get(1)?.as_str()?.to_owned();
        Some(value)
    };
    wait_until("Prometheus has scraped becalm", || (value("up")? == "1").then_some(()));
    wait_until("it has the storm", || (value("becalm_storms_open")? == "1").then_some(()));
    assert_eq!(value("becalm_copies_prevented_total").as_deref(), Some("840000"));
    // Only OpenMetrics tells the unit.
    let metadata = prometheus.api("metadata?metric=becalm_held_bytes");
    assert_eq!(metadata["data"]["becalm_held_bytes"][0]["unit"], "bytes", "{metadata}");
    wait_until("the alert fires", || {
        value("ALERTS%7Balertname=%22BecalmStorm%22,alertstate=%22firing%22%7D")
    });
    let rules = wait_until("every rule was evaluated", || {
        let rules = prometheus.api("rules");
        let rules = rules["data"]["groups"][0]["rules"].as_array()?.clone();
        rules.iter().all(|rule| rule["health"] != "unknown").then_some(rules)
    });
    assert!(rules.len() > 15 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
}

/// A Prometheus with the alert rules, that scrapes a becalm.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    #[track_caller]
    fn start(becalm: &Becalm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:
             - {{job_name: becalm, static_configs: [{{targets: ['{}']}}]}}\n",
            packaging().join("prometheus/becalm.rules.yml").display(),
            over_tcp(becalm.home().join("admin.sock"))
        );
        std::fs::write(&config, text).unwrap();
        // Prometheus does not tell which port it got: it is given one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("apt-get install --no-install-recommends prometheus");
        let mut prometheus = Self { child, address, folder };
        wait_until("Prometheus answers", || {
            if let Some(status) = prometheus.child.try_wait().unwrap() {
                let log = std::fs::read_to_string(prometheus.folder.path().join("log")).unwrap();
                panic!("Prometheus ended: {status}\n{log}");
            }
            TcpStream::connect(address).ok()
        });
        prometheus
    }

    /// What its API answers; null while it is not ready.
    fn api(&self, path: &str) -> serde_json::Value {
        let mut stream = TcpStream::connect(self.address).unwrap();
        say(&mut stream, format!("GET /api/v1/{path} HTTP/1.0\r\n\r\n").as_bytes());
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prometheus knows no unix sockets: passes on what comes over TCP.
fn over_tcp(socket: PathBuf) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = UnixStream::connect(&socket) else { continue };
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (server, client);
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    address
}

/// promtool, in the folder of the rules.
fn promtool(arguments: &[&str]) -> Command {
    let found =
        Command::new("promtool").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "promtool is missing: apt-get install --no-install-recommends prometheus");
    let mut promtool = Command::new("promtool");
    promtool.args(arguments).current_dir(packaging().join("prometheus"));
    promtool
}

#[track_caller]
fn run(mut command: Command) {
    let said = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.status.success(), "{command:?}: {}\n{out}{err}", said.status);
}

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging")
}

fn packaged(file: &str) -> String {
    std::fs::read_to_string(packaging().join(file)).unwrap()
}

/// A query of the board, with what it writes beside its lines.
struct Query {
    expr: String,
    legend: String,
}

fn board_queries() -> Vec<Query> {
    let board: serde_json::Value = serde_json::from_str(&packaged("grafana/becalm.json")).unwrap();
    let mut queries = Vec::new();
    let mut rest = vec![&board];
    while let Some(value) = rest.pop() {
        match value {
            serde_json::Value::Array(values) => rest.extend(values),
            serde_json::Value::Object(fields) => {
                let text = |key: &str| fields.get(key).and_then(|text| text.as_str()).map(str::to_owned);
                if let Some(expr) = text("expr").or_else(|| text("definition")) {
                    queries.push(Query { expr, legend: text("legendFormat").unwrap_or_default() });
                }
                rest.extend(fields.values());
            }
            _ => {}
        }
    }
    queries
}

/// Where a metric is used.
#[derive(Debug)]
struct Use {
    /// File and line.
    at: String,
    metric: String,
    /// Label, and each value that it may have; for what is no plain list of values, none.
    labels: Vec<(String, Vec<String>)>,
}

/// All uses of becalm's metrics in a text, in whatever language it is.
fn uses(file: &str, text: &str) -> Vec<Use> {
    let mut uses = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with('#') {
            continue;
        }
        for (at, _) in line.match_indices("becalm_") {
            let rest = &line[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (metric, rest) = rest.split_at(end);
            let matchers =
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or("", |inner| inner.0);
            let labels = matchers.split(',').filter_map(|matcher| {
                let (label, value) = matcher.split_once('=')?;
                let value = value.trim_start_matches('~').trim_matches('"');
                let values = value.split('|').filter(|value| !value.contains('$')).map(str::to_owned);
                Some((label.trim().to_owned(), values.collect()))
            });
            let at = format!("{file}:{}", number + 1);
            uses.push(Use { at, metric: metric.to_owned(), labels: labels.collect() });
        }
    }
    uses
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|rest| Some(rest.split_once(close)?.0)).collect()
}

/// The lines of a scrape: labels by metric.
struct Scrape(BTreeMap<String, Vec<BTreeMap<String, String>>>);

impl Scrape {
    fn read(text: &str) -> Self {
        let mut metrics: BTreeMap<String, Vec<BTreeMap<String, String>>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (series, _value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let labels = labels.trim_end_matches('}').split("\",").filter_map(|label| {
                let (label, value) = label.split_once("=\"")?;
                Some((label.to_owned(), value.trim_end_matches('"').to_owned()))
            });
            metrics.entry(name.to_owned()).or_default().push(labels.collect());
        }
        Self(metrics)
    }

    fn has_label(&self, metric: &str, label: &str) -> bool {
        self.0.get(metric).is_some_and(|series| series.iter().any(|labels| labels.contains_key(label)))
    }

    /// What is wrong with a use.
    fn complaint(&self, used: &Use, configured_too: bool) -> Option<String> {
        let Use { at, metric, labels } = used;
        let Some(series) = self.0.get(metric) else {
            return Some(format!("{at}: becalm has no {metric}"));
        };
        for (label, values) in labels.iter().filter(|(label, _)| !PROMETHEUS_LABELS.contains(&label.as_str()))
        {
            if !self.has_label(metric, label) {
                return Some(format!("{at}: {metric} has no label {label}"));
            }
            let is_configured = ["source", "socket", "version"].contains(&label.as_str());
            if is_configured && !configured_too {
                continue;
            }
            for value in values {
                if !series.iter().any(|labels| labels.get(label) == Some(value)) {
                    return Some(format!("{at}: {metric} has no {label} {value:?}"));
                }
            }
        }
        None
    }
}

#[test]
fn a_use_that_is_wrong_is_found() {
    let there = Scrape::read("becalm_a_total{verdict=\"held\",x=\"y z\"} 3\nbecalm_b 1\n");
    let complaints = |text: &str| -> Vec<String> {
        uses("f", text).iter().filter_map(|used| there.complaint(used, true)).collect()
    };
    let fine = "rate(becalm_a_total{verdict=~\"held\",instance=~\"$instance\"}[5m]) / becalm_b\n# becalm_c";
    assert_eq!(complaints(fine), Vec::<String>::new());
    assert_eq!(complaints("becalm_b\nbecalm_c > 1"), ["f:2: becalm has no becalm_c"]);
    assert_eq!(complaints("becalm_b{verdict=\"held\"}"), ["f:1: becalm_b has no label verdict"]);
    assert_eq!(
        complaints("becalm_a_total{verdict=~\"held|gone\"}"),
        ["f:1: becalm_a_total has no verdict \"gone\""]
    );
}
