//! `becalm storms`: looked at, ended, and begun by hand.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::json;

use super::ask::{self, AskArgs};
use crate::admin::api::{
    ByHand, Decision, EndStorm, HeldInfo, OpenList, Reply, Request, Selection, StartStorm, StormRecord,
};
use crate::admin::client;
use crate::config::parse_duration;

/// Shows storms, and messages under suspicion with the time at which they would go.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct StormsArgs {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    ask: AskArgs,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Lists that are in a storm or cool after one, past storms, suspicions.
    List(AskArgs),
    /// What a storm did: figures, and what is held of it.
    Show {
        /// Its name, as `becalm storms` shows it.
        storm: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Ends a storm, or a list's cooling: the list and its conversations are open at once; held mail stays on hold.
    End {
        /// The storm's name, or the list.
        which: String,
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Closes a list for newcomers, or one of its conversations for everybody.
    Start {
        /// The list.
        list: String,
        /// The Message-ID of a message of the conversation.
        #[arg(long, value_name = "MESSAGE-ID")]
        conversation: Option<String>,
        /// For how long: 30m, 1h, 2d; at most 30 days.
        #[arg(long = "for", value_name = "TIME", value_parser = parse_duration)]
        span: Duration,
        /// Why, for the audit log.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Runs it. Exit codes: 0 it was done, 1 it was not.
pub fn run(args: &StormsArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        None => ask::run(&args.ask, &Request::Storms {}),
        Some(What::List(ask)) => ask::run(ask, &Request::Storms {}),
        Some(What::Show { storm, ask }) => show(storm, ask),
        Some(What::End { which, ask }) => change(Decision::EndStorm(EndStorm { which: which.clone() }), ask),
        Some(What::Start { list, conversation, span, reason, ask }) => {
            let start = StartStorm {
                list: list.clone(),
                conversation: conversation.clone(),
                for_s: span.as_secs(),
                reason: reason.clone(),
            };
            change(Decision::Close(start), ask)
        }
    }
}

fn change(decision: Decision, ask: &AskArgs) -> anyhow::Result<ExitCode> {
    let conversation = matches!(&decision, Decision::Close(start) if start.conversation.is_some());
    let Reply::ByHand(done) = ask.ask(&Request::Decide(decision))? else {
        bail!("becalm gave another answer than was asked for")
    };
    if ask.wants_json() {
        super::print(&(serde_json::to_string_pretty(&done)? + "\n"))?;
    } else {
        super::print(&told(&ask::printable(done)?, conversation))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn told(done: &ByHand, conversation: bool) -> String {
    let list = done.list.as_deref().unwrap_or("the conversation");
    let mut text = match (&done.until, &done.storm) {
        (Some(until), _) if conversation => format!("the conversation on {list} is closed until {until}\n"),
        (Some(until), Some(storm)) => format!("{list} is closed until {until}: storm {storm}\n"),
        (Some(until), None) => format!("{list} is closed until {until}\n"),
        (None, Some(storm)) => format!("storm {storm} is over: {list} is open\n"),
        (None, None) => format!("{list} is open\n"),
    };
    for note in &done.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

fn show(name: &str, ask: &AskArgs) -> anyhow::Result<ExitCode> {
    let Reply::Storms(storms) = ask.ask(&Request::Storms {})? else {
        bail!("becalm gave another answer than was asked for")
    };
    let open = storms.open.into_iter().find(|open| open.storm.as_deref() == Some(name));
    let record = storms.storms.into_iter().find(|record| record.storm == name);
    let select = Selection { storm: Some(name.to_owned()), ..Selection::default() };
    let messages = client::held(&ask.socket()?, select)?;
    if record.is_none() && open.is_none() && messages.is_empty() {
        bail!("{name} is no storm that becalm remembers: `becalm storms` names them");
    }
    let held = OnHold::of(&messages);
    if ask.wants_json() {
        let value = json!({ "storm": record, "open": open, "on_hold": {
            "messages": held.messages, "copies": held.copies, "authors": held.authors, "oldest": held.oldest,
        } });
        super::print(&(serde_json::to_string_pretty(&value)? + "\n"))?;
    } else {
        let (record, open) = (ask::printable(record)?, ask::printable(open)?);
        super::print(&details(&super::plain(name), record.as_ref(), open.as_ref(), &held))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is held of a storm. Its authors are counted, not named: `becalm quarantine list` names them.
struct OnHold {
    messages: usize,
    copies: u64,
    authors: usize,
    oldest: Option<String>,
}

impl OnHold {
    fn of(messages: &[HeldInfo]) -> Self {
        let authors: BTreeSet<_> = messages.iter().map(|item| &item.author).collect();
        Self {
            messages: messages.len(),
            copies: messages.iter().fold(0, |sum, item| sum.saturating_add(item.copies)),
            authors: authors.len(),
            oldest: messages.iter().map(|item| item.since.clone()).min(),
        }
    }
}

fn details(name: &str, record: Option<&StormRecord>, open: Option<&OpenList>, held: &OnHold) -> String {
    let mut lines = vec![format!("storm    {name}")];
    if let Some(record) = record {
        let list = record.list.as_deref().unwrap_or("none: many recipients");
        lines.push(format!("list     {list}, {} members", record.members));
        lines.push(format!("trigger  {}", record.trigger));
        lines.push(format!("started  {}", record.started));
        lines.push(format!("ended    {}", record.ended.as_deref().unwrap_or("still open")));
    }
    let figures = match (open, record) {
        (Some(open), _) if open.is_observed() => {
            lines.push(format!(
                "only observed: {} messages would be stopped, {} copies",
                open.held, open.copies_held
            ));
            Some((0, 0, open.delivered.saturating_add(open.held)))
        }
        (Some(open), _) => Some((open.held, open.copies_held, open.delivered)),
        (None, Some(record)) if record.ended.is_some() => {
            Some((record.held, record.copies_held, record.delivered))
        }
        _ => None,
    };
    if let Some((stopped, copies, passed)) = figures {
        lines.push(format!("stopped  {stopped} messages, {copies} copies"));
        lines.push(format!("passed   {passed} messages meanwhile"));
    }
    if let Some(record) = record.filter(|record| record.clawed_back > 0) {
        let (messages, copies) = (record.clawed_back, record.copies_clawed_back);
        lines.push(format!(
            "clawed   {messages} messages back from Postfix's queue, {copies} copies of them not made yet"
        ));
    }
    if let Some(open) = open {
        lines.push(format!("last try {}", open.last_attempt));
        lines.extend(
            open.closed_until.as_ref().map(|until| format!("by hand  closed until {until} at least")),
        );
    }
    lines.push(format!(
        "on hold  {} messages by {} authors, {} copies{}",
        held.messages,
        held.authors,
        held.copies,
        held.oldest.as_ref().map_or_else(String::new, |oldest| format!("; the oldest since {oldest}"))
    ));
    if held.messages > 0 {
        lines.push(format!("         becalm quarantine list --storm {name}"));
    }
    lines.join("\n") + "\n"
}
