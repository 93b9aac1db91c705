//! How a server is chosen: the contract, no algorithm.
//!
//! Schedulers are values: the algorithms of `lvs-sched` and a user's own are equal. A configuration
//! names a [`SchedulerDef`]; every worker gets an instance of its own, so `pick` takes `&mut self` and
//! no lock. Instances are built and rebuilt by the control side; `pick` runs on the packet path and
//! neither allocates nor panics.
//!
//! ```
//! use lvs_core::flow::WireTuple;
//! use lvs_core::sched::{Scheduler, SchedulerDef, ServerLoad};
//!
//! /// Always the first server that may be used.
//! struct First;
//! impl Scheduler for First {
//!     fn rebuild(&mut self, _servers: &[ServerLoad]) {}
//!     fn pick(&mut self, _flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize> {
//!         servers.iter().position(ServerLoad::is_available)
//!     }
//! }
//! const FIRST: SchedulerDef =
//!     SchedulerDef { name: "first", summary: "the first that works", build: |_| Box::new(First) };
//! # let _ = FIRST;
//! ```
//! One that does more, and runs: `lvs-sched/examples/own_scheduler.rs`.

use crate::addr::RealAddr;
use crate::flow::WireTuple;
use crate::id::{ServerId, WorkerId};
use crate::time::Tick;
use alloc::boxed::Box;
use core::any::Any;
use core::fmt;

/// Relative share of a server; 0 = quiesced: no new sessions, existing ones go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(pub u16);

/// A server as a scheduler sees it. The slice handed to a scheduler keeps the order of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(alias = "ip_vs_dest")]
pub struct ServerLoad {
    /// The server.
    pub id: ServerId,
    /// Its address.
    pub addr: RealAddr,
    /// Its weight.
    pub weight: Weight,
    /// Over its upper threshold, or administratively out: must not be picked.
    pub overloaded: bool,
    /// Sessions in an established state.
    pub active: u32,
    /// All other sessions.
    pub inactive: u32,
}

impl ServerLoad {
    /// Whether the server may get a new session: weight above 0 and not overloaded.
    #[must_use]
    pub const fn is_available(&self) -> bool {
        self.weight.0 > 0 && !self.overloaded
    }
}

/// Chooses a server for a new session. Only [`rebuild`](Self::rebuild) and [`pick`](Self::pick) must be
/// written; the others matter to schedulers that keep an order, age something or remember clients.
pub trait Scheduler: Any + Send {
    /// Membership, weight or order changed. Called off the packet path; may allocate.
    fn rebuild(&mut self, servers: &[ServerLoad]);

    /// The index in `servers` of the server for a new session, or `None` when no server is available.
    /// `servers` has the members and weights of the last `rebuild`; loads and `overloaded` are current.
    /// A result that is out of range or not available counts as `None`.
    fn pick(&mut self, flow: &WireTuple, servers: &[ServerLoad]) -> Option<usize>;

    /// The load of `servers[index]`, or whether it is overloaded, changed since the last call. For
    /// schedulers that keep an order, or who may be used. Nothing may be missed: who is not told picks by old loads,
    /// perhaps a server that must not be picked, which counts as nobody.
    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        let _ = (index, servers);
    }

    /// Time passes: for schedulers that forget what is old. A director tells it from its own
    /// `tick`, in the worker, a few times a second; who drives a scheduler himself may tell it less
    /// often, and nothing ages before he does. Bounded work, no allocation.
    fn tick(&mut self, now: Tick) {
        let _ = now;
    }

    /// `before` did the same service's work until now, under the same name, with other members or
    /// weights; it is dropped afterwards. For what should outlive a change: the turn, remembered clients.
    /// Called in the worker after `rebuild`, so without allocation. To reach the fields of `before`:
    ///
    /// ```
    /// # use lvs_core::{flow::WireTuple, sched::{Scheduler, ServerLoad}};
    /// # use core::any::Any;
    /// # struct InTurn { next: usize }
    /// # impl Scheduler for InTurn {
    /// # fn rebuild(&mut self, _servers: &[ServerLoad]) {}
    /// # fn pick(&mut self, _flow: &WireTuple, _servers: &[ServerLoad]) -> Option<usize> { None }
    /// fn take_over(&mut self, before: &mut dyn Scheduler) {
    ///     let before: &mut dyn Any = before;
    ///     if let Some(before) = before.downcast_mut::<Self>() {
    ///         self.next = before.next;
    ///     }
    /// }
    /// # }
    /// # let mut new = InTurn { next: 0 };
    /// # new.take_over(&mut InTurn { next: 7 });
    /// # assert_eq!(new.next, 7);
    /// ```
    fn take_over(&mut self, before: &mut dyn Scheduler) {
        let _ = before;
    }
}

/// What a scheduler instance is built for.
#[derive(Clone, Copy, Debug)]
pub struct SchedulerArgs {
    /// The worker that will use it; N workers should not all start at the first server.
    pub worker: WorkerId,
    /// How many workers there are, at least 1.
    pub workers: u8,
}

/// A scheduler by name.
#[derive(Clone, Copy)]
pub struct SchedulerDef {
    /// Name as in `ipvsadm -s`.
    pub name: &'static str,
    /// One line for listings.
    pub summary: &'static str,
    /// Makes an instance. Called off the packet path.
    pub build: fn(SchedulerArgs) -> Box<dyn Scheduler>,
}

impl fmt::Debug for SchedulerDef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SchedulerDef").field(&self.name).finish()
    }
}

impl PartialEq for SchedulerDef {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for SchedulerDef {}
