//! The filters under load: each a process of its own, so that its time and memory can be told from ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;

use becalm::load::Address;
use becalm::load::bare::{Bare, Runtime};
use becalm::load::process::{Memory, Process};

use super::STORM_LIST;

/// Messages that becalm may hold, the most that can be set: what it holds is measured, not what it refuses when the
/// quarantine is full.
const HELD: u32 = 100_000;

/// Lists in becalm's directory beside the one that storms: the look-up is a real one.
const LISTS: usize = 1_000;

/// How long a filter may take until it listens.
const START: Duration = Duration::from_secs(20);

/// Which filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Judges nothing.
    Bare(Bare, Runtime),
    /// becalm, as it is shipped, apart from `watch.many_recipients`.
    Becalm {
        /// None: the default.
        many_recipients: Option<u32>,
    },
    /// libmilter's C, with callbacks that do nothing.
    Libmilter,
}

impl Which {
    /// For the table.
    pub fn name(self) -> String {
        match self {
            Self::Bare(bare, runtime) => {
                let does = match bare {
                    Bare::Data => "accepts at DATA",
                    Bare::Headers => "reads headers, accepts",
                    Bare::Hold => "reads headers, holds",
                };
                let threads = match runtime {
                    Runtime::Shared => "multi-thread",
                    Runtime::PerThread => "thread-local",
                };
                format!("bare tokio ({threads}): {does}")
            }
            Self::Becalm { many_recipients: None } => "becalm".to_owned(),
            Self::Becalm { many_recipients: Some(many) } => format!("becalm, many_recipients = {many}"),
            Self::Libmilter => "libmilter (C): no-op".to_owned(),
        }
    }
}

/// Where the filters' sockets and files are, and the no-op if there is one.
pub struct Workshop {
    folder: tempfile::TempDir,
    noop: Result<PathBuf, String>,
}

impl Workshop {
    /// Compiles the no-op.
    pub fn open() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let noop = compile_noop(folder.path());
        Ok(Self { folder, noop })
    }

    /// Why there is no libmilter to compare with.
    pub fn without_libmilter(&self) -> Option<&str> {
        self.noop.as_ref().err().map(String::as_str)
    }

    /// Starts a filter and waits until it listens.
    pub fn start(&self, which: Which) -> io::Result<Running> {
        let folder = tempfile::tempdir_in(self.folder.path())?;
        let socket = folder.path().join("socket");
        let mut command = match which {
            Which::Bare(bare, runtime) => bare_command(bare, runtime, &socket)?,
            Which::Becalm { many_recipients } => {
                let config = folder.path().join("becalm.toml");
                fs::write(&config, becalm_toml(folder.path(), &socket, many_recipients))?;
                let mut command = Command::new(env!("CARGO_BIN_EXE_becalm"));
                command.arg("run").arg("--config").arg(config);
                command
            }
            Which::Libmilter => {
                let mut command =
                    Command::new(self.noop.as_ref().map_err(|why| io::Error::other(why.as_str()))?);
                command.arg(&socket);
                command
            }
        };
        let log = folder.path().join("log");
        let output = fs::File::create(&log)?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(output).spawn()?;
        let mut running =
            Running { which, child, address: Address::Unix(socket.clone()), socket, log, _folder: folder };
        running.wait_until_it_listens()?;
        Ok(running)
    }
}

fn compile_noop(folder: &Path) -> Result<PathBuf, String> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/load/noop.c");
    let noop = folder.join("noop");
    let compiled =
        Command::new("cc").args(["-O2", source, "-o"]).arg(&noop).args(["-lmilter", "-lpthread"]).output();
    match compiled {
        Ok(output) if output.status.success() => Ok(noop),
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            Err(format!("cc: {}", errors.lines().next().unwrap_or("failed")))
        }
        Err(error) => Err(format!("cc: {error}")),
    }
}

fn bare_command(bare: Bare, runtime: Runtime, socket: &Path) -> io::Result<Command> {
    let argument = |value: clap::builder::PossibleValue| value.get_name().to_owned();
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--serve").args(bare.to_possible_value().map(argument));
    command.arg("--runtime").args(runtime.to_possible_value().map(argument));
    command.arg("--socket").arg(socket);
    Ok(command)
}

fn becalm_toml(folder: &Path, socket: &Path, many_recipients: Option<u32>) -> String {
    let folder = folder.display();
    let mut text = format!(
        "[listen]\nsockets = [\"unix:{}\"]\ngroup = \"\"\n\
         [admin]\nsocket = \"{folder}/admin.sock\"\n\
         [state]\ndirectory = \"{folder}\"\n\
         [quarantine]\nmax_count = {HELD}\nmax_bytes = 1_000_000_000_000\n\
         [[list]]\naddress = \"{STORM_LIST}\"\nmembers = 840_000\nmode = \"hold\"\n",
        socket.display()
    );
    for number in 0..LISTS {
        text.push_str(&format!("[[list]]\naddress = \"team-{number:04}@example.org\"\nmembers = 300\n"));
    }
    if let Some(many) = many_recipients {
        text.push_str(&format!("[watch]\nmany_recipients = {many}\n"));
    }
    text
}

/// A filter that listens. Dropping it ends it.
pub struct Running {
    /// Which one.
    pub which: Which,
    /// Where it listens.
    pub address: Address,
    socket: PathBuf,
    child: Child,
    log: PathBuf,
    _folder: tempfile::TempDir,
}

impl Running {
    /// The processor time that the filter has used, its system calls included.
    pub fn cpu(&self) -> io::Result<Duration> {
        self.process().and_then(Process::cpu).ok_or_else(|| self.has_ended())
    }

    /// What it occupies.
    pub fn memory(&self) -> io::Result<Memory> {
        self.process().and_then(Process::memory).ok_or_else(|| self.has_ended())
    }

    fn process(&self) -> Option<Process> {
        Process::new(self.child.id())
    }

    fn has_ended(&self) -> io::Error {
        io::Error::other(format!("{} has ended:\n{}", self.which.name(), self.last_words()))
    }

    /// The last lines it wrote.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }

    fn wait_until_it_listens(&mut self) -> io::Result<()> {
        let watch = becalm::clock::Stopwatch::start();
        while std::os::unix::net::UnixStream::connect(&self.socket).is_err() {
            if let Some(status) = self.child.try_wait()? {
                let name = self.which.name();
                return Err(io::Error::other(format!("{name} ended with {status}:\n{}", self.last_words())));
            }
            if watch.elapsed() > START {
                return Err(io::Error::other(format!("{} does not listen", self.which.name())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing it must save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
