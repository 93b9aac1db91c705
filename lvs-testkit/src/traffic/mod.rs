//! Traffic in bulk: millions of sessions in a few bytes each, and their frames written in place.
//!
//! [`build`](crate::build) makes one packet with every field breakable; this module makes very many
//! ordinary ones without touching the heap, for benchmarks and long tests. Sessions are opened by real
//! handshakes through whatever is under test, a closure that takes a frame and gives back what came out.
//!
//! ```
//! use lvs_testkit::traffic::Network;
//!

//! let net = Network::<u32>::example();
//! let mut frame = [0; 128];
//! let len = net.syn(7, &mut frame).unwrap();
//! assert_eq!(lvs_testkit::oracle::checksums_ok(&frame[..len]), Ok(()));
//! ```
//!
//! Every number comes from a seed: the same seed gives the same traffic on every machine.

mod attack;
mod flow;
mod frame;
mod mix;
mod rng;

pub use attack::{chosen_v4, hash_words_v4};
pub use flow::{Flow, Kind, Network, Side};
pub use frame::{Ends, Ip, MAX_HEADERS, Segment, flags, read, write};
pub use mix::{IMIX, Mix};
pub use rng::Rng;
