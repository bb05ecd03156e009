//! What becalm objects to in Postfix's configuration, and why.

use std::collections::BTreeMap;
use std::path::Path;

use super::facts::{Facts, Service, time};
use super::milters::{
    Milter, Relation, address_for_postfix, parse, recommended_entry, recommended_line, relation,
};
use super::{Finding, sites};
use crate::config::{Config, ListenAddress, show_duration};

/// The milters of smtpd.
const SMTPD: &str = "smtpd_milters";
/// Those of cleanup, for mail that comes in by no smtpd.
const CLEANUP: &str = "non_smtpd_milters";

/// What holds for milters that do not say otherwise; a service of master.cf may have its own.
const SETTINGS: [&str; 5] = [
    "milter_default_action",
    "milter_connect_timeout",
    "milter_command_timeout",
    "milter_content_timeout",
    "milter_protocol",
];

/// Everything that was found out about Postfix, for this configuration of becalm.
pub fn examine(facts: &Facts, config: &Config) -> Vec<Finding> {
    let view = View { facts, config };
    let mut found = Vec::new();
    let mut covered = Vec::new();
    let mut filtered = Vec::new();
    for service in facts.smtpds() {
        match view.beforehand(service) {
            Some(finding) => found.push(finding),
            None => filtered.push(service),
        }
    }
    for services in view.alike(SMTPD, &filtered) {
        let (findings, sees_becalm) = view.milters(SMTPD, &services);
        found.extend(findings);
        if sees_becalm {
            covered.extend(services.iter().copied());
        }
    }
    if facts.smtpds().next().is_none() {
        let help = "is this the configuration folder of the right Postfix? --postfix-config DIR names it";
        found.push(Finding::error("master.cf", "there is no smtpd service: becalm will see no mail", help));
    }
    found.extend(view.double_counting(&covered));
    found.extend(view.local_submission());
    found.extend(view.process_limits(&covered));
    found.extend(view.timeouts(&covered));
    found.extend(view.queue_ids());
    found.extend(view.exceptions_by_client(&filtered));
    found.extend(sites::examine(facts, config));
    found.extend(super::alerts::examine(facts, config));
    found
}

/// The sockets of becalm that some smtpd connects to, and whether that smtpd is chrooted.
pub fn used_sockets(facts: &Facts, config: &Config) -> Vec<(ListenAddress, bool)> {
    let view = View { facts, config };
    let mut used = Vec::new();
    for service in facts.smtpds() {
        let chrooted = facts.chrooted(service);
        for milter in parse(facts.effective(service, "smtpd_milters")) {
            if let Relation::Becalm(socket) = view.relation(&milter, chrooted)
                && !used.contains(&(socket.clone(), chrooted))
            {
                used.push((socket, chrooted));
            }
        }
    }
    used
}

struct View<'a> {
    facts: &'a Facts,
    config: &'a Config,
}

impl<'a> View<'a> {
    fn queue_directory(&self) -> &'a Path {
        match self.facts.main("queue_directory") {
            "" => Path::new("/var/spool/postfix"),
            folder => Path::new(folder),
        }
    }

    fn relation(&self, milter: &Milter, chrooted: bool) -> Relation {
        relation(&milter.address, &self.config.listen.sockets, self.queue_directory(), chrooted)
    }

    /// What can be said of a service without a look at its milters.
    fn beforehand(&self, service: &Service) -> Option<Finding> {
        let title = service.title();
        let value = |parameter| self.facts.effective(service, parameter);
        if !value("smtpd_proxy_filter").is_empty() {
            return Some(Finding::error(
                title,
                "a before-queue proxy (smtpd_proxy_filter): what becalm would hold is delivered all the same",
                "let becalm filter the smtpd behind the proxy: there without `-o smtpd_milters=` and without \
                 `no_milters`, here with `-o smtpd_milters=`; or use a milter or a content_filter instead of the proxy",
            ));
        }
        let no_milters = value("receive_override_options").contains("no_milters");
        let loopback = self.facts.loopback(service);
        if no_milters && loopback {
            return Some(Finding::ok(title, "takes mail back from a filter (no_milters): skipped"));
        }
        if no_milters {
            return Some(Finding::warning(
                title,
                "mail that comes in here passes becalm by (receive_override_options = no_milters)",
                "fine where only a filter delivers here; else remove `no_milters` from its options in master.cf",
            ));
        }
        if value("smtpd_milters").is_empty() && loopback && service.overrides.contains_key("smtpd_milters") {
            let message = "takes mail from this machine only, without milters: skipped";
            return Some(Finding::ok(title, message));
        }
        None
    }

    /// `services` in lots that have the same milters (SMTPD or CLEANUP) with the same settings.
    fn alike<'s>(&self, list: &str, services: &[&'s Service]) -> Vec<Vec<&'s Service>> {
        let mut lots: BTreeMap<_, Vec<&Service>> = BTreeMap::new();
        for service in services {
            let parameters = std::iter::once(list).chain(SETTINGS);
            let values: Vec<_> =
                parameters.map(|parameter| self.facts.effective(service, parameter)).collect();
            lots.entry((values, self.facts.chrooted(service))).or_default().push(service);
        }
        lots.into_values().collect()
    }

    /// What is wrong with the milters of services that are [`Self::alike`]; and whether becalm is among them.
    fn milters(&self, list: &str, services: &[&Service]) -> (Vec<Finding>, bool) {
        let Some(service) = services.first() else { return (Vec::new(), false) };
        let topic = titles(services);
        let milters = parse(self.facts.effective(service, list));
        let chrooted = self.facts.chrooted(service);
        let relations: Vec<_> = milters.iter().map(|milter| self.relation(milter, chrooted)).collect();
        let mut found: Vec<_> =
            milters.iter().filter_map(|milter| fatal(&topic, &service.command, milter)).collect();
        let is_becalm = |relation: &Relation| matches!(relation, Relation::Becalm(_));
        let Some(at) = relations.iter().position(is_becalm) else {
            let finding = match self.misplaced(&topic, &milters, &relations, service) {
                None if list == SMTPD => Some(self.not_covered(topic, &milters, services)),
                misplaced => misplaced,
            };
            found.extend(finding);
            return (found, false);
        };
        let behind: Vec<_> = milters.iter().skip(at + 1).map(|milter| milter.address.as_str()).collect();
        if relations.iter().filter(|relation| is_becalm(relation)).count() > 1 {
            let help = format!("name it once, at the end of {list}");
            found.push(Finding::warning(
                &topic,
                "becalm is named more than once: mail is counted twice",
                help,
            ));
        } else if !behind.is_empty() {
            found.push(Finding::error(
                &topic,
                format!("becalm is not the last milter: mail that is held is never shown to {}", behind.join(", ")),
                format!(
                    "move becalm to the end of {list}: a released message skips every later milter, such as a \
                     virus scanner or a signer"
                ),
            ));
        }
        if let Some(milter) = milters.get(at) {
            found.extend(self.settings(&topic, list, milter, service));
        }
        if found.is_empty() {
            let message = if list == SMTPD {
                "becalm is the last milter, and Postfix goes on without it if it must"
            } else {
                "mail of the local sendmail command is seen, too"
            };
            found.push(Finding::ok(&topic, message));
        }
        (found, true)
    }

    /// A milter that is meant to be becalm, and does not lead there.
    fn misplaced(
        &self,
        topic: &str,
        milters: &[Milter],
        relations: &[Relation],
        service: &Service,
    ) -> Option<Finding> {
        let sockets = &self.config.listen.sockets;
        for (milter, relation) in milters.iter().zip(relations) {
            match relation {
                Relation::OutsideChroot(socket) => {
                    let address = address_for_postfix(socket, self.queue_directory());
                    let help = if address == socket.as_postfix_writes_it() {
                        format!(
                            "let becalm listen below {}, which {} sees; or turn the chroot off (fifth column of master.cf)",
                            self.queue_directory().display(),
                            service.command
                        )
                    } else {
                        format!("write `{address}`, relative to the queue directory")
                    };
                    let message = format!("a chrooted {} does not see `{}`", service.command, milter.address);
                    return Some(Finding::error(topic, message, help));
                }
                Relation::Misnamed => {
                    let message = format!("`{}` does not lead to becalm", milter.address);
                    let listens: Vec<_> = sockets.iter().map(ToString::to_string).collect();
                    let entry =
                        sockets.first().map(|socket| address_for_postfix(socket, self.queue_directory()));
                    let help = format!(
                        "becalm listens on {}: write {}",
                        listens.join(", "),
                        recommended_entry(&entry.unwrap_or_default())
                    );
                    return Some(Finding::error(topic, message, help));
                }
                Relation::Becalm(_) | Relation::Other => {}
            }
        }
        None
    }

    fn not_covered(&self, topic: String, milters: &[Milter], services: &[&Service]) -> Finding {
        let sockets = &self.config.listen.sockets;
        let others: Vec<&str> = milters.iter().map(|milter| milter.text.as_str()).collect();
        let line = recommended_line(sockets, self.queue_directory(), &others);
        let flawed = milters.iter().find(|milter| milter.flaw.is_some());
        let own = services.iter().any(|service| service.overrides.contains_key("smtpd_milters"));
        let help = if let Some(flawed) = flawed {
            let address = sockets.first().map(|socket| address_for_postfix(socket, self.queue_directory()));
            let entry = recommended_entry(&address.unwrap_or_default());
            format!("mend `{}` first; then put becalm at the end of smtpd_milters:\n{entry}", flawed.text)
        } else if own {
            format!(
                "master.cf sets smtpd_milters for this service: remove that option, or write\n-o {{ {line} }}"
            )
        } else {
            format!("main.cf:\n{line}")
        };
        Finding::error(topic, "smtpd without becalm: mail that comes in here is not seen", help)
    }

    /// What happens to mail when becalm does not answer.
    fn settings(&self, topic: &str, list: &str, milter: &Milter, service: &Service) -> Vec<Finding> {
        let own = |name: &str| milter.settings.get(name).map(String::as_str);
        let value = |name: &str| {
            own(name).unwrap_or_else(|| self.facts.effective(service, &format!("milter_{name}")))
        };
        let help = || format!("in {list}: {}", recommended_entry(&milter.address));
        let mut found = Vec::new();
        let action = value("default_action");
        if action != "accept" {
            let action = if action.is_empty() { "tempfail" } else { action };
            let message =
                format!("when becalm does not answer, mail is not accepted (default_action={action})");
            found.push(Finding::error(topic, message, help()));
        }
        // A stopped becalm makes every new session wait that long (connect, command), or every message (content).
        let limits = [("connect_timeout", 10), ("command_timeout", 10), ("content_timeout", 60)];
        let slow: Vec<_> = limits
            .into_iter()
            .filter(|(name, most)| time(value(name)).is_none_or(|seconds| seconds > *most))
            .map(|(name, _)| format!("{name}={}", value(name)))
            .collect();
        if !slow.is_empty() {
            let message = format!("when becalm hangs, every session waits for long ({})", slow.join(", "));
            found.push(Finding::warning(topic, message, help()));
        }
        if value("protocol").parse::<u32>().is_ok_and(|version| version < 6) {
            let message = format!("milter protocol {}: more packets for every message", value("protocol"));
            found.push(Finding::warning(
                topic,
                message,
                "remove `milter_protocol`, or `protocol` of the milter: 6 is the default",
            ));
        }
        found
    }

    /// A content filter gives mail back: becalm must not see it a second time.
    fn double_counting(&self, covered: &[&Service]) -> Vec<Finding> {
        let filter = |service: &Service| !self.facts.effective(service, "content_filter").is_empty();
        if !self.facts.smtpds().any(filter) {
            return Vec::new();
        }
        let returns = covered.iter().filter(|service| self.facts.loopback(service) && !filter(service));
        returns
            .map(|service| {
                Finding::warning(
                    service.title(),
                    "mail that the content filter gives back is counted a second time",
                    "master.cf, for this service: -o receive_override_options=no_milters",
                )
            })
            .collect()
    }

    /// What comes in by no smtpd; that becalm does not see it is no mistake.
    fn local_submission(&self) -> Vec<Finding> {
        let cleanups = self.facts.services.iter().filter(|service| service.command == "cleanup");
        let lots = self.alike(CLEANUP, &cleanups.collect::<Vec<_>>());
        let mut found: Vec<_> = lots.iter().flat_map(|services| self.milters(CLEANUP, services).0).collect();
        if found.is_empty() {
            found.push(Finding::ok(
                "main.cf",
                "mail of the local sendmail command is not seen (non_smtpd_milters): usual, unless people write with it",
            ));
        }
        found
    }

    fn process_limits(&self, covered: &[&Service]) -> Option<Finding> {
        if covered.is_empty() {
            return None;
        }
        let most = self.config.listen.max_connections as u64;
        let topic = "master.cf";
        let endless: Vec<_> =
            covered.iter().filter(|service| self.facts.processes(service).is_none()).collect();
        if !endless.is_empty() {
            let titles: Vec<_> = endless.iter().map(|service| service.title()).collect();
            return Some(Finding::warning(
                topic,
                format!(
                    "{} may have any number of processes (maxproc 0); becalm takes {most} connections",
                    titles.join(", ")
                ),
                "set a number in the seventh column of master.cf",
            ));
        }
        // One connection for each process, and one for pickup's mail where non_smtpd_milters is set.
        let local = u64::from(!self.facts.main("non_smtpd_milters").is_empty());
        let sum: u64 = covered
            .iter()
            .filter_map(|service| self.facts.processes(service))
            .fold(local, u64::saturating_add);
        if sum <= most {
            let message = format!("at most {sum} smtpd processes; becalm takes {most} connections");
            return Some(Finding::ok(topic, message));
        }
        let message = format!(
            "up to {sum} smtpd processes, but becalm takes {most} connections: mail of the others passes it by"
        );
        Some(Finding::warning(topic, message, format!("becalm.toml: [listen] max_connections = {sum}")))
    }

    fn timeouts(&self, covered: &[&Service]) -> Vec<Finding> {
        let patience = |service: &Service| time(self.facts.effective(service, "smtpd_timeout"));
        let most = covered.iter().max_by_key(|service| patience(service));
        let Some((service, smtpd)) = most.and_then(|service| Some((*service, patience(service)?))) else {
            return Vec::new();
        };
        let listen = &self.config.listen;
        let waits = [("idle_timeout", listen.idle_timeout), ("message_timeout", listen.message_timeout)];
        waits
            .into_iter()
            .filter(|(_, wait)| wait.as_secs() < smtpd)
            .map(|(name, wait)| {
                let wait = show_duration(wait);
                let message = format!(
                    "a client may pause for {smtpd}s (smtpd_timeout), but becalm hangs up after {wait}"
                );
                Finding::warning(
                    place("smtpd_timeout", &[service]),
                    message,
                    format!("becalm.toml: [listen] {name} = \"{}s\"", smtpd.saturating_mul(2)),
                )
            })
            .collect()
    }

    fn queue_ids(&self) -> Option<Finding> {
        if self.facts.main("enable_long_queue_ids") == "yes" {
            return None;
        }
        let message =
            "short queue ids are used again: a release could reach another message than the one held";
        let help = "main.cf: enable_long_queue_ids = yes";
        Some(if self.config.enforces() {
            Finding::error("main.cf", message, help)
        } else {
            Finding::warning("main.cf", message, help)
        })
    }

    fn exceptions_by_client(&self, filtered: &[&Service]) -> Vec<Finding> {
        let mut exceptions: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
        for service in filtered {
            let maps = self.facts.effective(service, "smtpd_milter_maps");
            exceptions.entry(maps).or_default().push(service);
        }
        exceptions
            .into_iter()
            .filter(|(maps, _)| !maps.is_empty())
            .map(|(maps, services)| {
                let message = format!("smtpd_milter_maps ({maps}) replaces the milters for some clients");
                let help = "see that becalm is last in every result, and DISABLE is meant";
                Finding::warning(place("smtpd_milter_maps", &services), message, help)
            })
            .collect()
    }
}

/// An entry that ends the `program` which reads it.
fn fatal(topic: &str, program: &str, milter: &Milter) -> Option<Finding> {
    let flaw = milter.flaw.as_ref()?;
    let message = format!("{program} ends at `{}`, and takes no mail: {}", milter.text, flaw.what);
    Some(Finding::error(topic, message, &flaw.help))
}

/// Where `services` have `parameter` from: main.cf, or their own lines of master.cf.
fn place(parameter: &str, services: &[&Service]) -> String {
    if services.iter().all(|service| service.overrides.contains_key(parameter)) {
        titles(services)
    } else {
        "main.cf".to_owned()
    }
}

fn titles(services: &[&Service]) -> String {
    services.iter().map(|service| service.title()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "examine_tests.rs"]
mod tests;
