//! A plan chosen when the program runs.

use super::{LowBits, PlanError, PortPlan, Toeplitz, Whole};
use crate::addr::RealAddr;
use crate::flow::WireTuple;
use crate::id::WorkerId;
use crate::io::{Rss, RxHash};
use core::net::IpAddr;

/// One of the plans.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one per worker, and a box would need an allocator")]
pub enum AnyPlan {
    /// One worker owns everything.
    Whole(Whole),
    /// By low bits of the port.
    LowBits(LowBits),
    /// By the device's receive hash.
    Toeplitz(Toeplitz),
}

impl AnyPlan {
    /// The plan that fits a device: [`Whole`] for one worker, [`Toeplitz`] where receive-side scaling can be
    /// used, else [`LowBits`], and then why not. Replies that `LowBits` expects elsewhere than the device
    /// delivers them must be handed over.
    ///
    /// ```
    /// use lvs_core::{id::WorkerId, io::Rss, plan::{AnyPlan, PlanError}};
    /// let rss = Rss { key: &[0; 40], table: &[0, 1] }; // a key of zeros spreads nothing
    /// let (plan, why) = AnyPlan::for_device(Some(rss), 1024, 65535, WorkerId(1), 2)?;
    /// assert!(matches!(plan, AnyPlan::LowBits(_)));
    /// assert_eq!(why, Some(PlanError::Rank { have: 0, need: 1 }));
    /// # Ok::<(), lvs_core::plan::PlanError>(())
    /// ```
    ///
    /// # Errors
    /// [`PlanError`] when no plan is possible: a range or a number of workers that cannot be.
    pub fn for_device(
        rss: Option<Rss<'_>>,
        first: u16,
        last: u16,
        worker: WorkerId,
        workers: u16,
    ) -> Result<(Self, Option<PlanError>), PlanError> {
        if workers == 1 && worker == WorkerId(0) {
            return Ok((Self::Whole(Whole::new(first, last)?), None));
        }
        let by_hash = rss.map(|rss| Toeplitz::new(rss, first, last, worker, workers));
        match by_hash {
            Some(Ok(plan)) => Ok((Self::Toeplitz(plan), None)),
            other => {
                let plan = LowBits::new(first, last, worker, workers)?;
                Ok((Self::LowBits(plan), other.and_then(Result::err)))
            }
        }
    }
}

macro_rules! each {
    ($self:ident, $plan:ident => $call:expr) => {
        match $self {
            AnyPlan::Whole($plan) => $call,
            AnyPlan::LowBits($plan) => $call,
            AnyPlan::Toeplitz($plan) => $call,
        }
    };
}

impl PortPlan for AnyPlan {
    fn slots(&self) -> u32 {
        each!(self, plan => plan.slots())
    }

    fn port_for(&self, slot: u32, local: IpAddr, server: &RealAddr) -> Option<u16> {
        each!(self, plan => plan.port_for(slot, local, server))
    }

    fn slot_of(&self, reply: &WireTuple) -> Option<u32> {
        each!(self, plan => plan.slot_of(reply))
    }

    fn owner_of(&self, reply: &WireTuple) -> Option<WorkerId> {
        each!(self, plan => plan.owner_of(reply))
    }

    fn slot_of_hashed(&self, reply: &WireTuple, hash: RxHash) -> Option<u32> {
        each!(self, plan => plan.slot_of_hashed(reply, hash))
    }

    fn arrival_of(&self, packet: &WireTuple) -> Option<WorkerId> {
        each!(self, plan => plan.arrival_of(packet))
    }
}
