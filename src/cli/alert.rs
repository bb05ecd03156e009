//! `becalm alert test`: do alerts arrive?

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use arc_swap::ArcSwap;
use clap::{Args, Subcommand};
use serde_json::json;

use crate::admin::api::{Request, Tried, TriedPlace};
use crate::admin::client;
use crate::alert::Alert;
use crate::alert::settings::{Means, Way};
use crate::alert::way::{self, Stationery};
use crate::clock::Clock;
use crate::config::{Config, DEFAULT_PATH};
use crate::daemon::site;

/// Tries the ways that alerts go.
#[derive(Args, Debug)]
pub struct AlertArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Has the daemon send a test alert by every configured way, and says what became of it; where none runs, sends them
    /// itself. Exit code 1 where one was not delivered.
    Test(TestArgs),
}

#[derive(Args, Debug)]
struct TestArgs {
    /// Configuration file. Without it, /etc/becalm/becalm.toml.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One way only: its name, or its number in the file.
    #[arg(long, value_name = "NAME|N|all", default_value = "all")]
    way: String,
    /// Print JSON for programs.
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub fn run(args: &AlertArgs) -> anyhow::Result<ExitCode> {
    let What::Test(args) = &args.what;
    test(args)
}

fn test(args: &TestArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let config = match Config::load(path, args.config.is_some()) {
        Ok((config, _)) => config,
        Err(report) => bail!("{report}"),
    };
    let ways = chosen(&config, &args.way)?;
    let sender = Sender::of(&config, &ways);
    let mut results = Vec::new();
    for (number, way) in ways {
        let tried = sender.send(way)?;
        for TriedPlace { to, error } in tried.results {
            if !args.json {
                let said =
                    error.as_deref().map_or_else(|| "delivered".to_owned(), |why| format!("FAILED: {why}"));
                super::print(&format!("{number}  {} ({to}): {said}\n", way.name))?;
            }
            results.push(json!({
                "number": number, "way": way.name, "to": to, "delivered": error.is_none(), "error": error,
                "id": tried.id,
            }));
        }
    }
    let failed = results.iter().any(|result| result["delivered"] != true);
    if args.json {
        let by = if matches!(sender, Sender::Daemon(_)) { "daemon" } else { "command" };
        super::print(&format!("{}\n", json!({ "by": by, "results": results })))?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Who delivers.
enum Sender<'c> {
    /// The daemon behind this socket: as in earnest, with its user's rights and from its sandbox.
    Daemon(&'c Path),
    /// This process, where no daemon answers.
    Here { clock: Clock, alert: Arc<Alert>, stationery: Stationery },
}

impl<'c> Sender<'c> {
    fn of(config: &'c Config, ways: &[(usize, &Way)]) -> Self {
        let socket = &config.admin.socket;
        let error = match client::ask(socket, &Request::Status {}) {
            Ok(_) => return Self::Daemon(socket),
            Err(error) => error,
        };
        tell!(
            "becalm: {error}\nbecalm: tried by this command instead, with this user's rights: becalm's may be fewer"
        );
        let clock = Clock::system();
        let now = clock.now();
        let marker = site::existing_marker(config, now).map(|marker| Arc::new(ArcSwap::from_pointee(marker)));
        if let Err(error) = &marker
            && ways.iter().any(|(_, way)| matches!(way.means, Means::Mail(_)))
        {
            let key = config.state.directory.display();
            tell!(
                "becalm: the key in {key} cannot be read ({error}): this mail goes without becalm's mark; run this as root or as becalm's user"
            );
        }
        let stationery = Stationery { node: config.state.node.clone(), marker: marker.ok() };
        Self::Here { alert: Arc::new(Alert::test(now, &config.state.node)), clock, stationery }
    }

    fn send(&self, way: &Way) -> anyhow::Result<Tried> {
        match self {
            Self::Daemon(socket) => Ok(client::try_way(socket, &way.name)?),
            Self::Here { clock, alert, stationery } => {
                let results = way::parcels(way, alert).into_iter().map(|parcel| {
                    let outcome = way::deliver(way, &parcel, stationery, clock.now());
                    let error = outcome.err().map(|failure| failure.why().to_owned());
                    TriedPlace { to: way::place(way, &parcel), error }
                });
                Ok(Tried { results: results.collect(), id: alert.id.clone() })
            }
        }
    }
}

/// The ways that are meant, with their numbers.
fn chosen<'c>(config: &'c Config, which: &str) -> anyhow::Result<Vec<(usize, &'c Way)>> {
    let all: Vec<(usize, &Way)> =
        config.alerts.ways.iter().enumerate().map(|(at, way)| (at + 1, way)).collect();
    if all.is_empty() {
        bail!("no alerts are configured: add an [[alert]] (`becalm config --default` shows how)");
    }
    if which == "all" {
        return Ok(all);
    }
    let names: Vec<_> = all.iter().map(|(number, way)| format!("{number} ({})", way.name)).collect();
    let is_it = |(number, way): &(usize, &Way)| way.name == which || which.parse() == Ok(*number);
    match all.into_iter().find(is_it) {
        Some(way) => Ok(vec![way]),
        None => bail!("there is no way `{which}`; there are {}", names.join(", ")),
    }
}
