//! The filter that does nothing: this program, started again, so that what it costs can be told from the load.

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum as _};

use crate::clock::Stopwatch;
use crate::load::Address;
use crate::load::bare::{self, Bare, Runtime};

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
}

/// Serves; ends with the process that started it, however that ends.
pub fn serve(args: &NoopArgs) -> anyhow::Result<ExitCode> {
    let folder = args.folder.clone();
    std::thread::spawn(move || {
        // Nothing is ever written there: it ends when the other side is gone.
        let _ = std::io::stdin().read(&mut [0]);
        // An interrupted benchmark leaves them behind.
        let _ = std::fs::remove_file(socket(&folder));
        let _ = std::fs::remove_dir(&folder);
        std::process::exit(0);
    });
    let served = bare::serve(args.does, Runtime::PerThread, &socket(&args.folder));
    match served.context("the filter that does nothing")? {}
}

fn socket(folder: &std::path::Path) -> PathBuf {
    folder.join("noop.sock")
}

/// A running one. It ends when this is dropped.
pub struct Noop {
    child: Child,
    folder: tempfile::TempDir,
}

impl Noop {
    /// Starts it and waits until it listens.
    pub fn start(does: Bare) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("becalm-bench-")
            .tempdir()
            .context("cannot make a folder for the filter that does nothing")?;
        let does = does.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let child = Command::new("/proc/self/exe")
            .arg0("becalm")
            .args(["bench-noop", "--does", &does, "--folder"])
            .arg(folder.path())
            // A Ctrl-C is for the benchmark; this one ends with it, and tidies up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the filter that does nothing")?;
        let mut noop = Self { child, folder };
        let watch = Stopwatch::start();
        while UnixStream::connect(socket(noop.folder.path())).is_err() {
            if let Some(status) = noop.child.try_wait()? {
                bail!("the filter that does nothing ended: {status}");
            }
            if watch.elapsed() > START {
                bail!("the filter that does nothing does not listen within {START:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(noop)
    }

    /// Where it listens.
    pub fn address(&self) -> Address {
        Address::Unix(socket(self.folder.path()))
    }
}

impl Drop for Noop {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing it must save.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
