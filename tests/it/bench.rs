//! `becalm bench` against filters that run: becalm, libmilter's, one that does nothing, and some that misbehave.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal};
use serde_json::Value;

use crate::harness::{Becalm, TOUCHY, open_folder, wait_until};

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new("timeout");
    command.args(["120", env!("CARGO_BIN_EXE_becalm"), "bench"]).args(arguments);
    command
}

/// Runs it; returns its exit status, its JSON (null without), and what it said on standard error.
#[track_caller]
fn run(arguments: &[&str]) -> (i32, Value, String) {
    understood(&bench(arguments).arg("--json").output().unwrap())
}

#[track_caller]
fn understood(output: &Output) -> (i32, Value, String) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let code = output.status.code().unwrap_or_else(|| panic!("{}: {said}", output.status));
    assert_ne!(code, 124, "it did not end: {said}");
    (code, serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), said)
}

/// Runs one that must be without fault; returns its JSON.
#[track_caller]
pub fn fine(arguments: &[&str]) -> Value {
    let (code, report, said) = run(arguments);
    assert_eq!((code, said.as_str()), (0, ""), "{report}");
    report
}

#[track_caller]
fn number(value: &Value, field: &str) -> f64 {
    value[field].as_f64().unwrap_or_else(|| panic!("{field} in {value}"))
}

#[test]
fn the_report_adds_up() {
    let becalm = Becalm::start("");
    let report = fine(&["--socket", &becalm.milter(), "-n", "500", "-c", "3", "--session", "20"]);
    assert_eq!(report["mix"], "ordinary");
    assert_eq!((&report["connections"], &report["messages_per_session"]), (&3.into(), &20.into()));
    assert_eq!((&report["ratios"], &report["error"]), (&Value::Null, &Value::Null));
    let filter = &report["filters"][0];
    let pid = becalm.pid().as_raw_nonzero().get();
    assert_eq!((&filter["name"], &filter["pid"]), (&becalm.milter().into(), &pid.into()));
    assert_eq!((&filter["messages"], &filter["accepted"]), (&500.into(), &500.into()));
    for field in ["held", "rejected", "deferred", "discarded", "headers_read", "recipients_refused", "unsent"]
    {
        assert_eq!(filter[field], 0, "{field}");
    }
    assert_eq!(filter["load_late_p50_us"], Value::Null);
    // Three connections share 500 messages, however that comes about, 20 in a session.
    assert!((25.0..=28.0).contains(&number(filter, "sessions")), "{filter}");
    assert_eq!(number(filter, "round_trips_per_message"), 1.0);
    for field in ["cpu_us_per_message", "load_cpu_us_per_message", "memory_bytes", "messages_per_s"] {
        assert!(number(filter, field) > 0.0, "{field} in {filter}");
    }
    let quantiles = ["p50_us", "p99_us", "p999_us", "max_us"].map(|field| number(filter, field));
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{filter}");
    // 500, and those of the warm-up.
    assert_eq!(becalm.status().counts.messages, 700);
}

#[test]
fn over_tcp_at_a_fixed_rate_with_a_process_that_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sockets = format!("listen.sockets = ['inet:{port}@127.0.0.1']\n");
    let becalm = Becalm::start_on_own_sockets(&sockets, |program| program);
    let pid = becalm.pid().as_raw_nonzero().get().to_string();
    let address = format!("inet:{port}@127.0.0.1");
    let rate = ["--rate", "400", "-n", "100", "-c", "2"];
    let report = fine(&[&["--socket", &address, "--pid", &pid], &rate[..]].concat());
    let filter = &report["filters"][0];
    assert_eq!((&filter["messages"], &filter["unsent"]), (&100.into(), &0.into()));
    // The last of them is due a quarter of a second after the first.
    assert!(number(filter, "seconds") >= 99.0 / 400.0, "{filter}");
    assert!(number(filter, "load_late_p50_us") <= number(filter, "p50_us"), "{filter}");
    assert!(number(filter, "cpu_us_per_message") > 0.0);
    let unnamed = fine(&[&["--socket", &address], &rate[..]].concat());
    assert_eq!(unnamed["filters"][0]["cpu_us_per_message"], Value::Null);
    let (code, _, said) = run(&["--socket", &address, "--pid", "4194305"]);
    assert_eq!((code, said.contains("no process 4194305")), (2, true), "{said}");
}

#[test]
fn a_rate_that_the_filter_cannot_keep_is_told() {
    let becalm = Becalm::start("");
    let report = fine(&["--socket", &becalm.milter(), "--rate", "1000000", "-d", "200ms"]);
    let filter = &report["filters"][0];
    assert!(number(filter, "unsent") > 0.0, "{filter}");
    assert_eq!(number(filter, "unsent") + number(filter, "messages"), 200_000.0);
    // Those that were never sent had waited for up to the whole time.
    assert!(number(filter, "max_us") > 100_000.0, "{filter}");
}

#[test]
fn replies_to_a_list_are_held_and_counted() {
    let config = format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\n{TOUCHY}");
    let becalm = Becalm::start(&config);
    let socket = becalm.milter();
    let storm = fine(&["--socket", &socket, "--mix", "storm", "--list", "all@example.org", "-n", "100"]);
    let filter = &storm["filters"][0];
    assert_eq!((&filter["held"], &filter["headers_read"]), (&100.into(), &100.into()));
    assert_eq!(number(filter, "round_trips_per_message"), 2.0);
    let mixed =
        fine(&["--socket", &socket, "--mix", "mixed", "--list", "all@example.org", "-n", "100", "-c", "1"]);
    let filter = &mixed["filters"][0];
    assert_eq!((&filter["held"], &filter["accepted"]), (&10.into(), &90.into()));
}

#[test]
fn against_a_filter_that_does_nothing_with_an_exit_status() {
    let becalm = Becalm::start("");
    let socket = becalm.milter();
    let folder = open_folder();
    let against = |what: &str, least: &str| {
        let arguments =
            ["--socket", &socket, "--against", what, "-n", "200", "--rounds", "3", "--fail-below", least];
        understood(&bench(&arguments).arg("--json").env("TMPDIR", folder.path()).output().unwrap())
    };
    let (code, report, said) = against("noop", "0.0001");
    assert_eq!((code, said.as_str(), &report["passed"]), (0, "", &true.into()));
    assert_eq!((&report["filters"][1]["name"], &report["filters"][1]["turns"]), (&"noop".into(), &3.into()));
    assert_eq!(report["filters"][1]["messages"], 600);
    assert!(number(&report["filters"][1], "cpu_us_per_message") > 0.0);
    for ratio in ["messages_per_s", "p50", "p99", "cpu_per_message"] {
        let ratio = &report["ratios"][ratio];
        let order =
            ["min", "lower_quartile", "median", "upper_quartile", "max"].map(|field| number(ratio, field));
        assert!(order[0] > 0.0 && order.is_sorted(), "{ratio}");
    }
    let (code, report, said) = against("noop-headers", "1000");
    assert_eq!((code, said.as_str(), &report["passed"]), (1, "", &false.into()));
    assert_eq!(report["filters"][1]["headers_read"], 600);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn the_filter_that_does_nothing_ends_with_a_benchmark_that_is_killed_or_interrupted() {
    let becalm = Becalm::start("");
    for signal in [Signal::KILL, Signal::INT] {
        ends_with_its_benchmark(&becalm.milter(), "noop.sock", signal);
    }
}

#[test]
fn the_filter_that_does_nothing_listens_as_the_other_one_does() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("inet:{port}@127.0.0.1");
    let sockets = format!("listen.sockets = ['{address}']\n");
    let _becalm = Becalm::start_on_own_sockets(&sockets, |program| program);
    ends_with_its_benchmark(&address, "noop.port", Signal::INT);
    let report = fine(&["--socket", &address, "--against", "noop", "-n", "100", "--rounds", "1"]);
    let noop = &report["filters"][1];
    assert_eq!(noop["messages"], 100);
    assert!(number(noop, "cpu_us_per_message") > 0.0, "its process is known nonetheless");
}

/// The signal goes to the group, as a terminal's Ctrl-C does. `file`: in its folder, when it listens.
fn ends_with_its_benchmark(filter: &str, file: &str, signal: Signal) {
    let folder = open_folder();
    // Whoever runs the tests in the background has SIGINT ignored, and so have their children.
    let mut bench = Command::new("env")
        .args(["--default-signal=INT", env!("CARGO_BIN_EXE_becalm")])
        .args(["bench", "--socket", filter, "--against", "noop", "--duration", "100s"])
        .env("TMPDIR", folder.path())
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let entries = || std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
    let socket = |path: PathBuf| path.join(file).exists().then_some(path);
    let own = wait_until("it listens", || entries().find_map(socket));
    let serves = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(own.to_str().unwrap()))
    };
    assert!(serves());
    rustix::process::kill_process_group(Pid::from_child(&bench), signal).unwrap();
    bench.wait().unwrap();
    wait_until("it is gone, and its files", || (!serves() && entries().next().is_none()).then_some(()));
}

#[test]
fn it_says_which_command_line_is_wrong_and_goes_nowhere_unasked() {
    // A test network (RFC 5737): nobody answers there, and nobody is asked.
    for address in ["inet:8899@192.0.2.1", "inet:8899@[2001:db8::1]", "inet:8899@[::ffff:192.0.2.1]"] {
        let (code, report, said) = run(&["--socket", address]);
        assert_eq!((code, report), (2, Value::Null));
        assert!(said.contains("not on this machine") && said.contains("--yes-really"), "{said}");
        let (code, _, said) = run(&["--socket", "unix:/nowhere/x.sock", "--against", address]);
        assert!(code == 2 && said.contains("--yes-really"), "{said}");
    }
    for (arguments, part) in [
        (&["--socket", "nonsense"][..], "unix:/path"),
        (&["--socket", "unix:/nowhere/x.sock"], "does the filter run?"),
        (&["--socket", "unix:/nowhere/x.sock", "--fail-below", "0.5"], "--against noop"),
        (&["--socket", "unix:/nowhere/x.sock", "--rounds", "5"], "--against noop"),
        (&["--socket", "unix:/nowhere/x.sock", "--rate", "0"], "messages a second"),
        (&["--socket", "unix:/nowhere/x.sock", "-n", "1", "-d", "1s"], "cannot be used with"),
        (&["--socket", "unix:/nowhere/x.sock", "--postfix", "-c", "500"], "100 sessions"),
        (&["--socket", "unix:/nowhere/x.sock", "-c", "1000", "--body", "100000000"], "less --body"),
        (&[], "--socket"),
    ] {
        let (code, _, said) = run(arguments);
        assert_eq!(code, 2, "{arguments:?}: {said}");
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
}

#[test]
fn what_could_not_be_measured_is_one_object_too() {
    let (code, report, said) = run(&["--socket", "unix:/nowhere/x.sock"]);
    assert!(code == 2 && said.contains("does the filter run?"), "{said}");
    assert!(report["error"].as_str().unwrap().contains("unix:/nowhere/x.sock"), "{report}");
    assert_eq!((&report["passed"], &report["filters"]), (&false.into(), &Value::Array(Vec::new())));
    let folder = open_folder();
    let hangs = misbehaving(folder.path(), b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0");
    let (_, report, _) = run(&["--socket", &hangs, "--timeout", "300ms"]);
    for field in
        ["p50_us", "p99_us", "p999_us", "max_us", "load_cpu_us_per_message", "round_trips_per_message"]
    {
        assert_eq!(report["filters"][0][field], Value::Null, "{field}");
    }
}

#[test]
fn a_filter_that_dies_in_the_middle_is_reported_with_what_was_counted() {
    let becalm = Becalm::start("");
    let child = bench(&["--socket", &becalm.milter(), "--messages", "1000000000", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The warm-up is 200 messages.
    wait_until("it is under way", || (becalm.status().counts.messages > 2_000).then_some(()));
    becalm.signal(Signal::KILL);
    let (code, report, said) = understood(&child.wait_with_output().unwrap());
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("has ended (after "), "{said}");
    assert!(report["error"].as_str().unwrap().contains(&becalm.milter()), "{report}");
    assert_eq!(report["passed"], false);
    let filter = &report["filters"][0];
    assert!(number(filter, "messages") > 0.0, "{filter}");
    assert_eq!(filter["messages"], filter["accepted"]);
}

/// Takes one connection after the other, answers the first thing that comes with `answer`, and says nothing more.
fn misbehaving(folder: &Path, answer: &'static [u8]) -> String {
    let socket = folder.join("filter.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut offer = [0; 17];
            let _ = stream.read_exact(&mut offer);
            let _ = stream.write_all(answer);
            open.push(stream);
        }
    });
    format!("unix:{}", socket.display())
}

#[test]
fn filters_that_hang_or_break_the_protocol_are_told_apart() {
    const NOTHING_ASKED: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0";
    const ANSWERS_UNASKED: &[u8] = b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x01c\0\0\0\x01c";
    for (answer, part) in [
        (&b""[..], "hangs: no answer to the negotiation within 300ms"),
        (NOTHING_ASKED, "hangs: no answer to the connection of a client within 300ms"),
        (ANSWERS_UNASKED, "breaks the milter protocol"),
        (b"HTTP/1.1 400 Bad Request\r\n", "breaks the milter protocol"),
        (b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\x7f\xff\xff\xff", "not offered"),
    ] {
        let folder = open_folder();
        let (code, _, said) = run(&["--socket", &misbehaving(folder.path(), answer), "--timeout", "300ms"]);
        assert!(code == 2 && said.contains(part), "{answer:?}: {said}");
        // The first answer of all comes before anything is sent.
        assert!(answer != NOTHING_ASKED || said.contains("(while warming up, after 0 messages)"), "{said}");
    }
}

/// Negotiates, and then promises progress, again and again.
fn promising(folder: &Path) -> String {
    let socket = folder.join("filter.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut offer = [0; 17];
                let _ = stream.read_exact(&mut offer);
                let _ = stream.write_all(b"\0\0\0\x0dO\0\0\0\x06\0\0\0\0\0\0\0\0");
                // The first command: its answer is never given.
                let _ = stream.read_exact(&mut [0]);
                // Until the other side has had enough; the pace is not what is tested.
                while stream.write_all(b"\0\0\0\x01p").is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(2));
                }
            });
        }
    });
    format!("unix:{}", socket.display())
}

#[test]
fn a_filter_that_promises_for_ever_is_given_up() {
    let folder = open_folder();
    let arguments = ["--socket", &promising(folder.path()), "--timeout", "50ms", "-n", "1"];
    let (code, _, said) = run(&arguments);
    assert!(code == 2 && said.contains("stalls"), "{said}");
}

/// With fewer descriptors than connections, those that have one are served, and the others when one is free.
#[test]
fn the_filter_that_does_nothing_survives_without_descriptors() {
    let folder = open_folder();
    let mut noop = Command::new("sh")
        .args(["-c", "ulimit -n 40; exec \"$0\" bench-noop --does data --folder \"$1\""])
        .arg(env!("CARGO_BIN_EXE_becalm"))
        .arg(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let socket = folder.path().join("noop.sock");
    let connect = || std::os::unix::net::UnixStream::connect(&socket).ok();
    wait_until("it listens", connect);
    let many: Vec<_> = (0..80).map_while(|_| connect()).collect();
    assert_eq!(many.len(), 80);
    // The first of them is served, however many wait behind it.
    drop(many);
    let report = fine(&["--socket", &format!("unix:{}", socket.display()), "-c", "2", "-n", "10"]);
    assert_eq!(number(&report["filters"][0], "messages"), 10.0);
    assert!(noop.try_wait().unwrap().is_none());
    noop.kill().unwrap();
    noop.wait().unwrap();
}

/// libmilter's filter that does nothing; ended with the test.
struct Libmilter {
    child: Child,
    folder: tempfile::TempDir,
}

impl Libmilter {
    fn start() -> Self {
        let folder = open_folder();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/noop.c");
        let noop = folder.path().join("noop");
        let cc = Command::new("cc").arg(source).arg("-o").arg(&noop).args(["-lmilter", "-lpthread"]).output();
        let cc = cc.expect("cc is needed: apt-get install gcc libc6-dev libmilter-dev");
        assert!(
            cc.status.success(),
            "apt-get install libmilter-dev libc6-dev: {}",
            String::from_utf8_lossy(&cc.stderr)
        );
        let socket = folder.path().join("socket");
        let child = Command::new(&noop).arg(&socket).spawn().unwrap();
        let libmilter = Self { child, folder };
        wait_until("libmilter listens", || std::os::unix::net::UnixStream::connect(&socket).ok());
        libmilter
    }

    fn address(&self) -> String {
        format!("unix:{}", self.folder.path().join("socket").display())
    }
}

impl Drop for Libmilter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn libmilter_and_every_version_of_the_protocol() {
    let (becalm, libmilter) = (Becalm::start(""), Libmilter::start());
    let against = |version: &str| {
        let becalm = becalm.milter();
        let arguments = ["--socket", &becalm, "--against", &libmilter.address(), "--rounds", "2", "-n", "50"];
        fine(&[&arguments[..], &["--session", "7", "--milter-protocol", version]].concat())
    };
    for version in ["2", "3", "4", "5", "6"] {
        let report = against(version);
        for filter in report["filters"].as_array().unwrap() {
            assert_eq!((&filter["messages"], &filter["accepted"]), (&100.into(), &100.into()), "{version}");
            assert!(number(filter, "cpu_us_per_message") > 0.0, "{version}: {filter}");
        }
        // MAIL, RCPT, DATA (from version 4), 20 fields, their end, the body and its end.
        let trips = if matches!(version, "2" | "3") { 25.0 } else { 26.0 };
        assert_eq!(number(&report["filters"][1], "round_trips_per_message"), trips, "version {version}");
    }
    let pid = i32::try_from(libmilter.child.id()).unwrap();
    assert!(Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok()));
}

#[test]
fn end_to_end_with_the_filter_and_without() {
    let config = format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\n{TOUCHY}");
    let becalm = Becalm::start(&config);
    let socket = becalm.milter();
    let arguments =
        ["--postfix", "--socket", &socket, "-n", "40", "-c", "2", "--rounds", "2", "--session", "5"];
    let storm = ["--mix", "mixed", "--list", "all@example.org", "--fail-below", "0.0001"];
    let report = fine(&[&arguments[..], &storm].concat());
    let [with, without] = [0, 1].map(|index| &report["filters"][index]);
    assert_eq!((&with["messages"], &without["messages"]), (&80.into(), &80.into()));
    assert_eq!((&with["held"], &with["accepted"]), (&8.into(), &72.into()), "one of ten: {report}");
    assert_eq!((&without["held"], &without["accepted"]), (&0.into(), &80.into()), "{report}");
    assert!(number(with, "cpu_us_per_message") > 0.0);
    assert_eq!(with["round_trips_per_message"], Value::Null);
    assert!(number(&report["ratios"]["messages_per_s"], "median") > 0.0);
}

#[test]
fn a_postfix_that_cannot_ask_the_filter_says_so() {
    let becalm = Becalm::start("");
    std::fs::set_permissions(becalm.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, report, said) = run(&["--postfix", "--socket", &becalm.milter(), "-n", "4", "--rounds", "1"]);
    assert_eq!(code, 2, "{report}");
    assert!(said.contains("Permission denied") && said.contains("the user `postfix`"), "{said}");
}
