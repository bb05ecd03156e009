//! Events as journald takes them (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! Not by the crate `tracing-journald`: it sends from the thread where the event is, and waits there for a journald
//! that hangs.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::queue::Queue;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// What sends entries to journald, if it is there.
pub(super) fn connect(path: &Path) -> io::Result<impl FnMut(&[u8]) -> io::Result<()> + use<>> {
    let socket = UnixDatagram::unbound()?;
    // An empty one means nothing to journald.
    socket.send_to(&[], path)?;
    let path = path.to_owned();
    // By its path each time: after a restart another socket may be there.
    Ok(move |entry: &[u8]| socket.send_to(entry, &path).map(drop))
}

/// Sends every event to journald: its fields as `BECALM_NAME`.
pub(super) struct Journald(pub(super) Arc<Queue>);

impl<S: Subscriber> Layer<S> for Journald {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut entry = entry(*event.metadata().level(), &(fields.message + &fields.text));
        put(&mut entry, "TARGET", event.metadata().target());
        entry.append(&mut fields.own);
        self.0.put(entry);
    }
}

/// An entry with this message, to which fields may be added.
pub(super) fn entry(level: Level, message: &str) -> Vec<u8> {
    let mut entry = Vec::with_capacity(512);
    put(&mut entry, "MESSAGE", message);
    put(&mut entry, "PRIORITY", priority(level));
    put(&mut entry, "SYSLOG_IDENTIFIER", "becalm");
    // The mail facility: where mail operators look.
    put(&mut entry, "SYSLOG_FACILITY", "2");
    entry
}

/// As syslog(3) numbers them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// Adds a field with its length: a value may have any bytes in it, line ends too.
fn put(entry: &mut Vec<u8>, name: &str, value: &str) {
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'\n');
    entry.extend_from_slice(&(value.len() as u64).to_le_bytes());
    entry.extend_from_slice(value.as_bytes());
    entry.push(b'\n');
}

/// What an event has to say.
#[derive(Default)]
struct Fields {
    message: String,
    /// The other fields once more, as text: `journalctl` shows the message alone.
    text: String,
    /// The other fields, as in an entry.
    own: Vec<u8>,
}

impl Fields {
    fn put(&mut self, name: &str, value: &str) {
        // Names of fields are names in our own code; journald wants capitals.
        put(&mut self.own, &format!("BECALM_{}", name.to_ascii_uppercase()), value);
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        // Written to a string, which takes everything.
        let _ = write!(self.text, " {field}={value:?}");
        self.put(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
            return;
        }
        let _ = write!(self.text, " {field}={value:?}");
        self.put(field.name(), &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Takes an entry apart, as the protocol has it.
    fn fields(mut entry: &[u8]) -> BTreeMap<String, String> {
        let mut fields = BTreeMap::new();
        while !entry.is_empty() {
            let name = entry.iter().position(|&byte| byte == b'\n').unwrap();
            let length = u64::from_le_bytes(entry[name + 1..name + 9].try_into().unwrap()) as usize;
            let value = &entry[name + 9..name + 9 + length];
            assert_eq!(entry[name + 9 + length], b'\n');
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            assert!(fields.insert(text(&entry[..name]), text(value)).is_none());
            entry = &entry[name + 10 + length..];
        }
        fields
    }

    #[test]
    fn an_event_goes_to_journald_with_its_fields() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(connect(&path).is_err());
        let journald = UnixDatagram::bind(&path).unwrap();
        let mut send = connect(&path).unwrap();
        let mut buffer = vec![0; 65_536];
        assert_eq!(journald.recv(&mut buffer).unwrap(), 0);

        let (queue, orders) = Queue::new();
        let log = tracing_subscriber::registry().with(Journald(Arc::clone(&queue)));
        tracing::subscriber::with_default(log, || {
            let held = 7_u64;
            tracing::warn!(list = "all@example.org", queue_id = %"4Fx", held, why = ?"two\nlines", "storm {}", 1);
        });
        drop(queue);
        for order in orders {
            let crate::telemetry::log::queue::Order::Line(line) = order else { continue };
            send(&line).unwrap();
        }
        let length = journald.recv(&mut buffer).unwrap();
        let expected = [
            ("BECALM_HELD", "7"),
            ("BECALM_LIST", "all@example.org"),
            ("BECALM_QUEUE_ID", "4Fx"),
            ("BECALM_WHY", r#""two\nlines""#),
            ("MESSAGE", r#"storm 1 list="all@example.org" queue_id=4Fx held=7 why="two\nlines""#),
            ("PRIORITY", "4"),
            ("SYSLOG_FACILITY", "2"),
            ("SYSLOG_IDENTIFIER", "becalm"),
            ("TARGET", module_path!()),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&buffer[..length]), BTreeMap::from(expected));
    }
}
