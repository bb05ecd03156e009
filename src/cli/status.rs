//! `becalm status`: how the daemon is, for operators; with `--public`, what everybody may know.

use std::process::ExitCode;

use clap::Args;

use super::ask::{self, AskArgs};
use crate::admin::api::Request;
use crate::admin::client;
use crate::public::Format;

/// Shows how the running daemon is.
#[derive(Args, Debug)]
#[command(after_help = "\
The status for everyone, for a web server elsewhere (as a cron job or a timer):

    becalm status --public > status.new && mv status.new /var/www/mail-status.html

Where the daemon cannot be asked, nothing is written and the exit code is 1: the page stays as it was,
and says itself as of when it is.")]
pub struct StatusArgs {
    #[command(flatten)]
    ask: AskArgs,
    /// Print what everybody may know: which lists are paused, since when, and until about when. No address, no
    /// storm's name; lists go by their `public_name`.
    #[arg(long)]
    public: bool,
    /// In this language (en, de, fr, es, and those of `[public] templates`), instead of the configuration's.
    #[arg(long, value_name = "LANGUAGE", requires = "public")]
    lang: Option<String>,
    /// As a page, as text, or for programs.
    #[arg(long, requires = "public", conflicts_with = "json", value_enum, default_value_t)]
    format: Format,
}

/// Asks, and prints. Exit codes: 0 it was printed, 1 the daemon cannot be asked.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    if !args.public {
        return ask::run(&args.ask, &Request::Status {});
    }
    let format = if args.ask.wants_json() { Format::Json } else { args.format };
    super::print(&client::public(&args.ask.socket()?, args.lang.as_deref(), format)?)?;
    Ok(ExitCode::SUCCESS)
}
