//! Lanes around a lane: whatever runs over a [`Lane`](super::Lane) runs over these unchanged.
//!
//! - [`Faults`] loses, repeats, reorders, damages and delays packets, by seed;
//! - [`Counting`] counts calls, packets and bytes per port;
//! - [`Tap`] shows every packet to a closure, for instance one that writes a capture file.
//!
//! They nest: `Tap::new(Faults::new(lane, plan, seed), show)` shows what is left after the faults on
//! receive and what the director meant to send on transmit.

mod rng;
pub use rng::Rng;

#[cfg(feature = "alloc")]
mod counting;
#[cfg(feature = "alloc")]
mod faults;
#[cfg(feature = "alloc")]
mod tap;

#[cfg(feature = "alloc")]
pub use counting::{Counting, LaneCounters};
#[cfg(feature = "alloc")]
pub use faults::{FaultCounters, FaultPlan, Faults};
#[cfg(feature = "alloc")]
pub use tap::{Tap, TapDirection, Tapped};

/// The methods of [`Lane`](super::Lane) that a middleware passes on as they are.
#[cfg(feature = "alloc")]
macro_rules! pass_on {
    ($($name:ident)*) => { $(pass_on!(@ $name);)* };
    (@ port_count) => {
        fn port_count(&self) -> u16 {
            self.inner.port_count()
        }
    };
    (@ caps) => {
        fn caps(&self, port: PortId) -> Caps {
            self.inner.caps(port)
        }
    };
    (@ port_info) => {
        fn port_info(&self, port: PortId) -> PortInfo<'_> {
            self.inner.port_info(port)
        }
    };
    (@ poll_tx) => {
        fn poll_tx(&mut self, port: PortId) {
            self.inner.poll_tx(port);
        }
    };
    (@ alloc) => {
        fn alloc(&mut self, len: usize) -> Option<L::Buf> {
            self.inner.alloc(len)
        }
    };
    (@ free_burst) => {
        fn free_burst(&mut self, pkts: &mut Burst<L::Buf>) {
            self.inner.free_burst(pkts);
        }
    };
    (@ stats) => {
        fn stats(&self, port: PortId) -> PortStats {
            self.inner.stats(port)
        }
    };
}
#[cfg(feature = "alloc")]
use pass_on;

#[cfg(all(test, feature = "alloc"))]
mod tests;
