//! A new configuration on its way into a worker: built outside, taken between bursts, and the previous
//! one handed back, so that the worker neither builds nor frees.
//!
//! ```text
//!   control:  new ──► [ mailbox ] ──► old, freed here
//!                         ▲│
//!   worker:               │└► new, installed          one load a round while there is nothing
//!                        old
//! ```
//! The worker never waits: what it finds locked it takes in its next round. Whoever sends waits, and is told
//! when the worker has ended.

use core::fmt;
use lvs_core::plan::PortPlan;
use lvs_director::{Director, Generation};

#[cfg(not(all(test, loom)))]
use core::sync::atomic::{AtomicBool, Ordering};
#[cfg(all(test, loom))]
use loom::sync::{
    Arc, Condvar, Mutex,
    atomic::{AtomicBool, Ordering},
};
#[cfg(not(all(test, loom)))]
use std::sync::{Arc, Condvar, Mutex};

/// The place between both ends.
struct Mailbox<T> {
    /// Something new may lie inside. Only a hint: what is inside, the lock orders.
    full: AtomicBool,
    inside: Mutex<Inside<T>>,
    changed: Condvar,
}

struct Inside<T> {
    new: Option<T>,
    old: Option<T>,
    /// The worker has gone.
    ended: bool,
}

/// The end of whoever builds configurations.
pub(super) struct Supply<T = Generation>(Arc<Mailbox<T>>);

/// The end of a worker.
pub(super) struct Inbox<T = Generation>(Arc<Mailbox<T>>);

/// The worker has ended; nobody works with what was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended;

/// Both ends.
pub(super) fn pair<T>() -> (Supply<T>, Inbox<T>) {
    let mailbox = Arc::new(Mailbox {
        full: AtomicBool::new(false),
        inside: Mutex::new(Inside { new: None, old: None, ended: false }),
        changed: Condvar::new(),
    });
    (Supply(Arc::clone(&mailbox)), Inbox(mailbox))
}

impl<T> Supply<T> {
    /// Hands a configuration over, waits until the worker works with it, and frees the previous one.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) fn swap(&mut self, new: T) -> Result<(), Ended> {
        let Mailbox { full, inside, changed } = &*self.0;
        // A lock that is poisoned says that the worker has panicked.
        let mut inside = inside.lock().map_err(|_| Ended)?;
        if inside.ended {
            return Err(Ended);
        }
        inside.new = Some(new);
        full.store(true, Ordering::Relaxed);
        loop {
            if let Some(old) = inside.old.take() {
                drop(inside);
                drop(old);
                return Ok(());
            }
            if inside.ended {
                return Err(Ended);
            }
            inside = changed.wait(inside).map_err(|_| Ended)?;
        }
    }
}

impl<T> Inbox<T> {
    /// Takes what is new, if anything has come and nobody is just putting it there; `install` puts it into
    /// effect and returns the one before.
    pub(super) fn take_with(&mut self, install: impl FnOnce(T) -> T) {
        let Mailbox { full, inside, changed } = &*self.0;
        if !full.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut inside) = inside.try_lock() else { return };
        if let Some(new) = inside.new.take() {
            full.store(false, Ordering::Relaxed);
            inside.old = Some(install(new));
            drop(inside);
            changed.notify_one();
        }
    }
}

impl Inbox {
    /// Installs a configuration if one has come. To be called between bursts.
    pub(super) fn take<P: PortPlan>(&mut self, director: &mut Director<'_, P>) {
        self.take_with(|new| director.install(new));
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        if let Ok(mut inside) = self.0.inside.lock() {
            inside.ended = true;
        }
        self.0.changed.notify_one();
    }
}

impl<T> fmt::Debug for Supply<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Supply")
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(loom)]
    use loom::{model, thread};
    #[cfg(not(loom))]
    use std::thread;
    use std::thread::panicking;

    /// Without loom: once, by real threads.
    #[cfg(not(loom))]
    fn model(once: impl Fn()) {
        once();
    }

    /// A configuration that only the side which builds it may free.
    struct Config {
        number: u32,
        home: thread::ThreadId,
    }

    impl Config {
        fn new(number: u32) -> Self {
            Self { number, home: thread::current().id() }
        }
    }

    impl Drop for Config {
        fn drop(&mut self) {
            // A model that has failed already drops what is left wherever it is.
            if !panicking() {
                assert_eq!(thread::current().id(), self.home, "freed by the worker");
            }
        }
    }

    /// A worker that goes through its rounds until it works with configuration `last`.
    fn work(mut inbox: Inbox<Config>, first: Config, last: u32) -> Config {
        let mut present = first;
        while present.number < last {
            inbox.take_with(|new| {
                assert_eq!(new.number, present.number + 1, "each one, in order");
                core::mem::replace(&mut present, new)
            });
            thread::yield_now();
        }
        present
    }

    #[test]
    fn every_configuration_is_installed_once_in_order_and_freed_by_who_built_it() {
        model(|| {
            let (mut supply, inbox) = pair();
            let first = Config::new(0);
            let worker = thread::spawn(move || work(inbox, first, 2));
            for number in 1..=2 {
                assert_eq!(supply.swap(Config::new(number)), Ok(()));
            }
            let last = worker.join().unwrap();
            assert_eq!(last.number, 2);
        });
    }

    /// The worker goes at any moment: whoever sends is told and does not wait for ever, and what nobody took
    /// is freed by who built it.
    #[test]
    fn whoever_sends_learns_that_the_worker_has_ended() {
        model(|| {
            let (mut supply, mut inbox) = pair();
            let first = Config::new(0);
            let worker = thread::spawn(move || {
                let mut present = first;
                inbox.take_with(|new| core::mem::replace(&mut present, new));
                present
            });
            let swapped = supply.swap(Config::new(1));
            let present = worker.join().unwrap();
            assert_eq!(present.number, u32::from(swapped.is_ok()));
            assert_eq!(supply.swap(Config::new(2)), Err(Ended));
        });
    }

    /// The worker goes on while a configuration is on its way.
    #[cfg(not(loom))]
    #[test]
    fn a_worker_never_waits() {
        let (supply, mut inbox) = pair::<u32>();
        inbox.take_with(|_| unreachable!("nothing has come"));
        supply.0.full.store(true, Ordering::Relaxed);
        let held = supply.0.inside.lock().unwrap();
        inbox.take_with(|_| unreachable!("it is locked"));
        drop(held);
        inbox.take_with(|_| unreachable!("it is empty"));
    }
}
