//! `becalm helper`: what it does to a real queue, and what it refuses.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use becalm::postfix::Postfix;
use becalm::quarantine::client::{Client, ClientError};
use becalm::quarantine::protocol::{HeldMail, Reason, Reply, Request};
use becalm::quarantine::queue_id::QueueId;

use crate::harness::{
    Becalm, Helper, Letter, Mailbox, PATIENCE, Site, TOUCHY, open_folder, person, queued, start_storm,
    wait_until,
};
use crate::hostile::as_user;

const ALL: &str = "all@example.org";
/// In one test, mail to this address is put on hold by Postfix itself.
const FRIEND: &str = "friend@example.org";

fn config() -> String {
    format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}")
}

fn id(text: &str) -> QueueId {
    QueueId::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Why it was not done.
#[track_caller]
fn refused(client: &mut Client, request: &Request) -> Reason {
    match client.act(request) {
        Err(ClientError::Refused(refusal)) => refusal.reason,
        other => panic!("{request:?}: {other:?}"),
    }
}

/// Held storm mail by so many people.
fn held(site: &Site, count: usize) -> Vec<String> {
    let mut ids = vec![queued(&start_storm(site, ALL)[1])];
    let mut client = site.client();
    for n in 1..count {
        let letter = Letter::new(&person(n), &format!("more{n}")).answers("root-all-example.org");
        ids.push(queued(&letter.send(&mut client, &[ALL])));
    }
    let fates = site.fates();
    for id in &ids {
        assert!(fates.held.contains(id), "{id}");
    }
    ids
}

#[test]
fn holds_releases_returns_and_expires() {
    let site = Site::new(&config());
    let ids = held(&site, 4);
    let helper = Helper::start(&site.postfix, &site.becalm);
    let mut client = helper.connect();
    let hello = client.hello().clone();
    assert!(hello.long_queue_ids && hello.min_free >= 15_360_000, "{hello:?}");
    assert_eq!(hello.queue_directory, site.postfix.queue_directory().to_string_lossy());

    let (list, others) = client.list().unwrap();
    assert_eq!(list.iter().map(|item| &item.id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!(others, 0);
    let HeldMail { mark, sender, recipients, size, .. } = &list[0];
    assert!(mark.contains("reason=storm") && mark.contains("copies=840000"), "{mark}");
    assert_eq!((sender.as_str(), recipients.as_slice()), ("person901@example.org", &[ALL.to_owned()][..]));
    assert!(*size > 200 && *size < 2000, "{size}");

    // Released: delivered at once, and not judged again.
    let done = client.act(&Request::Release(id(&ids[0]))).unwrap();
    assert_eq!((done.said, done.waits), (vec!["released from hold".to_owned()], None));
    assert!(site.delivered_text(&ids[0]).contains("reason=storm"));
    assert_eq!(refused(&mut client, &Request::Release(id(&ids[0]))), Reason::NotFound);

    // Returned: the sender gets it back, the list nothing.
    let done = client.act(&Request::Return(id(&ids[1]))).unwrap();
    assert_eq!(done.said, ["expired", "released from hold"]);
    // Expired: only what is old enough.
    assert_eq!(refused(&mut client, &Request::Expire(id(&ids[2]), 3600)), Reason::TooYoung);
    assert!(site.fates().held.contains(&ids[2]));
    client.act(&Request::Expire(id(&ids[2]), 0)).unwrap();
    for (id, n) in [(&ids[1], 1), (&ids[2], 2)] {
        let bounce = format!("{id}: sender non-delivery notification: ");
        let line = site.postfix.wait_for_log(&bounce, PATIENCE).unwrap();
        let notice = line.rsplit(' ').next().unwrap();
        let text = site.delivered_text(notice);
        assert!(text.contains(&format!("To: {}", person(n))) && text.contains("administratively"), "{text}");
    }
    let fates = site.fates();
    assert!(!fates.is_delivered(&ids[1]) && !fates.is_delivered(&ids[2]));

    // By hand in between: what is gone is gone, and said so.
    site.postfix.postsuper(&["-d", &ids[3]]).unwrap();
    assert_eq!(refused(&mut client, &Request::Return(id(&ids[3]))), Reason::NotFound);
    assert_eq!(client.list().unwrap(), (Vec::new(), 0));
}

/// What was accepted and is still on its way can be stopped, and let go again: nobody gets it twice.
#[test]
fn mail_on_its_way_can_be_held() {
    let site =
        Site::with(&config(), |postfix| postfix.default_action("tempfail").set("defer_transports", "file"));
    let [accepted, stopped] = start_storm(&site, ALL).map(|reply| queued(&reply));
    let ordinary = queued(&site.send(&Letter::new(&person(7), "lunch"), &["friend@example.org"]));
    site.postfix.wait_until_idle(PATIENCE).unwrap();
    let deferred: Vec<String> =
        site.postfix.in_queue("deferred").unwrap().into_iter().map(|message| message.queue_id).collect();
    assert!(deferred.contains(&accepted) && deferred.contains(&ordinary), "{deferred:?}");
    let helper = Helper::start(&site.postfix, &site.becalm);
    let mut client = helper.connect();
    assert_eq!(client.act(&Request::Hold(id(&accepted))).unwrap().said, ["placed on hold"]);
    assert_eq!(refused(&mut client, &Request::Hold(id(&accepted))), Reason::NotFound);
    assert_eq!(refused(&mut client, &Request::Hold(id(&ordinary))), Reason::NotOurs);
    let marks: Vec<String> = client.list().unwrap().0.into_iter().map(|item| item.mark).collect();
    assert!(marks.iter().any(|mark| mark.contains("verdict=accept")), "{marks:?}");
    // It comes back as a new message: the queue manager may still remember the old one.
    assert_eq!(client.act(&Request::Release(id(&accepted))).unwrap().said, ["requeued"]);
    site.postfix.wait_for_log(&format!("orig_id={accepted}"), PATIENCE).unwrap();
    let on_hold: Vec<String> =
        site.postfix.hold_queue().unwrap().into_iter().map(|message| message.queue_id).collect();
    assert_eq!(on_hold, [stopped]);
}

/// The mark comes before everything: it is found in a header that is longer than anybody reads, and what comes in
/// under its name from outside is still taken off.
#[test]
fn a_mark_is_found_however_long_the_header_is() {
    let site = Site::new(&config());
    let root = queued(&start_storm(&site, ALL)[1]);
    let mut letter = Letter::new(&person(5), "long").answers("root-all-example.org");
    for n in 0..10_000 {
        letter = letter.field(&format!("X-{n}: a"));
    }
    let foreign = (0..3).fold(letter, |letter, n| letter.field(&format!("X-Becalm: v=1; forged={n}")));
    let id_of_long = queued(&site.send(&foreign, &[ALL]));
    let text = site.postfix.postcat(&id_of_long).unwrap();
    let named = |name: &str| text.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((named("X-Becalm:"), named("X-9999:")), (1, 1), "our own is left, and all else");
    let place = |name: &str| text.find(name).unwrap_or_else(|| panic!("{name}"));
    assert!(place("X-Becalm: ") < place("Received: ") && place("Received: ") < place("From: "));

    let helper = Helper::start(&site.postfix, &site.becalm);
    let mut client = helper.connect();
    let (list, others) = client.list().unwrap();
    assert_eq!(list.iter().map(|item| &item.id).collect::<Vec<_>>(), [&root, &id_of_long]);
    assert_eq!(others, 0);
    client.act(&Request::Release(id(&id_of_long))).unwrap();
    let text = site.delivered_text(&id_of_long);
    assert!(text.contains("\nX-9999: a\n") && text.contains("reason=storm"));
}

/// Sends a line as it is, and returns the reply.
fn say(stream: &mut BufReader<UnixStream>, line: &[u8]) -> Option<Reply> {
    stream.get_mut().write_all(line).ok()?;
    hear(stream)
}

fn hear(stream: &mut BufReader<UnixStream>) -> Option<Reply> {
    let mut reply = String::new();
    stream.read_line(&mut reply).ok()?;
    serde_json::from_str(&reply).ok()
}

fn reason(reply: Option<Reply>) -> Option<Reason> {
    match reply {
        Some(Reply::Refused(refusal)) => {
            assert!(!refusal.message.is_empty());
            Some(refusal.reason)
        }
        _ => None,
    }
}

#[test]
fn hostile_requests_are_refused_with_a_reason() {
    let access = format!("inline:{{{FRIEND}=HOLD}}");
    let site = Site::with(&config(), |postfix| {
        let restrictions = format!("check_recipient_access {access}, permit_mynetworks, reject");
        postfix.default_action("tempfail").set("smtpd_recipient_restrictions", restrictions)
    });
    let ids = held(&site, 2);
    let ours = site.postfix.postcat(&ids[0]).unwrap();
    let mark = ours.lines().find(|line| line.starts_with("X-Becalm: ")).unwrap().to_owned();
    // Other people's mail on hold: without a mark, with one that was made up, with one of another message. (Sent
    // to nobody's list, they are not becalm's business when they come in.)
    let hold_by_hand = |letter: Letter| {
        let mut client = site.client();
        let id = queued(&letter.send(&mut client, &[FRIEND]));
        assert!(site.fates().held.contains(&id));
        id
    };
    let plain = hold_by_hand(Letter::new(&person(20), "plain"));
    let made_up = hold_by_hand(Letter::new(&person(21), "made-up").field(
        "X-Becalm: v=1; node=mx1; id=x; verdict=hold; reason=storm; storm=-; t=1; mac=00112233445566778899aabbccddeeff",
    ));
    let copied = hold_by_hand(Letter::new(&person(22), "copied").field(&mark));

    let helper = Helper::start_as(&site.postfix, &site.becalm, "helper.sock", "nobody");
    let mut client = helper.connect();
    for verb in [Request::Release, Request::Return, Request::Hold, |id| Request::Expire(id, 0)] {
        let reasons = [&plain, &made_up, &copied].map(|text| refused(&mut client, &verb(id(text))));
        let expected = match verb(id(&plain)) {
            Request::Hold(_) => [Reason::NotFound; 3],
            _ => [Reason::NotOurs, Reason::Forged, Reason::Forged],
        };
        assert_eq!(reasons, expected);
    }
    assert_eq!(refused(&mut client, &Request::Release(id("4jXc4x0HtRz1XDct"))), Reason::NotFound);
    let (list, others) = client.list().unwrap();
    assert_eq!((list.len(), others), (2, 3));

    // Not the protocol.
    let mut raw = BufReader::new(UnixStream::connect(helper.socket()).unwrap());
    assert!(matches!(hear(&mut raw), Some(Reply::Hello(_))));
    for (line, expected) in [
        (&b"QUIT\n"[..], Reason::BadRequest),
        (b"\n", Reason::BadRequest),
        (b"{\"v\":1,\"verb\":\"release\",\"id\":\"ALL\"}\n", Reason::BadId),
        (b"{\"v\":1,\"verb\":\"release\",\"id\":\"-\"}\n", Reason::BadId),
        (b"{\"v\":1,\"verb\":\"release\",\"id\":\"../../etc/shadow\"}\n", Reason::BadId),
        (b"{\"v\":1,\"verb\":\"release\",\"id\":\"9C0D1E2F3A\"}\n", Reason::ShortId),
        (b"{\"v\":9,\"verb\":\"list\"}\n", Reason::Version),
        (b"\xff\xfe\n", Reason::BadRequest),
    ] {
        assert_eq!(reason(say(&mut raw, line)), Some(expected), "{}", String::from_utf8_lossy(line));
    }
    // A line without end is refused, and nothing after it is read.
    assert_eq!(reason(say(&mut raw, &[b'x'; 600])), Some(Reason::BadRequest));
    assert_eq!(hear(&mut raw), None);

    // Many: each is answered.
    let mut raw = BufReader::new(UnixStream::connect(helper.socket()).unwrap());
    hear(&mut raw);
    let line = format!("{{\"v\":1,\"verb\":\"release\",\"id\":\"{plain}\"}}\n");
    for _ in 0..5000 {
        assert_eq!(reason(say(&mut raw, line.as_bytes())), Some(Reason::NotOurs));
    }
    // Too many at once: these four and their like wait for nobody.
    let crowd: Vec<_> = (0..20)
        .map(|_| reason(hear(&mut BufReader::new(UnixStream::connect(helper.socket()).unwrap()))))
        .collect();
    assert!(crowd.iter().all(|reason| matches!(reason, None | Some(Reason::Busy))), "{crowd:?}");
    drop(raw);

    // The wrong user: the socket's mode keeps him out; if somebody changes that, the helper does.
    let mode = std::fs::metadata(helper.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::set_permissions(helper.socket(), PermissionsExt::from_mode(0o666)).unwrap();
    for (user, expected) in [(65_533, Some(Reason::Peer)), (65_534, None)] {
        let refused = as_user(user, || {
            wait_until("an answer other than busy", || {
                let answer = Client::connect(helper.socket()).err();
                match answer {
                    Some(ClientError::Refused(refusal)) if refusal.reason == Reason::Busy => None,
                    Some(ClientError::Refused(refusal)) => Some(Some(refusal.reason)),
                    Some(other) => panic!("{other}"),
                    None => Some(None),
                }
            })
        });
        assert_eq!(refused, expected, "user {user}");
    }

    // Nothing has moved.
    let fates = site.fates();
    for id in [&plain, &made_up, &copied, &ids[0], &ids[1]] {
        assert!(fates.held.contains(id));
    }
}

#[test]
fn short_queue_ids_are_refused() {
    let site = Site::with(&config(), |postfix| {
        postfix.default_action("tempfail").set("enable_long_queue_ids", "no")
    });
    let reply = start_storm(&site, ALL)[1].clone();
    let short = queued(&reply);
    let helper = Helper::start(&site.postfix, &site.becalm);
    let mut client = helper.connect();
    assert!(!client.hello().long_queue_ids);
    // An empty answer would look like a queue from which everything has been released.
    match client.list() {
        Err(ClientError::Refused(refusal)) => assert_eq!(refusal.reason, Reason::ShortId),
        other => panic!("{other:?}"),
    }
    assert_eq!(refused(&mut client, &Request::Release(id("4jXc4x0HtRz1XDct"))), Reason::ShortId);
    let mut raw = BufReader::new(UnixStream::connect(helper.socket()).unwrap());
    hear(&mut raw);
    let line = format!("{{\"v\":1,\"verb\":\"release\",\"id\":\"{short}\"}}\n");
    assert_eq!(reason(say(&mut raw, line.as_bytes())), Some(Reason::ShortId));
    assert!(site.fates().held.contains(&short));

    // main.cf is changed: the helper need not be restarted.
    let main = site.postfix.config_directory().join("main.cf");
    let text = std::fs::read_to_string(&main).unwrap();
    std::fs::write(&main, text.replace("enable_long_queue_ids = no", "enable_long_queue_ids = yes")).unwrap();
    assert_eq!(client.list().unwrap(), (Vec::new(), 1));
    assert!(helper.connect().hello().long_queue_ids);
}

/// Each helper knows one Postfix; the queues of this one are nested.
#[test]
fn two_postfix_instances_have_a_helper_each() {
    let site = Site::new(&config());
    let first = held(&site, 1);
    let other: crate::harness::Mta = crate::harness::start(
        Postfix::builder()
            .milter(site.becalm.milter())
            .set("hash_queue_names", "deferred, defer, hold, incoming")
            .set("hash_queue_depth", "3"),
    );
    let mut mail = other.client().unwrap();
    let letter = Letter::new(&person(30), "elsewhere").answers("root-all-example.org");
    let second = queued(&letter.send(&mut mail, &[ALL]));
    let helpers = [
        Helper::start(&site.postfix, &site.becalm),
        Helper::start_as(&other, &site.becalm, "other.sock", "root"),
    ];
    let mut clients = helpers.each_ref().map(Helper::connect);
    for (client, expected) in clients.iter_mut().zip([&first[0], &second]) {
        let listed: Vec<String> = client.list().unwrap().0.into_iter().map(|item| item.id).collect();
        assert_eq!(&listed, std::slice::from_ref(expected));
    }
    let [one, two] = &mut clients;
    assert_eq!(refused(one, &Request::Release(id(&second))), Reason::NotFound);
    assert_eq!(refused(two, &Request::Return(id(&first[0]))), Reason::NotFound);
    two.act(&Request::Release(id(&second))).unwrap();
    other.wait_for_log(&format!("{second}: removed"), PATIENCE).unwrap();
    assert!(site.fates().held.contains(&first[0]));
}

/// The daemon is an ordinary user; what it cannot do, the helper does, on a socket that systemd passes.
#[test]
fn the_daemon_needs_no_privileges() {
    const NOBODY: u32 = 65_534;
    let folder = open_folder();
    let program = folder.path().join("becalm");
    std::fs::copy(env!("CARGO_BIN_EXE_becalm"), &program).unwrap();
    let milter = open_folder();
    std::os::unix::fs::chown(milter.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let config = format!(
        "listen.sockets = ['unix:{}/milter.sock']\nlisten.mode = '0666'\nlisten.group = ''\n[storm]\ndelay = '1s'\n{}{ALL_IS_WARY}",
        milter.path().display(),
        "[verdict]\nmode = 'hold'\n"
    );
    let becalm = Becalm::start_on_own_sockets(&config, |run| {
        let home = Path::new(run.get_args().last().expect("its configuration")).parent().unwrap().to_owned();
        std::os::unix::fs::chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = Command::new(&program);
        command.args(run.get_args()).env_remove("LISTEN_FDS").stdin(Stdio::null()).uid(NOBODY).gid(NOBODY);
        command
    });
    let mailbox = Mailbox::new();
    let builder = Postfix::builder()
        .milter(format!("unix:{}/milter.sock", milter.path().display()))
        .default_action("tempfail");
    let postfix = crate::harness::start(mailbox.serve(builder));

    // A directory that the daemon may write to is no place for root's socket.
    let mut helper = Command::new(env!("CARGO_BIN_EXE_becalm"));
    helper.args(["helper", "--user", "nobody", "--config-dir"]).arg(postfix.config_directory());
    helper.arg("--key").arg(becalm.home().join("key"));
    let refused = helper.arg("--socket").arg(becalm.home().join("own.sock")).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("must be root's"), "{said}");

    // As sd_listen_fds(3) says.
    let socket = folder.path().join("helper.sock");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    std::os::unix::fs::chown(&socket, Some(NOBODY), None).unwrap();
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(&socket, becalm.home().join("helper.sock")).unwrap();
    let mut child = Command::new("/bin/sh")
        .args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh"])
        .arg(helper.get_program())
        .args(helper.get_args())
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();

    let mut client = postfix.client().unwrap();
    let ids: Vec<String> = (0..3)
        .map(|n| queued(&Letter::new(&person(n), &format!("a{n}")).send(&mut client, &[ALL])))
        .collect();
    for id in &ids {
        mailbox.read(id);
    }
    let counts = becalm.status().counts;
    assert_eq!((counts.held, counts.released), (2, 2));
    // The key is the daemon's, and readable by nobody else but root.
    let key = std::fs::metadata(becalm.home().join("key")).unwrap();
    assert_eq!(
        (std::os::unix::fs::MetadataExt::uid(&key), key.permissions().mode() & 0o777),
        (NOBODY, 0o600)
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Everybody but the first waits.
const ALL_IS_WARY: &str = "[[list]]\naddress = 'all@example.org'\nmembers = 300\nfree = 1\nstorm_min = 10\nlist_factor = 1\nbudget = 300\nhistory = '0s'\n";
