//! Alerts by mail to a server that takes them from those alone who log in: a real Postfix, which asks who they are by
//! Dovecot's protocol (<https://doc.dovecot.org/developer_manual/design/auth_protocol/>).

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use becalm::postfix::Postfix;
use serde_json::Value;

use crate::harness::{Mailbox, fates, open_folder, start};

const USER: &str = "becalm";
const PASSWORD: &str = "correct horse battery staple";

/// Knows one user. It ends with the test's process.
fn serve_logins(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::fs::set_permissions(socket, Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for smtpd in listener.incoming() {
            let smtpd = smtpd.unwrap();
            std::thread::spawn(move || answer(smtpd));
        }
    });
}

fn answer(mut smtpd: UnixStream) -> std::io::Result<()> {
    let lines = BufReader::new(smtpd.try_clone()?).lines();
    smtpd.write_all(
        b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n",
    )?;
    for line in lines {
        let line = line?;
        let words: Vec<&str> = line.split('\t').collect();
        if let ["AUTH", number, "PLAIN", ..] = &words[..] {
            let response = words.iter().find_map(|word| word.strip_prefix("resp=")).unwrap_or_default();
            let good = STANDARD.decode(response).unwrap() == format!("\0{USER}\0{PASSWORD}").as_bytes();
            let verdict = if good { "OK" } else { "FAIL" };
            smtpd.write_all(format!("{verdict}\t{number}\tuser={USER}\n").as_bytes())?;
        }
    }
    Ok(())
}

#[test]
fn a_server_that_wants_a_login_gets_one() {
    let folder = open_folder();
    let file = |name: &str| folder.path().join(name).display().to_string();
    serve_logins(Path::new(&file("logins")));
    let mailbox = Mailbox::new();
    let postfix = start(
        mailbox
            .serve(Postfix::builder())
            .set("smtpd_sasl_auth_enable", "yes")
            .set("smtpd_sasl_type", "dovecot")
            .set("smtpd_sasl_path", file("logins"))
            .set("smtpd_recipient_restrictions", "permit_sasl_authenticated, reject"),
    );
    let way = |login: &str| {
        format!(
            "[[alert]]\nway = 'mail'\nhost = '127.0.0.1'\nport = {}\ntls = 'none'\nfrom = 'becalm@example.org'\n\
             to = ['ops@example.org']\ntimeout = '20s'\n{login}",
            postfix.port()
        )
    };
    let login = |name: &str, password: &str| {
        std::fs::write(file(name), format!("{password}\n")).unwrap();
        way(&format!("user = '{USER}'\npassword_file = '{}'\n", file(name)))
    };
    let config = format!(
        "state.directory = '{}'\n{}{}{}",
        folder.path().display(),
        login("password", PASSWORD),
        login("wrong", "a wrong one"),
        way(""),
    );
    std::fs::write(file("becalm.toml"), config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_becalm"))
        .args(["alert", "test", "--json", "--config", &file("becalm.toml")])
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains(PASSWORD) && !said.contains("a wrong one"), "{said}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["by"], "command", "no daemon runs: {said}");
    let errors: Vec<_> = json["results"].as_array().unwrap().iter().map(|result| &result["error"]).collect();
    let [right, wrong, nobody] = &errors[..] else { panic!("three ways: {said}") };
    assert!(right.is_null(), "{right}\n{}", postfix.log());
    assert!(
        wrong.as_str().is_some_and(|why| why.contains("535") && why.contains("`password_file`")),
        "{wrong}"
    );
    assert!(nobody.as_str().is_some_and(|why| why.contains("554")), "{nobody}");
    let fates = fates(&postfix);
    assert_eq!(fates.delivered.len(), 1, "{:?}", fates.delivered);
    assert!(postfix.log().contains(&format!("sasl_username={USER}")), "{}", postfix.log());
}
