//! Requests to the helper that nobody should make: each is refused with a reason, the helper does not grow, nothing moves
//! in the queue, and a good request is still carried out. The short form runs with the tests, the long one is
//! `cargo bench --bench soak -- hostile 1000000`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use becalm::clock::Stopwatch;
use becalm::quarantine::client::{Client, ClientError};
use becalm::quarantine::protocol::{Reason, Reply, Request};
use becalm::quarantine::queue_id::QueueId;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::harness::{Helper, Letter, Site, TOUCHY, person, queued, start_storm};

const ALL: &str = "all@example.org";
const FRIEND: &str = "friend@example.org";

/// Neither root nor the daemon's user.
const STRANGER: u32 = 65_533;

/// By how much the helper may grow, in KiB, however many ask: its buffers and the allocator's habits, a few threads'
/// stacks. A leak of one byte a request is as much in the long form.
pub const MOST_GROWTH_KIB: u64 = 1024;

/// One in so many requests comes by a connection of its own, which costs more than a line on one that is open.
const NEW_CONNECTIONS: u64 = 100;

/// What came of it.
#[derive(Debug, Default)]
pub struct Hostile {
    /// Refusals, by reason.
    pub refused: BTreeMap<String, u64>,
    /// VmRSS of the helper, in KiB: when it had seen each kind of request, and after all of them.
    pub memory_kib: [u64; 2],
    /// How long it took.
    pub took: Duration,
}

/// Asks so many times.
///
/// # Panics
/// Where anything is done, a request is not refused, or the helper grows.
pub fn hostile(times: usize, seed: u64) -> Hostile {
    let config = format!("[verdict]\nmode = 'hold'\n[[list]]\naddress = '{ALL}'\n{TOUCHY}");
    let access = format!("inline:{{{FRIEND}=HOLD}}");
    let site = Site::with(&config, |postfix| {
        let restrictions = format!("check_recipient_access {access}, permit_mynetworks, reject");
        postfix.default_action("tempfail").set("smtpd_recipient_restrictions", restrictions)
    });
    let ours = queued(&start_storm(&site, ALL)[1]);
    let text = site.postfix.postcat(&ours).unwrap();
    let mark = text.lines().find(|line| line.starts_with("X-Becalm: ")).unwrap().to_owned();
    let plain = queued(&site.send(&Letter::new(&person(20), "plain"), &[FRIEND]));
    let copied = queued(&site.send(&Letter::new(&person(21), "copied").field(&mark), &[FRIEND]));
    let before = site.fates().held;
    assert_eq!(before.len(), 3);
    let helper = Helper::start_as(&site.postfix, &site.becalm, "helper.sock", "nobody");
    std::fs::set_permissions(helper.socket(), PermissionsExt::from_mode(0o666)).unwrap();

    let mut asker = Asker { helper: &helper, line: None, plain, copied, done: Hostile::default() };
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Whatever it keeps for each kind of request is there by then.
    let first = times / 10;
    let watch = Stopwatch::start();
    (0..first).for_each(|_| asker.ask(&mut random));
    let begun = memory(&helper);
    (first..times).for_each(|_| asker.ask(&mut random));
    asker.line = None;
    let mut done = asker.done;
    done.memory_kib = [begun, memory(&helper)];
    done.took = watch.elapsed();
    let [begun, ended] = done.memory_kib;
    assert!(ended <= begun + MOST_GROWTH_KIB, "from {begun} KiB to {ended} KiB");
    let refused: u64 = done.refused.values().sum();
    assert_eq!(refused, times as u64, "{done:?}");

    assert_eq!(site.fates().held, before, "nothing has moved");
    let id = QueueId::parse(&ours).unwrap();
    helper.connect().act(&Request::Release(id)).unwrap_or_else(|error| panic!("a good request: {error}"));
    assert!(site.delivered_text(&ours).contains("reason=storm"));
    done
}

/// Who asks.
struct Asker<'h> {
    helper: &'h Helper,
    /// An open connection.
    line: Option<BufReader<UnixStream>>,
    /// Mail on hold that is not becalm's: without a mark, and with one of another message.
    plain: String,
    copied: String,
    done: Hostile,
}

impl Asker<'_> {
    fn ask(&mut self, random: &mut impl Rng) {
        if random.random_range(0..NEW_CONNECTIONS) == 0 {
            return self.ask_by_a_new_connection(random);
        }
        let verb = ["release", "return", "hold", "expire"][random.random_range(0..4)];
        let age = if verb == "expire" { ",\"older_than_s\":0" } else { "" };
        let about = |id: &str| format!("{{\"v\":1,\"verb\":\"{verb}\",\"id\":\"{id}\"{age}}}").into_bytes();
        // On hold, these are found by all but `hold`.
        let not_held = |reason| if verb == "hold" { Reason::NotFound } else { reason };
        let (line, expected) = match random.random_range(0..8) {
            0 => {
                (about(["ALL", "-", "../../etc/shadow", "", "a b"][random.random_range(0..5)]), Reason::BadId)
            }
            1 => (about("9C0D1E2F3A"), Reason::ShortId),
            2 => (about(&format!("4jXc4x{}z1XDct", random.random_range(1000..9999))), Reason::NotFound),
            3 => (about(&self.plain), not_held(Reason::NotOurs)),
            4 => (about(&self.copied), not_held(Reason::Forged)),
            5 => (
                format!("{{\"v\":{},\"verb\":\"list\"}}", random.random_range(2..9)).into_bytes(),
                Reason::Version,
            ),
            6 => (
                about(&self.plain).into_iter().take(random.random_range(0..20)).collect(),
                Reason::BadRequest,
            ),
            _ => {
                let bytes = (0..random.random_range(0..400)).map(|_| random.random::<u8>());
                (bytes.filter(|byte| *byte != b'\n').collect(), Reason::BadRequest)
            }
        };
        let stream = self.line.get_or_insert_with(|| open(self.helper));
        stream.get_mut().write_all(&[&line[..], b"\n"].concat()).unwrap();
        let reply = hear(stream);
        self.note(reply, expected);
    }

    fn ask_by_a_new_connection(&mut self, random: &mut impl Rng) {
        match random.random_range(0..3) {
            // The wrong user.
            0 => match as_user(STRANGER, || Client::connect(self.helper.socket()).err()) {
                Some(ClientError::Refused(refusal)) => self.note(Reply::Refused(refusal), Reason::Peer),
                other => panic!("{other:?}"),
            },
            // A line that does not end.
            1 => {
                let mut stream = open(self.helper);
                stream.get_mut().write_all(&[b'{'; 600]).unwrap();
                let reply = hear(&mut stream);
                self.note(reply, Reason::BadRequest);
            }
            // Half a request.
            _ => {
                let mut stream = open(self.helper);
                stream.get_mut().write_all(b"{\"v\":1,\"verb\":\"rel").unwrap();
                stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
                let reply = hear(&mut stream);
                self.note(reply, Reason::BadRequest);
            }
        }
    }

    #[track_caller]
    fn note(&mut self, reply: Reply, expected: Reason) {
        let Reply::Refused(refusal) = reply else { panic!("{reply:?}") };
        assert_eq!(refusal.reason, expected, "{refusal}");
        assert!(!refusal.message.is_empty());
        *self.done.refused.entry(format!("{expected:?}")).or_default() += 1;
    }
}

/// A connection on which the helper has said hello. Those that were closed a moment ago may still count.
fn open(helper: &Helper) -> BufReader<UnixStream> {
    crate::harness::wait_until("a place at the helper", || {
        let mut stream = BufReader::new(UnixStream::connect(helper.socket()).unwrap());
        match hear(&mut stream) {
            Reply::Hello(_) => Some(stream),
            Reply::Refused(refusal) if refusal.reason == Reason::Busy => None,
            other => panic!("{other:?}"),
        }
    })
}

#[track_caller]
fn hear(stream: &mut BufReader<UnixStream>) -> Reply {
    let mut reply = String::new();
    stream.read_line(&mut reply).unwrap();
    serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{error}: {reply:?}"))
}

/// Runs something in a thread that belongs to another user.
pub fn as_user<T: Send>(user: u32, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let user = rustix::process::Uid::from_raw(user);
            rustix::thread::set_thread_res_uid(user, user, user).expect("root may");
            run()
        });
        thread.join().expect("it does not panic")
    })
}

/// What the helper takes of memory, in KiB.
fn memory(helper: &Helper) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", helper.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn twenty_thousand_hostile_requests() {
    let done = hostile(20_000, 7);
    for reason in ["BadId", "ShortId", "NotFound", "NotOurs", "Forged", "Version", "BadRequest", "Peer"] {
        assert!(done.refused.contains_key(reason), "{reason}: {done:?}");
    }
}
