//! `becalm probe LIST`: does mail to a list come by becalm? Asked of the live system; no mail is ever sent.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use super::ask::AskArgs;
use crate::admin::api::ProbeTicket;
use crate::admin::client;
use crate::postfix::smtp::{Client, Reply};

/// For every reply: Postfix delays clients that err, and some sites greet late.
const PATIENCE: Duration = Duration::from_secs(30);

/// Proves that mail to a list comes by becalm.
#[derive(Args, Debug)]
#[command(after_help = "\
The probe begins a message to the list and ends the session before any text: MAIL, RCPT, DATA. becalm knows it
by a token, good once and for two minutes, and answers DATA with 550; it does not count it. Where DATA is
answered with 354, becalm was not asked: the probe hangs up, and the server throws the empty message away.

Ask the server that the list's senders use, and the becalm that it asks: the token comes from the daemon behind
the admin socket.

Exit codes: 0 covered; 1 not covered, or not known as a list; 2 could not tell.")]
pub struct ProbeArgs {
    /// The list's address, as people write it.
    #[arg(value_name = "LIST")]
    list: String,
    /// The SMTP server.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:25")]
    smtp: String,
    /// An address that the server lets write to the list; the token is added as an extension (name+token@domain).
    /// Without it, the token at the list's own domain.
    #[arg(long, value_name = "ADDR")]
    from: Option<String>,
    #[command(flatten)]
    ask: AskArgs,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    outcome: Outcome,
    list: String,
    smtp: String,
    /// What the server said last.
    said: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// becalm sees mail to it, as a list's.
    Covered,
    /// becalm sees it, and does not know that it is a list.
    NotAList,
    /// The server would have taken the message without asking becalm.
    NotCovered,
    /// The server refused it before that.
    Refused,
}

/// Probes, and says what was found. Exit codes: see the help.
pub fn run(args: &ProbeArgs) -> ExitCode {
    let told = probe(args).and_then(|found| {
        let json = args.ask.wants_json();
        let text = if json { serde_json::to_string_pretty(&found)? + "\n" } else { found.text() };
        super::print(&text)?;
        Ok(found.outcome)
    });
    match told {
        Ok(Outcome::Covered) => ExitCode::SUCCESS,
        Ok(Outcome::NotAList | Outcome::NotCovered) => ExitCode::FAILURE,
        Ok(Outcome::Refused) => ExitCode::from(2),
        Err(error) => {
            tell!("becalm: {}", super::in_full(&error));
            ExitCode::from(2)
        }
    }
}

fn probe(args: &ProbeArgs) -> anyhow::Result<Found> {
    let ticket = client::probe(&args.ask.socket()?, &args.list)?;
    let sender = sender(args, &ticket)?;
    let address = resolve(&args.smtp)?;
    let (outcome, reply) = converse(address, &sender, &args.list, &ticket)
        .with_context(|| format!("could not tell: {} does not answer as it should", args.smtp))?;
    let said = super::plain(&reply.to_string());
    Ok(Found { outcome, list: args.list.clone(), smtp: args.smtp.clone(), said })
}

fn sender(args: &ProbeArgs, ticket: &ProbeTicket) -> anyhow::Result<String> {
    let token = &ticket.local_part;
    let sender = match &args.from {
        None => match args.list.rsplit_once('@') {
            Some((_, domain)) => format!("{token}@{domain}"),
            None => token.clone(),
        },
        Some(from) => match from.rsplit_once('@') {
            Some((name, domain)) => format!("{name}+{token}@{domain}"),
            None => bail!("--from {from}: this is no address; write name@domain"),
        },
    };
    if sender.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>')) {
        bail!("--from: this is no address; write name@domain");
    }
    Ok(sender)
}

fn resolve(smtp: &str) -> anyhow::Result<SocketAddr> {
    let mut found = smtp
        .to_socket_addrs()
        .with_context(|| format!("could not tell: --smtp {smtp}: write HOST:PORT, as in 127.0.0.1:25"))?;
    found.next().with_context(|| format!("could not tell: {smtp} has no address"))
}

fn converse(
    address: SocketAddr,
    sender: &str,
    list: &str,
    ticket: &ProbeTicket,
) -> anyhow::Result<(Outcome, Reply)> {
    let mut client = Client::connect_within(address, PATIENCE)?;
    let mut reply = client.ehlo("[127.0.0.1]")?;
    if reply.is_positive() {
        reply = client.mail(sender)?;
    }
    if reply.is_positive() {
        reply = client.rcpt(list)?;
    }
    if reply.is_positive() {
        reply = client.data()?;
        if reply.is_positive() {
            // Hung up upon: without the dot that ends it, no message exists (RFC 5321, 4.1.1.4).
            drop(client);
            return Ok((Outcome::NotCovered, reply));
        }
    }
    let ours = format!("becalm probe {}: ", ticket.proof);
    let outcome = match reply.text.split_once(&ours) {
        Some((_, said)) if said.starts_with("covered") => Outcome::Covered,
        Some(_) => Outcome::NotAList,
        None => Outcome::Refused,
    };
    // It has said what was asked; how it says goodbye changes nothing.
    let _ = client.quit();
    Ok((outcome, reply))
}

impl Found {
    fn text(&self) -> String {
        let said = &self.said;
        let (list, smtp) = (super::plain(&self.list), super::plain(&self.smtp));
        match self.outcome {
            Outcome::Covered => {
                let known = said.split_once("covered; ").map_or("", |(_, known)| known);
                let known = known.replace("; ", "\n  ");
                format!("covered: mail to {list} by {smtp} comes by becalm\n  {known}\n")
            }
            Outcome::NotAList => format!(
                "not known as a list: mail to {list} by {smtp} comes by becalm, but the directory does not have it\n  \
                 name it in a [[list]] of becalm.toml, or its source in [directory]; `becalm lists` shows what is known\n"
            ),
            Outcome::NotCovered => format!(
                "NOT COVERED: {smtp} would have taken mail to {list} without asking becalm; nothing was sent\n  \
                 `becalm check` says what is missing in main.cf and master.cf; is it this daemon that {smtp} asks?\n"
            ),
            Outcome::Refused => format!(
                "could not tell: {smtp} refuses the probe: {said}\n  \
                 ask a server that takes mail to {list} from here (--smtp), or as a sender that may write to it (--from)\n"
            ),
        }
    }
}
