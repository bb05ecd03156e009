//! The status for everyone: what the engine knows, without what is nobody's business.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::tz::TimeZone;
use tracing::warn;

use super::Daemon;
use crate::admin::api::PublicQuery;
use crate::admin::backend::{Page, Refusal};
use crate::config;
use crate::config::Policies;
use crate::engine::OpenStorm;
use crate::public::{Paused, PublicStatus, Templates, preferred};
use crate::storm::state::Phase;

/// Files with sentences: more languages than that is no folder of templates.
const MAX_FILES: usize = 60;

/// Longest of them, in bytes: twenty sentences.
const MAX_FILE: u64 = 64 * 1024;

/// What the status is written with.
pub(super) struct Public(ArcSwap<Settings>);

struct Settings {
    language: String,
    templates: Templates,
    zone: TimeZone,
}

impl Public {
    /// Reads the operator's templates; says what is wrong with them.
    pub(super) fn new(config: &config::Public) -> Self {
        Self(ArcSwap::from_pointee(Settings::read(config)))
    }

    /// The same after a reload.
    pub(super) fn set(&self, config: &config::Public) {
        self.0.store(Arc::new(Settings::read(config)));
    }
}

impl Settings {
    fn read(config: &config::Public) -> Self {
        let (templates, problems) = templates(config);
        for problem in problems {
            warn!(problem, "the status for everyone goes without these sentences");
        }
        // The configuration was checked; a machine whose own zone is unknown shows UTC.
        let zone = match config.time_zone.as_str() {
            "" => TimeZone::system(),
            name => TimeZone::get(name).unwrap_or(TimeZone::UTC),
        };
        Self { language: config.language.clone(), templates, zone }
    }
}

/// The sentences that a configuration asks for, and what is wrong with them.
pub fn templates(config: &config::Public) -> (Templates, Vec<String>) {
    let mut problems = Vec::new();
    let mut files = Vec::new();
    if let Some(folder) = &config.templates {
        match names(folder) {
            Ok(names) => {
                for name in names {
                    match text(&folder.join(format!("{name}.toml"))) {
                        Ok(text) => files.push((name, text)),
                        Err(error) => problems.push(format!("{}/{name}.toml: {error}", folder.display())),
                    }
                }
            }
            Err(error) => problems.push(format!("{}: {error}", folder.display())),
        }
    }
    let (templates, bad) = Templates::with(files);
    let folder = config.templates.as_deref().unwrap_or(Path::new("")).display().to_string();
    problems.extend(bad.iter().map(|bad| format!("{folder}/{bad}")));
    if templates.get(&config.language).is_none() {
        let known = templates.languages().collect::<Vec<_>>().join(", ");
        problems.push(format!("[public] language: there is no {}; there are {known}", config.language));
    }
    (templates, problems)
}

/// The files' names without `.toml`, in order.
fn names(folder: &Path) -> std::io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".toml")) {
            names.push(name.to_owned());
        }
        if names.len() > MAX_FILES {
            return Err(std::io::Error::other(format!("it has more than {MAX_FILES} files")));
        }
    }
    names.sort();
    Ok(names)
}

fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it has more than 64 KiB"));
    }
    Ok(text)
}

impl Daemon {
    /// The status for everyone, as a page.
    pub(super) fn public_status(&self, query: &PublicQuery, accept: Option<&str>) -> Result<Page, Refusal> {
        let settings = self.public.0.load();
        let templates = &settings.templates;
        let template = match &query.lang {
            Some(language) => templates.get(language).ok_or_else(|| {
                let known = templates.languages().collect::<Vec<_>>().join(", ");
                Refusal::request("no_such_language", format!("there is no such language; there are {known}"))
            })?,
            None => preferred(templates, accept, &settings.language)
                .ok_or_else(|| Refusal::ours("no_language", "there are no languages"))?,
        };
        let now = self.shared.clock.now();
        let format = query.format.unwrap_or_default();
        let status = PublicStatus::new(self.paused(), template, &settings.zone, now);
        Ok(Page {
            content_type: format.content_type(),
            language: template.language.clone(),
            text: status.render(format, template, &settings.zone, now),
        })
    }

    /// Lists whose storm has mail stopped. What is only observed is no news to anybody.
    fn paused(&self) -> Vec<Paused> {
        let engine = &self.shared.engine;
        if engine.is_observing() {
            return Vec::new();
        }
        let storms = engine.storms(self.shared.clock.now());
        paused(&storms, &self.standing().config.policies)
    }
}

/// Of lists whose mail is stopped, what is everybody's business.
fn paused(storms: &[OpenStorm], policies: &Policies) -> Vec<Paused> {
    let paused = storms.iter().filter(|storm| storm.enforced).filter_map(|storm| {
        let Phase::Storm { since } = storm.phase else { return None };
        // Those who write to many recipients without a list know it as it is described for lists without a name.
        let name = storm.list.as_deref().and_then(|list| policies.public_name(list)).map(str::to_owned);
        Some(Paused { name, since, ends: storm.ends.unwrap_or(since) })
    });
    paused.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::public::Format;
    use crate::storm::policy::Mode;
    use crate::storm::state::StormFigures;
    use crate::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_millis(1_479_118_500_000);
    const STORM: &str = "20161114T083012Z-3f2a";

    fn storm(list: &str) -> OpenStorm {
        OpenStorm {
            list: Some(list.to_owned()),
            members: 840_123,
            phase: Phase::Storm { since: NOW },
            storm: Some(STORM.to_owned()),
            mode: Mode::Hold,
            never_hold: false,
            closed_until: None,
            enforced: true,
            ends: Some(NOW),
            last_attempt: NOW,
            figures: StormFigures { held: 77_123, ..StormFigures::default() },
        }
    }

    /// A configuration with this list under this name; where the name is refused, without one.
    fn config(list: &str, name: &str) -> Config {
        let entry = |name: &str| format!("[[list]]\naddress = '{list}'\nmembers = 12\n{name}");
        let named = format!("public_name = {}", toml::Value::from(name));
        let parsed = Config::parse("x.toml", &entry(&named));
        parsed.or_else(|_| Config::parse("x.toml", &entry(""))).unwrap_or_else(|_| panic!("{list}")).0
    }

    /// What somebody might call a list, among it what names it.
    fn names(address: &str) -> impl Strategy<Value = String> + use<> {
        let local = address.split('@').next().unwrap_or_default().to_owned();
        prop_oneof![
            ".{0,40}",
            Just(address.to_owned()),
            Just(format!("Everybody <{address}>")),
            Just(format!("{local}\u{a0}@ here")),
            Just(format!("<script>alert('{address}')</script>")),
        ]
    }

    fn list_and_name() -> impl Strategy<Value = (String, String)> {
        "zq[a-z0-9]{6,12}@zx[a-z]{6,12}\\.(example|test)".prop_flat_map(|address| {
            let names = names(&address);
            (Just(address), names)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn whatever_lists_are_called_no_address_is_told((address, name) in list_and_name()) {
            let config = config(&address, &name);
            let (templates, _) = templates(&config.public);
            let told = paused(&[storm(&address)], &config.policies);
            prop_assert_eq!(told.len(), 1);
            let (local, domain) = address.split_once('@').unwrap();
            for language in templates.languages() {
                let template = templates.get(language).unwrap();
                let status = PublicStatus::new(told.clone(), template, &TimeZone::UTC, NOW);
                for format in [Format::Html, Format::Text, Format::Json] {
                    let page = status.render(format, template, &TimeZone::UTC, NOW).replace("@media", "");
                    for secret in ["@", local, domain, STORM, "840123", "840,123", "77123"] {
                        prop_assert!(!page.contains(secret), "{} of {:?} is in {}", secret, name, page);
                    }
                }
            }
        }
    }

    #[test]
    fn only_lists_whose_mail_is_stopped_are_paused() {
        let config = config("all@example.org", "Everybody");
        let observed = OpenStorm { enforced: false, ..storm("all@example.org") };
        let cooling = OpenStorm { phase: Phase::Cooling { until: NOW }, ..storm("all@example.org") };
        let storms = [observed, cooling, storm("all@example.org")];
        let told = paused(&storms, &config.policies);
        assert_eq!(told, [Paused { name: Some("Everybody".to_owned()), since: NOW, ends: NOW }]);
    }
}
