//! `becalm run --takeover`: another becalm in the place of one that runs.

use std::process::Command;

use becalm::postfix::Postfix;
use becalm::postfix::smtp::Client;
use rustix::process::Signal;

use crate::harness::{
    Becalm, Letter, Mailbox, Site, TOUCHY, open_folder, person, queued, start, start_storm, wait_until,
};

const ALL: &str = "all@example.org";
const OTHER: &str = "other@example.org";
const FRIEND: &str = "friend@example.org";

fn lists() -> String {
    format!(
        "[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}[[list]]\naddress = '{OTHER}'\n{TOUCHY}"
    )
}

/// Exchanges becalm.
fn exchange(site: Site, change: impl FnOnce(&Becalm) -> Becalm) -> (Site, Becalm) {
    let Site { postfix, becalm, mailbox } = site;
    let new = change(&becalm);
    (Site { postfix, becalm: new, mailbox }, becalm)
}

/// Which of the running processes answers a client is seen by sending an ordinary message.
#[track_caller]
fn greet(site: &Site, number: usize) -> Client {
    let mut client = site.client();
    queued(&Letter::new(&person(number), &format!("greeting{number}")).send(&mut client, &[FRIEND]));
    client
}

#[test]
fn what_one_judges_the_other_knows() {
    let site = Site::new(&format!("listen.drain = '5m'\n{}", lists()));
    let mut with_old = greet(&site, 1);
    let before = site.becalm.status();
    let (site, mut old) = exchange(site, Becalm::take_over);
    let mut with_new = greet(&site, 2);
    let status = site.becalm.status();
    assert_eq!((before.generation, status.generation), (1, 2));
    assert!(!status.draining && status.pid != before.pid);
    assert_eq!(status.listening, before.listening);
    assert_eq!(status.counts.messages, 1, "the new one takes new sessions only");
    let told = status.before.expect("it is still there");
    assert_eq!((told.pid, told.refusing), (before.pid, false));
    assert!(site.becalm.command(&["status"]).contains("took over from process"));
    wait_until("the new one knows of the old one's session", || {
        (site.becalm.status().before?.sessions == 1).then_some(())
    });

    // A storm that begins at the old one and is declared by the new one, and the other way round.
    for (list, first, second) in [(ALL, 0, 1), (OTHER, 1, 0)] {
        let clients = [&mut with_old, &mut with_new];
        let root = format!("root-{list}").replace('@', "-");
        let letter = |n: usize| Letter::new(&person(n), &format!("{n}{root}")).answers(&root);
        queued(&Letter::new(&person(10), &root).send(clients[first], &[list]));
        // What was judged a moment ago is on its way.
        let mut number = 20;
        let held = wait_until("the other one holds", || {
            number += 1;
            let id = queued(&letter(number).send(clients[second], &[list]));
            site.fates().held.contains(&id).then_some(id)
        });
        assert!(site.postfix.postcat(&held).unwrap().contains("storm="));
        let held = wait_until("the one holds, too", || {
            number += 1;
            let id = queued(&letter(number).send(clients[first], &[list]));
            site.fates().held.contains(&id).then_some(id)
        });
        assert!(site.postfix.postcat(&held).unwrap().contains("storm="));
        let open = site.becalm.storms().open;
        assert!(open.iter().any(|open| open.list.as_deref() == Some(list)), "{open:?}");
    }
    // Whatever was judged by either is in the journal of the new one.
    with_old.quit().unwrap();
    assert!(old.wait(), "with its last session, and well");
    wait_until("it is gone", || site.becalm.status().before.is_none().then_some(()));
    wait_until("the journal is written", || (site.becalm.status().journal.waiting == 0).then_some(()));
    let storms = site.becalm.storms();
    assert_eq!(storms.storms.len(), 2, "none was declared twice: {storms:?}");
    assert_eq!(site.becalm.status().journal.state, "ok");
    site.becalm.signal(Signal::KILL);
    let Site { postfix, becalm, mailbox } = site;
    let site = Site { postfix, becalm: becalm.restart(), mailbox };
    assert_eq!(site.becalm.storms().open.len(), 2);
    assert_eq!(site.becalm.storms().storms, storms.storms);
}

#[test]
fn sessions_of_the_old_one_are_served_then_sent_on() {
    let site = Site::new(&format!("listen.drain = '0s'\nlisten.takeover_linger = '5m'\n{}", lists()));
    start_storm(&site, ALL);
    let [mut idle, mut watched, mut begun] = [1, 2, 3].map(|n| greet(&site, n));
    begun.mail(&person(4)).unwrap();
    begun.rcpt(ALL).unwrap();
    assert_eq!(begun.data().unwrap().code, 354);
    let (site, mut old) = exchange(site, Becalm::take_over);
    old.wait_for_log("is refused for now");
    wait_until("the new one knows", || {
        site.becalm.status().before.is_some_and(|before| before.refusing).then_some(())
    });
    // What has begun is judged, ordinary mail passes, watched mail comes again and is judged by the new one.
    let held = queued(&begun.text(&Letter::new(&person(4), "begun").text()).unwrap());
    let passed = queued(&Letter::new(&person(5), "idle").send(&mut idle, &[FRIEND]));
    let letter = Letter::new(&person(6), "again");
    watched.mail(&person(6)).unwrap();
    watched.rcpt(ALL).unwrap();
    assert_eq!(watched.data().unwrap().code, 421);
    let again = queued(&site.send(&letter, &[ALL]));
    let fates = site.fates();
    assert!(fates.held.contains(&held) && fates.held.contains(&again) && fates.is_delivered(&passed));
    drop((idle, begun));
    assert!(old.wait());
}

/// The new one dies, whenever that is: the old one takes connections again, and writes the journal again.
#[test]
fn the_old_one_takes_back_what_it_gave() {
    let site = Site::new(&format!("listen.drain = '5m'\n{}", lists()));
    start_storm(&site, ALL);
    let client = greet(&site, 1);
    let (mut site, mut old) = exchange(site, Becalm::take_over);
    let pid = site.becalm.status().pid;
    start_storm(&site, OTHER);
    // The old one has learnt of it.
    wait_until("both storms are known", || (site.becalm.storms().open.len() == 2).then_some(()));
    site.becalm.signal(Signal::KILL);
    assert!(!site.becalm.wait());
    old.wait_for_log("takes connections again");
    old.wait_until_ready();
    let (site, _dead) = exchange(site, |_| old);
    let status = site.becalm.status();
    assert_eq!((status.draining, status.generation, &status.after), (false, 1, &None));
    assert_eq!(site.becalm.storms().open.len(), 2, "the dead one's is not forgotten");
    for (n, list) in [(30, ALL), (31, OTHER)] {
        let id = queued(&site.send(&Letter::new(&person(n), &format!("m{n}")), &[list]));
        assert!(site.fates().held.contains(&id));
    }
    wait_until("the journal is whole", || {
        let journal = site.becalm.status().journal;
        (journal.state == "ok" && journal.waiting == 0 && journal.checkpoint.is_some()).then_some(())
    });
    assert!(pid != site.becalm.status().pid);

    // And it can be taken over again; what both judged outlives a kill.
    let (site, mut old) = exchange(site, Becalm::take_over);
    assert_eq!(site.becalm.status().generation, 2);
    drop(client);
    assert!(old.wait());
    let Site { postfix, mut becalm, mailbox } = site;
    becalm.signal(Signal::KILL);
    becalm.wait_until_still();
    let site = Site { postfix, becalm: becalm.restart(), mailbox };
    assert_eq!(site.becalm.storms().open.len(), 2);
}

/// A chain: the one in the middle is needed until the first has ended, and nobody stands in for those who end well.
#[test]
fn taken_over_again_and_again_then_stopped() {
    let site = Site::new(&format!("listen.drain = '5m'\n{}", lists()));
    let mut first = greet(&site, 1);
    let (site, mut a) = exchange(site, Becalm::take_over);
    let (mut site, mut b) = exchange(site, Becalm::take_over);
    assert_eq!(site.becalm.status().generation, 3);
    // From the first to the last, by way of the second.
    queued(&Letter::new(&person(10), "root").send(&mut first, &[ALL]));
    let mut number = 20;
    wait_until("the third holds", || {
        number += 1;
        let letter = Letter::new(&person(number), &format!("m{number}")).answers("root");
        let id = queued(&site.send(&letter, &[ALL]));
        site.fates().held.contains(&id).then_some(())
    });
    assert!(!a.has_ended() && !b.has_ended());
    site.becalm.signal(Signal::TERM);
    assert!(site.becalm.wait());
    // Nobody took its place: it was told to stop.
    assert!(std::os::unix::net::UnixStream::connect(site.becalm.socket()).is_err());
    assert!(!a.has_ended(), "it has a session");
    drop(first);
    assert!(a.wait() && b.wait());
}

#[test]
fn a_takeover_that_cannot_be_changes_nothing() {
    let site = Site::new(&lists());
    start_storm(&site, ALL);
    let before = site.becalm.status();
    let refused = |code, arguments: &[&str]| {
        let output = site.becalm.try_command(arguments);
        assert_eq!(output.status.code(), Some(code));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // Its configuration is bad.
    site.becalm.rewrite(|config| format!("{config}mode = 'hodl'\n"));
    let said = refused(78, &["run", "--takeover"]);
    assert!(said.contains("becalm.toml:") && said.contains("hodl"), "{said}");
    // A socket that it wants besides cannot be had: seen when the old one has let go of its journal already.
    let socket = site.becalm.socket();
    site.becalm.rewrite(|config| {
        config.replace(&format!("['unix:{}']", socket.display()), "['unix:/nonexistent/x.sock']")
    });
    let said = refused(1, &["run", "--takeover"]);
    assert!(said.contains("cannot listen on unix:/nonexistent/x.sock"), "{said}");
    site.becalm.wait_for_log("the other becalm did not take over; this one goes on");
    // It has another key.
    let elsewhere = open_folder();
    let state = format!("state.directory = '{}'", site.becalm.home().display());
    site.becalm.rewrite(|config| {
        config.replace(&state, &format!("state.directory = '{}'", elsewhere.path().display()))
    });
    let said = refused(1, &["run", "--takeover"]);
    assert!(said.contains("another key"), "{said}");
    site.becalm.rewrite(str::to_owned);
    // The one that runs knows nothing of takeovers.
    std::fs::remove_file(site.becalm.home().join("admin.takeover")).unwrap();
    let said = refused(1, &["run", "--takeover"]);
    assert!(said.contains("takes no takeovers") && said.contains("too old"), "{said}");

    let status = site.becalm.status();
    assert_eq!((status.pid, status.draining), (before.pid, false));
    let id = queued(&site.send(&Letter::new(&person(1), "m1"), &[ALL]));
    assert!(site.fates().held.contains(&id));
    wait_until("it writes its journal", || {
        let journal = site.becalm.status().journal;
        (journal.state == "ok" && journal.waiting == 0 && journal.written > 0).then_some(())
    });
}

#[test]
fn only_root_and_its_own_user_may_take_over() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt as _;
    let becalm = Becalm::start(&lists());
    let socket = becalm.home().join("admin.takeover");
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    // The program itself may lie where only root looks.
    let program = becalm.home().join("becalm");
    std::fs::copy(env!("CARGO_BIN_EXE_becalm"), &program).unwrap();
    let output = Command::new(&program)
        .args(["run", "--takeover", "--config"])
        .arg(becalm.home().join("becalm.toml"))
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("user 65534 may not take over"), "{said}");
    becalm.status();
}

#[test]
fn without_anybody_to_take_over_from_it_starts_and_other_sockets_are_opened_and_closed() {
    let home = open_folder();
    let config = |sockets: &str| format!("listen.sockets = [{sockets}]\n{}", lists());
    let [one, two, three] =
        ["one", "two", "three"].map(|name| format!("'unix:{}/{name}.sock'", home.path().display()));
    let becalm = Becalm::start_on_own_sockets(&config(&format!("{one}, {two}")), |mut program| {
        program.arg("--takeover");
        program
    });
    assert_eq!(becalm.status().generation, 1);
    assert!(becalm.log().iter().any(|line| line.contains("starting without taking over")));
    let new = becalm.take_over_with(|_| config(&format!("{two}, {three}")));
    let listening = new.status().listening;
    assert_eq!(listening, [&two, &three].map(|name| name.trim_matches('\'').to_owned()));
    let connects = |name: &str| std::os::unix::net::UnixStream::connect(home.path().join(name)).is_ok();
    assert!(connects("two.sock") && connects("three.sock"));
    wait_until("the old one has ended", || (!connects("one.sock")).then_some(()));
    drop(becalm);
}

/// Without a journal (or with one that the disk does not take) the old one tells the new one all it knows itself.
#[test]
fn nothing_is_forgotten_without_a_journal_either() {
    let site = Site::new(&format!("journal.enabled = false\n{}", lists()));
    start_storm(&site, ALL);
    let before = site.becalm.storms();
    let (site, mut old) = exchange(site, Becalm::take_over);
    assert!(old.wait());
    let after = site.becalm.storms();
    assert_eq!((&after.open, &after.storms), (&before.open, &before.storms));
    let id = queued(&site.send(&Letter::new(&person(1), "m1"), &[ALL]));
    assert!(site.fates().held.contains(&id));
    queued(&site.send(&Letter::new(&person(3), "m3"), &[OTHER]));
    let (site, _old) = exchange(site, Becalm::take_over);
    let id = queued(&site.send(&Letter::new(&person(2), "m2").answers("m3"), &[OTHER]));
    assert!(site.fates().held.contains(&id), "the second person, though not of this becalm's");
}

/// As systemd's socket units do it: the sockets are not in the configuration, and are handed on all the same.
#[test]
fn sockets_passed_by_systemd_are_handed_on() {
    use std::os::fd::OwnedFd;
    use std::process::Stdio;
    let folder = open_folder();
    let path = folder.path().join("passed.sock");
    let unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let own = folder.path().join("own.sock");
    let config = format!("listen.sockets = ['unix:{}']\n{}", own.display(), lists());
    let becalm = Becalm::start_on_own_sockets(&config, |program| {
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$@\"", "sh"])
            .arg(program.get_program())
            .args(program.get_args())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::from(OwnedFd::from(unix)));
        shell
    });
    let mailbox = Mailbox::new();
    let milter = format!("unix:{}", path.display());
    let postfix = start(mailbox.serve(Postfix::builder().milter(&milter).default_action("tempfail")));
    let mut site = Site { postfix, becalm, mailbox };
    start_storm(&site, ALL);
    for generation in 2..4 {
        let (next, mut old) = exchange(site, Becalm::take_over);
        site = next;
        assert!(old.wait());
        let status = site.becalm.status();
        assert_eq!((status.generation, &status.listening), (generation, &vec![milter.clone()]));
        let letter = Letter::new(&person(generation as usize), &format!("m{generation}"));
        let id = queued(&site.send(&letter, &[ALL]));
        assert!(site.fates().held.contains(&id));
    }
    assert!(!own.exists());
}
