//! A becalm and a Postfix for each test, and the letters that go through them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use becalm::admin::api::{Lists, Reply as Answer, Request, Status, Storms};
use becalm::admin::client;
use becalm::clock::Stopwatch;
use becalm::postfix::smtp::{Client, Reply};
use becalm::postfix::{Builder, Postfix};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// For anything that is about to happen. Long, because tests run side by side on small machines; nothing waits
/// for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A list whose every message is dear: the second person who writes to it makes a storm.
pub const TOUCHY: &str = "members = 840_000\nfree = 1\nstorm_min = 2\n";

/// Waits until `look` finds something; the test fails if that takes too long.
#[track_caller]
pub fn wait_until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait(look).unwrap_or_else(|| panic!("not within {PATIENCE:?}: {what}"))
}

/// The same; nothing if it takes too long.
pub fn wait<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let watch = Stopwatch::start();
    loop {
        let found = look();
        if found.is_some() || watch.elapsed() >= PATIENCE {
            return found;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A directory that Postfix's user can look into.
pub fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    folder
}

/// A running `becalm run`.
pub struct Becalm {
    child: Child,
    log: Arc<Log>,
    home: Arc<TempDir>,
    config: String,
}

/// What it says on standard error.
#[derive(Default)]
pub struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    /// Nobody reads what it says until this is dropped.
    pub fn stop_reading(&self) -> impl Drop {
        self.locked()
    }

    fn lines(&self) -> Vec<String> {
        self.locked().clone()
    }

    /// A test that failed elsewhere still wants to see it.
    fn locked(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Becalm {
    /// Starts it and waits until it is ready. `config`: its becalm.toml, without sockets and folders; keys of
    /// `listen` are written as `listen.key = value` at the beginning.
    pub fn start(config: &str) -> Self {
        Self::start_in(Arc::new(open_folder()), config)
    }

    fn start_in(home: Arc<TempDir>, config: &str) -> Self {
        let sockets = format!("listen.sockets = ['unix:{}']\n", home.path().join("becalm.sock").display());
        Self::spawn(home, &format!("{sockets}{config}"), |program| program)
    }

    /// Starts another with the same files that takes over from this one, and waits until it is ready.
    pub fn take_over(&self) -> Self {
        self.take_over_with(|config| config.to_owned())
    }

    /// The same, with another configuration.
    pub fn take_over_with(&self, change: impl FnOnce(&str) -> String) -> Self {
        let config = change(self.own_config());
        Self::spawn(Arc::clone(&self.home), &config, |mut program| {
            program.arg("--takeover");
            program
        })
    }

    /// Starts another that takes over from this one, and does not wait for anything.
    pub fn begin_take_over(&self) -> Self {
        Self::launch(Arc::clone(&self.home), self.own_config(), |mut program| {
            program.arg("--takeover");
            program
        })
    }

    /// Without what every test has.
    fn own_config(&self) -> &str {
        self.config.split_once("state.node = 'mx1'\n").expect("as it was written").1
    }

    /// As [`Becalm::start`], with sockets that the configuration names (or none).
    pub fn start_on_own_sockets(config: &str, wrap: impl FnOnce(Command) -> Command) -> Self {
        Self::spawn(Arc::new(open_folder()), config, wrap)
    }

    fn spawn(home: Arc<TempDir>, config: &str, wrap: impl FnOnce(Command) -> Command) -> Self {
        let mut becalm = Self::launch(home, config, wrap);
        becalm.wait_until_ready();
        becalm
    }

    /// Waits until it answers where operators ask.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let admin = self.home.path().join("admin.sock");
        wait_until("becalm is ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("becalm ended: {status}\n{}", self.log().join("\n"));
            }
            match client::ask(&admin, &Request::Status {}) {
                // Another may answer that is about to be taken over.
                Ok(Answer::Status(status)) => (status.pid == self.child.id()).then_some(()),
                _ => None,
            }
        });
    }

    fn launch(home: Arc<TempDir>, config: &str, wrap: impl FnOnce(Command) -> Command) -> Self {
        let folder = home.path().to_owned();
        let common = format!(
            "admin.socket = '{0}/admin.sock'\nquarantine.helpers = ['{0}/helper.sock']\n\
             state.directory = '{0}'\nstate.node = 'mx1'\n",
            folder.display()
        );
        let config = format!("{common}{config}");
        std::fs::write(folder.join("becalm.toml"), &config).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_becalm"));
        program
            .args(["run", "--config"])
            .arg(folder.join("becalm.toml"))
            .env_remove("LISTEN_FDS")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        let mut child = wrap(program).stderr(Stdio::piped()).spawn().expect("becalm can be started");
        let log = Arc::new(Log::default());
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                writer.locked().push(line);
                writer.more.notify_all();
            }
        });
        Self { child, log, home, config }
    }

    /// Ends it by force, and starts another in its place, with the same files.
    pub fn restart(self) -> Self {
        let (home, config) = (Arc::clone(&self.home), self.own_config().to_owned());
        drop(self);
        Self::spawn(home, &config, |program| program)
    }

    /// As Postfix names its socket.
    pub fn milter(&self) -> String {
        format!("unix:{}", self.socket().display())
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.home.path().join("becalm.sock")
    }

    /// The folder with its files.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// Its log, to stop reading it.
    pub fn log_reader(&self) -> Arc<Log> {
        Arc::clone(&self.log)
    }

    /// What it said so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
    }

    /// Waits for a line with this text.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        self.wait_for_nth_log(text, 0)
    }

    /// Waits until more than `seen` lines have this text; returns the one after these.
    #[track_caller]
    pub fn wait_for_nth_log(&self, text: &str, seen: usize) -> String {
        let find = |lines: &Vec<String>| lines.iter().filter(|line| line.contains(text)).nth(seen).cloned();
        let waited =
            self.log.more.wait_timeout_while(self.log.locked(), PATIENCE, |lines| find(lines).is_none());
        let found = find(&waited.unwrap_or_else(PoisonError::into_inner).0);
        found.unwrap_or_else(|| panic!("becalm did not say {text:?}, but:\n{}", self.log().join("\n")))
    }

    /// Asks over the admin socket.
    #[track_caller]
    pub fn status(&self) -> Status {
        match client::ask(&self.home.path().join("admin.sock"), &Request::Status {}) {
            Ok(Answer::Status(status)) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// `becalm storms --json`.
    #[track_caller]
    pub fn storms(&self) -> Storms {
        match serde_json::from_str(&self.command(&["storms", "--json"])) {
            Ok(Answer::Storms(storms)) => storms,
            other => panic!("{other:?}"),
        }
    }

    /// `becalm lists --json`.
    #[track_caller]
    pub fn lists(&self) -> Lists {
        match serde_json::from_str(&self.command(&["lists", "--json"])) {
            Ok(Answer::Lists(lists)) => lists,
            other => panic!("{other:?}"),
        }
    }

    /// Another command of becalm's with this configuration; it must succeed. Returns its standard output.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> String {
        let output = self.try_command(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "becalm {arguments:?}: {}\n{out}{err}", output.status);
        out.into_owned()
    }

    /// Another command of becalm's with this configuration. One that does not end is ended (coreutils' timeout).
    #[track_caller]
    pub fn try_command(&self, arguments: &[&str]) -> Output {
        let output = Command::new("timeout")
            .arg(PATIENCE.as_secs().to_string())
            .arg(env!("CARGO_BIN_EXE_becalm"))
            .args(arguments)
            .arg("--config")
            .arg(self.home.path().join("becalm.toml"))
            .output()
            .expect("becalm can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() != Some(124), "becalm {arguments:?} did not end:\n{said}");
        output
    }

    /// Writes the configuration anew: `change` gets the one it was started with.
    pub fn rewrite(&self, change: impl FnOnce(&str) -> String) {
        std::fs::write(self.home.path().join("becalm.toml"), change(&self.config)).unwrap();
    }

    /// SIGHUP, and waits until it has read its files. True: they are in force.
    #[track_caller]
    pub fn reload(&self) -> bool {
        const TAKEN: &str = "configuration was read anew";
        const REFUSED: &str = "configuration was not taken over";
        let count = |text| self.log().iter().filter(|line| line.contains(text)).count();
        let (taken, refused) = (count(TAKEN), count(REFUSED));
        self.signal(Signal::HUP);
        wait_until("becalm reads its configuration", || match (count(TAKEN), count(REFUSED)) {
            (now, _) if now > taken => Some(true),
            (_, now) if now > refused => Some(false),
            _ => None,
        })
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("becalm runs");
    }

    /// Waits until it has ended, or until a SIGSTOP has reached all its threads.
    #[track_caller]
    pub fn wait_until_still(&mut self) {
        let tasks = format!("/proc/{}/task", self.child.id());
        wait_until("becalm stands still", || {
            if self.child.try_wait().unwrap().is_some() {
                return Some(());
            }
            let stopped = |task: std::fs::DirEntry| {
                // proc_pid_stat(5): the state follows the name in brackets.
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
            };
            std::fs::read_dir(&tasks).ok()?.flatten().all(stopped).then_some(())
        });
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Has it ended?
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end; true if it ended well.
    #[track_caller]
    pub fn wait(&mut self) -> bool {
        wait_until("becalm ends", || self.child.try_wait().unwrap()).success()
    }
}

impl Drop for Becalm {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("becalm's log:\n{}", self.log.lines().join("\n"));
        }
    }
}

/// A running `becalm helper`; it ends when this is dropped.
pub struct Helper {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Helper {
    /// For a Postfix, with the key of a becalm, in that becalm's folder. root may ask it.
    #[track_caller]
    pub fn start(postfix: &Postfix, becalm: &Becalm) -> Self {
        Self::start_as(postfix, becalm, "helper.sock", "root")
    }

    /// With a socket and a daemon's user of its own.
    #[track_caller]
    pub fn start_as(postfix: &Postfix, becalm: &Becalm, socket: &str, user: &str) -> Self {
        let log = becalm.home().join(socket).with_extension("log");
        let socket = becalm.home().join(socket);
        let said = std::fs::File::options().append(true).create(true).open(&log).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_becalm"))
            .args(["helper", "--user", user, "--config-dir"])
            .arg(postfix.config_directory())
            .arg("--socket")
            .arg(&socket)
            .arg("--key")
            .arg(becalm.home().join("key"))
            .env_remove("LISTEN_FDS")
            .stdin(Stdio::null())
            .stderr(said)
            .spawn()
            .expect("becalm can be started");
        wait_until("the helper listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the helper ended: {status}");
            }
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        Self { child, socket, log }
    }

    /// Its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Connects as root.
    #[track_caller]
    pub fn connect(&self) -> becalm::quarantine::client::Client {
        becalm::quarantine::client::Client::connect(&self.socket).unwrap_or_else(|error| panic!("{error}"))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the helper's log:\n{}", std::fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A Postfix with becalm behind it.
pub struct Site {
    /// Postfix; it goes first.
    pub postfix: Mta,
    /// becalm.
    pub becalm: Becalm,
    /// Where delivered mail ends up, a file for each message, named by its queue id.
    pub mailbox: Mailbox,
}

/// What became of the mail so far.
#[derive(Debug)]
pub struct Fates {
    /// Queue ids on hold.
    pub held: BTreeSet<String>,
    /// Queue id and recipient of what was delivered.
    pub delivered: BTreeSet<(String, String)>,
}

impl Fates {
    /// The recipients that a message was delivered to.
    pub fn recipients(&self, queue_id: &str) -> Vec<&str> {
        self.delivered.iter().filter(|(id, _)| id == queue_id).map(|(_, to)| to.as_str()).collect()
    }

    /// Was it delivered to somebody?
    pub fn is_delivered(&self, queue_id: &str) -> bool {
        !self.recipients(queue_id).is_empty()
    }
}

impl Site {
    /// With this becalm.toml; when becalm fails, Postfix says so to the client: 4xx.
    pub fn new(config: &str) -> Self {
        Self::with(config, |postfix| postfix.default_action("tempfail"))
    }

    /// With this becalm.toml and a Postfix that is built further.
    pub fn with(config: &str, build: impl FnOnce(Builder) -> Builder) -> Self {
        Self::around(Becalm::start(config), build)
    }

    /// Around a becalm that runs.
    pub fn around(becalm: Becalm, build: impl FnOnce(Builder) -> Builder) -> Self {
        let mailbox = Mailbox::new();
        let builder = Postfix::builder().milter(becalm.milter());
        let postfix = start(mailbox.serve(build(builder)));
        Self { postfix, becalm, mailbox }
    }

    /// With a becalm that was killed and started again, once what it knows is on the disk.
    pub fn restarted(self) -> Self {
        wait_until("the journal is written", || (self.becalm.status().journal.waiting == 0).then_some(()));
        let Self { postfix, becalm, mailbox } = self;
        Self { postfix, becalm: becalm.restart(), mailbox }
    }

    /// A client of Postfix's.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.postfix.client().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Sends a letter in a session of its own.
    #[track_caller]
    pub fn send(&self, letter: &Letter, recipients: &[&str]) -> Reply {
        let mut client = self.client();
        let reply = letter.send(&mut client, recipients);
        let _ = client.quit();
        reply
    }

    /// What became of all mail, once Postfix has nothing more to do.
    #[track_caller]
    pub fn fates(&self) -> Fates {
        fates(&self.postfix)
    }

    /// A delivered message, as its recipient got it.
    #[track_caller]
    pub fn delivered_text(&self, queue_id: &str) -> String {
        self.mailbox.read(queue_id)
    }
}

/// A private Postfix, whose log is seen when the test fails.
pub struct Mta(Postfix);

impl Deref for Mta {
    type Target = Postfix;

    fn deref(&self) -> &Postfix {
        &self.0
    }
}

impl Drop for Mta {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Postfix's log:\n{}", self.0.log());
        }
    }
}

/// Starts a Postfix.
#[track_caller]
pub fn start(builder: Builder) -> Mta {
    Mta(builder.start().unwrap_or_else(|error| panic!("{error}")))
}

/// What became of all mail, once Postfix has nothing more to do.
#[track_caller]
pub fn fates(postfix: &Postfix) -> Fates {
    postfix.wait_until_idle(PATIENCE).unwrap_or_else(|error| panic!("{error}"));
    // The log is written by a process of its own: what left the queue may not be in it yet.
    let queued = || -> BTreeSet<String> {
        let log = postfix.log();
        let ids = log.lines().filter_map(|line| line.split_once(": from=<")?.0.rsplit_once("]: "));
        ids.map(|(_, id)| id.to_owned()).collect()
    };
    let removed = |id: &String| postfix.log().contains(&format!("{id}: removed"));
    let waiting = postfix.queue().unwrap_or_else(|error| panic!("{error}"));
    wait_until("the log catches up", || {
        let mut ids = queued();
        ids.retain(|id| !waiting.iter().any(|message| message.queue_id == *id));
        ids.iter().all(removed).then_some(())
    });
    Fates {
        held: waiting.into_iter().filter(|m| m.queue_name == "hold").map(|m| m.queue_id).collect(),
        delivered: postfix.delivered().into_iter().map(|d| (d.queue_id, d.recipient)).collect(),
    }
}

/// Delivers mail into files.
pub struct Mailbox(TempDir);

impl Mailbox {
    /// An empty one.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
        let script = "umask 022; cat > \"$1/$2.$$\" && mv \"$1/$2.$$\" \"$1/$2\"\n";
        std::fs::write(folder.path().join("deliver.sh"), script).unwrap();
        Self(folder)
    }

    /// A Postfix that delivers there.
    pub fn serve(&self, builder: Builder) -> Builder {
        let folder = self.0.path().display();
        builder
            .service(format!(
                "file unix - n n - 10 pipe user=nobody argv=/bin/sh {folder}/deliver.sh {folder} ${{queue_id}}"
            ))
            .set("local_transport", "file:")
    }

    /// A message that was delivered.
    #[track_caller]
    pub fn read(&self, queue_id: &str) -> String {
        let path = self.0.path().join(queue_id);
        wait_until("the message is delivered", || std::fs::read_to_string(&path).ok())
    }
}

/// A message on its way to be sent.
#[derive(Clone, Debug)]
pub struct Letter {
    author: String,
    fields: Vec<String>,
}

impl Letter {
    /// By this author (also the envelope sender), with this id; it starts a conversation.
    pub fn new(author: &str, id: &str) -> Self {
        let fields = vec![
            format!("From: <{author}>"),
            "To: everybody:;".to_owned(),
            "Date: Mon, 14 Nov 2016 08:29:00 +0000".to_owned(),
            format!("Message-ID: <{id}@example.org>"),
        ];
        Self { author: author.to_owned(), fields }
    }

    /// Who wrote it.
    pub fn author(&self) -> &str {
        &self.author
    }

    /// It answers another.
    pub fn answers(self, id: &str) -> Self {
        self.field("Subject: Re: Test").field(&format!("In-Reply-To: <{id}@example.org>"))
    }

    /// With a further header field.
    pub fn field(mut self, field: &str) -> Self {
        self.fields.push(field.to_owned());
        self
    }

    /// As it is sent.
    pub fn text(&self) -> String {
        format!("{}\n\nPlease take me off this list.\n", self.fields.join("\n"))
    }

    /// Sends it.
    #[track_caller]
    pub fn send(&self, client: &mut Client, recipients: &[&str]) -> Reply {
        client.send(&self.author, recipients, &self.text()).unwrap_or_else(|error| panic!("{error}"))
    }
}

/// The author number `n`.
pub fn person(n: usize) -> String {
    format!("person{n}@example.org")
}

/// The queue id of a message that was taken.
#[track_caller]
pub fn queued(reply: &Reply) -> String {
    reply.queue_id().unwrap_or_else(|| panic!("not taken: {reply}")).to_owned()
}

/// Sends letters by as many people as it takes to make a storm on a [`TOUCHY`] list: one passes, one is
/// stopped. Returns the replies.
#[track_caller]
pub fn start_storm(site: &Site, list: &str) -> [Reply; 2] {
    let root = format!("root-{}", list.replace('@', "-"));
    let first = Letter::new(&person(900), &root);
    let second = Letter::new(&person(901), &format!("{root}-answer")).answers(&root);
    [site.send(&first, &[list]), site.send(&second, &[list])]
}

/// A line to a writer, flushed.
pub fn say(stream: &mut impl Write, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    stream.flush().unwrap();
}
