//! Probes on a live system: covered, not covered, and what is none.

use std::net::SocketAddr;

use becalm::admin::client;
use becalm::postfix::Postfix;

use crate::harness::{Becalm, Site, TOUCHY, fates, start, wait_until};

const ALL: &str = "all@example.org";

fn config() -> String {
    format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}")
}

fn probe(becalm: &Becalm, address: SocketAddr, list: &str) -> (Option<i32>, String) {
    let output = becalm.try_command(&["probe", list, "--smtp", &address.to_string()]);
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), said.into_owned())
}

#[test]
fn a_list_that_becalm_filters_is_covered_and_nothing_is_counted() {
    let site = Site::new(&config());
    let (code, said) = probe(&site.becalm, site.postfix.address(), ALL);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.contains("covered") && said.contains("members=840000") && said.contains("mode=hold"),
        "{said}"
    );
    let (code, said) = probe(&site.becalm, site.postfix.address(), "someone@example.org");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not known as a list"), "{said}");
    // Observed, it answers all the same.
    site.becalm.command(&["observe", "on"]);
    wait_until("everything is put to observe", || site.becalm.status().observing.then_some(()));
    let (code, said) = probe(&site.becalm, site.postfix.address(), ALL);
    assert!(code == Some(0) && said.contains("mode=observe (everything is)"), "{said}");
    let status = site.becalm.status();
    assert_eq!((status.counts.messages, status.counts.watched), (0, 0));
    assert_eq!((status.tables[0].occupied, status.tables[1].occupied), (0, 0), "{:?}", status.tables);
    let fates = site.fates();
    assert!(fates.held.is_empty() && fates.delivered.is_empty(), "{fates:?}");
}

#[test]
fn a_server_that_does_not_ask_becalm_is_found_out_and_gets_no_mail() {
    let becalm = Becalm::start(&config());
    let postfix = start(Postfix::builder());
    let (code, said) = probe(&becalm, postfix.address(), ALL);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("NOT COVERED"), "{said}");
    let fates = fates(&postfix);
    assert!(fates.held.is_empty() && fates.delivered.is_empty(), "{fates:?}");
}

#[test]
fn where_the_server_does_not_take_the_probe_it_says_so() {
    let site = Site::new(&config());
    let (code, said) = probe(&site.becalm, site.postfix.address(), "a@b@c@@");
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("refuses the probe"), "{said}");
    let nobody = site.becalm.try_command(&["probe", ALL, "--smtp", "127.0.0.1:1"]);
    assert_eq!((nobody.status.code(), nobody.stdout.len()), (Some(2), 0), "{nobody:?}");
}

#[test]
fn what_looks_like_a_probe_and_is_none_is_mail() {
    let site = Site::new(&config());
    let ticket = || client::probe(&site.becalm.home().join("admin.sock"), ALL).unwrap();
    let mut client = site.client();
    let mut data = |sender: &str, recipients: &[&str]| {
        assert!(client.mail(sender).unwrap().is_positive());
        for recipient in recipients {
            assert!(client.rcpt(recipient).unwrap().is_positive());
        }
        let reply = client.data().unwrap();
        if reply.is_positive() {
            assert!(client.text("Subject: hello\n\nHello.\n").unwrap().is_positive());
        } else {
            client.rset().unwrap();
        }
        reply
    };
    // Forged.
    let first = ticket();
    let forged = format!("becalm-probe-{}@example.org", "0".repeat(24));
    assert_eq!(data(&forged, &[ALL]).code, 354);
    assert_eq!(site.becalm.status().counts.watched, 1);
    // A good one that goes to others too is mail, and used up.
    let good = format!("{}@example.org", first.local_part);
    assert_eq!(data(&good, &[ALL, "someone@example.org"]).code, 354);
    assert_eq!(data(&good, &[ALL]).code, 354);
    assert_eq!(site.becalm.status().counts.watched, 3);
    // As it should be, and again.
    let second = ticket();
    let good = format!("name+{}@example.org", second.local_part);
    let reply = data(&good, &[ALL]);
    assert!(reply.code == 550 && reply.text.contains(&second.proof), "{reply}");
    assert_eq!(data(&good, &[ALL]).code, 354);
    assert_eq!(site.becalm.status().counts.watched, 4);
}
