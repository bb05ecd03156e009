//! Lines between the threads that make them and the one that writes them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::Duration;

use tracing::warn;

use crate::telemetry::counters::Counter;

/// So many bytes of lines may wait, about 20,000 lines. What comes then is lost, and counted.
const CAPACITY: usize = 4 << 20;

/// So long a process that ends waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes lines from any thread, and keeps none waiting.
pub(super) struct Queue {
    sender: Sender<Order>,
    /// Bytes in the queue: it has no other bound.
    waiting: AtomicUsize,
    lost: Counter,
}

/// What the writer reads.
pub(super) type Orders = Receiver<Order>;

pub(super) enum Order {
    /// To write this.
    Line(Vec<u8>),
    /// To drop this when everything before it is written.
    Flush(#[expect(dead_code, reason = "what counts is that it is dropped")] SyncSender<()>),
}

impl Queue {
    pub(super) fn new() -> (Arc<Self>, Orders) {
        let (sender, orders) = mpsc::channel();
        (Arc::new(Self { sender, waiting: AtomicUsize::new(0), lost: Counter::default() }), orders)
    }

    /// Puts a line, or loses it if too much waits.
    pub(super) fn put(&self, line: Vec<u8>) {
        let length = line.len();
        // Relaxed: the channel orders the lines; this is only a sum.
        let before = self.waiting.fetch_add(length, Ordering::Relaxed);
        if before.saturating_add(length) > CAPACITY || self.sender.send(Order::Line(line)).is_err() {
            self.waiting.fetch_sub(length, Ordering::Relaxed);
            self.lost.add_one();
        }
    }

    /// Writes what is put, for as long as the process lives: a thread's whole work.
    pub(super) fn write(&self, orders: Orders, mut sink: impl FnMut(&[u8]) -> io::Result<()>) {
        let mut told = 0;
        for order in orders {
            let Order::Line(line) = order else { continue };
            let written = sink(&line);
            let waiting = self.waiting.fetch_sub(line.len(), Ordering::Relaxed) - line.len();
            if written.is_err() {
                self.lost.add_one();
                continue;
            }
            let lost = self.lost.get();
            // Not while the queue is full: the warning would be lost too.
            if lost > told && waiting < CAPACITY / 2 {
                warn!(lines = lost - told, "lines of this log are lost: nobody took them in time");
                told = lost;
            }
        }
    }

    /// How many lines were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.get()
    }

    /// Waits until what was put before is written, or for a moment.
    pub(super) fn flush(&self) {
        let (done, written) = mpsc::sync_channel(0);
        if self.sender.send(Order::Flush(done)).is_ok() {
            let _ = written.recv_timeout(PATIENCE);
        }
    }
}

/// Each event comes as one write.
impl io::Write for &Queue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.put(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    /// Starts a writer whose sink takes a line whenever `allowed` says so, and hands it to `taken`. It logs what it
    /// has to say itself into the same queue.
    fn writer() -> (Arc<Queue>, Sender<io::Result<()>>, Receiver<String>) {
        let (queue, orders) = Queue::new();
        let (allowed, allowance) = mpsc::channel();
        let (line, taken) = mpsc::channel();
        let own = Arc::clone(&queue);
        std::thread::spawn(move || {
            let text = tracing_subscriber::fmt::layer().without_time().with_writer(Arc::clone(&own));
            let log = tracing_subscriber::registry().with(text.with_ansi(false));
            tracing::subscriber::with_default(log, || {
                own.write(orders, |bytes| {
                    allowance.recv().unwrap_or(Ok(()))?;
                    let _ = line.send(String::from_utf8_lossy(bytes).into_owned());
                    Ok(())
                });
            });
        });
        (queue, allowed, taken)
    }

    #[test]
    fn lines_come_in_order_and_all_are_there_after_a_flush() {
        let (queue, allowed, taken) = writer();
        drop(allowed);
        for n in 0..1000 {
            queue.put(n.to_string().into_bytes());
        }
        queue.flush();
        let taken: Vec<String> = taken.try_iter().collect();
        assert_eq!(taken, (0..1000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert_eq!(queue.lost(), 0);
    }

    #[test]
    fn what_is_too_much_for_a_sink_that_hangs_is_lost_and_told_of_when_it_goes_on() {
        let (queue, allowed, taken) = writer();
        let line = vec![b'x'; CAPACITY / 64];
        for _ in 0..64 {
            queue.put(line.clone());
        }
        assert_eq!(queue.lost(), 0);
        for _ in 0..3 {
            queue.put(b"y".to_vec());
        }
        assert_eq!(queue.lost(), 3);
        drop(allowed);
        let taken: Vec<String> = (0..65).map(|_| taken.recv().unwrap()).collect();
        assert!(taken[..64].iter().all(|taken| taken.as_bytes() == line));
        assert!(
            taken[64].contains("lines of this log are lost") && taken[64].contains("lines=3"),
            "{taken:?}"
        );
        // There is room again, and nothing more to tell.
        queue.put(b"z".to_vec());
        queue.flush();
        assert_eq!(queue.lost(), 3);
    }

    #[test]
    fn a_line_that_cannot_be_written_is_lost_and_told_of_when_the_next_one_can() {
        let (queue, allowed, taken) = writer();
        for outcome in [Err(io::ErrorKind::BrokenPipe.into()), Ok(()), Ok(())] {
            allowed.send(outcome).unwrap();
        }
        queue.put(b"a".to_vec());
        queue.put(b"b".to_vec());
        assert_eq!(taken.recv().unwrap(), "b");
        assert!(taken.recv().unwrap().contains("lines=1"));
    }
}
