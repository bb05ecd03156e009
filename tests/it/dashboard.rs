//! The dashboard, in a real Chromium, with a real becalm behind it.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use serde_json::Value;

use crate::browser::{Browser, ENTER, ESCAPE, LEFT, SHIFT, SPACE, TAB};
use crate::filtered::Filtered;
use crate::harness::{Becalm, Helper, Letter, Site, TOUCHY, person, queued, start_storm, wait_until};

const ALL: &str = "all@example.org";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// With HTTP on a port of its own; looking takes no token.
pub fn config(more: &str, lists: &str) -> String {
    format!(
        "admin.http.listen = '127.0.0.1:0'\nadmin.http.read_without_token = true\n{more}\n[verdict]\nmode = 'hold'\n{lists}"
    )
}

pub fn touchy(list: &str) -> String {
    format!("[[list]]\naddress = '{list}'\n{TOUCHY}")
}

/// Gives becalm its token, and returns the address of its page.
pub fn page(becalm: &Becalm) -> String {
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
pub fn assert_quiet(browser: &Browser, allowed: &[&str]) {
    let said = browser.console();
    let odd: Vec<_> = said.iter().filter(|line| !allowed.iter().any(|fine| line.contains(fine))).collect();
    assert!(odd.is_empty(), "the console has {odd:#?}");
}

pub fn token_dialog(browser: &Browser) {
    browser.wait_for_text("dialog:last-of-type h2", "Token wanted");
    browser.write("dialog input[name=token]", TOKEN);
    browser.click("dialog button[type=submit]");
}

pub fn held(becalm: &Becalm) -> Vec<Value> {
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
    // The picture moved with the pulses. The five may lie in two minutes: then three of them in one.
    wait_until("the peak of what is held", || {
        let text = browser.text("#charts [data-key=held] figcaption");
        ["peak 3", "peak 4", "peak 5"].iter().any(|peak| text.contains(peak)).then_some(())
    });

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
    rustix::process::kill_process(becalm.pid(), rustix::process::Signal::KILL).unwrap();
    let words = browser.wait_for_text("#lost", "Connection lost at");
    assert!(words.contains("trying again; what you see is old"), "{words}");
    let becalm = becalm.restart();
    browser.wait_for_text("#news", "Connection regained at");
    browser.wait_for_text("#link", "Live");
    wait_until("the words are gone", || {
        (browser.run("return document.querySelector('#lost').hidden") == true).then_some(())
    });
    assert_eq!(becalm.status().counts.messages, 0);
    assert_quiet(&browser, &["net::ERR_", "Failed to load resource"]);
}

/// Where looking takes the token too, the page asks for it, and keeps it for this tab alone.
#[test]
fn looking_takes_the_token_where_that_is_configured() {
    let becalm = Becalm::start(&config("", &touchy(ALL)).replace("token = true", "token = false"));
    let page = page(&becalm);
    let browser = Browser::start();
    browser.open(&page);
    browser.wait_for_text("dialog h2", "Token wanted");
    assert!(!browser.text("body").contains(ALL));
    token_dialog(&browser);
    browser.wait_for_text("h1", "Calm. Nothing is held.");
    browser.wait_for_text("#link", "Live");
    assert_eq!(browser.run("return [localStorage.length, document.cookie]"), serde_json::json!([0, ""]));
    // Loaded anew in the same tab it is known still.
    browser.open(&page);
    browser.wait_for_text("h1", "Calm. Nothing is held.");
    assert_eq!(browser.count("dialog"), 0);
    assert_quiet(&browser, &["status of 401"]);
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
    browser.wait_for_text("dialog:last-of-type h2", "Token wanted");
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

/// Ten thousand held messages and two hundred storms: all of it can be seen, searched and selected, on a large window,
/// on a small one and magnified, in light and dark.
#[test]
fn ten_thousand_held_messages_and_two_hundred_storms() {
    const STORMS: usize = 200;
    const HELD: u64 = 10_000;
    let list = |n: usize| format!("list-{n}@example.org");
    let lists: String = (0..STORMS).map(|n| touchy(&list(n))).collect();
    let becalm = Becalm::start(&config("quarantine.max_count = 50_000", &lists));
    let mut session = Filtered::connect(&becalm.socket());
    let mut sent = 0;
    for n in (0..STORMS).cycle() {
        if session.send(&format!("person{sent}@example.org"), &list(n), "root@example.org") {
            sent += 1;
        }
        if sent == HELD {
            break;
        }
    }
    assert_eq!(becalm.status().quarantine.held, HELD);
    let browser = Browser::start();
    let page = page(&becalm);
    browser.open(&page);
    browser.wait_for_text("h1", "200 storms: ");
    browser.wait_for_text("h1", "10,000 messages are held.");
    // A page of rows is there, not ten thousand.
    wait_until("a page of rows", || (browser.count("#held-table tbody tr") == 50).then_some(()));
    assert_eq!(browser.count("#storms .card"), 20);
    browser.click("button[data-act=all-storms]");
    wait_until("all storms", || (browser.count("#storms .card") == 200).then_some(()));
    browser.click("#pages button[data-act=next]");
    browser.wait_for_text("#pages", "51 to 100 of 10,000");
    browser.click("#pages button[data-act=previous]");
    browser.wait_for_text("#pages", "1 to 50 of 10,000");
    browser.click("#bulk button[data-act=select-all]");
    browser.wait_for_text("#bulk", "10,000 messages selected (8.4 G copies)");
    browser.click("#bulk button[data-act=return]");
    browser.wait_for_text("dialog", "Return 10,000 messages?");
    browser.keys(&[ESCAPE]);
    browser.click("#bulk button[data-act=select-none]");
    browser.write("#filters [name=list]", &list(7));
    browser.click("#filters [type=submit]");
    browser.wait_for_text("#held-sum", "50 fit the search");

    // An act that fails half way is taken up again, also after the page was loaded anew.
    browser.click("#bulk button[data-act=select-all]");
    browser.wait_for_text("#bulk", "50 messages selected");
    browser.click("#bulk button[data-act=release]");
    browser.click("dialog button[data-yes]");
    browser.wait_for_text("dialog:last-of-type h2", "Token wanted");
    browser.write("dialog input[name=token]", "a wrong one");
    browser.click("dialog:last-of-type button[type=submit]");
    browser.wait_for_text("dialog:last-of-type", "not the right one");
    browser.keys(&[ESCAPE]);
    browser.wait_for_text("dialog [role=status]", "0 messages released; 50 left");
    browser.click("dialog button[data-end]");
    browser.open(&page);
    browser.wait_for_text("#resume", "50 messages were to be released and are left");
    browser.click("#resume button[data-act=forget]");
    wait_until("it is forgotten", || browser.text("#resume").is_empty().then_some(()));

    // Nothing is wider than the window: a phone, and twice as large letters on a small screen.
    for (width, height, scale) in [(320, 640, 2.0), (640, 450, 2.0), (1280, 900, 1.0)] {
        browser.view(width, height, scale);
        wait_until("it is narrow enough", || {
            let wide = "return document.documentElement.scrollWidth <= window.innerWidth";
            (browser.run(wide) == true).then_some(())
        });
    }
    // Both schemes, and all text can be told from its ground.
    for scheme in ["light", "dark"] {
        browser.prefer("prefers-color-scheme", scheme);
        let worst = browser.run(CONTRAST);
        assert!(worst["ratio"].as_f64().is_some_and(|ratio| ratio >= 4.5), "{scheme}: {worst}");
    }
    assert_quiet(&browser, &["status of 401"]);
}

/// The text with the least contrast to its ground (WCAG 2.2, 1.4.3).
const CONTRAST: &str = r"
    const parts = (colour) => colour.match(/[\d.]+/g).map(Number);
    const light = (colour) => {
        const [r, g, b] = parts(colour).map((c) => c / 255).map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (at) => {
        for (; at; at = at.parentElement) {
            const colour = getComputedStyle(at).backgroundColor;
            const [, , , alpha] = parts(colour);
            if (alpha === undefined || alpha === 1) return colour;
        }
        return 'rgb(255, 255, 255)';
    };
    let worst = { ratio: 100 };
    for (const at of document.querySelectorAll('body *')) {
        const own = [...at.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim());
        if (!own || !at.checkVisibility() || at.matches(':disabled, svg *')) continue;
        const [a, b] = [light(getComputedStyle(at).color), light(ground(at))].sort((x, y) => y - x);
        const ratio = (a + 0.05) / (b + 0.05);
        if (ratio < worst.ratio) worst = { ratio, text: at.textContent.slice(0, 40), colour: getComputedStyle(at).color, ground: ground(at) };
    }
    return worst;
";

/// Bytes and milliseconds of the first view, and the pictures of the README, of a storm behind a real Postfix: figures,
/// nothing is asserted about the time.
/// `BECALM_PICTURES=docs BECALM_MINUTES=10 cargo test --test it -- --ignored --nocapture first_view`
#[test]
#[ignore = "measures, and writes the pictures of the README where BECALM_PICTURES names a folder"]
fn first_view() {
    let minutes = std::env::var("BECALM_MINUTES").ok().and_then(|minutes| minutes.parse().ok()).unwrap_or(0);
    let lists = "[storm]\nhistory = '0s'\n[[list]]\naddress = 'all@example.org'\nmembers = 840_000\n\
                 [[list]]\naddress = 'london@example.org'\nmembers = 52_000\n\
                 [[list]]\naddress = 'emergency@example.org'\nmembers = 12_000\nnever_hold = true\n";
    let site = Site::new(&config("", lists));
    let _helper = Helper::start(&site.postfix, &site.becalm);
    let page = page(&site.becalm);
    ordinary_mail(&site, minutes);
    let mut client = site.client();
    for n in 100..106 {
        Letter::new(&person(n), &format!("l{n}")).answers("lunch").send(&mut client, &["london@example.org"]);
    }
    client.quit().unwrap();
    let mut client = site.client();
    for n in 0..51 {
        Letter::new(&person(n), &format!("m{n}")).answers("root").send(&mut client, &[ALL]);
    }
    client.quit().unwrap();
    let browser = Browser::start();
    let mut seen = Vec::new();
    for _ in 0..9 {
        browser.open("about:blank");
        browser.devtools("Network.clearBrowserCache", serde_json::json!({}));
        browser.open(&page);
        browser.wait_for_text("#link", "Live");
        browser.wait_for_text("h1", "Storm on");
        seen.push(browser.run(
            "const paint = performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1;
             const [page] = performance.getEntriesByType('navigation');
             const all = [page, ...performance.getEntriesByType('resource').filter((one) => !one.name.startsWith('data:'))];
             return { paint, load: page.loadEventEnd, requests: all.length, bytes: all.reduce((sum, one) => sum + one.transferSize, 0) };",
        ));
    }
    for name in ["bytes", "requests", "paint", "load"] {
        let mut values: Vec<f64> = seen.iter().filter_map(|figures| figures[name].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        println!(
            "first view: {name}: median {:.0}, most {:.0}",
            values[values.len() / 2],
            values[values.len() - 1]
        );
    }
    if let Some(folder) = std::env::var_os("BECALM_PICTURES") {
        browser.click("input[name=span][value='15']");
        for (name, scheme) in [("dashboard-light", "light"), ("dashboard-dark", "dark")] {
            browser.view(1180, 1000, 1.0);
            browser.prefer("prefers-color-scheme", scheme);
            browser.wait_for_text("#near", "Near a storm");
            browser.run("window.scrollTo(0, 0)");
            std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), browser.picture())
                .unwrap();
        }
    }
    assert_quiet(&browser, &[]);
}

/// Some minutes of a calm day: from one person to another, now more, now less.
fn ordinary_mail(site: &Site, minutes: u64) {
    let watch = becalm::clock::Stopwatch::start();
    let mut sent = 0;
    while watch.elapsed().as_secs() < minutes * 60 {
        let mut client = site.client();
        let second = watch.elapsed().as_secs();
        for _ in 0..=(second / 7 % 5 + second / 60 * 3 % 7) {
            sent += 1;
            let letter = Letter::new(&person(sent % 400), &format!("ordinary{sent}"));
            letter.send(&mut client, &[&format!("colleague{}@example.org", sent % 90)]);
        }
        client.quit().unwrap();
        // This is no waiting for anything: a day has its pace.
        std::thread::sleep(std::time::Duration::from_millis(600));
    }
}
