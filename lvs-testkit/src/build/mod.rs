//! Packets by hand: every byte is written here and nowhere else, so that a fault in the views of
//! `lvs-core` cannot hide in the packets that test them.
//!
//! ```
//! use lvs_testkit::build::{tcp, udp};
//! let syn = tcp().syn().from("10.0.0.2:1234").to("10.0.0.80:80").mss(1460).build();
//! assert_eq!((syn.len(), syn[23]), (14 + 20 + 24, 6));
//! let dns = udp().from("[2001:db8::2]:53").to("[2001:db8::1]:999").payload(b"hello").build();
//! assert_eq!(dns.len(), 14 + 40 + 8 + 5);
//! // Each field can be broken on purpose.
//! let lying = udp().udp_len(3).wrong_l4_csum().build();
//! assert_eq!(lying[38..40], [0, 3]);
//! ```

mod arp;
mod ext;
mod fragment;
mod icmp;
mod l4;
mod packet;
pub mod sum;
mod write;

pub use arp::{Arp, arp_reply, arp_request};
pub use ext::Ext;
pub(crate) use fragment::l3_of;
pub use fragment::{fragments, ip_of};
pub use icmp::{Icmp, IcmpError, echo, echo_reply, icmp, icmp_error, ndp_advert, ndp_solicit};
pub use l4::{Raw, Tcp, Udp, flag, option, raw, tcp, udp};
pub use packet::{CLIENT_MAC, Csum, Endpoint, Layer4, Packet, ROUTER_MAC, pattern};
pub use write::Built;
