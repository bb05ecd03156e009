//! Whether the mail of alerts depends on the milter that it tells of.

use std::path::Path;

use super::Finding;
use super::facts::{Facts, Service};
use super::milters::{Relation, parse, relation};
use crate::alert::settings::Means;
use crate::config::Config;

/// A remark for every way by mail that is handed in at an smtpd of this machine with becalm behind it.
pub(super) fn examine(facts: &Facts, config: &Config) -> Vec<Finding> {
    let queue_directory = match facts.main("queue_directory") {
        "" => Path::new("/var/spool/postfix"),
        folder => Path::new(folder),
    };
    let mut found = Vec::new();
    for way in &config.alerts.ways {
        let Means::Mail(mail) = &way.means else { continue };
        if !is_here(facts, &mail.host) {
            continue;
        }
        let guarded = facts.smtpds().find(|service| {
            let chrooted = facts.chrooted(service);
            let milters = parse(facts.effective(service, "smtpd_milters"));
            let ours = milters.iter().any(|milter| {
                let relation = relation(&milter.address, &config.listen.sockets, queue_directory, chrooted);
                matches!(relation, Relation::Becalm(_))
            });
            let skips = facts.effective(service, "receive_override_options").contains("no_milters");
            port(service) == Some(mail.port) && ours && !skips
        });
        let topic = format!("[[alert]] {}", way.name);
        found.push(match guarded {
            Some(service) => Finding::warning(
                topic,
                format!(
                    "its mail comes in at {}, whose milter is becalm: it is known and passes, but while becalm hangs, \
                     so does the mail that says so",
                    service.title()
                ),
                "give it a service of its own in master.cf, and name its port:\n\
                 127.0.0.1:10587 inet n - y - - smtpd -o smtpd_milters=",
            ),
            None => Finding::ok(topic, format!("its mail is handed in at port {} without becalm", mail.port)),
        });
    }
    found
}

fn is_here(facts: &Facts, host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host.eq_ignore_ascii_case(facts.main("myhostname"))
        || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback())
}

/// master(5): a number, or a name of services(5).
fn port(service: &Service) -> Option<u16> {
    let name = service.name.rsplit_once(':').map_or(service.name.as_str(), |(_, port)| port);
    match name {
        _ if service.kind != "inet" => None,
        "smtp" => Some(25),
        "submission" => Some(587),
        "smtps" | "submissions" => Some(465),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Severity;

    fn remarks(port: u16, host: &str, master: &str) -> Vec<Severity> {
        let text = format!(
            "[[alert]]\nway = 'mail'\nfrom = 'b@x.org'\nto = ['o@x.org']\ntls = 'none'\nhost = '{host}'\nport = {port}"
        );
        let config = Config::parse("b.toml", &text).unwrap_or_else(|report| panic!("{report}")).0;
        let main = "smtpd_milters = unix:becalm/becalm.sock\nmyhostname = mx.x.org\n";
        let overrides = "10587/inet/smtpd_milters =\n";
        examine(&Facts::parse(main, master, overrides), &config).iter().map(|found| found.severity).collect()
    }

    #[test]
    fn mail_that_depends_on_becalm_is_remarked_upon() {
        let master =
            "smtp inet n - y - - smtpd\n10587 inet n - y - - smtpd\nsubmission inet n - y - - smtpd\n";
        assert_eq!(remarks(25, "localhost", master), [Severity::Warning]);
        assert_eq!(remarks(587, "mx.x.org", master), [Severity::Warning]);
        assert_eq!(remarks(10_587, "127.0.0.1", master), [Severity::Ok]);
        assert_eq!(remarks(25, "elsewhere.example", master), []);
    }
}
