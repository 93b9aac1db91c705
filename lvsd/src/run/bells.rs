//! How workers wake each other: one that has handed something over rings at the other's bed, if it sleeps.

use core::sync::atomic::{AtomicBool, Ordering, fence};
use lvs_core::id::WorkerId;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

/// A worker's bell, as the others see it.
struct Bell {
    asleep: AtomicBool,
    cord: UnixDatagram,
}

/// All bells, and what one worker hears of its own.
pub(super) struct Bells {
    all: Arc<[Bell]>,
    me: WorkerId,
    heard: UnixDatagram,
}

impl Bells {
    /// For this many workers, in the order of their numbers.
    ///
    /// # Errors
    /// No sockets.
    pub(super) fn hang(workers: u8) -> io::Result<Vec<Self>> {
        let (mut all, mut heard) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let (ear, cord) = UnixDatagram::pair()?;
            ear.set_nonblocking(true)?;
            cord.set_nonblocking(true)?;
            all.push(Bell { asleep: AtomicBool::new(false), cord });
            heard.push(ear);
        }
        let all: Arc<[Bell]> = all.into();
        let own = |(me, heard)| Self { all: Arc::clone(&all), me: WorkerId(me), heard };
        Ok((0..).zip(heard).map(own).collect())
    }

    /// Becomes readable when somebody rings.
    ///
    /// # Errors
    /// No descriptors are left.
    pub(super) fn ear(&self) -> io::Result<OwnedFd> {
        self.heard.try_clone().map(OwnedFd::from)
    }

    /// Rings for a worker, if it sleeps.
    pub(super) fn ring(&self, worker: WorkerId) {
        let Some(bell) = self.all.get(worker.index()) else { return };
        // What was written for it comes before the look at whether it sleeps; see `fall_asleep`.
        fence(Ordering::SeqCst);
        if bell.asleep.load(Ordering::Relaxed) && bell.asleep.swap(false, Ordering::Relaxed) {
            // A full queue has rung already.
            let _ = bell.cord.send(&[1]);
        }
    }

    /// From here on others ring. Whatever was written before must be looked for after this.
    pub(super) fn fall_asleep(&self) {
        if let Some(bell) = self.all.get(self.me.index()) {
            bell.asleep.store(true, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
    }

    /// Nobody needs to ring any more.
    pub(super) fn wake_up(&self) {
        if let Some(bell) = self.all.get(self.me.index()) {
            bell.asleep.store(false, Ordering::Relaxed);
        }
        if self.all.len() > 1 {
            while self.heard.recv(&mut [0; 8]).is_ok() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bell_is_heard_once_and_by_sleepers_only() {
        let bells = Bells::hang(2).unwrap();
        let heard = || bells[1].heard.recv(&mut [0; 8]).is_ok();
        bells[0].ring(WorkerId(1));
        assert!(!heard(), "it was awake");
        bells[1].fall_asleep();
        bells[0].ring(WorkerId(1));
        bells[0].ring(WorkerId(1));
        assert!(heard() && !heard(), "once");
        bells[1].fall_asleep();
        bells[0].ring(WorkerId(1));
        bells[1].wake_up();
        assert!(!heard(), "done with");
        bells[0].ring(WorkerId(7));
    }
}
