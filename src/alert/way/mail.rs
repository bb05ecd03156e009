//! Mail, handed in at a submission server over SMTP.

use std::time::Duration;

use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls as LettreTls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{SmtpTransport, Transport};

use super::{Failure, printable, secret};
use crate::alert::letter::Letter;
use crate::alert::settings::{MailSettings, Tls};

pub(super) fn send(settings: &MailSettings, letter: &Letter, timeout: Duration) -> Result<(), Failure> {
    let parameters = || {
        TlsParameters::new(settings.host.clone()).map_err(|error| {
            Failure::Later(format!("TLS cannot be begun: {error}; is ca-certificates installed?"))
        })
    };
    let tls = match settings.tls {
        Tls::None => LettreTls::None,
        Tls::Starttls => LettreTls::Required(parameters()?),
        Tls::Tls => LettreTls::Wrapper(parameters()?),
    };
    let domain = settings.from.rsplit_once('@').map_or("localhost", |(_, domain)| domain);
    let mut server = SmtpTransport::builder_dangerous(settings.host.as_str())
        .port(settings.port)
        .tls(tls)
        .timeout(Some(timeout))
        .hello_name(ClientId::Domain(domain.to_owned()));
    if let (Some(user), Some(file)) = (&settings.user, &settings.password_file) {
        server = server.credentials(Credentials::new(user.clone(), secret(file)?));
    }
    server.build().send_raw(&letter.envelope, &letter.bytes).map(drop).map_err(|error| sort(settings, &error))
}

fn sort(settings: &MailSettings, error: &lettre::transport::smtp::Error) -> Failure {
    use std::error::Error as _;
    let cause = error.source().map_or_else(String::new, |cause| format!(": {cause}"));
    let said = error.to_string();
    let said =
        if cause.is_empty() || said.contains(cause.trim_start_matches(": ")) { said } else { said + &cause };
    let server = format!("{}:{}: {}", settings.host, settings.port, printable(&said, 300));
    if error.is_permanent() {
        let help = match error.status().map(|code| code.to_string()).as_deref() {
            Some("530" | "535" | "538") => "see `user`, `password_file` and `tls`",
            _ => "see what the server takes: `from`, `to`, and whether becalm's machine may submit there",
        };
        return Failure::Never(format!("{server}; {help}"));
    }
    if error.is_transient() {
        return Failure::Later(server);
    }
    if error.is_tls() || error.is_client() || is_disbelief(error) {
        return Failure::Later(format!(
            "{server}; see `tls`, whether the certificate names `host`, and whether its authority is among this machine's \
             (update-ca-certificates)"
        ));
    }
    Failure::Later(format!("{server}; is it `host` and `port` of a submission server?"))
}

/// Is it a certificate that is not believed? rustls says so in this kind of I/O error.
fn is_disbelief(error: &lettre::transport::smtp::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData)
        {
            return true;
        }
        cause = error.source();
    }
    false
}
