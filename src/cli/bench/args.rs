//! What `becalm bench` can be told.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use anyhow::bail;
use clap::Args;

use crate::config::ListenAddress;
use crate::load::bare::Bare;
use crate::load::{Address, End, Load, Mix, Shape};
use crate::milter::mta::Profile;

/// Rounds unless told otherwise, when two are compared.
const ROUNDS: u32 = 10;

/// Length of a turn unless told otherwise.
const ALONE: Duration = Duration::from_secs(10);
const IN_TURNS: Duration = Duration::from_secs(1);

/// Bytes of mail that all connections may have under way at once: each has a copy of its message in memory.
const MAX_UNDER_WAY: u64 = 1 << 30;

/// Measures what a milter costs: becalm or any other.
///
/// It behaves as Postfix does. Mail in the mixes `storm` and `mixed` goes to a list that the filter may come to
/// watch, hold or report: do not point them at a filter that serves real mail.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// The filter: unix:PATH or inet:PORT@HOST.
    #[arg(short, long, value_name = "ADDRESS", value_parser = address)]
    pub socket: Address,
    /// Another one to compare it with, in turns: an address, or `noop`, a filter that does nothing (accepts at
    /// DATA), or `noop-headers` (has headers sent, reads them, accepts).
    #[arg(long, value_name = "ADDRESS|noop")]
    pub against: Option<Against>,
    /// Through a private Postfix, with the filter and without, in turns. Needs root, and Postfix installed;
    /// nothing of the machine's own Postfix is touched, and nothing is sent anywhere.
    #[arg(long, conflicts_with_all = ["against", "against_pid", "milter_protocol", "client"])]
    pub postfix: bool,
    /// Connections at once.
    #[arg(short, long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    connections: u16,
    /// Messages in a session; then the connection is closed and another one opened.
    #[arg(long, value_name = "MESSAGES", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    session: u64,
    /// What is sent: mail between people, replies to a list, or nine of those to one of these.
    #[arg(long, value_enum, default_value_t = Mix::Ordinary)]
    mix: Mix,
    /// The list that the replies go to. A filter treats it as a list only if it knows it.
    #[arg(long, value_name = "ADDRESS", default_value = "everybody@example.org", value_parser = mail_address)]
    list: String,
    /// The domain of ordinary mail's recipients.
    #[arg(long, default_value = "example.org", value_parser = domain)]
    domain: String,
    /// Recipients of an ordinary message.
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=Shape::MAX_RECIPIENTS as i64))]
    recipients: u16,
    /// Header fields of a message.
    #[arg(long, value_name = "FIELDS", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(Shape::MIN_HEADERS as i64..=Shape::MAX_HEADERS as i64))]
    headers: u16,
    /// Bytes of header, at least: its fields are filled up.
    #[arg(long, value_name = "BYTES", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(..=Shape::MAX_HEADER_BYTES as i64))]
    header_bytes: u32,
    /// Bytes of body.
    #[arg(long, value_name = "BYTES", default_value_t = 2_048,
          value_parser = clap::value_parser!(u32).range(..=Shape::MAX_BODY as i64))]
    body: u32,
    /// The SMTP client that the filter is told of.
    #[arg(long, value_name = "IP", default_value = "192.0.2.1")]
    client: IpAddr,
    /// How long, for each turn: `30s`, `2m`. Default 10s, and 1s in turns (2s with --postfix).
    #[arg(short, long, value_name = "TIME", value_parser = duration)]
    duration: Option<Duration>,
    /// Messages for each turn, instead of a time.
    #[arg(short = 'n', long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Messages a second. A message's latency counts from the moment when it was due. Without this, each
    /// connection sends the next message when the last one is answered.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Rounds, when two are compared: in each, both have one turn.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: Option<u32>,
    /// The filter's process, for its CPU and memory. A unix socket tells it, TCP does not; with systemd's socket
    /// activation it is systemd that a socket tells of.
    #[arg(long)]
    pub pid: Option<u32>,
    /// The process of the other one.
    #[arg(long, value_name = "PID", requires = "against")]
    pub against_pid: Option<u32>,
    /// The milter protocol's version, as Postfix's milter_protocol.
    #[arg(long, value_name = "VERSION", default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=6))]
    pub milter_protocol: u32,
    /// A filter that does not answer for so long hangs.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub timeout: Duration,
    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Exit with status 1 if the filter has less than this share of the other's messages a second (the median of
    /// the rounds). With --postfix: of Postfix's own without it.
    #[arg(long, value_name = "RATIO", value_parser = ratio)]
    pub fail_below: Option<f64>,
    /// Also to a TCP address that is not this machine's loopback.
    #[arg(long)]
    yes_really: bool,
}

/// What it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Against {
    /// Another filter.
    Filter(Address),
    /// Ours that does nothing.
    Noop(Bare),
}

impl FromStr for Against {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "noop" => Ok(Self::Noop(Bare::Data)),
            "noop-headers" => Ok(Self::Noop(Bare::Headers)),
            _ => address(text).map(Self::Filter),
        }
    }
}

impl BenchArgs {
    /// What the parser cannot see by itself.
    pub fn check(&self) -> anyhow::Result<()> {
        let mut addresses = vec![&self.socket];
        if let Some(Against::Filter(other)) = &self.against {
            addresses.push(other);
        }
        for address in addresses {
            if let Address::Tcp(tcp) = address
                && !tcp.ip().to_canonical().is_loopback()
                && !self.yes_really
            {
                bail!(
                    "{address} is not on this machine's loopback: a load could stop somebody's mail. If it is yours, \
                     and ready for that, add --yes-really"
                );
            }
        }
        if self.fail_below.is_some() && !self.compares() {
            bail!("--fail-below needs something to compare with: add --against noop, or --postfix");
        }
        if self.rounds.is_some() && !self.compares() {
            bail!("--rounds needs something to compare with: add --against noop, or --postfix");
        }
        let (letter, connections) =
            (u64::from(self.body) + u64::from(self.header_bytes), u64::from(self.connections));
        if letter.saturating_mul(connections) > MAX_UNDER_WAY {
            bail!(
                "{connections} messages of {letter} bytes at once are too much for this machine's memory: \
                 take fewer --connections, or less --body"
            );
        }
        // Postfix's default_process_limit.
        if self.postfix && self.connections > 100 {
            bail!("a private Postfix has at most 100 sessions at once: --connections {}", self.connections);
        }
        Ok(())
    }

    /// Two take turns.
    pub fn compares(&self) -> bool {
        self.against.is_some() || self.postfix
    }

    /// Rounds.
    pub fn rounds(&self) -> u32 {
        if self.compares() { self.rounds.unwrap_or(ROUNDS) } else { 1 }
    }

    /// What the mail is like.
    pub fn shape(&self) -> Shape {
        Shape {
            mix: self.mix,
            recipients: self.recipients.into(),
            headers: self.headers.into(),
            header_bytes: self.header_bytes as usize,
            body: self.body as usize,
            list: self.list.clone(),
            domain: self.domain.clone(),
            client: self.client,
        }
    }

    /// One turn.
    pub fn load(&self) -> Load {
        let time = match (self.duration, self.postfix, self.compares()) {
            (Some(duration), ..) => duration,
            (None, true, _) => 2 * IN_TURNS,
            (None, false, true) => IN_TURNS,
            (None, false, false) => ALONE,
        };
        Load {
            connections: self.connections.into(),
            messages_per_session: self.session,
            rate: self.rate,
            end: self.messages.map_or(End::After(time), End::Messages),
        }
    }

    /// The peer that the filter sees.
    pub fn profile(&self) -> Profile {
        Profile::postfix_version(self.milter_protocol)
    }
}

fn address(text: &str) -> Result<Address, String> {
    Ok(match text.parse::<ListenAddress>()? {
        ListenAddress::Unix(path) => Address::Unix(path),
        ListenAddress::Inet { host, port } => Address::Tcp((host, port).into()),
    })
}

/// `30s`, `2m`, `500ms`, or a number of seconds. At most a day: nobody waits longer.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = || text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let friendly =
        || text.parse::<jiff::SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    let allowed = Duration::from_millis(1)..=Duration::from_secs(86_400);
    seconds()
        .or_else(friendly)
        .filter(|time| allowed.contains(time))
        .ok_or_else(|| "write a time from 1ms to 1d: `30s`, `2m`".to_owned())
}

/// At most ten million a second, which nothing reaches.
fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| (0.001..=1e7).contains(rate));
    rate.ok_or_else(|| "write a number of messages a second, from 0.001 to 10000000".to_owned())
}

fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio: &f64| (0.0..=1e6).contains(ratio));
    ratio.ok_or_else(|| "write a ratio, as in `0.8`".to_owned())
}

/// 254 bytes is the longest path of RFC 5321 (4.5.3.1.3), brackets apart.
fn mail_address(text: &str) -> Result<String, String> {
    let fine = text.len() <= 254 && text.contains('@') && is_plain(text);
    fine.then(|| text.to_owned()).ok_or_else(|| "write a mail address, without <>".to_owned())
}

fn domain(text: &str) -> Result<String, String> {
    let fine = !text.is_empty() && text.len() <= 200 && !text.contains('@') && is_plain(text);
    fine.then(|| text.to_owned()).ok_or_else(|| "write a domain, as in `example.org`".to_owned())
}

/// Nothing that could end an address, or look like the places for digits.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte > b' ' && byte != 0x7f && !b"<>,".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rates_and_addresses_are_read() {
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(duration("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "0", "-1s", "2d", "1e300", "nan", "inf", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert_eq!(rate("0.5"), Ok(0.5));
        for wrong in ["0", "-1", "nan", "inf", "1e9", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(mail_address("all@example.org").is_ok());
        for wrong in ["all", "<all@example.org>", "a b@c", "a\u{1}@c", ""] {
            assert!(mail_address(wrong).is_err(), "{wrong}");
        }
        assert_eq!("noop".parse(), Ok(Against::Noop(Bare::Data)));
        assert_eq!("unix:/x".parse(), Ok(Against::Filter(Address::Unix("/x".into()))));
        assert!("nop".parse::<Against>().is_err());
    }
}
