//! Alerts by mail to a server that takes them from those alone who log in, and to one that speaks TLS: a real Postfix,
//! which asks who they are by Dovecot's protocol (<https://doc.dovecot.org/developer_manual/design/auth_protocol/>).

use std::fs::Permissions;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
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
    let (results, said) = alert_test(folder.path(), &config, None);
    assert!(!said.contains(PASSWORD) && !said.contains("a wrong one"), "{said}");
    let [right, wrong, nobody] = &results[..] else { panic!("three ways: {said}") };
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

/// Tries the ways of a configuration; returns the error of each (null: none), and all that was said. `authority`: the one
/// certificate that is believed, in place of the machine's.
fn alert_test(folder: &Path, config: &str, authority: Option<&Path>) -> (Vec<Value>, String) {
    let file = folder.join("becalm.toml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_becalm"));
    command.args(["alert", "test", "--json", "--config"]).arg(file);
    if let Some(authority) = authority {
        command.env("SSL_CERT_FILE", authority).env_remove("SSL_CERT_DIR");
    }
    let output = command.output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {said}"));
    assert_eq!(json["by"], "command", "no daemon runs: {said}");
    (json["results"].as_array().unwrap().iter().map(|result| result["error"].clone()).collect(), said)
}

/// Makes an authority (`ca.pem`) and a certificate of it for this name (`cert.pem`, `key.pem`).
fn certify(folder: &Path, name: &str) {
    std::fs::write(folder.join("names"), format!("subjectAltName={name}\n")).unwrap();
    let new = "req -newkey rsa:2048 -nodes";
    for arguments in [
        format!("{new} -x509 -days 2 -subj /CN=authority -keyout ca.key -out ca.pem"),
        format!("{new} -subj /CN=server -keyout key.pem -out request.pem"),
        "x509 -req -days 2 -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -extfile names -out cert.pem"
            .to_owned(),
    ] {
        let made = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(made.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&made.stderr));
    }
}

#[test]
fn a_server_with_tls_gets_it_by_tls_if_its_certificate_is_good() {
    let mailbox = Mailbox::new();
    let [good, foreign] = [open_folder(), open_folder()];
    certify(good.path(), "IP:127.0.0.1");
    certify(foreign.path(), "DNS:other.example.org");
    // Both ways at once: STARTTLS on its own port, TLS from the beginning on another.
    let other_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let serve = |folder: &Path, port: Option<u16>| {
        let file = |name: &str| folder.join(name).display().to_string();
        let encrypting = mailbox
            .serve(Postfix::builder())
            .set("smtpd_tls_cert_file", file("cert.pem"))
            .set("smtpd_tls_key_file", file("key.pem"))
            .set("smtpd_tls_security_level", "encrypt")
            .set("smtpd_tls_loglevel", "1")
            .service("tlsmgr unix - - n 1000? 1 tlsmgr");
        start(match port {
            Some(port) => encrypting
                .service(format!("127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes")),
            None => encrypting,
        })
    };
    let both = serve(good.path(), Some(other_port));
    let another = serve(foreign.path(), None);
    let none = start(mailbox.serve(Postfix::builder()));
    let folder = open_folder();
    let way = |port: u16, tls: &str| {
        format!(
            "[[alert]]\nway = 'mail'\nhost = '127.0.0.1'\nport = {port}\ntls = '{tls}'\nfrom = 'becalm@example.org'\n\
             to = ['ops@example.org']\ntimeout = '20s'\n"
        )
    };
    let state = format!("state.directory = '{}'\n", folder.path().display());
    let ways = [way(both.port(), "starttls"), way(other_port, "tls")].concat();
    let (believed, said) =
        alert_test(folder.path(), &format!("{state}{ways}"), Some(&good.path().join("ca.pem")));
    assert_eq!(believed, [Value::Null, Value::Null], "{said}\n{}", both.log());

    // Another authority is believed.
    let (strange, said) =
        alert_test(folder.path(), &format!("{state}{ways}"), Some(&foreign.path().join("ca.pem")));
    assert!(strange.iter().all(|why| why.as_str().is_some_and(|why| why.contains("authority"))), "{said}");
    // The certificate is somebody else's; the server has none.
    let ways = [way(another.port(), "starttls"), way(none.port(), "starttls"), way(none.port(), "tls")];
    let (refused, said) =
        alert_test(folder.path(), &format!("{state}{}", ways.concat()), Some(&foreign.path().join("ca.pem")));
    assert!(refused.len() == 3 && refused.iter().all(Value::is_string), "{said}");
    assert!(refused[0].as_str().unwrap().contains("certificate"), "{said}");

    let log = both.log();
    assert_eq!(log.matches("TLS connection established").count(), 2, "{log}");
    assert_eq!([&both, &another, &none].map(|postfix| fates(postfix).delivered.len()), [2, 0, 0]);
}
