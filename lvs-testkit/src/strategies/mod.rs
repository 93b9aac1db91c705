//! proptest strategies for frames: valid, nearly valid, hostile.
//!
//! All shrink toward a short IPv4 TCP segment without options. Values are packets in the making
//! where a test wants to change something, and finished frames where it does not.
//!
//! ```
//! use lvs_testkit::{oracle, strategies};
//! use proptest::prelude::*;
//!
//! proptest!(|(built in strategies::valid())| {
//!     prop_assert_eq!(oracle::checksums_ok(&built.frame), Ok(()));
//! });
//! proptest!(|(broken in strategies::nearly_valid())| {
//!     prop_assert!(oracle::accepted(&broken.built.frame).is_err(), "{:?}", broken.damage);
//! });
//! ```

mod damage;
mod flow;
mod hostile;
mod special;
mod valid;

pub use damage::{Broken, Damage, nearly_valid};
pub use flow::{Flow, client_v4, client_v6, flow, flow_v4, flow_v6};
pub use hostile::hostile;
pub use special::{Complaint, arp, atomic_fragment, fragmented, icmp_complaint, ndp};
pub use valid::{
    ext_headers, ip_options, payload, tcp_flags, tcp_options, tcp_packet, udp_packet, valid,
    valid_buf,
};
