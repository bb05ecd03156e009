//! What a run is made of: a configuration, its lists, those of the command line and those of the scenarios.

use std::sync::Arc;

use anyhow::ensure;

use super::ListSize;
use crate::config::Config;
use crate::daemon::site;
use crate::directory::Directory;
use crate::directory::settings::ConfiguredList;
use crate::directory::snapshot::{List, Snapshot};
use crate::replay::run::Run;
use crate::replay::scenario::Scenario;
use crate::replay::{stage, tune};
use crate::time::Timestamp;

/// A configuration and its directory, read once for any number of runs.
pub(in crate::cli) struct Site {
    config: Config,
    snapshot: Arc<Snapshot>,
    /// All mail that names no list is mail to this one.
    single: Option<String>,
}

impl Site {
    /// Reads the directory; `invented`: the names of scenarios, and how many members their lists have.
    ///
    /// # Errors
    /// When no list is known.
    pub fn new<'a>(
        mut config: Config,
        lists: &[ListSize],
        invented: impl IntoIterator<Item = (&'a str, u64)>,
    ) -> anyhow::Result<Self> {
        let named = lists.iter().map(|list| (list.address.clone(), list.members, "--list"));
        let invented =
            invented.into_iter().map(|(name, members)| (stage::address(name), members, "scenario"));
        for (address, members, origin) in named.chain(invented) {
            let known = &mut config.directory.lists;
            known.retain(|list| !list.address.eq_ignore_ascii_case(&address));
            known.push(ConfiguredList { address, members, class: None, origin: origin.to_owned() });
        }
        let directory =
            Directory::load(config.directory.clone(), config.addresses.clone(), Timestamp::default());
        let snapshot = Arc::clone(directory.snapshot());
        complain(&snapshot)?;
        let single = if let [list] = lists { Some(list.address.clone()) } else { None };
        Ok(Self { config, snapshot, single })
    }

    /// A run to which everybody is known whom the scenarios know; `people`: as all thresholds of a storm, see
    /// [`tune::at`].
    ///
    /// # Errors
    /// A rate that cannot be kept.
    pub fn run(&self, name: &str, people: Option<u32>, scenarios: &[Scenario]) -> anyhow::Result<Run> {
        let mut run = self.empty_run(name, people, false)?;
        if let Some(list) = &self.single {
            run.take_for(list);
        }
        for scenario in scenarios {
            stage::introduce(&run, scenario, &stage::address(scenario.name));
        }
        Ok(run)
    }

    /// A run for nothing but this scenario, with tables of its size: there may be a hundred thousand such runs.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn small_run(&self, name: &str, scenario: &Scenario) -> anyhow::Result<Run> {
        let run = self.empty_run(name, None, true)?;
        stage::introduce(&run, scenario, &stage::address(scenario.name));
        Ok(run)
    }

    fn empty_run(&self, name: &str, people: Option<u32>, small: bool) -> anyhow::Result<Run> {
        let capacity = if small { stage::SMALL } else { site::capacity(&self.config) };
        let parts = site::parts(&self.config, Arc::clone(&self.snapshot));
        let configured = site::policy(&self.config);
        let policy = |list: &List| match people {
            Some(people) => tune::at(people, configured(list)),
            None => configured(list),
        };
        Ok(Run::new(name, parts, policy, capacity)?)
    }
}

/// Says what is wrong with the directory's files; without any list there is nothing to play for.
fn complain(snapshot: &Snapshot) -> anyhow::Result<()> {
    for source in snapshot.sources() {
        if let Some(why) = &source.stale {
            tell!("becalm: {}: {why}", source.name);
        }
    }
    ensure!(
        !snapshot.lists().is_empty(),
        "no list is known: name it with --list ADDRESS=MEMBERS, or the configuration with -c"
    );
    Ok(())
}
