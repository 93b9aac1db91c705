//! QUIC connection ids, as far as every version shows them (RFC 8999), for picking servers by them.
//!
//! The client's first packets carry a destination id of its own choice, at least eight random bytes (RFC 9000 section
//! 7.2); afterwards packets carry an id that the server has given out, whose length the server knows and
//! the packet does not tell. A director that picks by the id instead of the client's address sends
//!
//! | packet | to |
//! |---|---|
//! | of an address and port that has a session | that session's server, whatever its id |
//! | with a long header, from anywhere | the server of that id: all first packets of a connection meet, even when the client's address changes during the handshake |
//! | with a short header, from a new address | the server of that id: the right one if servers give out ids that lead to themselves, else any |
//!
//! A server makes such ids by drawing until [`flow`] of an id, given to the same scheduler over the same servers,
//! names it: with N equal servers N draws on average. Every scheduler that depends on the flow alone serves
//! (`maglev`, `conhash`, `mh`, `sh`).

use crate::flow::{L4Proto, WireTuple};
use crate::siphash::SipHash13;
use core::net::{IpAddr, Ipv6Addr};

/// Bit of the first byte (RFC 8999 section 5.1).
const LONG: u8 = 0x80;
/// Keys of two halves of a hash that every director and server can compute.
const KEYS: [[u64; 2]; 2] = [[0, 1], [0, 2]];

/// The destination connection id in the payload of a datagram. `short` is the length of the ids that servers give out,
/// for packets that do not tell it. `None` when there is none, or the datagram is too short.
///
/// ```
/// use lvs_core::quic::destination_id;
/// assert_eq!(destination_id(&[0xc0, 0, 0, 0, 1, 3, 7, 8, 9, 0], 4), Some(&[7, 8, 9][..]));
/// assert_eq!(destination_id(&[0x40, 5, 6, 7, 8, 99], 4), Some(&[5, 6, 7, 8][..]));
/// assert_eq!(destination_id(&[0x40, 5, 6], 4), None);
/// ```
#[must_use]
pub fn destination_id(datagram: &[u8], short: u8) -> Option<&[u8]> {
    let (first, rest) = datagram.split_first()?;
    let id = if first & LONG == 0 {
        rest.get(..usize::from(short))?
    } else {
        let (len, ids) = rest.get(4..)?.split_first()?;
        ids.get(..usize::from(*len))?
    };
    (!id.is_empty()).then_some(id)
}

/// What a scheduler sees of a packet with this destination id to `to`: a flow whose client is the id's hash
/// (SipHash-1-3 with the keys (0, 1) and (0, 2), upper and lower half of an IPv6 address), with port 0.
#[must_use]
pub fn flow(id: &[u8], to: IpAddr, port: u16) -> WireTuple {
    let [high, low] = KEYS.map(|key| u128::from(SipHash13::new(&key).bytes(id)));
    let client = IpAddr::V6(Ipv6Addr::from_bits(high << 64 | low));
    let to = match to {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        IpAddr::V6(_) => to,
    };
    let whole = WireTuple::new(L4Proto::Udp, client, 0, to, port);
    whole.unwrap_or(WireTuple::V6(crate::flow::TupleV6 {
        src: 0,
        dst: 0,
        sport: 0,
        dport: port,
        proto: L4Proto::Udp,
    }))
}
