//! `becalm config --default`: every setting with its documentation.

use std::process::ExitCode;

use crate::config::DEFAULT_TEXT;

/// Arguments of `becalm config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print a configuration file with every setting, its documentation and its default.
    #[arg(long, required = true)]
    pub default: bool,
}

/// Prints the file.
///
/// # Errors
/// Where standard output cannot be written to.
pub fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    super::print(DEFAULT_TEXT)?;
    Ok(ExitCode::SUCCESS)
}
