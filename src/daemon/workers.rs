//! The threads that serve milter sessions, each with a runtime of its own: a session never changes threads,
//! and accepting and closing cost less than on a shared runtime.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::thread::JoinHandle;

use tokio::sync::watch;
use tracing::error;

use super::listen::{self, Listener};
use super::pulse::Pulse;
use super::shared::Shared;

/// The running threads.
pub struct Workers {
    threads: Vec<JoinHandle<()>>,
    accepting: watch::Sender<bool>,
    pulses: Vec<Pulse>,
}

impl Workers {
    /// Starts `count` threads (0: one for each core) that serve all `listeners`.
    pub fn start(count: usize, listeners: &[Listener], shared: &Arc<Shared>) -> io::Result<Self> {
        let count = match count {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        shared.watchdogs.start()?;
        let accepting = watch::Sender::new(true);
        let mut threads = Vec::with_capacity(count);
        let mut pulses = Vec::with_capacity(count);
        for number in 0..count {
            let listeners = listeners.iter().map(Listener::try_clone).collect::<io::Result<Vec<_>>>()?;
            // Without timers, which a runtime looks at before every wait: see `watchdog`.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            let (shared, accepting) = (Arc::clone(shared), accepting.subscribe());
            let pulse = Pulse::default();
            pulses.push(pulse.clone());
            let thread = std::thread::Builder::new().name(format!("becalm-{number}")).spawn(move || {
                runtime.block_on(async {
                    let beating = tokio::spawn(pulse.clone().beat(shared.watchdogs.watchdog()));
                    work(listeners, shared, accepting).await;
                    beating.abort();
                });
                // No task runs any more that could count on.
                drop(runtime);
                pulse.end();
            })?;
            threads.push(thread);
        }
        Ok(Self { threads, accepting, pulses })
    }

    /// Each beats for as long as its thread makes progress.
    pub fn pulses(&self) -> &[Pulse] {
        &self.pulses
    }

    /// Takes no more connections.
    pub fn stop_accepting(&self) {
        self.accepting.send_replace(false);
    }

    /// The same, and waits until each of them has stopped: whoever is counted among the sessions now is one of the
    /// last.
    pub async fn accept_no_more(&self) {
        self.stop_accepting();
        self.accepting.closed().await;
    }

    /// Waits for the threads to end: they do when nothing is accepted and no session is left.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a worker thread panicked");
            }
        }
    }
}

async fn work(listeners: Vec<Listener>, shared: Arc<Shared>, mut accepting: watch::Receiver<bool>) {
    let accept = async |listener| {
        if let Err(error) = listen::accept(listener, Arc::clone(&shared)).await {
            error!(%error, "a listener failed");
        }
    };
    let mut loops: Vec<_> = listeners.into_iter().map(|listener| Box::pin(accept(listener))).collect();
    // Not in tasks of their own: the runtime looks at this one before any session. So a thread that is awake takes a
    // connection before one that has to be woken does, and where there is little to do, one thread does it all.
    let accept_all = poll_fn(|context| {
        loops.retain_mut(|accept| accept.as_mut().poll(context).is_pending());
        Poll::<()>::Pending
    });
    tokio::select! {
        biased;
        // An error means that the supervisor is gone. What was accepted by then is a session.
        _ = accepting.wait_for(|accepting| !accepting) => {}
        () = accept_all => {}
    }
    drop(loops);
    // Says that it is done: see `accept_no_more`.
    drop(accepting);
    shared.wait_until_empty().await;
}
