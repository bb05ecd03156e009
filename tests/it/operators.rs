//! What operators see and do: status, lists, check, and stopping.

use std::os::unix::process::CommandExt;
use std::process::Command;

use becalm::postfix::Postfix;
use rustix::process::Signal;

use crate::harness::{Becalm, Helper, Letter, Site, TOUCHY, person, queued, start, start_storm, wait_until};

const ALL: &str = "all@example.org";

fn lists() -> String {
    format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}")
}

#[test]
fn the_same_in_words_and_as_json() {
    let site = Site::new(&format!("{}[[list]]\naddress = 'calm@example.org'\nmembers = 12\n", lists()));
    assert!(site.becalm.command(&["storms"]).contains("no list is in a storm"));
    start_storm(&site, ALL);
    let status = site.becalm.status();
    let json: serde_json::Value = serde_json::from_str(&site.becalm.command(&["status", "--json"])).unwrap();
    assert_eq!(json["reply"], "status");
    assert_eq!(json["node"], "mx1");
    assert_eq!((&json["lists"], &json["storms"]), (&2.into(), &1.into()));
    assert_eq!(json["counts"]["held"], status.counts.held);
    let text = site.becalm.command(&["status"]);
    assert!(text.contains("2 (1 in a storm, 0 cooling)") && text.contains("1 held"), "{text}");

    let lists = site.becalm.lists().lists;
    let seen: Vec<_> =
        lists.iter().map(|list| (list.address.as_str(), list.members, list.phase.as_str())).collect();
    assert_eq!(seen, [(ALL, 840_000, "storm"), ("calm@example.org", 12, "calm")]);
    assert!(lists[0].origin.contains("becalm.toml:"), "{lists:?}");
    let text = site.becalm.command(&["lists"]);
    assert!(text.find(ALL).unwrap() < text.find("calm@example.org").unwrap(), "the largest first:\n{text}");
    let storm = site.becalm.storms().storms.remove(0);
    assert!(site.becalm.command(&["storms"]).contains(&storm.storm));

    // Somebody else may not ask, and is told why. Without a daemon, everybody is.
    let ask = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let socket = site.becalm.home().join("admin.sock");
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    // The program itself may lie where only root looks.
    let program = site.becalm.home().join("becalm");
    std::fs::copy(env!("CARGO_BIN_EXE_becalm"), &program).unwrap();
    let said = ask(Command::new(&program).args(["status", "--socket"]).arg(&socket).uid(65_534).gid(65_534));
    assert!(said.contains("user 65534 may not ask"), "{said}");
    let said = ask(Command::new(&program).args(["status", "--socket", "/nonexistent/admin.sock"]));
    assert!(said.contains("is it running"), "{said}");
}

#[test]
fn check_reads_postfix_s_own_configuration() {
    let becalm = Becalm::start(&format!(
        "postfix.myorigin = 'example.org'\npostfix.local_domains = ['example.org']\npostfix.recipient_delimiter = '+'\n{}",
        lists()
    ));
    let check = |postfix: &Postfix| {
        let folder = postfix.config_directory();
        let output = becalm.try_command(&["check", "--postfix-config", &folder.to_string_lossy()]);
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let good = ["connect_timeout", "command_timeout", "content_timeout"].into_iter().fold(
        Postfix::builder().milter(becalm.milter()).default_action("accept").non_smtpd(),
        |builder, name| builder.milter_setting(name, "5s"),
    );
    let postfix = start(good.clone());
    let (fine, text) = check(&postfix);
    assert!(fine && text.contains("0 errors, 1 warning") && text.contains("no helper on"), "{text}");
    let _helper = Helper::start(&postfix, &becalm);
    let (fine, text) = check(&postfix);
    assert!(fine && text.contains("0 errors, 0 warnings"), "{text}");
    drop(postfix);

    let postfix = start(
        Postfix::builder()
            .set(
                "smtpd_milters",
                format!("{{ {}, default_action=tempfail }}, inet:127.0.0.1:9", becalm.milter()),
            )
            .set("enable_long_queue_ids", "no")
            .set("myorigin", "elsewhere.example"),
    );
    let (fine, text) = check(&postfix);
    assert!(!fine, "{text}");
    let words = [
        "not the last milter",
        "command_timeout=30s",
        "short queue ids",
        "myorigin",
        "no helper is that of this",
    ];
    for words in words {
        assert!(text.contains(words), "{words}:\n{text}");
    }
}

#[test]
fn sigterm_finishes_what_has_begun() {
    let mut site = Site::new(&format!("listen.drain = '5m'\n{}", lists()));
    start_storm(&site, ALL);
    let mut begun = site.client();
    begun.mail("p@example.org").unwrap();
    begun.rcpt(ALL).unwrap();
    site.becalm.signal(Signal::TERM);
    site.becalm.wait_for_log("no new sessions");
    // New sessions find nobody: Postfix takes its default action.
    wait_until("the socket is closed", || {
        std::os::unix::net::UnixStream::connect(site.becalm.socket()).is_err().then_some(())
    });
    assert_eq!(site.send(&Letter::new(&person(1), "m1"), &["friend@example.org"]).code, 451);
    // The message that has begun is judged.
    assert!(site.becalm.status().draining);
    begun.data().unwrap();
    let id = queued(&begun.text(&Letter::new("p@example.org", "last").text()).unwrap());
    assert!(site.fates().held.contains(&id));
    begun.quit().unwrap();
    assert!(site.becalm.wait(), "long before the five minutes are over");
    assert!(site.becalm.log().iter().any(|line| line.contains("stopped")));
}

/// A session that is still open when the time is over: mail that has begun is judged, other watched mail is sent
/// elsewhere, ordinary mail passes.
#[test]
fn sigterm_leaves_no_watched_message_unjudged() {
    let mut site = Site::new(&format!("listen.drain = '0s'\nlisten.linger = '5m'\n{}", lists()));
    start_storm(&site, ALL);
    let [mut idle, mut envelope, mut begun] = [(); 3].map(|()| site.client());
    queued(&Letter::new(&person(1), "m1").send(&mut idle, &["friend@example.org"]));
    for client in [&mut envelope, &mut begun] {
        client.mail("p@example.org").unwrap();
        client.rcpt(ALL).unwrap();
    }
    // Its DATA is answered before, its header comes after.
    assert_eq!(begun.data().unwrap().code, 354);
    site.becalm.signal(Signal::TERM);
    site.becalm.wait_for_log("is refused for now");
    let status = site.becalm.status();
    assert!(status.draining && status.refusing);

    let held = queued(&begun.text(&Letter::new("p@example.org", "begun").text()).unwrap());
    let mut passed = vec![queued(&Letter::new(&person(2), "m2").send(&mut idle, &["friend@example.org"]))];
    passed.push(queued(&Letter::new(&person(3), "m3").send(&mut begun, &["friend@example.org"])));
    let reply = envelope.data().unwrap();
    assert_eq!(reply.code, 421, "{reply}");
    assert!(reply.text.contains("4.3.2"), "{reply}");
    assert!(envelope.rset().is_err(), "Postfix hangs up: the client begins anew");
    assert_eq!(site.becalm.status().counts.deferred, 1);
    let fates = site.fates();
    assert!(fates.held.contains(&held));
    assert!(passed.iter().all(|id| fates.is_delivered(id)));
    for client in [idle, begun] {
        client.quit().unwrap();
    }
    assert!(site.becalm.wait(), "long before the five minutes are over");
}

#[test]
fn sigterm_does_not_wait_for_ever() {
    let mut site = Site::new(&format!("listen.drain = '0s'\nlisten.linger = '1s'\n{}", lists()));
    let mut idle = site.client();
    queued(&Letter::new(&person(1), "m1").send(&mut idle, &[ALL]));
    let mut begun = site.client();
    begun.mail("p@example.org").unwrap();
    begun.rcpt(ALL).unwrap();
    site.becalm.signal(Signal::TERM);
    assert!(site.becalm.wait());
    // Nothing was lost: what was not judged is not taken.
    assert_eq!(begun.data().unwrap().code, 451);
    assert_eq!(Letter::new(&person(2), "m2").send(&mut idle, &[ALL]).code, 451);
}

#[test]
fn a_start_that_fails_says_why() {
    let becalm = Becalm::start(&lists());
    let run = |change: &dyn Fn(&str) -> String| {
        becalm.rewrite(|config| change(&config.replace("becalm.sock", "other.sock")));
        let output = becalm.try_command(&["run"]);
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let said = run(&|config| format!("{config}mode = 'hodl'\n"));
    assert!(said.contains("becalm.toml:") && said.contains("did you mean \"hold\"?"), "{said}");
    let said = run(&|config| format!("listen.group = 'no-such-group'\n{config}"));
    assert!(said.contains("no entry for no-such-group in group; create the group"), "{said}");
    let said = run(&|config| config.replace("unix:/", "unix:/nonexistent/"));
    assert!(said.contains("cannot listen on unix:/nonexistent/"), "{said}");
}
