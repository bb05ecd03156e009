//! The command line: one file a command.

// They panic where nobody reads any more: see `print` and `complain`.
#![deny(clippy::print_stdout, clippy::print_stderr)]

/// As [`complain`], a line.
macro_rules! tell {
    ($($what:tt)*) => {
        $crate::cli::complain(&(format!($($what)*) + "\n"))
    };
}

mod alert;
mod ask;
mod bench;
pub mod check;
pub mod config;
mod demo;
mod figures;
mod helper;
mod key;
mod manual;
mod observe;
mod probe;
mod quarantine;
mod replay;
mod run;
mod status;
mod storms;
mod top;
mod tune;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::admin::api::Request;

/// Stops reply-all storms at the mail server.
#[derive(Debug, Parser)]
#[command(name = "becalm", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Filters mail: serves Postfix's milter connections until SIGTERM.
    Run(run::RunArgs),
    /// Shows what becalm does: plays NHS 2016 against it, with ordinary mail in between.
    Demo(demo::DemoArgs),
    /// Measures what a milter costs, becalm or any other: messages a second, latencies, CPU, memory.
    Bench(Box<bench::BenchArgs>),
    /// Is the filter that does nothing, for `bench`.
    #[command(hide = true)]
    BenchNoop(bench::NoopArgs),
    /// Shows what becalm would have done with past or invented mail.
    Replay(replay::ReplayArgs),
    /// Suggests thresholds for each list, from past mail, as a configuration fragment.
    Tune(tune::TuneArgs),
    /// Shows how the running daemon is.
    Status(status::StatusArgs),
    /// Shows what is going on, live in a terminal.
    Top(top::TopArgs),
    /// Shows the lists it knows, the largest first: members, mode, where each came from.
    Lists(ask::AskArgs),
    /// Shows storms and suspicions, ends storms, closes lists by hand.
    Storms(storms::StormsArgs),
    /// Shows held mail, releases it, returns it to its senders.
    Quarantine(quarantine::QuarantineArgs),
    /// Proves that mail to a list comes by becalm, without sending any.
    Probe(probe::ProbeArgs),
    /// Acts upon Postfix's hold queue for the daemon; runs as root.
    Helper(helper::HelperArgs),
    /// Tries the ways that alerts go.
    Alert(alert::AlertArgs),
    /// Makes another key for the marks of held mail.
    Key(key::KeyArgs),
    /// Puts everything to observe at once, or back.
    Observe(observe::ObserveArgs),
    /// Checks becalm's configuration and Postfix's: what is wrong, where, and the remedy.
    Check(check::Args),
    /// Prints the configuration's documentation.
    Config(config::Args),
    /// Writes the manual pages: becalm(1), one for each command, becalm.toml(5).
    Man(manual::ManArgs),
    /// Prints a script with which a shell completes becalm's commands and options.
    Completions(manual::CompletionsArgs),
}

/// Parses the command line and runs the command. Exit codes: 0 fine, 1 something is wrong, 2 wrong usage.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(args),
        Command::Demo(args) => demo::run(&args),
        Command::Bench(args) => Ok(bench::run(&args)),
        Command::BenchNoop(args) => bench::serve_noop(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Tune(args) => tune::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Lists(args) => ask::run(&args, &Request::Lists {}),
        Command::Storms(args) => storms::run(&args),
        Command::Quarantine(args) => quarantine::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Probe(args) => Ok(probe::run(&args)),
        Command::Helper(args) => helper::run(args),
        Command::Alert(args) => alert::run(&args),
        Command::Observe(args) => observe::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Config(args) => config::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Man(args) => manual::man(&args),
        Command::Completions(args) => manual::completions(&args),
    };
    result.unwrap_or_else(|error| {
        tell!("becalm: {}", in_full(&error));
        ExitCode::FAILURE
    })
}

/// An error with its causes, without those that it names itself already.
fn in_full(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        known if known.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// Whether what is printed on standard output may have colours: only on a terminal, and where the user has not
/// asked for none (<https://no-color.org>).
pub(crate) fn color() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// What comes from mail, a server or a directory, for a terminal: it must not command it. Controls become `?`, and so
/// do the marks that turn the direction of what stands beside them.
pub(crate) fn plain(text: &str) -> String {
    let turns = |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().map(|c| if c.is_control() || turns(c) { '?' } else { c }).collect()
}

/// Writes to standard output. A reader that went away early (`| head`) is no error.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Writes to standard error. Where nobody reads any more (`2>&1 | head`), nothing can be said of that either.
pub(crate) fn complain(text: &str) {
    use std::io::Write as _;
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn an_error_names_each_cause_once() {
        let cause = std::io::Error::other("no such group");
        let error = anyhow::Error::new(cause)
            .context("cannot listen: no such group; make it")
            .context("cannot start");
        assert_eq!(in_full(&error), "cannot start: cannot listen: no such group; make it");
        assert_eq!(in_full(&anyhow::anyhow!("b").context("a")), "a: b");
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
