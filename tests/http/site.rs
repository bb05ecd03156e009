//! A daemon that serves no mail, and its HTTP side on a unix socket and on TCP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use becalm::admin::api::Selection;
use becalm::admin::backend::Backend;
use becalm::admin::http::{Allowed, Gate, Limits, Rules, Server};
use becalm::clock::{Clock, Stopwatch};
use becalm::config::Config;
use becalm::daemon::Daemon;
use becalm::quarantine::ledger::Held;
use becalm::time::Timestamp;
use tempfile::TempDir;
use tokio::sync::oneshot;

/// For anything that is about to happen; nothing waits for it unless it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A list that the daemon knows.
pub const ALL: &str = "all@example.org";

/// See the module.
pub struct Site {
    pub daemon: Arc<Daemon>,
    pub gate: Arc<Gate>,
    pub socket: PathBuf,
    pub tcp: SocketAddr,
    pub folder: TempDir,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Site {
    pub fn start(limits: Limits, rules: Rules) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "listen.sockets = ['unix:{0}/becalm.sock']\nlisten.group = ''\nlisten.threads = 1\n\
             quarantine.helpers = ['{0}/helper.sock']\nstate = {{ directory = '{0}', node = 'mx1' }}\n\
             journal.enabled = false\n\
             tables = {{ conversations = 1024, recipients = 1024, known_authors = 1024, message_ids = 1024 }}\n\
             [[list]]\naddress = '{ALL}'\nmembers = 12_000\nmode = 'hold'\n",
            folder.path().display()
        );
        let (config, _) =
            Config::parse("becalm.toml", &text).unwrap_or_else(|report| panic!("{}", report.render(false)));
        let (daemon, _listeners) = Daemon::start(config, None, Clock::system()).unwrap();
        for number in 0..30_u64 {
            daemon.shared.ledger.note(held(number));
        }
        let daemon = Arc::new(daemon);
        let gate = Arc::new(Gate::default());
        gate.set(rules);
        let socket = folder.path().join("admin.sock");
        let (end, ended) = oneshot::channel();
        let (ready, tcp) = std::sync::mpsc::channel();
        let thread = {
            let (daemon, gate, socket) = (Arc::clone(&daemon), Arc::clone(&gate), socket.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let mut server = Server::new(daemon, gate, limits);
                    let allowed = Allowed { users: Vec::new(), group: None };
                    server.serve_unix(tokio::net::UnixListener::bind(socket).unwrap(), allowed);
                    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                    ready.send(listener.local_addr().unwrap()).unwrap();
                    server.serve_tcp(listener);
                    let _ = ended.await;
                });
            })
        };
        let tcp = tcp.recv_timeout(PATIENCE).unwrap();
        Self { daemon, gate, socket, tcp, folder, end: Some(end), thread: Some(thread) }
    }

    pub fn unix(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.tcp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// What acts change, in words.
    pub fn state(&self) -> String {
        let all = Selection { limit: Some(5000), ..Selection::default() };
        let (storms, lists) = (self.daemon.shared.storms.list(), Backend::lists(&*self.daemon));
        let held = Backend::quarantine(&*self.daemon, &all).unwrap();
        format!("{:?} {:?} {:?} {:?}", storms, lists, held, self.daemon.shared.engine.is_observing())
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.end.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A held message.
pub fn held(number: u64) -> Held {
    Held {
        queue_id: format!("4fV1sQ2C8s{number}"),
        conversation: None,
        list: Some(ALL.to_owned()),
        author: Some(format!("person{number}@example.org")),
        reason: "storm",
        storm: None,
        copies: 12_000,
        // Several at one moment.
        since: Timestamp::from_millis(1_800_000_000_000 + number / 3),
        until: None,
        held: true,
        size: Some(2000),
        trouble: None,
    }
}

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    /// A header field's value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        fields
            .into_iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value.trim())
    }

    /// The code of a refusal.
    #[track_caller]
    pub fn code(&self) -> String {
        let value: serde_json::Value =
            serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        assert!(value["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        value["error"]["code"].as_str().unwrap().to_owned()
    }
}

/// Sends a request and reads its answer; of an event stream only the head.
pub fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> io::Result<Answer> {
    // A server that has answered already may have closed.
    let sent = stream.write_all(request);
    let answer = read_answer(stream, request.starts_with(b"HEAD "));
    if answer.is_err() {
        sent?;
    }
    answer
}

/// Reads one answer.
pub fn read_answer(stream: &mut impl Read, without_body: bool) -> io::Result<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, String::from_utf8_lossy(&head)));
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("no status line: {head}")))?;
    let mut answer = Answer { status, head, body: String::new() };
    let length = answer.header("content-length").to_owned();
    match length.parse() {
        Ok(length) if !without_body => {
            let mut body = vec![0; length];
            stream.read_exact(&mut body)?;
            answer.body = String::from_utf8(body).map_err(io::Error::other)?;
        }
        Ok(_) => {}
        Err(_) if answer.header("content-type") == "text/event-stream" => {}
        Err(_) => return Err(io::Error::other(format!("how long is it? {}", answer.head))),
    }
    Ok(answer)
}

/// Waits until `look` finds something; the test fails if that takes too long.
#[track_caller]
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let watch = Stopwatch::start();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(watch.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
