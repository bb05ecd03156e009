//! The dashboard, in a real Chromium, with a real becalm behind it.

use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use becalm::milter::mta::{Content, Envelope, Mta, MtaReply, Profile, Script, Verdict};
use becalm::milter::{Client, ClientAddress};
use serde_json::Value;

use crate::browser::{Browser, ENTER, ESCAPE, LEFT, SHIFT, SPACE, TAB};
use crate::harness::{Becalm, Helper, Letter, Site, TOUCHY, person, queued, start_storm, wait_until};

const ALL: &str = "all@example.org";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// With HTTP on a port of its own; looking takes no token.
fn config(more: &str, lists: &str) -> String {
    format!(
        "admin.http.listen = '127.0.0.1:0'\nadmin.http.read_without_token = true\n{more}\n[verdict]\nmode = 'hold'\n{lists}"
    )
}

fn touchy(list: &str) -> String {
    format!("[[list]]\naddress = '{list}'\n{TOUCHY}")
}

/// Gives becalm its token, and returns the address of its page.
fn page(becalm: &Becalm) -> String {
    let file = becalm.home().join("token");
    let mut token =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&file).unwrap();
    token.write_all(TOKEN.as_bytes()).unwrap();
    becalm.rewrite(|config| format!("admin.http.token_file = '{}'\n{config}", file.display()));
    assert!(becalm.reload());
    let line = becalm.wait_for_log("HTTP over TCP");
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap();
    format!("http://{address}/")
}

/// Everything that the console must not have.
#[track_caller]
fn assert_quiet(browser: &Browser, allowed: &[&str]) {
    let said = browser.console();
    let odd: Vec<_> = said.iter().filter(|line| !allowed.iter().any(|fine| line.contains(fine))).collect();
    assert!(odd.is_empty(), "the console has {odd:#?}");
}

fn token_dialog(browser: &Browser) {
    browser.wait_for_text("dialog h2", "Token wanted");
    browser.write("dialog input[name=token]", TOKEN);
    browser.click("dialog button[type=submit]");
}

fn held(becalm: &Becalm) -> Vec<Value> {
    let json: Value = serde_json::from_str(&becalm.command(&["quarantine", "list", "--json"])).unwrap();
    json["messages"].as_array().unwrap().clone()
}

#[test]
fn calm_storm_release_return_and_the_end() {
    let site = Site::new(&config(
        "quarantine.reconcile = '1s'",
        &format!("{}[[list]]\naddress = 'calm@example.org'\nmembers = 12\n", touchy(ALL)),
    ));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let browser = Browser::start();
    browser.open(&page(&site.becalm));
    browser.wait_for_text("h1", "Calm. Nothing is held.");
    browser.wait_for_text("#link", "Live");
    assert_eq!(browser.text("#news"), "");

    // A storm: told at once, by the stream of events.
    let first = queued(&start_storm(&site, ALL)[1]);
    browser.wait_for_text("#news", &format!("Storm on {ALL}"));
    browser.wait_for_text("h1", &format!("Storm on {ALL} since"));
    let card = browser.wait_for_text("#storms .card", "1 message stopped: 840 k copies");
    assert!(card.contains("Storm") && card.contains("the list reaches 840 k mailboxes"), "{card}");
    let mut client = site.client();
    for n in 0..4 {
        let letter = Letter::new(&person(n), &format!("m{n}")).answers("root-all-example.org");
        queued(&letter.send(&mut client, &[ALL]));
    }
    browser.wait_for_text("h1", "5 messages are held.");
    browser.wait_for_text("#held-sum", "5 messages held, 4.2 M copies");
    // The picture moved with the pulses.
    browser.wait_for_text("#charts [data-key=held] figcaption", "now 5");

    // Search: by author, by reason, and nothing.
    wait_until("five rows", || (browser.count("#held-table tbody tr") == 5).then_some(()));
    browser.write("#filters [name=author]", &person(2));
    browser.click("#filters [type=submit]");
    wait_until("one row", || (browser.count("#held-table tbody tr") == 1).then_some(()));
    assert!(browser.text("#held-table tbody").contains(&person(2)));
    browser.click("#filters [type=reset]");
    wait_until("all rows", || (browser.count("#held-table tbody tr") == 5).then_some(()));
    browser.run("const s = document.querySelector('#filters [name=reason]'); s.value = 'automatic'; s.dispatchEvent(new Event('change', { bubbles: true }))");
    browser.wait_for_text("#held-table", "Nothing that is held fits.");
    browser.click("#filters [type=reset]");
    browser.click("#storms button[data-act=filter-storm]");
    browser.wait_for_text("#held-sum", "5 fit the search");

    // One is released; acts take the token.
    browser.click(&format!("input[data-id='{first}']"));
    browser.wait_for_text("#bulk", "1 message selected (840 k copies)");
    browser.click("#bulk button[data-act=release]");
    let asked = browser.wait_for_text("dialog", "Release 1 message?");
    assert!(asked.contains("1 message will go to their recipients: 840 k copies"), "{asked}");
    assert!(held(&site.becalm).len() == 5, "nothing is done before the answer");
    browser.click("dialog button[data-yes]");
    token_dialog(&browser);
    browser.wait_for_text("dialog [role=status]", "1 message released.");
    browser.click("dialog button[data-end]");
    site.delivered_text(&first);
    browser.wait_for_text("h1", "4 messages are held.");

    // All others go back.
    browser.click("#bulk button[data-act=select-all]");
    browser.wait_for_text("#bulk", "4 messages selected");
    browser.click("#bulk button[data-act=return]");
    browser.wait_for_text("dialog", "4 messages will go back to their senders");
    browser.keys(&[ESCAPE]);
    wait_until("the dialog is gone", || (browser.count("dialog") == 0).then_some(()));
    assert_eq!(held(&site.becalm).len(), 4, "Escape is no yes");
    browser.click("#bulk button[data-act=return]");
    browser.click("dialog button[data-yes]");
    browser.wait_for_text("dialog [role=status]", "4 messages returned.");
    browser.click("dialog button[data-end]");
    browser.wait_for_text("h1", "Nothing is held.");
    assert!(held(&site.becalm).is_empty());

    // The storm is ended, another list is closed, what is no list is refused in words.
    browser.click("#storms button[data-act=end]");
    browser.wait_for_text("dialog", &format!("End the storm on {ALL}?"));
    browser.click("dialog button[data-yes]");
    browser.wait_for_text("h1", "Calm. Nothing is held.");
    browser.wait_for_text("#storms", "1 storm is over");
    browser.click("button[data-act=close-list]");
    browser.write("dialog [name=list]", "nobody@example.org");
    browser.click("dialog button[type=submit]");
    browser.wait_for_text("dialog [role=alert]", "nobody@example.org");
    browser.run("document.querySelector('dialog [name=list]').value = ''");
    browser.write("dialog [name=list]", "calm@example.org");
    browser.write("dialog [name=reason]", "wrong memo");
    browser.click("dialog button[type=submit]");
    browser.wait_for_text("h1", "Storm on calm@example.org");
    browser.wait_for_text("#storms .card", "Closed by an operator until");

    // What is loaded when it is opened.
    browser.click("#lists summary");
    browser.wait_for_text("#lists-table", "2 of 2 lists");
    let rows = browser.text("#lists-table tbody");
    assert!(rows.find(ALL).unwrap() < rows.find("calm@example.org").unwrap(), "the largest first: {rows}");
    assert!(rows.contains("840,000") && rows.contains("held"), "{rows}");
    browser.write("#list-filter [name=text]", "CALM");
    browser.wait_for_text("#lists-table", "1 of 2 lists");
    browser.click("#audit summary");
    let log = browser.wait_for_text("#audit-table tbody", "wrong memo");
    assert!(log.contains("4 done") && log.contains("token"), "{log}");
    let health = browser.text("#health-body");
    for words in ["Journal", "no trouble", "message ids", "Postfix", "ago"] {
        assert!(health.contains(words), "{words}: {health}");
    }
    // The refusals that were meant, and nothing else.
    assert_quiet(&browser, &["status of 401", "status of 404"]);
}

/// Lost: told at once and in words. Regained: by itself.
#[test]
fn the_daemon_is_lost_and_regained() {
    let becalm = Becalm::start(&config("", &touchy(ALL)));
    let port = page(&becalm);
    let port = port.trim_end_matches('/').rsplit(':').next().unwrap().to_owned();
    // The same port again after a restart.
    drop(becalm);
    let becalm =
        Becalm::start(&config("", &touchy(ALL)).replace("127.0.0.1:0", &format!("127.0.0.1:{port}")));
    let browser = Browser::start();
    browser.open(&page(&becalm));
    browser.wait_for_text("h1", "Calm.");
    browser.wait_for_text("#link", "Live");
    let becalm_pid = becalm.pid();
    rustix::process::kill_process(becalm_pid, rustix::process::Signal::STOP).unwrap();
    rustix::process::kill_process(becalm_pid, rustix::process::Signal::CONT).unwrap();
    let becalm = {
        let home = becalm.home().to_owned();
        assert!(home.exists());
        let restarted = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| browser.wait_for_text("#lost", "Connection lost at"));
            rustix::process::kill_process(becalm_pid, rustix::process::Signal::KILL).unwrap();
            let words = waiting.join().unwrap();
            assert!(words.contains("trying again; what you see is old"), "{words}");
            becalm.restart()
        });
        restarted
    };
    browser.wait_for_text("#news", "Connection regained at");
    browser.wait_for_text("#link", "Live");
    wait_until("the words are gone", || {
        (browser.run("return document.querySelector('#lost').hidden") == true).then_some(())
    });
    assert_eq!(becalm.status().counts.messages, 0);
    assert_quiet(&browser, &["net::ERR_", "Failed to load resource"]);
}

/// Without a mouse, from the address bar to a released message.
#[test]
fn by_keyboard_alone() {
    let site = Site::new(&config("", &touchy(ALL)));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let id = queued(&start_storm(&site, ALL)[1]);
    let browser = Browser::start();
    browser.open(&page(&site.becalm));
    browser.wait_for(&format!("input[data-id='{id}']"));
    // The first stop leads past the navigation.
    browser.keys(&[TAB]);
    assert!(browser.run("return document.activeElement.className") == "skip");
    browser.keys(&[ENTER]);
    assert!(browser.run("return document.activeElement.id") == "main");
    // The focus can be seen wherever it is.
    browser.tab_to("button[data-act=close-list]");
    let outline = browser.run("return getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid");
    browser.tab_to("svg[data-chart=messages]");
    browser.keys(&[LEFT]);
    browser.wait_for_text("#readout", "put on hold");
    browser.tab_to(&format!("input[data-id='{id}']"));
    browser.keys(&[SPACE]);
    browser.wait_for_text("#bulk", "1 message selected");
    browser.chord(SHIFT, TAB);
    for _ in 0..20 {
        if browser.run("return document.activeElement?.dataset.act") == "release" {
            break;
        }
        browser.chord(SHIFT, TAB);
    }
    browser.keys(&[ENTER]);
    browser.wait_for_text("dialog", "Release 1 message?");
    // The focus is in the dialog and stays in it.
    for _ in 0..6 {
        let inside =
            "const at = document.activeElement; return at === document.body || at.closest('dialog') !== null";
        assert_eq!(browser.run(inside), true);
        browser.keys(&[TAB]);
    }
    browser.tab_to("dialog button[data-yes]");
    browser.keys(&[ENTER]);
    browser.wait_for_text("dialog h2", "Token wanted");
    browser.tab_to("dialog input[name=token]");
    let letters: Vec<String> = TOKEN.chars().map(String::from).collect();
    browser.keys(&letters.iter().map(String::as_str).collect::<Vec<_>>());
    browser.keys(&[ENTER]);
    browser.wait_for_text("dialog [role=status]", "1 message released.");
    browser.keys(&[ENTER]);
    wait_until("the dialog is gone", || (browser.count("dialog") == 0).then_some(()));
    site.delivered_text(&id);
    assert_quiet(&browser, &["status of 401"]);
}
