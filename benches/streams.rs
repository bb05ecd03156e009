//! What open dashboards cost ordinary mail: `cargo bench --bench streams`.
//!
//! ```text
//! generator (plays Postfix) ── milter ──▶ becalm, a process of its own ◀── event streams, scrapes ── audience
//! ```
//!
//! Turns with an audience and turns without alternate; each ratio is of two turns of one round. The audience is this
//! process: on a machine whose processors are all busy, what it costs to read is paid by the mail too.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use becalm::clock::Stopwatch;
use becalm::load::process::Process;
use becalm::load::spread::Spread;
use becalm::load::{Address, End, Generator, Load, Mix, Shape};
use becalm::milter::mta::Profile;

/// For becalm to start, and for the streams to open.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures becalm with open event streams, and without, in turns.
#[derive(Parser)]
#[command(name = "streams", bin_name = "cargo bench --bench streams --")]
struct Options {
    /// Event streams.
    #[arg(long, default_value_t = 1000)]
    streams: usize,
    /// Rounds; in each, one turn with them and one without.
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Length of a turn in milliseconds; the figures go out once a second.
    #[arg(long, default_value_t = 3000)]
    turn: u64,
    /// Milter connections.
    #[arg(long, default_value_t = 8)]
    connections: usize,
    /// Passed by cargo bench. Without it (cargo test) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        println!("nothing is measured without --bench: use cargo bench --bench streams");
        return ExitCode::SUCCESS;
    }
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What a turn came to.
struct Turn {
    rate: f64,
    /// becalm's processor time for a message, in seconds.
    cpu: f64,
}

fn measure(options: &Options) -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let filter = Filter::start(options.streams)?;
    let shape = Shape { mix: Mix::Ordinary, recipients: 1, ..Shape::default() };
    let address = Address::Unix(filter.folder.path().join("becalm.sock"));
    let generator =
        Generator::new(address, Profile::postfix(), &shape, PATIENCE, 1).map_err(io::Error::other)?;
    turn(&filter, &generator, options)?;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    let (mut heard, mut scrapes, mut memory) = (0, 0, (0, 0));
    for round in 0..options.rounds {
        for audience in [round % 2 == 0, round % 2 == 1] {
            if !audience {
                without.push(turn(&filter, &generator, options)?);
                continue;
            }
            memory.0 = filter.memory()?;
            let audience = Audience::gather(options.streams, &filter.admin())?;
            with.push(turn(&filter, &generator, options)?);
            memory.1 = filter.memory()?;
            heard += audience.heard.load(Ordering::Relaxed);
            scrapes += audience.scrapes.load(Ordering::Relaxed);
            audience.leave();
        }
    }
    let seconds = options.rounds as f64 * options.turn as f64 / 1000.0;
    let cores = std::thread::available_parallelism()?;
    println!(
        "{} rounds of {} ms a turn, {} milter connections; {cores} cores, which generator and audience share with becalm",
        options.rounds, options.turn, options.connections
    );
    let rates = |turns: &[Turn]| Spread::of(turns.iter().map(|turn| turn.rate));
    let cpus = |turns: &[Turn]| Spread::of(turns.iter().map(|turn| turn.cpu * 1e6));
    let show = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| spread.to_string());
    println!("ordinary mail, messages/s      without {}", show(rates(&without)));
    println!("                               with    {}", show(rates(&with)));
    println!("becalm's CPU a message, us     without {}", show(cpus(&without)));
    println!("                               with    {}", show(cpus(&with)));
    println!(
        "each of {} streams heard {:.1} events/s; {scrapes} scrapes in {seconds:.0} s; {:.0} KiB a stream",
        options.streams,
        heard as f64 / options.streams as f64 / seconds,
        (memory.1 as f64 - memory.0 as f64) / 1024.0 / options.streams as f64,
    );
    let ratio = Spread::of_ratios(with.iter().zip(&without).map(|(with, without)| (with.rate, without.rate)));
    let cpu = Spread::of_ratios(with.iter().zip(&without).map(|(with, without)| (with.cpu, without.cpu)));
    println!("with by without: messages/s {}, CPU a message {}", show(ratio), show(cpu));
    let met = ratio.is_some_and(|ratio| ratio.median >= 0.95);
    println!("{}: messages/s at least 0.95", if met { "met" } else { "MISSED" });
    Ok(())
}

fn turn(filter: &Filter, generator: &Generator, options: &Options) -> io::Result<Turn> {
    let before = filter.cpu()?;
    let load = Load {
        connections: options.connections,
        messages_per_session: 100,
        rate: None,
        end: End::After(Duration::from_millis(options.turn)),
    };
    let (outcome, failure) = generator.run(load, |_, _| {});
    if let Some(error) = failure {
        return Err(io::Error::other(error.to_string()));
    }
    let cpu = filter.cpu()?.saturating_sub(before).as_secs_f64();
    Ok(Turn { rate: outcome.rate(), cpu: cpu / outcome.messages.max(1) as f64 })
}

/// A becalm that is ended when this is dropped.
struct Filter {
    child: Child,
    folder: tempfile::TempDir,
}

impl Filter {
    fn start(streams: usize) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let config = folder.path().join("becalm.toml");
        let path = folder.path().display();
        let text = format!(
            "listen.sockets = ['unix:{path}/becalm.sock']\nlisten.group = ''\nadmin.socket = '{path}/admin.sock'\n\
             admin.http.max_streams = {}\nstate.directory = '{path}'\nquarantine.helpers = []\n\
             [[list]]\naddress = 'everybody@example.org'\nmembers = 840_000\nmode = 'hold'\n",
            // Those of the turn before may still be about to end.
            streams.saturating_mul(2).clamp(1, 10_000)
        );
        fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_becalm"));
        let log = fs::File::create(folder.path().join("log"))?;
        let child =
            command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stderr(log).spawn()?;
        let mut filter = Self { child, folder };
        let watch = Stopwatch::start();
        while std::os::unix::net::UnixStream::connect(filter.folder.path().join("becalm.sock")).is_err() {
            if filter.child.try_wait()?.is_some() || watch.elapsed() > PATIENCE {
                let log = fs::read_to_string(filter.folder.path().join("log"))?;
                return Err(io::Error::other(format!("becalm does not run:\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(filter)
    }

    fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn cpu(&self) -> io::Result<Duration> {
        self.process().and_then(Process::cpu).ok_or_else(|| io::Error::other("becalm has ended"))
    }

    /// Bytes that it occupies.
    fn memory(&self) -> io::Result<u64> {
        let memory = self.process().and_then(Process::memory);
        memory.map(|memory| memory.resident).ok_or_else(|| io::Error::other("becalm has ended"))
    }

    fn process(&self) -> Option<Process> {
        Process::new(self.child.id())
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Readers of event streams, and one that scrapes.
struct Audience {
    heard: Arc<AtomicU64>,
    scrapes: Arc<AtomicU64>,
    leave: oneshot::Sender<()>,
    thread: std::thread::JoinHandle<()>,
}

impl Audience {
    /// Returns when all streams are open.
    fn gather(streams: usize, socket: &Path) -> io::Result<Self> {
        let (heard, scrapes) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let open = Arc::new(AtomicUsize::new(0));
        let (leave, left) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        for number in 0..streams {
            let (socket, heard, open) = (socket.to_owned(), Arc::clone(&heard), Arc::clone(&open));
            runtime.spawn(async move {
                // The kernel's queue of connections that wait is short.
                tokio::time::sleep(Duration::from_millis(number as u64 / 8)).await;
                // Where all come at once, some are told to come again.
                while !follow(&socket, &heard, &open).await {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            });
        }
        let (path, count) = (socket.to_owned(), Arc::clone(&scrapes));
        runtime.spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs(1));
            loop {
                beat.tick().await;
                if scrape(&path).await.is_ok_and(|length| length > 0) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let thread = std::thread::spawn(move || {
            let _ = runtime.block_on(left);
        });
        let watch = Stopwatch::start();
        while open.load(Ordering::Relaxed) < streams {
            if watch.elapsed() > PATIENCE {
                let open = open.load(Ordering::Relaxed);
                return Err(io::Error::other(format!("only {open} of {streams} streams could be opened")));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self { heard, scrapes, leave, thread })
    }

    fn leave(self) {
        let _ = self.leave.send(());
        let _ = self.thread.join();
    }
}

/// Whether it had begun when it ended.
async fn follow(socket: &Path, heard: &AtomicU64, open: &AtomicUsize) -> bool {
    let Ok(mut stream) = UnixStream::connect(socket).await else { return false };
    // One that is turned away may find the connection closed before it has asked.
    let _ = stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut begun = false;
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line.starts_with("retry:") {
            begun = true;
            open.fetch_add(1, Ordering::Relaxed);
        } else if line.starts_with("event:") {
            heard.fetch_add(1, Ordering::Relaxed);
        }
    }
    begun
}

/// Bytes of an answer that is fine.
async fn scrape(socket: &Path) -> io::Result<usize> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(if text.starts_with("HTTP/1.1 200 ") { text.len() } else { 0 })
}
