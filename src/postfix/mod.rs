//! A private Postfix on loopback, for demonstrations, benchmarks and tests.
//!
//! It has a configuration, a queue and a log of its own in a temporary directory, and shares only the programs
//! with the machine's Postfix. No service of it can send mail anywhere: there is no smtp(8) client in its
//! master.cf, and every transport is discard(8). It ends with the value that stands for it, and with the
//! process that started it, however that ends.

mod command;
mod instance;
pub mod queue;
pub mod smtp;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::clock::Stopwatch;
use command::{Programs, Said};
use instance::Keeper;
use queue::{Delivery, QueuedMessage};

/// For one of Postfix's commands. They take milliseconds; `postfix start` takes seconds on a busy machine.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// For the first answer of smtpd, which takes a tenth of a second.
const START_PATIENCE: Duration = Duration::from_secs(15);

/// On a machine under load, one start in some hundreds was seen to come up without any of its processes ever
/// answering or logging.
const START_ATTEMPTS: u32 = 3;

/// Between two looks at something that is about to happen.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A private Postfix could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// master(8) starts as root only.
    #[error("a private Postfix needs root: run as root or with sudo")]
    NotRoot,
    /// A program is missing.
    #[error("Postfix is not installed ({program} not found): apt-get install postfix")]
    NotInstalled {
        /// Its name.
        program: &'static str,
    },
    /// Too old for what is used here.
    #[error("Postfix {version} is too old: 3.4 or newer is needed, for a log file of its own")]
    TooOld {
        /// As `postconf mail_version` says.
        version: String,
    },
    /// A command of Postfix's failed.
    #[error("{command} failed: {output}")]
    Command {
        /// With its arguments.
        command: String,
        /// What it said, and the end of the log.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {patience:?}; the end of Postfix's log:\n{log}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        patience: Duration,
        /// The last lines of the log.
        log: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
}

/// What a private Postfix is made of; [`Builder::start`] starts it.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    milter: Option<String>,
    milter_settings: Vec<(String, String)>,
    settings: Vec<(String, String)>,
    smtpd: Vec<(String, String)>,
    services: Vec<String>,
    chroot: bool,
    non_smtpd: bool,
}

impl Builder {
    /// The milter that smtpd asks, as in `smtpd_milters`: `unix:/path` or `inet:host:port`. A relative path is
    /// below [`Postfix::queue_directory`].
    pub fn milter(mut self, address: impl Into<String>) -> Self {
        self.milter = Some(address.into());
        self
    }

    /// What becomes of mail when the milter fails: `accept`, `tempfail`, `reject`, `quarantine`.
    pub fn default_action(self, action: impl Into<String>) -> Self {
        self.milter_setting("default_action", action)
    }

    /// Another attribute of the milter: `connect_timeout`, `command_timeout`, `content_timeout`, `protocol`.
    pub fn milter_setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.milter_settings.push((name.into(), value.into()));
        self
    }

    /// Mail that is handed in with sendmail(1) goes through the milter too.
    pub fn non_smtpd(mut self) -> Self {
        self.non_smtpd = true;
        self
    }

    /// A parameter of main.cf. It wins over what is set here.
    pub fn set(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// A parameter of smtpd alone, as `-o name=value` in master.cf.
    pub fn smtpd(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.smtpd.push((name.into(), value.into()));
        self
    }

    /// A further line of master.cf.
    pub fn service(mut self, line: impl Into<String>) -> Self {
        self.services.push(line.into());
        self
    }

    /// smtpd runs in a chroot, as Debian ships it. The milter's socket must then be below the queue directory.
    pub fn chroot(mut self) -> Self {
        self.chroot = true;
        self
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Errors
    ///
    /// Without root, without Postfix, or when it does not start; the end of its log is in the error.
    pub fn start(&self) -> Result<Postfix, Error> {
        Postfix::start(self)
    }
}

/// A running private Postfix. It stops when this is dropped.
pub struct Postfix {
    programs: Programs,
    port: u16,
    // In the order in which they are to go.
    keeper: Keeper,
    home: TempDir,
}

impl Postfix {
    /// Says how it is to be.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(builder: &Builder) -> Result<Self, Error> {
        let mut attempt = 1;
        loop {
            let programs = Programs::find()?;
            let (home, port, keeper) = instance::start(&programs, builder)?;
            let postfix = Self { programs, port, keeper, home };
            match postfix.wait_for_smtpd() {
                Ok(()) => return Ok(postfix),
                Err(_) if attempt < START_ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn wait_for_smtpd(&self) -> Result<(), Error> {
        self.wait_until("the first answer of smtpd", START_PATIENCE, |postfix| {
            let greeting = smtp::Client::connect_within(postfix.address(), START_PATIENCE);
            // A refusal is an answer too: the milter may not be there yet.
            Ok(matches!(greeting, Ok(_) | Err(smtp::Error::Refused(_))).then_some(()))
        })
    }

    /// The port of smtpd on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where smtpd listens.
    pub fn address(&self) -> std::net::SocketAddr {
        (std::net::Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A client that has said EHLO.
    ///
    /// # Errors
    ///
    /// As [`smtp::Client::connect`] and [`smtp::Client::ehlo`].
    pub fn client(&self) -> Result<smtp::Client, smtp::Error> {
        let mut client = smtp::Client::connect(self.address())?;
        client.ehlo("client.example.org")?;
        Ok(client)
    }

    /// The directory with main.cf and master.cf, as for `postfix -c`.
    pub fn config_directory(&self) -> PathBuf {
        instance::config_directory(self.home.path())
    }

    /// Postfix's `queue_directory`.
    pub fn queue_directory(&self) -> PathBuf {
        instance::queue_directory(self.home.path())
    }

    /// The directory with everything in it; gone when this is dropped.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Everything in the queues.
    ///
    /// # Errors
    ///
    /// When postqueue(1) fails.
    pub fn queue(&self) -> Result<Vec<QueuedMessage>, Error> {
        Ok(queue::parse(&self.command("postqueue", &["-j"])?.out))
    }

    /// What is in one queue: `hold`, `active`, `deferred`, `incoming`, `maildrop`.
    ///
    /// # Errors
    ///
    /// As [`Postfix::queue`].
    pub fn in_queue(&self, name: &str) -> Result<Vec<QueuedMessage>, Error> {
        let mut messages = self.queue()?;
        messages.retain(|message| message.queue_name == name);
        Ok(messages)
    }

    /// What is on hold.
    ///
    /// # Errors
    ///
    /// As [`Postfix::queue`].
    pub fn hold_queue(&self) -> Result<Vec<QueuedMessage>, Error> {
        self.in_queue("hold")
    }

    /// Recipients that mail was delivered to (which means: discarded), from the log.
    pub fn delivered(&self) -> Vec<Delivery> {
        queue::deliveries(&self.log())
    }

    /// The log so far.
    pub fn log(&self) -> String {
        instance::log(self.home.path())
    }

    /// postsuper(1) with these arguments; returns what it said.
    ///
    /// # Errors
    ///
    /// When it fails. An unknown queue id is no failure to it.
    pub fn postsuper(&self, arguments: &[&str]) -> Result<String, Error> {
        // It says what it did on standard error.
        Ok(self.command("postsuper", arguments)?.err)
    }

    /// Takes a message out of the hold queue and has it delivered at once.
    ///
    /// # Errors
    ///
    /// When the commands fail. An unknown queue id is no failure to them.
    pub fn release(&self, queue_id: &str) -> Result<(), Error> {
        self.postsuper(&["-H", queue_id])?;
        self.command("postqueue", &["-i", queue_id]).map(drop)
    }

    /// A message in any queue, header and body as they would be delivered.
    ///
    /// # Errors
    ///
    /// When there is no such message.
    pub fn postcat(&self, queue_id: &str) -> Result<String, Error> {
        Ok(self.command("postcat", &["-bh", "-q", queue_id])?.out)
    }

    /// Hands a message in as a local user does.
    ///
    /// # Errors
    ///
    /// When sendmail(1) fails.
    pub fn sendmail(&self, sender: &str, recipients: &[&str], message: &str) -> Result<(), Error> {
        let directory = self.config_directory();
        let directory = directory.to_string_lossy();
        let mut arguments = vec!["-C", &*directory, "-i", "-f", sender, "--"];
        arguments.extend_from_slice(recipients);
        self.programs.run("sendmail", &arguments, Some(message.as_bytes()), &self.log_tail()).map(drop)
    }

    /// Waits until nothing is on its way: the maildrop, incoming and active queues are empty.
    ///
    /// # Errors
    ///
    /// When that takes longer than `patience`.
    pub fn wait_until_idle(&self, patience: Duration) -> Result<(), Error> {
        let mut empty = 0;
        self.wait_until("delivery", patience, |postfix| {
            let busy = postfix
                .queue()?
                .iter()
                .any(|message| matches!(message.queue_name.as_str(), "maildrop" | "incoming" | "active"));
            // A message that moves from one queue to the next while they are listed can be in neither list.
            empty = if busy { 0 } else { empty + 1 };
            Ok((empty == 2).then_some(()))
        })
    }

    /// Waits for a line of the log with this text in it, and returns the first.
    ///
    /// # Errors
    ///
    /// When none comes within `patience`.
    pub fn wait_for_log(&self, text: &str, patience: Duration) -> Result<String, Error> {
        self.wait_until(&format!("{text:?} in the log"), patience, |postfix| {
            Ok(postfix.log().lines().find(|line| line.contains(text)).map(str::to_owned))
        })
    }

    /// Waits until `look` finds something.
    ///
    /// # Errors
    ///
    /// When that takes longer than `patience`, or `look` fails.
    pub fn wait_until<T>(
        &self,
        what: &str,
        patience: Duration,
        mut look: impl FnMut(&Self) -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let watch = Stopwatch::start();
        loop {
            if let Some(found) = look(self)? {
                return Ok(found);
            }
            if watch.elapsed() > patience {
                let log = self.log_tail();
                return Err(Error::Timeout { what: what.to_owned(), patience, log });
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Stops it and removes all its files.
    pub fn stop(self) {
        drop(self);
    }

    fn command(&self, program: &'static str, arguments: &[&str]) -> Result<Said, Error> {
        let directory = self.config_directory();
        let directory = directory.to_string_lossy();
        let mut all = vec!["-c", &*directory];
        all.extend_from_slice(arguments);
        self.programs.run(program, &all, None, &self.log_tail())
    }

    fn log_tail(&self) -> String {
        instance::log_tail(self.home.path())
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        instance::stop(self.home.path());
        self.keeper.dismiss();
    }
}
