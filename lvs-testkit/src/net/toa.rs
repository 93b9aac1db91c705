//! The client's address as a server can read it: TOA options in what arrives.

use crate::oracle;
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::collections::BTreeMap;

/// Client addresses by the peer that the server sees and the server's port; the first one seen
/// counts, as a kernel with TOA support reads it from the handshake.
pub type ToaSeen = BTreeMap<(SocketAddr, u16), SocketAddr>;

/// Kind of the option, as LVS FullNAT sends it.
const KIND: u8 = 254;

/// The client's address in the TOA option of a TCP frame: port first, then 4 or 16 bytes of
/// address.
#[must_use]
pub fn toa_of(frame: &[u8]) -> Option<SocketAddr> {
    let data = oracle::fields(frame).ok()?.tcp?.option(KIND)?;
    let (port, ip) = data.split_first_chunk::<2>()?;
    let ip = match ip.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(ip).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

/// Remembers the option of a received frame, unless its checksums are wrong: then the stack will
/// drop it too. A new handshake forgets what an earlier connection of the same ports brought.
pub(super) fn record(frame: &[u8], seen: &mut ToaSeen) {
    let Ok(fields) = oracle::fields(frame) else { return };
    let (Some(tcp), Some((sport, dport))) = (&fields.tcp, fields.ports) else { return };
    // Cheap checks first: most segments carry no option of this kind.
    let syn = tcp.flags & 0x12 == 0x02;
    let toa = toa_of(frame);
    if (toa.is_none() && !syn) || oracle::checksums_ok(frame).is_err() {
        return;
    }
    let key = (SocketAddr::new(fields.src, sport), dport);
    if syn {
        seen.remove(&key);
    }
    if let Some(client) = toa {
        seen.entry(key).or_insert(client);
    }
}
