//! becalm stopped, killed, and gone: mail does what Postfix's default action says, and none is lost.

use becalm::postfix::Postfix;
use rustix::process::Signal;

use crate::bench::fine;
use crate::harness::{Becalm, Letter, Mailbox, Site, TOUCHY, fates, person, queued, start, start_storm};

const ALL: &str = "all@example.org";

#[test]
fn a_becalm_that_hangs_or_dies_costs_what_the_default_action_says() {
    let becalm = Becalm::start(&format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"));
    let socket = becalm.milter();
    let patience = |action: &str| {
        let short = |builder: becalm::postfix::Builder| {
            ["connect_timeout", "command_timeout", "content_timeout"]
                .into_iter()
                .fold(builder, |builder, name| builder.milter_setting(name, "2s"))
        };
        short(Postfix::builder().milter(&socket).default_action(action))
    };
    let mailbox = Mailbox::new();
    let strict = start(mailbox.serve(patience("tempfail")));
    let mut site = Site::around(becalm, |_| patience("accept"));
    let mut number = 0;
    let mut letter = || {
        number += 1;
        Letter::new(&person(number), &format!("m{number}"))
    };
    let mut accepted = vec![queued(&start_storm(&site, ALL)[1])];

    for signal in [Signal::STOP, Signal::KILL] {
        // It works: the list is held.
        let id = queued(&letter().send(&mut strict.client().unwrap(), &[ALL]));
        assert!(fates(&strict).held.contains(&id));

        // Sessions that are in the middle of a message when it happens, and after one.
        let mut begun = [strict.client().unwrap(), site.client()];
        for client in &mut begun {
            queued(&letter().send(client, &["friend@example.org"]));
            client.mail(&person(0)).unwrap();
            assert_eq!(client.rcpt(ALL).unwrap().code, 250);
        }
        site.becalm.signal(signal);
        site.becalm.wait_until_still();
        let [mut refused, mut taken] = begun;
        let reply = refused.data().unwrap();
        assert_eq!(reply.code, 451, "{signal:?}: {reply}");
        assert_eq!(taken.data().unwrap().code, 354, "{signal:?}");
        accepted.push(queued(&taken.text(&letter().text()).unwrap()));
        // The rest of such a session is the same.
        refused.rset().unwrap();
        assert_eq!(letter().send(&mut refused, &["friend@example.org"]).code, 451);
        accepted.push(queued(&letter().send(&mut taken, &[ALL])));

        // New sessions.
        let reply = letter().send(&mut strict.client().unwrap(), &["friend@example.org"]);
        assert_eq!(reply.code, 451, "{signal:?}: {reply}");
        accepted.push(queued(&site.send(&letter(), &[ALL])));

        if signal == Signal::STOP {
            site.becalm.signal(Signal::CONT);
        } else {
            let Site { postfix, becalm, mailbox } = site;
            site = Site { postfix, becalm: becalm.restart(), mailbox };
            // What it knew is gone with it: storms are told anew.
            accepted.push(queued(&start_storm(&site, ALL)[1]));
        }
        // New sessions are filtered again.
        accepted.push(queued(&site.send(&letter(), &[ALL])));
        assert!(site.fates().held.contains(&accepted[accepted.len() - 1]), "after {signal:?}");
    }

    let fates = site.fates();
    for id in &accepted {
        assert!(fates.is_delivered(id) != fates.held.contains(id), "{id} is in one place, and only one");
    }
}

#[test]
fn a_becalm_killed_under_load_loses_nothing() {
    let site = Site::with(
        &format!("log.level = 'warn'\n[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"),
        |postfix| postfix.default_action("accept").milter_setting("command_timeout", "5s"),
    );
    start_storm(&site, ALL);
    let sent = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|thread| {
                let (site, sent) = (&site, &sent);
                scope.spawn(move || {
                    // A new session for every other message: some begin before it dies, some after.
                    for n in 0..20 {
                        let mut client = site.client();
                        for m in 0..2 {
                            let to = if m == 0 { ALL } else { "friend@example.org" };
                            let letter = Letter::new(&person(n), &format!("t{thread}n{n}m{m}"));
                            let id = queued(&letter.send(&mut client, &[to]));
                            sent.lock().unwrap().push(id);
                        }
                    }
                })
            })
            .collect();
        crate::harness::wait_until("mail flows", || (sent.lock().unwrap().len() >= 30).then_some(()));
        site.becalm.signal(Signal::KILL);
        for client in clients {
            client.join().unwrap();
        }
    });
    let fates = site.fates();
    let sent = sent.into_inner().unwrap();
    assert_eq!(sent.len(), 120);
    for id in &sent {
        assert!(fates.is_delivered(id) != fates.held.contains(id), "{id} is in one place, and only one");
    }
    assert!(sent.iter().any(|id| fates.held.contains(id)), "it was at work");
    assert!(fates.is_delivered(&sent[119]), "and then it was not");
}

#[test]
fn a_log_that_nobody_reads_stops_neither_mail_nor_the_end() {
    let mut becalm = Becalm::start(&format!(
        "[log]\nlevel = 'debug'\n[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"
    ));
    let log = becalm.log_reader();
    let unread = log.stop_reading();
    // Each of them is worth a line of some 200 bytes, and a pipe takes 64 KiB.
    let report = fine(&["--socket", &becalm.milter(), "--mix", "storm", "--list", ALL, "-n", "2000"]);
    assert!(report["filters"][0]["held"].as_u64() > Some(1_900), "{report}");
    becalm.signal(Signal::TERM);
    assert!(becalm.wait());
    drop(unread);
    // What the pipe took was read in the end: it had been full of such lines.
    becalm.wait_for_log("held");
}
