//! Limits on silence, without a timer for each session: one thread looks at the deadlines of all of them, ten times a
//! second. A session only writes down its own.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Between two looks. A limit is kept to two of these, and to the time by which a look is late: nobody is ended too
/// early because this process had to wait for a processor.
pub const STEP: Duration = Duration::from_millis(100);

/// In the place of a deadline: it has passed.
const OVER: u64 = 0;

/// In the place of a deadline: there is none.
const NONE: u64 = u64::MAX;

/// The deadlines of all sessions.
#[derive(Default)]
pub struct Watchdogs {
    /// Looks so far: what deadlines are counted in.
    looks: AtomicU64,
    stopped: AtomicBool,
    looking: AtomicBool,
    leashes: Mutex<Vec<Arc<Leash>>>,
}

/// Shared by a session and the thread that looks.
struct Leash {
    due: AtomicU64,
    waker: Mutex<Option<Waker>>,
}

impl Leash {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

/// Why a wait is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bark {
    /// The deadline has passed.
    Late,
    /// All sessions are to end.
    Stop,
}

/// A deadline.
#[derive(Clone, Copy, Debug)]
pub struct Due(u64);

impl Watchdogs {
    /// One for a session.
    pub fn watchdog(self: &Arc<Self>) -> Watchdog {
        let leash = Arc::new(Leash { due: AtomicU64::new(NONE), waker: Mutex::default() });
        self.leashes().push(Arc::clone(&leash));
        Watchdog { all: Arc::clone(self), leash, waker: None }
    }

    /// Looks from now on, from a thread of its own, as long as there is anybody to look for.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        if self.looking.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        let all = Arc::downgrade(self);
        let watch = move || {
            while let Some(all) = all.upgrade() {
                all.look();
                drop(all);
                std::thread::sleep(STEP);
            }
        };
        std::thread::Builder::new().name("watchdogs".to_owned()).spawn(watch).map(drop)
    }

    /// Ends every wait, now and from now on.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.leashes().iter().for_each(|leash| leash.wake());
    }

    /// Were all sessions told to end?
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// One look: another [`STEP`] has passed.
    fn look(&self) {
        let now = self.looks.fetch_add(1, Ordering::Relaxed) + 1;
        for leash in self.leashes().iter() {
            let due = leash.due.load(Ordering::Relaxed);
            // Whoever has a new deadline by now is not late. Release: pairs with Acquire in `poll`.
            let late = (OVER + 1..=now).contains(&due)
                && leash.due.compare_exchange(due, OVER, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if late {
                leash.wake();
            }
        }
    }

    fn leashes(&self) -> MutexGuard<'_, Vec<Arc<Leash>>> {
        self.leashes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Limits how long one session waits.
pub struct Watchdog {
    all: Arc<Watchdogs>,
    leash: Arc<Leash>,
    /// Whom the leash wakes.
    waker: Option<Waker>,
}

impl Watchdog {
    /// The deadline for something that may take `span`.
    pub fn due_in(&self, span: Duration) -> Due {
        let steps = u64::try_from(span.as_millis().div_ceil(STEP.as_millis())).unwrap_or(NONE);
        // Of the step that has begun, nobody knows how much is left.
        Due(self.all.looks.load(Ordering::Relaxed).saturating_add(steps).saturating_add(1))
    }

    /// Puts a deadline in the place of the one before.
    pub fn set(&self, due: Due) {
        self.leash.due.store(due.0, Ordering::Relaxed);
    }

    /// Resolves when the deadline has passed, or when all sessions are to end.
    pub fn bark(&mut self) -> impl Future<Output = Bark> {
        poll_fn(|context| self.poll(context))
    }

    /// Waits for so long; less if all sessions are to end.
    pub async fn sleep(&mut self, span: Duration) -> Bark {
        self.set(self.due_in(span));
        self.bark().await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Bark> {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
            *self.leash.waker.lock().unwrap_or_else(PoisonError::into_inner) = self.waker.clone();
        }
        // After the waker is in its place: who looks now, or stops all, finds it there.
        if self.all.is_stopped() {
            return Poll::Ready(Bark::Stop);
        }
        match self.leash.due.load(Ordering::Acquire) {
            OVER => Poll::Ready(Bark::Late),
            _ => Poll::Pending,
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let mut leashes = self.all.leashes();
        if let Some(place) = leashes.iter().position(|leash| Arc::ptr_eq(leash, &self.leash)) {
            leashes.swap_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    struct Session {
        watchdog: Watchdog,
        woken: Arc<Woken>,
    }

    impl Session {
        fn new(all: &Arc<Watchdogs>) -> Self {
            Self { watchdog: all.watchdog(), woken: Arc::default() }
        }

        fn poll(&mut self) -> Poll<Bark> {
            let waker = Waker::from(Arc::clone(&self.woken));
            self.watchdog.poll(&Context::from_waker(&waker))
        }
    }

    #[test]
    fn a_session_is_late_no_sooner_than_allowed_and_is_told_once() {
        let all = Arc::new(Watchdogs::default());
        all.look();
        let mut session = Session::new(&all);
        let mut free = Session::new(&all);
        session.watchdog.set(session.watchdog.due_in(Duration::from_millis(250)));
        for _ in 0..3 {
            assert_eq!((session.poll(), free.poll()), (Poll::Pending, Poll::Pending));
            all.look();
        }
        assert_eq!((session.poll(), session.woken.times()), (Poll::Pending, 0), "part of a step was over");
        all.look();
        all.look();
        assert_eq!((session.poll(), session.woken.times()), (Poll::Ready(Bark::Late), 1));
        assert_eq!((free.poll(), free.woken.times()), (Poll::Pending, 0));
    }

    #[test]
    fn a_new_deadline_makes_good_for_the_one_before() {
        let all = Arc::new(Watchdogs::default());
        let mut session = Session::new(&all);
        session.watchdog.set(session.watchdog.due_in(Duration::ZERO));
        all.look();
        assert_eq!(session.poll(), Poll::Ready(Bark::Late));
        session.watchdog.set(session.watchdog.due_in(Duration::MAX));
        all.look();
        assert_eq!(session.poll(), Poll::Pending);
        // One that lies in the past, as that of a packet whose rest never comes.
        session.watchdog.set(Due(1));
        all.look();
        assert_eq!(session.poll(), Poll::Ready(Bark::Late));
    }

    #[test]
    fn a_stop_reaches_those_who_wait_and_those_who_come() {
        let all = Arc::new(Watchdogs::default());
        let mut waits = Session::new(&all);
        let mut comes = Session::new(&all);
        assert_eq!(waits.poll(), Poll::Pending);
        all.stop();
        assert_eq!((waits.woken.times(), waits.poll()), (1, Poll::Ready(Bark::Stop)));
        assert_eq!(comes.poll(), Poll::Ready(Bark::Stop));
    }

    #[test]
    fn who_is_gone_is_not_looked_at() {
        let all = Arc::new(Watchdogs::default());
        let sessions: Vec<_> = (0..3).map(|_| Session::new(&all)).collect();
        assert_eq!(all.leashes().len(), 3);
        drop(sessions);
        assert_eq!(all.leashes().len(), 0);
    }
}
