//! The layouts in use, written and read.
//!
//! | layout | kinds seen | bytes behind kind and length |
//! |---|---|---|
//! | [`Format::Port`] | 254, 253 (IPv6 of some), 200, 252 | port 2, address 4 or 16 |
//! | [`Format::Versioned`] | 28 | version 1 byte (1 for IPv4, 2 for IPv6), address 4 or 16; no port |
//! | [`Format::WithVirtual`] | 254 | port 2, address 4, 2 of padding, virtual port 2, virtual address 4 |

use super::{TOA_V4_LEN, TOA_V6_LEN, TOA_VIRTUAL_LEN, ToaOption};
use crate::walk;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use lvs_core::client_addr::ToaFormat as Format;

/// Version byte of an IPv4 address in [`Format::Versioned`].
const VERSION_V4: u8 = 1;
/// Version byte of an IPv6 address in [`Format::Versioned`].
const VERSION_V6: u8 = 2;

impl ToaOption {
    /// Bytes of the option in a layout, for an IPv4 or IPv6 client.
    #[must_use]
    pub const fn len_of(format: Format, v6: bool) -> usize {
        match (format, v6) {
            (_, true) => TOA_V6_LEN,
            (Format::WithVirtual, false) => TOA_VIRTUAL_LEN,
            (Format::Port | Format::Versioned, false) => TOA_V4_LEN,
        }
    }

    /// Encodes the address of a client in a layout; `virt` is the address that it connected to. `None`
    /// for kinds that every TCP reads itself (see [`ToaKinds`](super::ToaKinds)).
    #[must_use]
    pub fn encode_as(
        format: Format,
        kind: u8,
        client: &SocketAddr,
        virt: &SocketAddr,
    ) -> Option<Self> {
        let kinds = super::ToaKinds::new(kind, kind)?;
        match (format, client.ip(), virt.ip()) {
            (Format::Versioned, IpAddr::V4(ip), _) => {
                let [a, b, c, d] = ip.octets();
                Some(Self::V4([kind, 7, VERSION_V4, a, b, c, d, walk::NOP]))
            }
            (Format::Versioned, IpAddr::V6(ip), _) => {
                let mut bytes = [walk::NOP; TOA_V6_LEN];
                let fields = [kind, 19, VERSION_V6].into_iter().chain(ip.octets());
                bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
                Some(Self::V6(bytes))
            }
            (Format::WithVirtual, IpAddr::V4(ip), IpAddr::V4(v)) => {
                let ([p0, p1], [q0, q1]) = (client.port().to_be_bytes(), virt.port().to_be_bytes());
                let ([a, b, c, d], [e, f, g, h]) = (ip.octets(), v.octets());
                Some(Self::WithVirtual([kind, 16, p0, p1, a, b, c, d, 0, 0, q0, q1, e, f, g, h]))
            }
            _ => Some(Self::encode(client, kinds)),
        }
    }
}

/// What an option says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Told {
    /// Address of the client.
    pub client: IpAddr,
    /// Its port, where the layout has one.
    pub port: Option<u16>,
    /// The address that it connected to, where the layout has one.
    pub virt: Option<SocketAddr>,
}

/// Reads the first option of a kind in any of the layouts, as a server does.
///
/// ```
/// use lvs_nat::toa::{Format, ToaOption, read};
///
/// let (client, virt) = ("192.0.2.7:4".parse().unwrap(), "203.0.113.1:80".parse().unwrap());
/// let option = ToaOption::encode_as(Format::Versioned, 28, &client, &virt).unwrap();
/// assert_eq!(option.as_bytes(), [28, 7, 1, 192, 0, 2, 7, 1]);
/// assert_eq!(read(option.as_bytes(), 28).unwrap().client, client.ip());
/// ```
#[must_use]
pub fn read(options: &[u8], kind: u8) -> Option<Told> {
    let port = |bytes: [u8; 2]| u16::from_be_bytes(bytes);
    let v6 = |bytes: &[u8]| Some(IpAddr::V6(Ipv6Addr::from_octets(*bytes.first_chunk()?)));
    let told = |client: IpAddr, port| Told { client, port, virt: None };
    walk::Options::new(options).map_while(Result::ok).find_map(|option| match *option {
        [k, ..] if k != kind => None,
        [_, 8, p, q, a, b, c, d] => {
            Some(told(Ipv4Addr::new(a, b, c, d).into(), Some(port([p, q]))))
        }
        [_, 20, p, q, ref ip @ ..] => Some(told(v6(ip)?, Some(port([p, q])))),
        [_, 7, VERSION_V4, a, b, c, d] => Some(told(Ipv4Addr::new(a, b, c, d).into(), None)),
        [_, 19, VERSION_V6, ref ip @ ..] => Some(told(v6(ip)?, None)),
        [_, 16, p, q, a, b, c, d, _, _, r, s, e, f, g, h] => {
            let virt = SocketAddr::new(Ipv4Addr::new(e, f, g, h).into(), port([r, s]));
            let client = Ipv4Addr::new(a, b, c, d).into();
            Some(Told { client, port: Some(port([p, q])), virt: Some(virt) })
        }
        _ => None,
    })
}
