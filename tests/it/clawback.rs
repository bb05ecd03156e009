//! Clawing back: replies that passed before their conversation became a storm are stopped in Postfix's queue; when
//! they are released later, each recipient gets them, and nobody twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use becalm::admin::api::HeldInfo;
use becalm::postfix::{Builder, Postfix};
use becalm::quarantine::client::ClientError;
use becalm::quarantine::protocol::{Reason, Request};
use becalm::quarantine::queue_id::QueueId;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Becalm, Helper, Letter, Mailbox, PATIENCE, Site, person, queued, start, wait_until};

const ALL: &str = "all@example.org";

/// The third person who writes to it makes a storm.
const THIRD: &str = "[verdict]\nmode = 'hold'\n[[list]]\naddress = 'all@example.org'\nmembers = 840_000\nfree = 2\nstorm_min = 3\n";

/// A transport that delivers a copy for each token that it is given, and writes down to whom.
struct Gate {
    folder: TempDir,
    /// Open for reading too, so that nobody finds its end.
    tokens: File,
}

impl Gate {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let script = "folder=$1; shift; [ -e \"$folder/down\" ] && exit 75\n\
                      id=$(sed -n 's/^Message-ID: //p')\n\
                      for to; do\n\
                      echo \"$to\" >> \"$folder/begun\"; read -r token < \"$folder/gate\"\n\
                      printf '%s %s\\n' \"$id\" \"$to\" >> \"$folder/delivered\"\n\
                      done\n";
        std::fs::write(folder.path().join("deliver.sh"), script).unwrap();
        let gate = folder.path().join("gate");
        for name in ["delivered", "begun"] {
            std::fs::write(folder.path().join(name), "").unwrap();
            std::fs::set_permissions(folder.path().join(name), PermissionsExt::from_mode(0o666)).unwrap();
        }
        let made = std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&gate).status().unwrap();
        assert!(made.success());
        std::fs::set_permissions(&gate, PermissionsExt::from_mode(0o666)).unwrap();
        let tokens = File::options().read(true).write(true).open(&gate).unwrap();
        Self { folder, tokens }
    }

    fn site(&self, people: usize, agents: usize, build: impl FnOnce(Builder) -> Builder) -> Site {
        let becalm = Becalm::start(THIRD);
        let postfix = Postfix::builder().milter(becalm.milter()).default_action("tempfail");
        let postfix = start(build(self.serve(postfix, people, agents)));
        Site { postfix, becalm, mailbox: Mailbox::new() }
    }

    /// A Postfix that expands the list to so many people, and delivers by this, `agents` copies at a time.
    fn serve(&self, postfix: Builder, people: usize, agents: usize) -> Builder {
        let folder = self.folder.path().display();
        let members: Vec<String> = (0..people).map(|n| format!("member{n}@example.org")).collect();
        std::fs::write(self.folder.path().join("virtual"), format!("{ALL} {}\n", members.join(", ")))
            .unwrap();
        std::fs::set_permissions(self.folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        postfix
            .service(format!(
                "gate unix - n n - {agents} pipe user=nobody argv=/bin/sh {folder}/deliver.sh {folder} ${{recipient}}"
            ))
            .set("local_transport", "gate:")
            .set("gate_destination_recipient_limit", "1")
            .set("gate_destination_concurrency_limit", agents.to_string())
            .set("gate_initial_destination_concurrency", agents.to_string())
            .set("virtual_alias_maps", if people > 0 { format!("texthash:{folder}/virtual") } else { String::new() })
            .set("virtual_alias_expansion_limit", "10000")
    }

    fn give(&self, tokens: usize) {
        (&self.tokens).write_all(&vec![b'\n'; tokens]).unwrap();
    }

    fn lines(&self, name: &str) -> usize {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap().lines().count()
    }

    /// How often each member got a message.
    fn copies(&self, message: &str) -> BTreeMap<String, usize> {
        let log = std::fs::read_to_string(self.folder.path().join("delivered")).unwrap();
        let mut copies = BTreeMap::new();
        for member in log.lines().filter_map(|line| line.strip_prefix(&format!("<{message}@example.org> "))) {
            *copies.entry(member.to_owned()).or_default() += 1;
        }
        copies
    }

    fn down(&self) -> std::path::PathBuf {
        self.folder.path().join("down")
    }
}

fn held(site: &Site, reason: &str) -> Vec<HeldInfo> {
    let arguments = ["quarantine", "list", "--reason", reason, "--json"];
    let json: Value = serde_json::from_str(&site.becalm.command(&arguments)).unwrap();
    serde_json::from_value(json["messages"].clone()).unwrap()
}

/// A helper that becalm has found.
fn helper(site: &Site) -> Helper {
    let helper = Helper::start(&site.postfix, &site.becalm);
    wait_until("the helper is found", || {
        (site.becalm.status().quarantine.helpers[0].state == "ok").then_some(())
    });
    helper
}

/// The root of a conversation, and a reply that passes.
fn root(site: &Site) -> String {
    queued(&site.send(&Letter::new(&person(0), "root"), &[ALL]))
}

fn reply(site: &Site, n: usize) -> String {
    queued(&site.send(&Letter::new(&person(n), &format!("reply{n}")).answers("root"), &[ALL]))
}

/// Lets it go; tried again for as long as somebody delivers it.
fn release(site: &Site, id: &str) {
    wait_until("it is released", || {
        let output = site.becalm.try_command(&["quarantine", "release", id]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains("still being delivered"), "{said}");
        output.status.success().then_some(())
    });
}

fn exists(folder: &Path, id: &str) -> bool {
    folder.join("hold").join(id).exists()
}

/// A delivery to 300 that has begun: what is not on its way to somebody at that moment stops.
#[test]
fn a_delivery_that_has_begun_stops_and_nobody_gets_it_twice() {
    const PEOPLE: usize = 300;
    const BEGUN: usize = 20;
    const AGENTS: usize = 3;
    let gate = Gate::new();
    let site = gate.site(PEOPLE, AGENTS, |postfix| postfix);
    let helper = helper(&site);
    let root = root(&site);
    gate.give(PEOPLE);
    site.postfix.wait_for_log(&format!("{root}: removed"), PATIENCE).unwrap();
    let id = reply(&site, 1);
    gate.give(BEGUN);
    // As many as there are agents have the file open, and wait.
    wait_until("the delivery stands", || {
        (gate.lines("begun") == PEOPLE + BEGUN + AGENTS && gate.lines("delivered") == PEOPLE + BEGUN)
            .then_some(())
    });
    let stopped = reply(&site, 2);
    let line = site.becalm.wait_for_log("clawed back from Postfix's queue");
    assert!(line.contains("messages=1") && line.contains("copies=280"), "{line}");
    let [item] = &held(&site, "clawed_back")[..] else { panic!("{:?}", held(&site, "clawed_back")) };
    assert_eq!((item.queue_id.as_str(), item.copies, item.list.as_deref()), (id.as_str(), 280, Some(ALL)));
    let storm = site.becalm.storms().storms.remove(0);
    assert_eq!((storm.clawed_back, storm.copies_clawed_back), (1, 280));
    assert_eq!(item.storm.as_ref(), Some(&storm.storm));
    let text = site.becalm.command(&["storms", "show", &storm.storm]);
    assert!(text.contains("clawed   1 messages back from Postfix's queue, 280 copies"), "{text}");
    let counts = site.becalm.status().counts;
    assert_eq!((counts.clawed_back, counts.copies_clawed_back, counts.held), (1, 280, 1));
    assert!(site.becalm.command(&["status"]).contains("clawed back 1 messages that had passed"));

    // Not while somebody delivers it; and it cannot be returned to its sender, since some have it.
    let mut client = helper.connect();
    let act = |client: &mut becalm::quarantine::client::Client, verb: fn(QueueId) -> Request| match client
        .act(&verb(QueueId::parse(&id).unwrap()))
    {
        Err(ClientError::Refused(refusal)) => refusal.reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(act(&mut client, Request::Release), Reason::Failed);
    assert_eq!(act(&mut client, Request::Return), Reason::Begun);
    // They finish, and it goes no further: more tokens lie there, and nobody takes them.
    gate.give(PEOPLE);
    wait_until("those that had begun are done", || {
        (gate.copies("reply1").len() == BEGUN + AGENTS).then_some(())
    });
    site.postfix.wait_for_log(&format!("open active {id}: No such file"), PATIENCE).unwrap();

    release(&site, &id);
    wait_until("everybody has it", || (gate.copies("reply1").len() == PEOPLE).then_some(()));
    site.postfix.wait_until_idle(PATIENCE).unwrap();
    let copies = gate.copies("reply1");
    assert!(copies.values().all(|copies| *copies == 1), "{copies:?}");
    assert!(gate.copies("root").values().all(|copies| *copies == 1));
    assert!(gate.copies("reply2").is_empty() && exists(&site.postfix.queue_directory(), &stopped));
    assert!(held(&site, "clawed_back").is_empty());
}

/// The queue manager remembers the recipients of a message that it was delivering, and goes on with them at its own
/// pace: a release meanwhile must not let both memories deliver.
#[test]
fn released_while_the_queue_manager_still_remembers_it() {
    const PEOPLE: usize = 12;
    let gate = Gate::new();
    let site = gate.site(PEOPLE, 1, |postfix| {
        // Two at a time: where each recipient is a destination of its own, each has a pace of its own.
        postfix.set("gate_destination_rate_delay", "1s").set("gate_destination_recipient_limit", "2")
    });
    let _helper = helper(&site);
    // Enough for all of them, and for as many that should not be.
    gate.give(4 * PEOPLE);
    let root = root(&site);
    site.postfix.wait_for_log(&format!("{root}: removed"), PATIENCE).unwrap();
    let id = reply(&site, 1);
    wait_until("two have it", || (gate.copies("reply1").len() >= 2).then_some(()));
    reply(&site, 2);
    wait_until("it is clawed back", || (held(&site, "clawed_back").len() == 1).then_some(()));
    release(&site, &id);
    let had = gate.copies("reply1").len();
    assert!(had < PEOPLE - 1, "there was something left to claw back");
    site.postfix.wait_for_log(&format!("open active {id}: No such file"), PATIENCE).unwrap();
    wait_until("everybody has it", || (gate.copies("reply1").len() == PEOPLE).then_some(()));
    site.postfix.wait_until_idle(PATIENCE).unwrap();
    let copies = gate.copies("reply1");
    assert!(copies.values().all(|copies| *copies == 1), "{copies:?}");
}

/// A list that another server expands, which is down: nobody has it yet, and all its copies are spared.
#[test]
fn a_list_that_waits_in_the_deferred_queue() {
    let gate = Gate::new();
    let site = gate.site(0, 1, |postfix| postfix);
    let _helper = helper(&site);
    std::fs::write(gate.down(), "").unwrap();
    let root = root(&site);
    let id = reply(&site, 1);
    let other = queued(&site.send(&Letter::new(&person(5), "elsewhere"), &["friend@example.org"]));
    site.postfix.wait_until_idle(PATIENCE).unwrap();
    assert_eq!(site.postfix.in_queue("deferred").unwrap().len(), 3);
    reply(&site, 2);
    wait_until("it is clawed back", || (held(&site, "clawed_back").len() == 1).then_some(()));
    assert_eq!(held(&site, "clawed_back")[0].copies, 840_000);
    let storm = held(&site, "clawed_back").remove(0).storm.expect("it is one of a storm");

    // Its mark says that it passed. Whoever is started after it knows better.
    let site = site.restarted();
    wait_until("it is known", || (held(&site, "clawed_back").len() == 1).then_some(()));
    let item = held(&site, "clawed_back").remove(0);
    assert_eq!((item.queue_id, item.storm.as_ref(), item.copies), (id.clone(), Some(&storm), 840_000));
    let text = site.becalm.command(&["storms", "show", &storm]);
    assert!(text.contains("clawed   1 messages back") && text.contains("on hold  2 messages"), "{text}");

    // The letter that was answered, and other mail, are left alone.
    let deferred: Vec<String> =
        site.postfix.in_queue("deferred").unwrap().into_iter().map(|message| message.queue_id).collect();
    assert!(deferred.len() == 2 && deferred.contains(&root) && deferred.contains(&other), "{deferred:?}");
    std::fs::remove_file(gate.down()).unwrap();
    gate.give(10);
    release(&site, &id);
    wait_until("it is delivered", || (gate.copies("reply1").len() == 1).then_some(()));
    site.postfix.wait_until_idle(PATIENCE).unwrap();
    assert_eq!(gate.copies("reply1"), BTreeMap::from([(ALL.to_owned(), 1)]));
}
