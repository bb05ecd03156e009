//! A daemon without signals, admin socket and supervisor, for demonstrations and benchmarks in this process.

use std::io;
use std::sync::Arc;

use super::Daemon;
use super::listen::Listener;
use super::shared::Shared;
use super::workers::Workers;

/// Serves milter connections on threads of its own until it is stopped.
pub struct Background {
    daemon: Daemon,
    workers: Workers,
}

impl Daemon {
    /// Serves without taking over this thread.
    pub fn in_background(self, listeners: Vec<Listener>) -> io::Result<Background> {
        let threads = self.standing().config.listen.threads;
        let workers = Workers::start(threads, &listeners, &self.shared)?;
        Ok(Background { daemon: self, workers })
    }
}

impl Background {
    /// What its sessions share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.daemon.shared
    }

    /// Lets time pass: storms end without mail too.
    pub fn tick(&self) {
        let events = self.daemon.shared.engine.tick(self.daemon.shared.clock.now());
        self.daemon.shared.publish(&events);
    }

    /// Ends every session, and the threads.
    pub fn stop(self) {
        self.workers.stop_accepting();
        self.daemon.shared.watchdogs.stop();
        self.workers.join();
        self.daemon.shared.memory.close();
    }
}
