//! Alerts and notices, as they arrive: at a web server, at a program, in a mailbox.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use becalm::postfix::smtp::Client;
use becalm::quarantine::mark::{Marker, OwnMark};
use becalm::time::Timestamp;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    Becalm, Fates, Letter, Mailbox, Mta, Site, TOUCHY, fates, open_folder, person, queued, start,
    start_storm, wait_until,
};

const ALL: &str = "all@example.org";
const OPS: &str = "ops@example.org";

fn storm_config(more: &str) -> String {
    format!(
        "alerts.lasting = '0s'\n{more}\n[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}\
         [[list]]\naddress = '{OPS}'\n{TOUCHY}"
    )
}

/// A web server that keeps what it gets.
struct Receiver {
    address: SocketAddr,
    got: Arc<Mutex<Vec<Got>>>,
    /// Ends with it.
    _runtime: tokio::runtime::Runtime,
}

#[derive(Clone, Debug)]
struct Got {
    authorization: Option<String>,
    key: Option<String>,
    body: Value,
}

impl Receiver {
    /// `answer`: the status for the request of this number.
    fn start(at: Option<SocketAddr>, answer: impl Fn(usize) -> u16 + Send + Sync + 'static) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let at = at.unwrap_or_else(|| "127.0.0.1:0".parse().unwrap());
        let listener = runtime.block_on(tokio::net::TcpListener::bind(at)).unwrap();
        let address = listener.local_addr().unwrap();
        let got: Arc<Mutex<Vec<Got>>> = Arc::default();
        let (kept, answer) = (Arc::clone(&got), Arc::new(answer));
        runtime.spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                    let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                    async move {
                        let header = |name: &str| {
                            request
                                .headers()
                                .get(name)
                                .and_then(|value| value.to_str().ok())
                                .map(str::to_owned)
                        };
                        let mut got = Got {
                            authorization: header("authorization"),
                            key: header("idempotency-key"),
                            body: Value::Null,
                        };
                        assert_eq!(request.uri().path(), "/hook");
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        got.body = serde_json::from_slice(&body).unwrap();
                        let number = {
                            let mut kept = kept.lock().unwrap();
                            kept.push(got);
                            kept.len() - 1
                        };
                        let reply =
                            Response::builder().status(answer(number)).header("location", "/elsewhere");
                        Ok::<_, Infallible>(reply.body(Full::new(Bytes::from_static(b"said"))).unwrap())
                    }
                });
                let io = hyper_util::rt::TokioIo::new(stream);
                tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(io, service));
            }
        });
        Self { address, got, _runtime: runtime }
    }

    fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    fn way(&self, more: &str) -> String {
        format!("[[alert]]\nway = 'webhook'\nurl = 'http://{}/hook'\n{more}\n", self.address)
    }

    /// Waits for an alert about this event.
    #[track_caller]
    fn wait_for(&self, event: &str) -> Got {
        wait_until(event, || self.got().into_iter().find(|got| got.body["event"] == event))
    }
}

/// A program that writes what it gets into a folder, a file each.
fn program(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("told");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

/// A Postfix that takes alerts, and delivers them into files.
struct Submission {
    postfix: Mta,
    mailbox: Mailbox,
}

impl Submission {
    fn start() -> Self {
        let mailbox = Mailbox::new();
        Self { postfix: start(mailbox.serve(becalm::postfix::Postfix::builder())), mailbox }
    }

    fn way(&self, more: &str) -> String {
        mail_way(self.postfix.port(), more)
    }

    /// What was delivered, by recipient.
    fn letters(&self) -> Vec<(String, String)> {
        letters(&fates(&self.postfix), &self.mailbox)
    }

    #[track_caller]
    fn wait_for(&self, text: &str) -> (String, String) {
        wait_until(text, || self.letters().into_iter().find(|(_, letter)| letter.contains(text)))
    }
}

fn letters(fates: &Fates, mailbox: &Mailbox) -> Vec<(String, String)> {
    fates.delivered.iter().map(|(id, to)| (to.clone(), mailbox.read(id))).collect()
}

fn mail_way(port: u16, more: &str) -> String {
    format!(
        "[[alert]]\nway = 'mail'\nport = {port}\ntls = 'none'\nhost = '127.0.0.1'\nfrom = 'becalm@example.org'\n\
         to = ['{OPS}', 'two@example.org']\n{more}\n"
    )
}

#[test]
fn a_storm_is_told_of_by_every_way_and_once() {
    let folder = open_folder();
    let receiver = Receiver::start(None, |_| 200);
    let submission = Submission::start();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    let told = program(
        folder.path(),
        &format!(
            "cat > {0}/$BECALM_ID.json; echo \"$BECALM_EVENT on $BECALM_LIST\"",
            folder.path().display()
        ),
    );
    let site = Site::new(&storm_config(&format!(
        "daemon.writable = ['{}']\n{}{}{}[[alert]]\nway = 'command'\ncommand = ['{}']\nevents = ['storm_started']\n",
        folder.path().display(),
        receiver.way(&format!("token_file = '{}'", token.display())),
        receiver.way("body = 'text'\nevents = ['storm_started', 'storm_ended']"),
        submission.way("events = ['storm_started']"),
        told.display()
    )));
    start_storm(&site, ALL);
    let storm = site.becalm.storms().storms.remove(0).storm;
    let started = receiver.wait_for("storm_started");
    assert_eq!(started.authorization.as_deref(), Some("Bearer s3cret"));
    assert_eq!((&started.body["storm"], &started.body["list"]), (&storm.as_str().into(), &ALL.into()));
    assert_eq!((&started.body["members"], &started.body["node"]), (&840_000.into(), &"mx1".into()));
    assert_eq!(started.key.as_deref(), started.body["id"].as_str());
    wait_until("the chat", || {
        let got = receiver.got();
        got.iter().find(|got| got.body.as_object().is_some_and(|object| object.len() == 1)).cloned()
    });
    let (to, letter) = submission.wait_for("Subject: [becalm] storm on all@example.org");
    assert!([OPS, "two@example.org"].contains(&to.as_str()), "{to}");
    assert!(
        letter.contains("Auto-Submitted: auto-generated") && letter.contains("X-Becalm-Own:"),
        "{letter}"
    );
    assert!(site.becalm.wait_for_log("the command of an alert has run").contains("storm_started on all@"));
    let id = started.body["id"].as_str().unwrap();
    let read: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join(format!("{id}.json"))).unwrap()).unwrap();
    assert_eq!(read, started.body);

    // Its end, and nothing else in between.
    site.becalm.command(&["storms", "end", ALL]);
    receiver.wait_for("storm_ended");
    let events: Vec<Value> = receiver
        .got()
        .into_iter()
        .filter(|got| got.authorization.is_some())
        .map(|got| got.body["event"].clone())
        .collect();
    let of_storm: Vec<_> =
        events.iter().filter(|event| event.as_str().is_some_and(|e| e.starts_with("storm"))).collect();
    assert_eq!(of_storm, ["storm_started", "storm_ended"]);
    let recipients: BTreeSet<String> = submission.letters().into_iter().map(|(to, _)| to).collect();
    assert_eq!((recipients.len(), submission.letters().len()), (2, 2), "each recipient once");
}

#[test]
fn what_cannot_be_delivered_is_tried_again_in_order() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let way = format!(
        "[[alert]]\nway = 'webhook'\nurl = 'http://{address}/hook'\nevents = ['storm_started', 'storm_ended']\n"
    );
    let site = Site::new(&storm_config(&way));
    start_storm(&site, ALL);
    site.becalm.wait_for_log("cannot be delivered now, and is tried again");
    let text = site.becalm.command(&["status"]);
    assert!(text.contains("ALERTS FAIL webhook-1 (1 waiting, 0 dropped)"), "{text}");
    // It comes up, is busy at first, and then takes it.
    let receiver = Receiver::start(Some(address), |number| if number == 0 { 503 } else { 204 });
    site.becalm.wait_for_log("alerts can be delivered again");
    let got = receiver.got();
    assert_eq!(got[0].body, got[1].body);
    assert_eq!(site.becalm.status().alerts[0].failing, None);
    site.becalm.command(&["storms", "end", ALL]);
    receiver.wait_for("storm_ended");
}

#[test]
fn a_storm_that_a_restart_finds_is_told_of_no_more_than_once() {
    let receiver = Receiver::start(None, |_| 200);
    let site =
        Site::new(&storm_config(&receiver.way("events = ['storm_started', 'storm_ended', 'degraded']")));
    start_storm(&site, ALL);
    receiver.wait_for("storm_started");
    // Nobody helps.
    receiver.wait_for("degraded");
    wait_until("it is written down", || std::fs::metadata(site.becalm.home().join("alerts.json")).ok());
    let Site { postfix, becalm, mailbox } = site;
    let becalm = becalm.restart();
    let site = Site { postfix, becalm, mailbox };
    assert_eq!(site.becalm.status().storms, 1);
    queued(&site.send(&Letter::new(&person(7), "more").answers("root-all-example.org"), &[ALL]));
    wait_until("the helper is missed again", || {
        site.becalm.status().quarantine.helpers.pop().filter(|helper| helper.state == "down")
    });
    let after = site.becalm.take_over();
    after.command(&["storms", "end", ALL]);
    receiver.wait_for("storm_ended");
    let mut events: Vec<String> =
        receiver.got().iter().map(|got| got.body["event"].as_str().unwrap_or_default().to_owned()).collect();
    events.sort();
    assert_eq!(events, ["degraded", "storm_ended", "storm_started"]);
}

#[test]
fn troubles_are_told_of_and_their_ends() {
    let receiver = Receiver::start(None, |_| 200);
    let folder = open_folder();
    let aliases = folder.path().join("aliases");
    std::fs::write(&aliases, "team: a, b, c, d, e, f, g, h, i, j, k\n").unwrap();
    let becalm = Becalm::start(&storm_config(&format!(
        "directory.aliases = ['{}']\ndirectory.refresh = '1s'\n{}",
        aliases.display(),
        receiver.way("events = ['directory', 'recovered']")
    )));
    let away = folder.path().join("away");
    std::fs::rename(&aliases, &away).unwrap();
    let stale = receiver.wait_for("directory");
    assert!(stale.body["about"].as_str().is_some_and(|about| about.contains("aliases")), "{stale:?}");
    std::fs::rename(&away, &aliases).unwrap();
    let over = receiver.wait_for("recovered");
    assert_eq!((&over.body["recovers"], &over.body["about"]), (&"directory".into(), &stale.body["about"]));
    assert_eq!(receiver.got().len(), 2);
    drop(becalm);
}

#[test]
fn alert_test_says_what_became_of_each() {
    let folder = open_folder();
    let receiver = Receiver::start(None, |number| [200, 404, 302][number % 3]);
    let submission = Submission::start();
    let told = program(folder.path(), "cat > /dev/null; echo out of paper >&2; exit 3");
    let slow = folder.path().join("slow");
    std::fs::write(&slow, "#!/bin/sh\nsleep 600 & sleep 600\n").unwrap();
    std::fs::set_permissions(&slow, PermissionsExt::from_mode(0o755)).unwrap();
    let becalm = Becalm::start(&storm_config(&format!(
        "{}{}{}{}[[alert]]\nway = 'command'\nname = 'page'\ncommand = ['{}']\n[[alert]]\nway = 'command'\ncommand = ['{}']\ntimeout = '1s'\n",
        receiver.way(""),
        receiver.way(""),
        receiver.way(""),
        submission.way(""),
        told.display(),
        slow.display(),
    )));
    let output = becalm.try_command(&["alert", "test"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for words in [
        "1  webhook-1 (http://127.0.0.1:",
        "delivered\n2  webhook-2",
        "FAILED: HTTP 404: said; is `url` the receiver's?",
        "FAILED: HTTP 302: said; redirects are not followed",
        "4  mail-4 (ops@example.org by 127.0.0.1:",
        "out of paper",
        "was killed after 1 s",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    assert!(!text.contains("/hook"), "a hook's path is a secret:\n{text}");
    submission.wait_for("Subject: [becalm] becalm: a test alert");
    let one = becalm.try_command(&["alert", "test", "--way", "mail-4", "--json"]);
    assert!(one.status.success());
    let json: Value = serde_json::from_slice(&one.stdout).unwrap();
    assert_eq!(
        (&json["results"][0]["delivered"], json["results"].as_array().unwrap().len()),
        (&true.into(), 2)
    );
    assert_eq!(json["by"], "daemon");
    let audit = std::fs::read_to_string(becalm.home().join("audit.log")).unwrap();
    assert_eq!(audit.lines().filter(|line| line.contains("alert_test")).count(), 7, "{audit}");
    let none = becalm.try_command(&["alert", "test", "--way", "fax"]);
    assert!(String::from_utf8_lossy(&none.stderr).contains("there is no way `fax`; there are 1 (webhook-1)"));
    // Nothing of the slow one is left.
    wait_until("what the program started is gone", || {
        let left = std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(slow.to_str().unwrap())
        });
        (!left).then_some(())
    });
}

/// The mail of an alert that comes by becalm, on its way to a list that is in a storm.
#[test]
fn becalm_knows_its_own_mail_and_nobody_else_s() {
    // The way is known when Postfix is.
    let becalm = Becalm::start(&storm_config(""));
    let site = Site::around(becalm, |postfix| postfix.default_action("tempfail"));
    let way = mail_way(site.postfix.port(), "events = ['storm_started', 'storm_ended']");
    site.becalm.rewrite(|config| config.replace("[verdict]", &format!("{way}[verdict]")));
    assert!(site.becalm.reload());
    start_storm(&site, OPS);
    start_storm(&site, ALL);
    let told = wait_until("both recipients are told of both", || {
        let told: Vec<_> = letters(&site.fates(), &site.mailbox)
            .into_iter()
            .filter(|(_, letter)| letter.contains("Subject: [becalm] storm on"))
            .collect();
        (told.len() == 4).then_some(told)
    });
    let status = site.becalm.status();
    assert_eq!(
        (status.counts.own, status.counts.held),
        (2, 2),
        "those to the list are neither judged nor held"
    );
    assert_eq!(status.storms, 2);

    // Whoever has got one cannot use its code: not again, not for others, not with another text of it.
    let letter = &told.iter().find(|(to, letter)| to == OPS && letter.contains("storm on all@")).unwrap().1;
    let stolen = letter.split_once("\n\n").unwrap().0;
    let field = |name: &str| {
        let start = stolen.find(&format!("\n{name}:")).unwrap() + 1;
        let rest = &stolen[start..];
        let end = rest.match_indices('\n').find(|(at, _)| !rest[at + 1..].starts_with([' ', '\t']));
        rest[..end.map_or(rest.len(), |(at, _)| at)].to_owned()
    };
    let again =
        format!("From: <p@example.org>\n{}\n{}\n\nEverybody!\n", field("Message-ID"), field("X-Becalm-Own"));
    let send = |to: &str, message: &str| -> String {
        let mut client: Client = site.client();
        queued(&client.send("p@example.org", &[to], message).unwrap())
    };
    let mut forged = vec![send(OPS, &again), send(ALL, &again)];
    let key: [u8; 32] = std::fs::read(site.becalm.home().join("key")).unwrap().try_into().unwrap();
    let mark = |key: &[u8; 32], to: &str, at: u64| {
        let mark = OwnMark {
            kind: "alert".to_owned(),
            message_id: format!("x{at}@example.org"),
            to: to.to_owned(),
            at: Timestamp::from_millis(at),
        };
        format!(
            "From: <p@example.org>\nMessage-ID: <x{at}@example.org>\nX-Becalm-Own: {}\n\nEverybody!\n",
            Marker::new(key, "mx1").own_value(&mark)
        )
    };
    let now = becalm::clock::Clock::system().now().as_millis();
    forged.push(send(ALL, &mark(&[0; 32], ALL, now)));
    forged.push(send(ALL, &mark(&key, OPS, now + 1)));
    forged.push(send(ALL, &mark(&key, ALL, now - 2 * 3_600_000)));
    // It would pass with the right key, in time, for the right recipient.
    let good = send(ALL, &mark(&key, ALL, now + 2));
    let fates = site.fates();
    assert!(fates.is_delivered(&good));
    assert_eq!(forged.iter().filter(|id| fates.held.contains(*id)).count(), forged.len(), "{fates:?}");
    assert_eq!(site.becalm.status().counts.own, 3);
}

#[test]
fn the_author_of_held_mail_gets_one_notice() {
    let submission = Submission::start();
    let more = format!(
        "postfix.local_domains = ['example.org']\nnotice.enabled = true\n{}",
        submission.way("events = ['held']")
    );
    let site = Site::new(&storm_config(&more));
    start_storm(&site, ALL);
    let mut client = site.client();
    let mut reply = |author: &str, id: &str, more: &str| {
        let mut letter = Letter::new(author, id).answers("root-all-example.org");
        if !more.is_empty() {
            letter = letter.field(more);
        }
        queued(&letter.send(&mut client, &[ALL]))
    };
    for n in 0..3 {
        reply("someone@example.org", &format!("r{n}"), "");
    }
    reply("far@elsewhere.example", "r4", "");
    reply("robot@example.org", "r5", "Auto-Submitted: auto-replied");
    reply("no-reply@example.org", "r6", "");
    reply("last@example.org", "r7", "");
    submission.wait_for("To: last@example.org");
    let letters = submission.letters();
    let to: Vec<&str> = letters
        .iter()
        .map(|(to, _)| to.as_str())
        .filter(|to| *to != OPS && !to.starts_with("two@"))
        .collect();
    let mut sorted = to.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, ["last@example.org", "person901@example.org", "someone@example.org"]);
    let (_, letter) = letters.iter().find(|(to, _)| to == "someone@example.org").unwrap();
    for words in [
        "Subject: Your message to all@example.org is on hold",
        "Auto-Submitted: auto-replied",
        "In-Reply-To: <r0@example.org>",
        "X-Becalm-Own:",
        "840000",
    ] {
        assert!(letter.contains(words), "{words}:\n{letter}");
    }
    assert!(submission.postfix.log().contains("from=<>"), "the null sender");
    // Not again after a restart, either.
    client.quit().unwrap();
    site.becalm.signal(Signal::TERM);
    let mut site = site;
    assert!(site.becalm.wait());
    let Site { postfix, becalm, mailbox } = site;
    let site = Site { becalm: becalm.restart(), postfix, mailbox };
    let mut client = site.client();
    queued(
        &Letter::new("someone@example.org", "r9").answers("root-all-example.org").send(&mut client, &[ALL]),
    );
    queued(&Letter::new("new@example.org", "r10").answers("root-all-example.org").send(&mut client, &[ALL]));
    submission.wait_for("To: new@example.org");
    let to = submission.letters().into_iter().filter(|(to, _)| to == "someone@example.org").count();
    assert_eq!(to, 1);
}

/// Ten thousand messages, a handful of alerts; and a receiver that never answers delays none of them.
#[test]
fn a_storm_of_ten_thousand_messages_makes_a_handful_of_alerts() {
    let receiver = Receiver::start(None, |_| 200);
    // Takes connections, and that is all.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let becalm = Becalm::start(&storm_config(&format!(
        "{}[[alert]]\nway = 'webhook'\nurl = 'http://{}/'\ntimeout = '5m'\n",
        receiver.way("events = ['storm_started', 'storm_growing', 'storm_ended']"),
        hanging.local_addr().unwrap()
    )));
    let load = std::process::Command::new(env!("CARGO_BIN_EXE_becalm"))
        .args(["bench", "--mix", "storm", "--list", ALL, "-n", "10000", "--json", "--socket"])
        .arg(becalm.milter())
        .output()
        .unwrap();
    assert!(load.status.success(), "{}", String::from_utf8_lossy(&load.stderr));
    wait_until("it is told how much it has grown", || {
        receiver.got().into_iter().find(|got| got.body["held"].as_u64().is_some_and(|held| held >= 1_000))
    });
    becalm.command(&["storms", "end", ALL]);
    let ended = receiver.wait_for("storm_ended");
    assert!(ended.body["held"].as_u64().is_some_and(|held| held > 9_900), "{ended:?}");
    let events: Vec<String> = receiver.got().iter().map(|got| got.body["event"].to_string()).collect();
    assert!((3..=6).contains(&events.len()), "{events:?}");
    assert_eq!(events.iter().filter(|event| event.contains("started")).count(), 1);
}

/// Certificates are checked against the machine's authorities, and nothing is said to whoever has none of these.
#[test]
fn mail_is_encrypted_or_not_sent() {
    let folder = open_folder();
    let openssl = |arguments: &str| {
        let said = std::process::Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder.path())
            .output()
            .expect("openssl is there, since Debian's postfix needs it");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca -addext basicConstraints=critical,CA:TRUE",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost");
    std::fs::write(folder.path().join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out cert.pem -extfile names",
    );
    let file = |name: &str| folder.path().join(name).display().to_string();
    let wrapped = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mailbox = Mailbox::new();
    let postfix = start(
        mailbox
            .serve(becalm::postfix::Postfix::builder())
            .set("smtpd_tls_cert_file", file("cert.pem"))
            .set("smtpd_tls_key_file", file("key.pem"))
            .set("smtpd_tls_security_level", "encrypt")
            .service("tlsmgr unix - - n 1000? 1 tlsmgr")
            .service(format!("127.0.0.1:{wrapped} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes")),
    );
    let way = |port: u16, tls: &str, host: &str| {
        format!(
            "[[alert]]\nway = 'mail'\nhost = '{host}'\nport = {port}\ntls = '{tls}'\nfrom = 'becalm@example.org'\n\
             to = ['{OPS}']\ntimeout = '20s'\n"
        )
    };
    let config = format!(
        "state.directory = '{}'\n{}{}{}{}",
        folder.path().display(),
        way(postfix.port(), "starttls", "localhost"),
        way(wrapped, "tls", "localhost"),
        way(postfix.port(), "none", "localhost"),
        way(postfix.port(), "starttls", "127.0.0.1"),
    );
    std::fs::write(folder.path().join("becalm.toml"), config).unwrap();
    let test = |authorities: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_becalm"))
            .args(["alert", "test", "--json", "--config", &file("becalm.toml")])
            .env("SSL_CERT_FILE", authorities)
            .output()
            .unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        let results = json["results"].as_array().unwrap().clone();
        results.iter().map(|result| result["error"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    let [starttls, tls, none, other_name] = &test(&file("ca.pem"))[..] else { panic!("four ways") };
    assert_eq!((starttls, tls), (&None, &None));
    assert!(none.as_ref().is_some_and(|why| why.contains("STARTTLS")), "{none:?}");
    assert!(
        other_name.as_ref().is_some_and(|why| why.contains("certificate names `host`")),
        "{other_name:?}"
    );
    assert_eq!(letters(&fates(&postfix), &mailbox).len(), 2);
    // Nobody vouches for it.
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout other.key -out other.pem -days 2 -subj /CN=other");
    let errors = test(&file("other.pem"));
    assert!(errors.iter().all(Option::is_some), "{errors:?}");
    assert!(errors[0].as_ref().is_some_and(|why| why.contains("update-ca-certificates")), "{errors:?}");
    assert_eq!(letters(&fates(&postfix), &mailbox).len(), 2);
}
