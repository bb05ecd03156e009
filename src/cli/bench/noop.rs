//! The filter that does nothing: this program, started again, so that what it costs can be told from the load.

use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum as _};

use crate::clock::Stopwatch;
use crate::load::Address;
use crate::load::bare::{self, Bare, Listener, Runtime};

/// It listens within milliseconds, on a machine that is not overloaded.
const START: Duration = Duration::from_secs(20);

/// Serves until standard input ends.
#[derive(Args, Debug)]
pub struct NoopArgs {
    /// What it does.
    #[arg(long)]
    does: Bare,
    /// A folder of its own, for its socket.
    #[arg(long)]
    folder: PathBuf,
    /// Listens on loopback TCP instead, and writes the port into the folder.
    #[arg(long)]
    tcp: bool,
}

/// Serves; ends with the process that started it, however that ends.
pub fn serve(args: &NoopArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder.clone();
    std::thread::spawn(move || {
        // Nothing is ever written there: it ends when the other side is gone.
        let _ = std::io::stdin().read(&mut [0]);
        // An interrupted benchmark leaves them behind.
        let _ = std::fs::remove_file(socket(&folder));
        let _ = std::fs::remove_file(port_file(&folder));
        let _ = std::fs::remove_dir(&folder);
        std::process::exit(0);
    });
    let served = listen(args).and_then(|listener| bare::serve(args.does, Runtime::PerThread, listener));
    match served.context("the filter that does nothing")? {}
}

fn listen(args: &NoopArgs) -> std::io::Result<Listener> {
    if !args.tcp {
        return UnixListener::bind(socket(&args.folder)).map(Listener::Unix);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    std::fs::write(port_file(&args.folder), format!("{}\n", listener.local_addr()?.port()))?;
    Ok(Listener::Tcp(listener))
}

fn socket(folder: &Path) -> PathBuf {
    folder.join("noop.sock")
}

fn port_file(folder: &Path) -> PathBuf {
    folder.join("noop.port")
}

/// Where it listens; none as long as it does not.
fn listens(folder: &Path, tcp: bool) -> Option<Address> {
    let socket = socket(folder);
    if !tcp {
        return UnixStream::connect(&socket).is_ok().then_some(Address::Unix(socket));
    }
    // It may be there, and not yet be written.
    let port: u16 = std::fs::read_to_string(port_file(folder)).ok()?.strip_suffix('\n')?.parse().ok()?;
    Some(Address::Tcp((Ipv4Addr::LOCALHOST, port).into()))
}

/// A running one. It ends when this is dropped.
pub struct Noop {
    running: Running,
    address: Address,
    #[expect(dead_code, reason = "it is removed when this is dropped")]
    folder: tempfile::TempDir,
}

impl Noop {
    /// Starts it and waits until it listens: by the transport of the filter that it is compared with.
    pub fn start(does: Bare, beside: &Address) -> anyhow::Result<Self> {
        let tcp = matches!(beside, Address::Tcp(_));
        let folder = tempfile::Builder::new()
            .prefix("becalm-bench-")
            .tempdir()
            .context("cannot make a folder for the filter that does nothing")?;
        let does = does.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let child = Command::new("/proc/self/exe")
            .arg0("becalm")
            .args(["bench-noop", "--does", &does, "--folder"])
            .arg(folder.path())
            .args(tcp.then_some("--tcp"))
            // A Ctrl-C is for the benchmark; this one ends with it, and tidies up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the filter that does nothing")?;
        let mut running = Running(child);
        let watch = Stopwatch::start();
        let address = loop {
            if let Some(address) = listens(folder.path(), tcp) {
                break address;
            }
            if let Some(status) = running.0.try_wait()? {
                bail!("the filter that does nothing ended: {status}");
            }
            if watch.elapsed() > START {
                bail!("the filter that does nothing does not listen within {START:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Ok(Self { running, address, folder })
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its process, which TCP does not tell.
    pub fn pid(&self) -> u32 {
        self.running.0.id()
    }
}

/// It ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing it must save.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
