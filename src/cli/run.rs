//! `becalm run`: the daemon.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;
use tracing::Level;

use crate::clock::Clock;
use crate::config::{Config, DEFAULT_PATH, GivenBy, ListenAddress, LogFormat};
use crate::daemon::{Daemon, sandbox};
use crate::telemetry::log;

/// Filters mail: serves Postfix's milter connections until SIGTERM.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Configuration file. Without it, /etc/becalm/becalm.toml is read if it is there.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, instead of the configuration's sockets: unix:PATH or inet:PORT@HOST. May be repeated.
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Vec<ListenAddress>,
    /// Take over from the becalm that runs: its sockets, its sessions-to-come and what it knows, without a message
    /// that fails. It runs on if this one cannot start. Where none runs, starts as ever.
    #[arg(long)]
    takeover: bool,
}

/// The configuration has errors, as in sysexits.h: systemd need not try again (RestartPreventExitStatus).
const EX_CONFIG: u8 = 78;

/// Runs until told to stop.
pub fn run(args: RunArgs) -> anyhow::Result<ExitCode> {
    let path = args.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_PATH));
    let (mut config, remarks) = match Config::load(&path, args.config.is_some()) {
        Ok(loaded) => loaded,
        Err(report) => {
            super::complain(&format!("{report}\n"));
            return Ok(ExitCode::from(EX_CONFIG));
        }
    };
    if !args.listen.is_empty() {
        config.listen.sockets = args.listen;
        config.listen.given_by = GivenBy::CommandLine;
    }
    let format = match config.log.format {
        LogFormat::Text => log::Format::Text,
        LogFormat::Json => log::Format::Json,
        LogFormat::Journald => log::Format::Journald,
    };
    let log = log::start(format, config.log.level)?;

    let enforces = config.enforces();
    let file = (args.config.is_some() || path.exists()).then_some(path);
    // Before there is another thread: what one gives up, those that it starts lack.
    let sandbox = sandbox::confine(&config);
    let log = log.write()?;
    let now = || Clock::system().now().rfc3339();
    for line in remarks.to_string().lines() {
        log.say(Level::WARN, &now(), line);
    }
    let started = match args.takeover {
        true => Daemon::take_over(config, file, Clock::system()).context("becalm cannot start"),
        false => Daemon::start(config, file, Clock::system()).context(
            "becalm cannot start; no mail is affected as long as Postfix's default_action is accept",
        ),
    };
    let (daemon, listeners) = started?;
    daemon.confined(sandbox).run(listeners, |daemon| {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            listening = daemon.listening().join(" "),
            lists = daemon.shared.engine.world().snapshot.lists().len(),
            enforces,
            sandbox = %daemon.sandbox(),
            "ready"
        );
        let first = daemon.listening().first().and_then(|socket| socket.parse::<ListenAddress>().ok());
        if let Some(line) = first.as_ref().map(smtpd_milters) {
            log.say(
                Level::INFO,
                &now(),
                &format!("To plug becalm into Postfix, as the last milter in main.cf:\n{line}"),
            );
        }
        if !enforces {
            log.say(
                Level::INFO,
                &now(),
                "becalm observes: it reports what it would hold, and touches nothing.",
            );
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The line for main.cf. The time-outs are short on purpose: a filter that hangs must not stop mail, and at
/// Postfix's own defaults every session would wait 30 s for it.
fn smtpd_milters(address: &ListenAddress) -> String {
    format!(
        "smtpd_milters = {{ {}, default_action=accept, connect_timeout=2s, command_timeout=5s, content_timeout=10s }}",
        as_smtpd_sees_it(address)
    )
}

/// smtpd is chrooted into the queue directory on Debian; a path relative to it works chrooted or not.
fn as_smtpd_sees_it(address: &ListenAddress) -> String {
    const QUEUE: &str = "/var/spool/postfix";
    match address {
        ListenAddress::Unix(path) => match path.strip_prefix(Path::new(QUEUE)) {
            Ok(relative) => format!("unix:{}", relative.display()),
            Err(_) => address.as_postfix_writes_it(),
        },
        ListenAddress::Inet { .. } => address.as_postfix_writes_it(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_for_main_cf_names_the_socket_as_a_chrooted_smtpd_sees_it() {
        let socket: ListenAddress = "unix:/var/spool/postfix/becalm/becalm.sock".parse().unwrap();
        assert_eq!(
            smtpd_milters(&socket),
            "smtpd_milters = { unix:becalm/becalm.sock, default_action=accept, connect_timeout=2s, \
             command_timeout=5s, content_timeout=10s }"
        );
        let tcp: ListenAddress = "inet:8899@127.0.0.1".parse().unwrap();
        assert!(smtpd_milters(&tcp).contains("{ inet:127.0.0.1:8899, "));
    }
}
