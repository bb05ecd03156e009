//! The dashboard where something goes wrong, in a real Chromium.

use crate::browser::{Browser, ESCAPE};
use crate::dashboard::{assert_quiet, config, held, page, token_dialog, touchy};
use crate::harness::{Becalm, Helper, Letter, Site, open_folder, person, queued, start_storm, wait_until};

const ALL: &str = "all@example.org";

/// The line breaks between two batches of an act: what is left is known after the page was loaded anew, and "Go on"
/// does it, batch by batch.
#[test]
fn an_act_that_broke_off_is_gone_on_with() {
    const HELD: usize = 120;
    let site = Site::new(&config("", &touchy(ALL)));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let first = queued(&start_storm(&site, ALL)[1]);
    let mut client = site.client();
    for n in 1..HELD {
        let letter = Letter::new(&person(n), &format!("m{n}")).answers("root-all-example.org");
        queued(&letter.send(&mut client, &[ALL]));
    }
    client.quit().unwrap();
    let browser = Browser::start();
    let page = page(&site.becalm);
    browser.open(&page);
    browser.wait_for_text("#held-sum", "120 messages held");
    browser.run(
        "const real = window.fetch; let acts = 0;
         window.fetch = (path, options) => options?.method === 'POST' && options.headers.Authorization && ++acts === 2
             ? Promise.reject(new TypeError('the line broke')) : real(path, options);",
    );
    browser.click("#bulk button[data-act=select-all]");
    browser.wait_for_text("#bulk", "120 messages selected");
    browser.click("#bulk button[data-act=release]");
    browser.click("dialog button[data-yes]");
    token_dialog(&browser);
    browser.wait_for_text("dialog [role=status]", "50 messages released; 70 left: becalm cannot be reached");
    browser.click("dialog button[data-end]");
    assert_eq!(held(&site.becalm).len(), HELD - 50);

    browser.open(&page);
    browser.wait_for_text("#resume", "70 messages were to be released and are left");
    // Another act would make it forget that, and says so.
    browser.wait_for("#held-table input[data-id]");
    browser.click("#held-table input[data-id]");
    browser.click("#bulk button[data-act=return]");
    browser.wait_for_text(
        "dialog",
        "What is left of an earlier act (70 messages to be released) is forgotten by this",
    );
    browser.keys(&[ESCAPE]);
    wait_until("the dialog is gone", || (browser.count("dialog") == 0).then_some(()));
    browser.click("#resume button[data-act=resume]");
    browser.wait_for_text("dialog [role=status]", "70 messages released.");
    browser.click("dialog button[data-end]");
    browser.wait_for_text("h1", "Nothing is held.");
    wait_until("nothing is left", || browser.text("#resume").is_empty().then_some(()));
    assert!(held(&site.becalm).is_empty());
    site.delivered_text(&first);
    // Each batch is told, also those of one second.
    browser.click("#audit summary");
    let log = browser.wait_for_text("#audit-table tbody", "20 done");
    assert_eq!(log.matches("50 done").count(), 2, "{log}");
    assert_eq!(log.matches("asked for 50").count(), 2, "{log}");
    assert_quiet(&browser, &["status of 401"]);
}

/// What an operator must look after is said in words, and so is its end.
#[test]
fn a_helper_that_is_down_and_a_stale_source_are_told_in_words() {
    let folder = open_folder();
    let aliases = folder.path().join("aliases");
    let write = || std::fs::write(&aliases, "staff: a@example.org, b@example.org, c@example.org\n").unwrap();
    write();
    let more = format!(
        "postfix.local_domains = ['example.org']\npostfix.myorigin = 'example.org'\nquarantine.reconcile = '1s'\n\
         directory.aliases = ['{}']\ndirectory.refresh = '1s'\ndirectory.min_members = 2",
        aliases.display()
    );
    let site = Site::new(&config(&more, &touchy(ALL)));
    let helper = Helper::start(&site.postfix, &site.becalm);
    let browser = Browser::start();
    browser.open(&page(&site.becalm));
    browser.wait_for_text("#health-body", "no trouble");
    assert_eq!(browser.text("#warnings"), "");
    drop(helper);
    std::fs::remove_file(&aliases).unwrap();
    let said = browser.wait_for_text("#warnings", "is stale");
    let socket = site.becalm.home().join("helper.sock");
    let words = format!("Trouble The helper at {} does not answer since", socket.display());
    let said = if said.contains(&words) { said } else { browser.wait_for_text("#warnings", &words) };
    assert!(said.contains("held mail stays held"), "{said}");
    assert!(said.contains("The directory source") && said.contains(&*aliases.to_string_lossy()), "{said}");
    let health = browser.text("#health-body");
    assert!(health.contains("1 down") && health.contains("1 stale"), "{health}");
    write();
    let _helper = Helper::start(&site.postfix, &site.becalm);
    wait_until("all is well", || browser.text("#warnings").is_empty().then_some(()));
    browser.wait_for_text("#health-body", "no trouble");
    assert_quiet(&browser, &[]);
}

/// Two rows of the same moment are two rows, whatever they are called.
#[test]
fn rows_with_the_same_key_stay_apart() {
    let becalm = Becalm::start(&config("", &touchy(ALL)));
    let browser = Browser::start();
    browser.open(&page(&becalm));
    browser.wait_for_text("#link", "Live");
    let shown = browser.run(
        "const dom = document.querySelector('script[type=module]').src.replace('app.js', 'dom.js');
         return import(dom).then(({ el, show }) => {
             const place = el('ul');
             const rows = (words) => words.map((word) => el('li', { 'data-key': 'same' }, word));
             show(place, rows(['a', 'b']));
             show(place, rows(['c', 'a', 'b']));
             return place.textContent;
         });",
    );
    assert_eq!(shown, "cab");
}
