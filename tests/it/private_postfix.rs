//! The private Postfix itself.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use becalm::postfix::Postfix;

use crate::harness::{open_folder, start, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn takes_mail_holds_and_releases_it_and_sends_it_nowhere() {
    let postfix = start(Postfix::builder().smtpd("smtpd_client_restrictions", "static:HOLD"));
    let mut client = postfix.client().unwrap();
    let reply =
        client.send("a@example.org", &["all@example.org", "x@elsewhere.test"], "Subject: hi\n\ntext\n");
    let reply = reply.unwrap();
    let id = reply.queue_id().unwrap_or_else(|| panic!("{reply}"));

    let held = postfix.hold_queue().unwrap();
    assert_eq!(held.len(), 1);
    assert_eq!((held[0].queue_id.as_str(), held[0].sender.as_str()), (id, "a@example.org"));
    assert_eq!(held[0].addresses(), ["all@example.org", "x@elsewhere.test"]);
    assert!(postfix.postcat(id).unwrap().contains("Subject: hi\n"));

    postfix.release(id).unwrap();
    postfix.wait_for_log(&format!("{id}: removed"), PATIENCE).unwrap();
    postfix.wait_until_idle(PATIENCE).unwrap();
    let mut delivered: Vec<String> =
        postfix.delivered().into_iter().map(|delivery| delivery.recipient).collect();
    delivered.sort();
    assert_eq!(delivered, ["all@example.org", "x@elsewhere.test"]);
    assert!(postfix.log().contains("postfix/discard"), "and by nobody else:\n{}", postfix.log());
}

#[test]
fn several_run_side_by_side_and_leave_nothing_behind() {
    let instances: Vec<Postfix> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| Postfix::builder().start().unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (number, postfix) in instances.iter().enumerate() {
        let sender = format!("{number}@example.org");
        postfix.sendmail(&sender, &["all@example.org"], "Subject: x\n\ntext\n").unwrap();
        postfix.wait_for_log("status=sent", PATIENCE).unwrap();
        assert_eq!(postfix.log().matches("from=<").count(), 2, "pickup's and qmgr's:\n{}", postfix.log());
        assert!(postfix.log().contains(&format!("from=<{sender}>")));
    }
    for postfix in instances {
        let home = postfix.home().to_owned();
        let address = postfix.address();
        postfix.stop();
        assert!(!home.exists());
        assert!(std::net::TcpStream::connect(address).is_err());
    }
}

#[test]
fn an_error_says_why() {
    let error = Postfix::builder().service("what is this").start().err().expect("master.cf is broken");
    assert!(error.to_string().contains("master.cf"), "{error}");
}

/// A process that does not outlive the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Also when that process is killed: a demonstration that somebody interrupts leaves nothing running.
#[test]
fn it_ends_with_the_process_that_started_it() {
    let folder = open_folder();
    let homes = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder.path()).unwrap().flatten();
        let homes =
            entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("becalm-postfix-"));
        homes.map(|entry| entry.path()).collect()
    };
    let demo = Command::new(env!("CARGO_BIN_EXE_becalm"))
        .args(["demo", "--postfix"])
        .env("TMPDIR", folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut demo = Killed(demo);
    let master = wait_until("a Postfix runs", || {
        let master = std::fs::read_to_string(homes().first()?.join("queue/pid/master.pid")).ok()?;
        let works_in = Path::new("/proc").join(master.trim()).join("cwd");
        let queue = std::fs::read_link(&works_in).ok()?;
        queue.starts_with(folder.path().canonicalize().unwrap()).then_some(works_in)
    });
    demo.0.kill().unwrap();
    demo.0.wait().unwrap();
    wait_until("it is gone, with all its files", || {
        (homes().is_empty() && std::fs::read_link(&master).is_err()).then_some(())
    });
}
