//! A storm's worth of held mail in a real Postfix: listed, released, counted. `cargo bench --bench quarantine`.
//!
//! Postfix's own log is the judge: every message that was taken is on hold or delivered once, and what was
//! released was taken up in the order in which it came. As root; about a minute for each 10,000 messages.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use becalm::clock::Stopwatch;
use becalm::postfix::Postfix;
use becalm::quarantine::client::Client;
use clap::Parser;

const ALL: &str = "all@example.org";

/// For anything that is about to happen.
const PATIENCE: Duration = Duration::from_secs(300);

/// Measures the hold queue at work.
#[derive(Parser)]
#[command(name = "quarantine", bin_name = "cargo bench --bench quarantine --")]
struct Options {
    /// Messages to hold.
    #[arg(long, default_value_t = 10_000)]
    messages: usize,
    /// Of these, messages to release.
    #[arg(long, default_value_t = 1_000)]
    release: usize,
    /// Passed by cargo bench. Without it (cargo test) nothing is measured.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if !options.bench {
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quarantine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// A process that ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn becalm(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_becalm"));
    command.current_dir(home).env_remove("LISTEN_FDS").stdin(Stdio::null());
    command
}

fn run(options: &Options) -> anyhow::Result<()> {
    let home = tempfile::tempdir()?;
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let config = home.path().join("becalm.toml");
    let folder = home.path().display();
    std::fs::write(
        &config,
        format!(
            "listen.sockets = ['unix:{folder}/becalm.sock']\nadmin.socket = '{folder}/admin.sock'\n\
             quarantine.helpers = ['{folder}/helper.sock']\nquarantine.max_count = 100_000\nquarantine.reconcile = '1s'\n\
             state.directory = '{folder}'\n[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\nmembers = 840_000\n"
        ),
    )?;
    let said = std::fs::File::create(home.path().join("log"))?;
    let _daemon =
        Process(becalm(home.path()).args(["run", "-c", "becalm.toml"]).stderr(said.try_clone()?).spawn()?);
    wait("the daemon", || home.path().join("admin.sock").exists())?;
    let postfix = Postfix::builder()
        .milter(format!("unix:{folder}/becalm.sock"))
        .default_action("tempfail")
        .set("queue_minfree", "0")
        .start()?;
    let watch = Stopwatch::start();
    let taken = fill(&postfix, options.messages)?;
    let held = postfix.hold_queue()?.len();
    println!("{} messages sent in {:.0} s, {held} on hold", taken.len(), watch.elapsed().as_secs_f64());

    let socket = home.path().join("helper.sock");
    let _helper = Process(
        becalm(home.path())
            .args(["helper", "--user", "root", "--key", "key", "--socket"])
            .arg(&socket)
            .arg("--config-dir")
            .arg(postfix.config_directory())
            .stderr(said)
            .spawn()?,
    );
    wait("the helper", || Client::connect(&socket).is_ok())?;
    let mut client = Client::connect(&socket)?;
    let watch = Stopwatch::start();
    let (listed, _) = client.list()?;
    println!("the helper lists {} in {:.2} s", listed.len(), watch.elapsed().as_secs_f64());
    drop(client);
    ensure!(listed.len() == held, "the helper's list is not what is on hold");
    let list = |format: &[&str]| -> anyhow::Result<Vec<u8>> {
        let watch = Stopwatch::start();
        let output =
            becalm(home.path()).args(["quarantine", "list", "-c", "becalm.toml"]).args(format).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (how, seconds) = (format.first().unwrap_or(&"as text"), watch.elapsed().as_secs_f64());
        println!("becalm quarantine list {how}: {} bytes in {seconds:.2} s", output.stdout.len());
        Ok(output.stdout)
    };
    list(&[])?;
    let known: serde_json::Value = serde_json::from_slice(&list(&["--json"])?)?;
    let known = known["messages"].as_array().context("no list of messages")?;
    ensure!(known.len() == held, "the daemon's list is not what is on hold");

    // The oldest are released, by their ids: what is on the command line has a bound.
    let ids = known.iter().take(options.release).filter_map(|item| item["queue_id"].as_str());
    let order: Vec<String> = ids.map(str::to_owned).collect();
    let watch = Stopwatch::start();
    for ids in order.chunks(500) {
        let output = becalm(home.path())
            .args(["quarantine", "release", "--yes", "-c", "becalm.toml"])
            .args(ids)
            .output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let seconds = watch.elapsed().as_secs_f64();
    println!("{} released in {seconds:.1} s: {:.0} messages/s", order.len(), order.len() as f64 / seconds);
    postfix.wait_until_idle(PATIENCE)?;
    judge(&postfix, &taken, &order)
}

/// Sends a storm. Returns the queue ids that Postfix gave.
fn fill(postfix: &Postfix, messages: usize) -> anyhow::Result<BTreeSet<String>> {
    const CLIENTS: usize = 4;
    let threads: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let mut smtp = postfix.client()?;
            Ok(std::thread::spawn(move || -> anyhow::Result<Vec<String>> {
                let mut ids = Vec::new();
                for n in (client..messages).step_by(CLIENTS) {
                    let author = format!("person{n}@example.org");
                    let text = format!(
                        "From: <{author}>\nSubject: Re: Test\nMessage-ID: <m{n}@example.org>\n\
                         In-Reply-To: <m0@example.org>\n\nPlease take me off this list.\n"
                    );
                    let reply = smtp.send(&author, &[ALL], &text)?;
                    ids.push(reply.queue_id().with_context(|| format!("not taken: {reply}"))?.to_owned());
                }
                Ok(ids)
            }))
        })
        .collect::<anyhow::Result<_>>()?;
    let mut taken = BTreeSet::new();
    for thread in threads {
        match thread.join() {
            Ok(ids) => taken.extend(ids?),
            Err(_) => bail!("a client panicked"),
        }
    }
    postfix.wait_until_idle(PATIENCE)?;
    Ok(taken)
}

/// What Postfix's log says.
fn judge(postfix: &Postfix, taken: &BTreeSet<String>, order: &[String]) -> anyhow::Result<()> {
    // The log is written by a process of its own.
    if let Some(last) = order.last() {
        postfix.wait_for_log(&format!("{last}: removed"), PATIENCE)?;
    }
    let mut delivered: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in postfix.delivered() {
        *delivered.entry(delivery.queue_id).or_default() += 1;
    }
    let held: BTreeSet<String> = postfix.hold_queue()?.into_iter().map(|message| message.queue_id).collect();
    let lost = taken.iter().filter(|id| !held.contains(*id) && !delivered.contains_key(*id)).count();
    let twice = delivered.iter().filter(|(id, times)| **times > 1 || held.contains(*id)).count();
    let wanted: BTreeSet<&String> = order.iter().collect();
    let log = postfix.log();
    let up: Vec<&str> = log
        .lines()
        .filter(|line| line.ends_with("(queue active)"))
        .filter_map(|line| line.split_once("]: ")?.1.split(':').next())
        .filter(|id| wanted.contains(&(*id).to_owned()))
        .collect();
    let in_order = up.iter().eq(order.iter());
    println!("{lost} lost, {twice} sent twice, in order: {in_order}");
    ensure!(lost == 0 && twice == 0 && in_order, "mail was lost, doubled or shuffled");
    Ok(())
}

fn wait(what: &str, ready: impl Fn() -> bool) -> anyhow::Result<()> {
    let watch = Stopwatch::start();
    while !ready() {
        ensure!(watch.elapsed() < PATIENCE, "{what} does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
