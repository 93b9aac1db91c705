//! A new configuration on its way into a worker: built outside, taken between bursts, and the previous
//! one handed back, so that the worker neither builds nor frees.

use lvs_core::plan::PortPlan;
use lvs_director::{Director, Generation};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, sync_channel};

/// The end of whoever builds configurations.
#[derive(Debug)]
pub(super) struct Supply {
    to_worker: SyncSender<Generation>,
    from_worker: Receiver<Generation>,
}

/// The end of a worker.
#[derive(Debug)]
pub(super) struct Inbox {
    new: Receiver<Generation>,
    old: SyncSender<Generation>,
}

/// Both ends.
pub(super) fn pair() -> (Supply, Inbox) {
    // Bounded: the places exist from the start, so that sending takes no memory.
    let (to_worker, new) = sync_channel(1);
    let (old, from_worker) = sync_channel(1);
    (Supply { to_worker, from_worker }, Inbox { new, old })
}

impl Supply {
    /// Hands a configuration over, waits until the worker works with it, and frees the previous one.
    ///
    /// # Errors
    /// The worker has ended.
    pub(super) fn swap(&self, generation: Generation) -> Result<(), RecvError> {
        self.to_worker.send(generation).map_err(|_| RecvError)?;
        self.from_worker.recv().map(drop)
    }
}

impl Inbox {
    /// Installs a configuration if one has come. To be called between bursts.
    pub(super) fn take<P: PortPlan>(&self, director: &mut Director<'_, P>) {
        if let Ok(generation) = self.new.try_recv() {
            // There is room: whoever sends waits for the previous one each time.
            let _ = self.old.try_send(director.install(generation));
        }
    }
}
