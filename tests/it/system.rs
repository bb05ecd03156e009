//! The installed daemon: its sandbox, its keys, what it tells systemd.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use becalm::quarantine::protocol::{Reason, Request};
use becalm::quarantine::queue_id::QueueId;

use crate::harness::{
    Becalm, Helper, Letter, PATIENCE, Site, TOUCHY, open_folder, person, queued, start_storm, wait_until,
};

const ALL: &str = "all@example.org";

#[test]
fn what_was_held_under_an_old_key_can_be_released_until_the_key_expires() {
    let site = Site::new(&format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"));
    let send = |n| {
        queued(&site.send(&Letter::new(&person(n), &format!("r{n}")).answers("root-all-example.org"), &[ALL]))
    };
    let mut old = vec![queued(&start_storm(&site, ALL)[1])];
    old.extend([send(1), send(2)]);
    let home = site.becalm.home().to_owned();
    let first = std::fs::read(home.join("key")).unwrap();
    let helper = Helper::start(&site.postfix, &site.becalm);
    let mut client = helper.connect();
    let listed = |client: &mut becalm::quarantine::client::Client| -> Vec<String> {
        client.list().unwrap().0.into_iter().map(|item| item.id).collect()
    };
    assert_eq!(listed(&mut client), old);

    let said = site.becalm.command(&["key", "rotate"]);
    assert!(said.contains("good until"), "{said}");
    site.becalm.wait_for_log("marked with another key");
    assert_eq!(std::fs::read(home.join("key")).unwrap(), first, "what is known hangs on it");
    let new = send(3);
    assert_eq!(site.becalm.lists().lists[0].phase, "storm", "nothing was forgotten");
    assert_eq!(listed(&mut client).len(), 4, "held under either key");
    let id = |text: &str| QueueId::parse(text).unwrap();
    client.act(&Request::Release(id(&old[0]))).unwrap();
    client.act(&Request::Return(id(&old[1]))).unwrap();
    site.postfix.wait_until_idle(PATIENCE).unwrap();
    assert!(site.fates().is_delivered(&old[0]));

    // The old key's time is over.
    let ring = std::fs::read_to_string(home.join("key.ring")).unwrap();
    let (signing, _) = ring.split_once('\n').unwrap();
    let earlier = first.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(ring.contains(&format!("\n{earlier} ")), "the first key is the second now");
    std::fs::write(home.join("key.ring"), format!("{signing}\n{earlier} 1000000000\n")).unwrap();
    match client.act(&Request::Release(id(&old[2]))) {
        Err(becalm::quarantine::client::ClientError::Refused(refusal)) => {
            assert_eq!(refusal.reason, Reason::Forged)
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(listed(&mut client), [new.as_str()], "what the new key signed is still there");
    client.act(&Request::Release(id(&new))).unwrap();
}

#[test]
fn the_daemon_reads_its_sources_again_and_writes_nowhere_else() {
    let elsewhere = open_folder();
    let aliases = elsewhere.path().join("aliases");
    std::fs::write(&aliases, "all: a, b, c, d, e, f, g, h, i, j, k\n").unwrap();
    let config =
        format!("postfix.local_domains = ['example.org']\ndirectory.aliases = ['{}']\n", aliases.display());
    let becalm = Becalm::start(&config);
    let sandbox = becalm.status().sandbox;
    // A kernel with Landlock makes a rule set, or says which version it has.
    let known =
        std::fs::read_to_string("/proc/kallsyms").is_ok_and(|names| names.contains("landlock_restrict_self"));
    if sandbox == "none: kernel" {
        eprintln!("skipped: this kernel has no Landlock (its symbols are there: {known})");
        return;
    }
    assert!(sandbox == "full" || sandbox.starts_with("partial"), "{sandbox}");
    let lists = || becalm.lists().lists.into_iter().map(|list| list.address).collect::<Vec<_>>();
    assert_eq!(lists(), [ALL]);
    let included = elsewhere.path().join("staff");
    std::fs::write(&included, (0..20).map(|n| format!("s{n}\n")).collect::<String>()).unwrap();
    std::fs::write(
        &aliases,
        format!("all: a, b, c, d, e, f, g, h, i, j, k\nstaff: :include:{}\n", included.display()),
    )
    .unwrap();
    assert!(becalm.reload());
    wait_until("both lists are known", || (lists().len() == 2).then_some(()));

    // Its audit log is a link to elsewhere now: root as it is, it cannot follow it and write there.
    let landlocked = |pid: rustix::process::Pid| {
        std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))
            .unwrap()
            .contains("NoNewPrivs:\t1")
    };
    assert!(landlocked(becalm.pid()));
    becalm.command(&["observe", "on"]);
    let audit = becalm.home().join("audit.log");
    let _ = std::fs::remove_file(&audit);
    std::os::unix::fs::symlink(elsewhere.path().join("audit.log"), &audit).unwrap();
    let refused = becalm.try_command(&["storms", "start", ALL, "--for", "1h", "--reason", "test"]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("cannot be written down"), "{said}");
    assert!(!elsewhere.path().join("audit.log").exists());
    // The same without the sandbox writes there: it is the sandbox that forbids.
    let free = Becalm::start(&format!("{config}daemon.sandbox = false\n"));
    assert_eq!(free.status().sandbox, "none: off");
    let audit = free.home().join("audit.log");
    let _ = std::fs::remove_file(&audit);
    std::os::unix::fs::symlink(elsewhere.path().join("audit.log"), &audit).unwrap();
    let _ = free.try_command(&["storms", "start", ALL, "--for", "1h", "--reason", "test"]);
    wait_until("it was written", || elsewhere.path().join("audit.log").exists().then_some(()));
}

#[test]
fn systemd_is_told_that_it_is_ready_lives_and_stops() {
    let there = open_folder();
    let path = there.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let sockets = format!("listen.sockets = ['unix:{}']\n", there.path().join("becalm.sock").display());
    let mut becalm = Becalm::start_on_own_sockets(&sockets, |mut program: Command| {
        program.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "6000000").env_remove("WATCHDOG_PID");
        program
    });
    let hear = |wanted: &str| {
        let mut seen = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let read =
                socket.recv(&mut bytes).unwrap_or_else(|error| panic!("no {wanted} after {seen:?}: {error}"));
            let said = String::from_utf8_lossy(&bytes[..read]).into_owned();
            if said.lines().any(|line| line == wanted) {
                return;
            }
            seen.push(said);
        }
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    becalm.signal(rustix::process::Signal::TERM);
    hear("STOPPING=1");
    assert!(becalm.wait());
}
