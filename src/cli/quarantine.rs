//! `becalm quarantine`: held mail, looked at, released and returned.
//!
//! The work is done in portions: a command that is interrupted and given again goes on with what is left.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::ask::{AskArgs, align_right, printable, table};
use super::plain;
use crate::admin::api::{Act, Failed, HeldInfo, MAX_ACTS, Reply, Request, Selection};
use crate::admin::client;
use crate::config::{parse_duration, show_duration};

/// More than this many messages are acted upon only after a question, or with `--yes`.
const PAGE: usize = 25;

/// Portions in a row in which nothing was done, after which there is no point in asking again.
const FRUITLESS: u32 = 3;

/// Failures that are told one by one.
const TOLD: usize = 10;

/// Shows held mail, releases it, returns it.
#[derive(Args, Debug)]
pub struct QuarantineArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lists held mail, the oldest first.
    List(Which),
    /// Shows all that is known of messages.
    Show(Which),
    /// Lets messages go to their recipients, the oldest first, without regard to the pace.
    Release(Deed),
    /// Returns messages to their senders.
    Return(Deed),
}

/// Which messages: those that fit everything given.
#[derive(Args, Debug, Clone)]
struct Which {
    /// Queue ids.
    ids: Vec<String>,
    /// Of this storm, as `becalm storms` names it.
    #[arg(long, value_name = "NAME")]
    storm: Option<String>,
    /// To this list.
    #[arg(long, value_name = "ADDRESS")]
    list: Option<String>,
    /// By this author.
    #[arg(long, value_name = "ADDRESS")]
    author: Option<String>,
    /// Held for this reason.
    #[arg(long, value_parser = ["suspicion", "storm", "automatic", "limit", "by_hand", "clawed_back"])]
    reason: Option<String>,
    /// Held for at least this long: 30m, 2h, 1d.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    older_than: Option<Duration>,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Args, Debug, Clone)]
struct Deed {
    #[command(flatten)]
    which: Which,
    /// Everything that is held.
    #[arg(long, conflicts_with_all = ["ids", "storm", "list", "author", "reason", "older_than"])]
    all: bool,
    /// Do not ask, however many there are.
    #[arg(short, long)]
    yes: bool,
}

/// Runs it. Exit codes: 0 all was done, 1 some was not.
pub fn run(args: &QuarantineArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::List(which) => list(which),
        What::Show(which) => show(which),
        What::Release(deed) => act(deed, Act::Release),
        What::Return(deed) => act(deed, Act::Return),
    }
}

fn list(which: &Which) -> anyhow::Result<ExitCode> {
    let messages = which.find(&which.ask.socket()?)?;
    if which.ask.wants_json() {
        print_json(&json!({ "messages": messages }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if messages.is_empty() {
        super::print("nothing is held\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    let (number, copies) =
        (messages.len(), messages.iter().fold(0_u64, |sum, item| sum.saturating_add(item.copies)));
    let mut table = table(&["queue id", "held since", "reason", "copies", "author", "list", "storm", "goes"]);
    for item in &printable(messages)? {
        table.add_row([
            &item.queue_id,
            &item.since,
            &item.reason,
            &item.copies.to_string(),
            item.author.as_deref().unwrap_or(""),
            item.list.as_deref().unwrap_or(""),
            item.storm.as_deref().unwrap_or(""),
            &goes(item),
        ]);
    }
    align_right(&mut table, 3);
    super::print(&format!("{table}\n\n{} held, {copies} copies\n", count(number)))?;
    Ok(ExitCode::SUCCESS)
}

fn show(which: &Which) -> anyhow::Result<ExitCode> {
    let messages = which.find(&which.ask.socket()?)?;
    if which.ask.wants_json() {
        print_json(&json!({ "messages": messages }))?;
    } else {
        let texts: Vec<String> = printable(messages.clone())?.iter().map(details).collect();
        super::print(&texts.join("\n"))?;
    }
    let missing = which.missing(&messages);
    for id in &missing {
        tell!("becalm: {id}: not held (or not becalm's: `postqueue -p` lists all mail)");
    }
    Ok(if missing.is_empty() && !messages.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn act(deed: &Deed, act: Act) -> anyhow::Result<ExitCode> {
    let which = &deed.which;
    if which.is_anything() && !deed.all {
        bail!(
            "which messages? Name queue ids, or --storm, --list, --author, --reason, --older-than, or --all"
        );
    }
    let socket = which.ask.socket()?;
    let messages = which.find(&socket)?;
    for id in which.missing(&messages) {
        tell!("becalm: {id}: not held (or not becalm's)");
    }
    if messages.is_empty() {
        if which.ask.wants_json() {
            print_json(&json!({ "act": act.name(), "done": 0, "failed": [], "left": 0 }))?;
        } else {
            super::print("nothing is held that fits\n")?;
        }
        return Ok(ExitCode::FAILURE);
    }
    if messages.len() > PAGE && !deed.yes && !confirmed(act, &messages)? {
        bail!("nothing was done");
    }
    let outcome = carry_out(&socket, act, &messages)?;
    let left = messages.len() - outcome.done - outcome.failed.len();
    if which.ask.wants_json() {
        print_json(&json!({
            "act": act.name(), "done": outcome.done, "failed": outcome.failed, "left": left,
        }))?;
    } else {
        let done = match act {
            Act::Release => "released",
            Act::Return => "returned to the sender",
        };
        super::print(&format!("{} {done}\n", count(outcome.done)))?;
        for failed in outcome.failed.iter().take(TOLD) {
            tell!("becalm: {}: {}", failed.id, plain(&failed.reason));
        }
        if outcome.failed.len() > TOLD {
            tell!("becalm: and {} more", outcome.failed.len() - TOLD);
        }
        if left > 0 {
            tell!("becalm: {left} were not come to: give the command again");
        }
    }
    let all = outcome.failed.is_empty() && left == 0 && which.missing(&messages).is_empty();
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[derive(Default)]
struct Outcome {
    done: usize,
    failed: Vec<Failed>,
}

/// In portions, until all are done or have failed.
fn carry_out(socket: &std::path::Path, act: Act, messages: &[HeldInfo]) -> anyhow::Result<Outcome> {
    let bar = progress(messages.len());
    let mut outcome = Outcome::default();
    let mut waiting: Vec<String> = messages.iter().rev().map(|item| item.queue_id.clone()).collect();
    let mut fruitless = 0;
    while !waiting.is_empty() && fruitless < FRUITLESS {
        let portion: Vec<String> = waiting.iter().rev().take(MAX_ACTS).cloned().collect();
        let acted = match client::ask(socket, &Request::Act { act, ids: portion }) {
            Ok(Reply::Acted(acted)) => acted,
            Ok(_) => bail!("becalm gave another answer than was asked for"),
            Err(error) if outcome.done > 0 => {
                bar.abandon();
                return Err(error).with_context(|| {
                    format!(
                        "{} were done before it broke off; give the command again for the rest",
                        outcome.done
                    )
                });
            }
            Err(error) => return Err(error.into()),
        };
        fruitless = if acted.done.is_empty() { fruitless + 1 } else { 0 };
        outcome.done += acted.done.len();
        let failed = acted.failed.iter().map(|failed| &failed.id);
        let gone: std::collections::HashSet<&String> = acted.done.iter().chain(failed).collect();
        waiting.retain(|id| !gone.contains(id));
        outcome.failed.extend(acted.failed);
        bar.set_position((messages.len() - waiting.len()) as u64);
    }
    bar.finish_and_clear();
    Ok(outcome)
}

impl Which {
    /// Is nothing chosen?
    fn is_anything(&self) -> bool {
        self.ids.is_empty()
            && [&self.storm, &self.list, &self.author, &self.reason].into_iter().all(Option::is_none)
            && self.older_than.is_none()
    }

    /// The messages, the oldest first.
    fn find(&self, socket: &std::path::Path) -> anyhow::Result<Vec<HeldInfo>> {
        let mut found = Vec::new();
        let portions: Vec<Vec<String>> = match self.ids.is_empty() {
            true => vec![Vec::new()],
            // A request has a bounded length.
            false => self.ids.chunks(MAX_ACTS).map(<[String]>::to_vec).collect(),
        };
        for ids in portions {
            let select = Selection {
                ids,
                storm: self.storm.clone(),
                list: self.list.clone(),
                author: self.author.clone(),
                reason: self.reason.clone(),
                older_than_s: self.older_than.map(|age| age.as_secs()),
                ..Selection::default()
            };
            found.extend(client::held(socket, select)?);
        }
        Ok(found)
    }

    /// Ids that were named and are not held.
    fn missing(&self, found: &[HeldInfo]) -> Vec<&String> {
        self.ids.iter().filter(|id| !found.iter().any(|item| item.queue_id == **id)).collect()
    }
}

/// Asks at the terminal. Without one, `--yes` must be given.
fn confirmed(act: Act, messages: &[HeldInfo]) -> anyhow::Result<bool> {
    let copies = messages.iter().fold(0_u64, |sum, item| sum.saturating_add(item.copies));
    let what = match act {
        Act::Release => format!("release {}: {copies} copies to mailboxes", count(messages.len())),
        Act::Return => format!("return {} to their senders", count(messages.len())),
    };
    if !std::io::stdin().is_terminal() {
        bail!("this would {what}: say --yes");
    }
    super::complain(&format!("{what}? [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// On a terminal's standard error; elsewhere nothing.
fn progress(messages: usize) -> ProgressBar {
    let bar = ProgressBar::new(messages as u64);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec}, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn details(item: &HeldInfo) -> String {
    let mut lines = vec![
        format!("queue id  {}", item.queue_id),
        format!("since     {}", item.since),
        format!("reason    {}", item.reason),
        format!("goes      {}", goes(item)),
        format!("list      {}", item.list.as_deref().unwrap_or("none: many recipients")),
        format!("author    {}", item.author.as_deref().unwrap_or("the null sender")),
        format!("storm     {}", item.storm.as_deref().unwrap_or("none")),
        format!("copies    {}", item.copies),
    ];
    lines.extend(item.size.map(|size| format!("bytes     {size}")));
    lines.extend(item.trouble.as_ref().map(|why| format!("trouble   {why}")));
    lines.push(format!("text      postcat -q {}\n", item.queue_id));
    lines.join("\n")
}

fn goes(item: &HeldInfo) -> String {
    match (&item.trouble, &item.until) {
        (Some(_), _) => "trouble: see `show`".to_owned(),
        (None, Some(until)) => until.clone(),
        (None, None) => "when an operator says so".to_owned(),
    }
}

fn count(messages: usize) -> String {
    format!("{messages} message{}", if messages == 1 { "" } else { "s" })
}

fn print_json(value: &serde_json::Value) -> anyhow::Result<()> {
    super::print(&(serde_json::to_string_pretty(value)? + "\n"))
}

/// For status: bytes of a size that people read.
pub(super) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// For status: a span as the configuration writes it.
pub(super) fn span(seconds: u64) -> String {
    show_duration(Duration::from_secs(seconds))
}
