//! Who is never judged.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};

use becalm::postfix::smtp::Client;

use crate::harness::{Letter, Site, TOUCHY, person, queued, say, start_storm};

const ALL: &str = "all@example.org";
const PRESIDENT: &str = "president@example.org";

/// An authentication server as Postfix knows Dovecot's (protocol version 1.1): everybody may, with any
/// password. Lives as long as the tests.
fn everybody_may() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || admit(stream));
        }
    });
    port
}

fn admit(mut stream: TcpStream) {
    say(&mut stream, b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t00\nDONE\n");
    let reader = BufReader::new(stream.try_clone().unwrap());
    for line in reader.lines().map_while(Result::ok) {
        let fields: Vec<&str> = line.split('\t').collect();
        let response = fields.iter().find_map(|field| field.strip_prefix("resp="));
        if let (["AUTH", id, ..], Some(response)) = (&fields[..], response) {
            use base64::Engine as _;
            let plain = base64::engine::general_purpose::STANDARD.decode(response).unwrap();
            let user = plain.split(|byte| *byte == 0).nth(1).unwrap();
            let user = String::from_utf8_lossy(user).into_owned();
            say(&mut stream, format!("OK\t{id}\tuser={user}\n").as_bytes());
        }
    }
}

fn log_in(client: &mut Client, user: &str) {
    use base64::Engine as _;
    let response = base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0secret"));
    let reply = client.command(&format!("AUTH PLAIN {response}")).unwrap();
    assert_eq!(reply.code, 235, "{reply}");
}

/// As if the client came from another address (Postfix's XCLIENT).
fn from_network(site: &Site, address: &str) -> Client {
    let mut client = site.client();
    let reply = client.command(&format!("XCLIENT ADDR={address} NAME=[UNAVAILABLE]")).unwrap();
    assert_eq!(reply.code, 220, "{reply}");
    client.ehlo("client.example.org").unwrap();
    client
}

#[test]
fn exempt_authors_and_networks_pass_in_a_storm_and_forged_ones_do_not() {
    let site = Site::with(
        &format!(
            "exempt.authors = ['{PRESIDENT}']\nexempt.networks = ['192.0.2.0/24', '2001:db8::/32']
             postfix.myorigin = 'example.org'
             [verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}"
        ),
        |postfix| {
            postfix
                .default_action("tempfail")
                .set("inet_protocols", "all")
                .set("smtpd_authorized_xclient_hosts", "127.0.0.0/8")
                .set("smtpd_relay_restrictions", "permit_sasl_authenticated, reject_unauth_destination")
                .set("smtpd_sasl_auth_enable", "yes")
                .set("smtpd_sasl_type", "dovecot")
                .set("smtpd_sasl_path", format!("inet:127.0.0.1:{}", everybody_may()))
        },
    );
    start_storm(&site, ALL);
    let mut number = 0;
    let mut held = |client: &mut Client, author: &str| {
        number += 1;
        let id = queued(&Letter::new(author, &format!("m{number}")).send(client, &[ALL]));
        let fates = site.fates();
        assert!(fates.held.contains(&id) != fates.is_delivered(&id));
        fates.held.contains(&id)
    };

    // Logged in, by the whole address or by the name before the @.
    for user in [PRESIDENT, "President", "president@Example.org"] {
        let mut client = site.client();
        log_in(&mut client, user);
        assert!(!held(&mut client, PRESIDENT), "{user}");
        assert!(!held(&mut client, "office@example.org"), "what counts is who logged in");
    }
    assert!(held(&mut site.client(), PRESIDENT), "anybody can write this sender");
    let mut other = site.client();
    log_in(&mut other, "clerk@example.org");
    assert!(held(&mut other, PRESIDENT), "and a From is no proof");

    for (address, exempt) in [
        ("192.0.2.7", true),
        ("198.51.100.7", false),
        ("IPV6:2001:db8::7", true),
        ("IPV6:2001:db9::7", false),
    ] {
        assert_eq!(held(&mut from_network(&site, address), &person(1)), !exempt, "{address}");
    }
    let reasons: Vec<_> = site
        .becalm
        .log()
        .into_iter()
        .filter(|line| line.contains("stopped") && line.contains("reason=\"storm\""))
        .collect();
    assert_eq!(reasons.len(), 5, "{reasons:#?}");
}
