//! TOA, the TCP option that tells a server behind FullNAT who the client is.
//!
//! ```text
//!   IPv4   kind │ 8  │ port (2) │ address (4)
//!   IPv6   kind │ 20 │ port (2) │ address (16)          port and address in network byte order
//! ```
//!
//! The kind is a matter of agreement between director and servers: 254 in most deployments, 253
//! for IPv6 in some, 200, 252 and 28 in others (none is assigned by IANA for this), and so is the
//! layout: [`Format`] has the others. The option stands
//! right behind the fixed header, before all others, since readers take the first one they find.
//!
//! Whoever inserts the option must first take out what a client may have put there himself:
//! [`strip`], on every segment of such a service, whether or not the option is then inserted. [`place`]
//! says which segments carry it and what comes when there is no room.

mod compact;
mod format;
mod insert;
pub mod place;
mod strip;

pub use compact::Compaction;
pub use format::{Format, Told, read};
pub use insert::{Inserted, Limits, Outcome, ToaError, insert, insert_v4};
pub use strip::{KindSet, Stripped, strip};

use crate::walk;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the option for an IPv4 client.
pub const TOA_V4_LEN: usize = 8;
/// Bytes of the option for an IPv6 client.
pub const TOA_V6_LEN: usize = 20;
/// Bytes of the option that also names the virtual address.
pub const TOA_VIRTUAL_LEN: usize = 16;

/// Which option kind says "client address", per family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ToaKinds {
    v4: u8,
    v6: u8,
}

impl ToaKinds {
    /// The kinds for IPv4 and IPv6. `None` for kinds that every TCP reads itself (0 to 5 and 8).
    #[must_use]
    pub const fn new(v4: u8, v6: u8) -> Option<Self> {
        match (v4, v6) {
            (0..=5 | 8, _) | (_, 0..=5 | 8) => None,
            _ => Some(Self { v4, v6 }),
        }
    }

    /// For IPv4 clients.
    #[must_use]
    pub const fn v4(self) -> u8 {
        self.v4
    }

    /// For IPv6 clients.
    #[must_use]
    pub const fn v6(self) -> u8 {
        self.v6
    }
}

impl Default for ToaKinds {
    /// 254 for both families.
    fn default() -> Self {
        Self { v4: 254, v6: 254 }
    }
}

/// The option, ready to be inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ToaOption {
    /// For an IPv4 client.
    V4([u8; TOA_V4_LEN]),
    /// For an IPv6 client.
    V6([u8; TOA_V6_LEN]),
    /// For an IPv4 client, with the address that it connected to ([`Format::WithVirtual`]).
    WithVirtual([u8; TOA_VIRTUAL_LEN]),
}

impl ToaOption {
    /// Encodes the address and port of a client.
    #[must_use]
    pub fn encode(client: &SocketAddr, kinds: ToaKinds) -> Self {
        let [p0, p1] = client.port().to_be_bytes();
        match client.ip() {
            IpAddr::V4(v4) => {
                let [a, b, c, d] = v4.octets();
                Self::V4([kinds.v4, 8, p0, p1, a, b, c, d])
            }
            IpAddr::V6(v6) => {
                let mut bytes = [0; TOA_V6_LEN];
                let fields = [kinds.v6, 20, p0, p1].into_iter().chain(v6.octets());
                bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
                Self::V6(bytes)
            }
        }
    }

    /// The bytes as they stand in the header; their number is a multiple of four.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        match self {
            Self::V4(bytes) => bytes,
            Self::V6(bytes) => bytes,
            Self::WithVirtual(bytes) => bytes,
        }
    }
}

/// Reads the first client address from the option bytes of a TCP header, as a server does.
///
/// ```
/// use lvs_nat::toa::{ToaKinds, ToaOption, decode};
///
/// let client = "192.0.2.7:40000".parse().unwrap();
/// let option = ToaOption::encode(&client, ToaKinds::default());
/// assert_eq!(option.as_bytes(), [254, 8, 0x9c, 0x40, 192, 0, 2, 7]);
/// assert_eq!(decode(option.as_bytes(), ToaKinds::default()), Some(client));
/// ```
#[must_use]
pub fn decode(options: &[u8], kinds: ToaKinds) -> Option<SocketAddr> {
    walk::Options::new(options).map_while(Result::ok).find_map(|option| match *option {
        [kind, 8, p0, p1, a, b, c, d] if kind == kinds.v4 => {
            Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([p0, p1])))
        }
        [kind, 20, p0, p1, ref ip @ ..] if kind == kinds.v6 => Some(SocketAddr::new(
            Ipv6Addr::from_octets(*ip.first_chunk()?).into(),
            u16::from_be_bytes([p0, p1]),
        )),
        _ => None,
    })
}
