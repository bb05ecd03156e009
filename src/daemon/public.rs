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
        let standing = self.standing();
        let policies = &standing.config.policies;
        let paused = storms.into_iter().filter(|storm| storm.enforced).filter_map(|storm| {
            let Phase::Storm { since } = storm.phase else { return None };
            let name = policies.public_name(&storm.list).map(str::to_owned);
            Some(Paused { name, since, ends: storm.ends.unwrap_or(since) })
        });
        paused.collect()
    }
}
