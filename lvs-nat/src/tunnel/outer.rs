//! Puts a packet into a tunnel: all refusals first, then the header in front.

use super::{DontFragment, Dscp, Encapsulation, Sending, Tunnel, ip_in_ip};
use crate::direct::take_hop;
use crate::error::RewriteError;
use crate::fields::{Ipv4Fixed, Ipv6Fixed, UdpFixed};
use crate::rewrite::ttl_after;
use lvs_core::addr::Family;
use lvs_core::checksum::{Sum, udp_field};
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::ethernet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use lvs_core::wire::{Fragment, Headers, Transport};
use zerocopy::{Immutable, IntoBytes};

/// Longest Ethernet header: two VLAN tags.
const LINK: usize = 22;
const DONT_FRAGMENT: u16 = 0x4000;

/// What the outer header takes from the packet.
struct Inner {
    tos: u8,
    ttl: u8,
    dont_fragment: bool,
    flow: u32,
}

impl Tunnel {
    /// Puts a packet of either family, fragment or whole, behind the outer header. Ethernet addresses
    /// and tags move along, the EtherType becomes the outer one's, padding is left behind.
    ///
    /// Afterwards `headers.l3` is the outer IP header and `headers.family` its version; `l4`, `payload`,
    /// `end` and what they were read from are the inner packet's at their new offsets, so `end - l3`
    /// is what has to fit the MTU. The checksum state and the train of the buffer are those of the
    /// inner packet and know the new offsets.
    ///
    /// # Errors
    /// `TtlExpired`, `TooLong`, `NoRoom`; `NoGso` for a train that the port cannot cut behind this
    /// header (one with a checksum of its own is never cut by a port); `NotWhole` when the packet has
    /// to be summed and lies in pieces; `Mismatch`. Packet and `headers` are then untouched.
    pub fn apply<B: PacketBuf>(
        &self,
        buf: &mut B,
        headers: &mut Headers,
        sending: &Sending,
    ) -> Result<(), RewriteError> {
        let growth = self.growth();
        let (l3, end) = (usize::from(headers.l3), headers.end);
        let inner_len = end.checked_sub(u32::from(headers.l3)).ok_or(RewriteError::Mismatch)?;
        let len = self.outer_len(inner_len)?;
        let payload = headers.payload.checked_add(growth).ok_or(RewriteError::Mismatch)?;
        let link = link_of(buf.data(), l3)?;
        let mut inner = read(buf.data(), headers)?;
        inner.ttl = ttl_after(self.decrement_ttl, inner.ttl)?;
        self.takes_train(buf, sending)?;
        if usize::from(growth) > buf.headroom() {
            return Err(RewriteError::NoRoom);
        }
        let csum = buf.l4_csum();
        let whole = usize::try_from(end).is_ok_and(|end| end <= buf.data().len());
        if self.sums() && !whole {
            return Err(RewriteError::NotWhole);
        }
        take_hop(self.decrement_ttl, buf.data_mut(), headers)?;
        let sum = if self.sums() { sum_of(buf.data(), headers, csum) } else { Sum::ZERO };

        // Nothing below can fail: the room was measured above.
        buf.truncate(usize::try_from(end).unwrap_or(usize::MAX));
        let inner_family = headers.family;
        let data = buf.push_front(growth.into()).map_err(|_| RewriteError::NoRoom)?;
        self.write_link(data, &link, l3);
        let outer = data.get_mut(l3..).unwrap_or_default();
        let (ip, between) =
            outer.split_at_mut_checked(self.outer_ip().into()).ok_or(RewriteError::Mismatch)?;
        self.write_ip(ip, &inner, inner_family, len, sending);
        self.write_between(between, &inner, inner_family, len, sum);

        let inner_l3 = headers.l3.saturating_add(growth);
        headers.family = self.family;
        headers.ttl = self.ttl.unwrap_or(inner.ttl);
        headers.l4 = headers.l4.saturating_add(growth);
        headers.payload = payload;
        headers.end = end.saturating_add(growth.into());
        buf.set_l4_csum(csum, inner_l3, headers.l4);
        if let Some(gso) = buf.gso() {
            buf.set_gso(Some(gso), payload);
        }
        Ok(())
    }

    fn takes_train<B: PacketBuf>(&self, buf: &B, sending: &Sending) -> Result<(), RewriteError> {
        match buf.gso() {
            None => Ok(()),
            Some(gso) if self.is_cut_by(sending.gso, gso.kind) => Ok(()),
            Some(_) => Err(RewriteError::NoGso),
        }
    }

    fn write_link(&self, data: &mut [u8], link: &[u8; LINK], l3: usize) {
        let ethertype = match self.family {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        };
        let unchanged = link.iter().take(l3.saturating_sub(2)).copied();
        for (to, from) in data.iter_mut().zip(unchanged.chain(ethertype.to_be_bytes())) {
            *to = from;
        }
    }

    fn write_ip(
        &self,
        out: &mut [u8],
        inner: &Inner,
        inner_family: Family,
        len: u16,
        sending: &Sending,
    ) {
        let tos = match self.dscp {
            Dscp::Copy => inner.tos,
            Dscp::Set(dscp) => dscp << 2 | inner.tos & 3,
        };
        let ttl = self.ttl.unwrap_or(inner.ttl);
        let protocol = self.protocol(inner_family);
        let written = match self.family {
            Family::V4 => put(&self.v4(tos, ttl, protocol, len, inner, sending), out),
            Family::V6 => {
                let label = inner.flow & 0x000f_ffff;
                let ip = Ipv6Fixed {
                    version_class_flow: (6 << 28 | u32::from(tos) << 20 | label).into(),
                    payload_len: len.into(),
                    next: protocol,
                    hop_limit: ttl,
                    src: self.src.into(),
                    dst: self.dst.into(),
                };
                put(&ip, out)
            }
        };
        debug_assert!(written.is_some(), "the caller made room");
    }

    fn v4(
        &self,
        tos: u8,
        ttl: u8,
        protocol: u8,
        len: u16,
        inner: &Inner,
        sending: &Sending,
    ) -> Ipv4Fixed {
        let df = match self.df {
            DontFragment::Copy => inner.dont_fragment,
            DontFragment::Set => true,
            DontFragment::Clear => false,
        };
        let (id, fragment) = if df { (0, DONT_FRAGMENT) } else { (sending.ip_id, 0) };
        let sum = Sum::ZERO
            .u16(self.addresses)
            .u16(u16::from_be_bytes([0x45, tos]))
            .u16(len)
            .u16(id)
            .u16(fragment)
            .u16(u16::from_be_bytes([ttl, protocol]));
        Ipv4Fixed {
            version_ihl: 0x45,
            tos,
            total_len: len.into(),
            id: id.into(),
            fragment: fragment.into(),
            ttl,
            protocol,
            checksum: sum.checksum().into(),
            // The families agree, so an IPv4 address is in the low half.
            src: (self.src as u32).into(),
            dst: (self.dst as u32).into(),
        }
    }

    /// GRE or UDP with GUE. `len` is the outer length field, `sum` that of the packet inside.
    fn write_between(&self, out: &mut [u8], inner: &Inner, family: Family, len: u16, sum: Sum) {
        let ethertype = match family {
            Family::V4 => ETHERTYPE_IPV4,
            Family::V6 => ETHERTYPE_IPV6,
        };
        let [e0, e1] = ethertype.to_be_bytes();
        let written = match self.encapsulation {
            Encapsulation::IpIp => Some(()),
            Encapsulation::Gre { checksum: false } => put(&[0, 0, e0, e1], out),
            Encapsulation::Gre { checksum: true } => {
                let [c0, c1] = sum.u16(GRE_CHECKSUM).u16(ethertype).checksum().to_be_bytes();
                let [flags, _] = GRE_CHECKSUM.to_be_bytes();
                put(&[flags, 0, e0, e1, c0, c1, 0, 0], out)
            }
            Encapsulation::Gue { dport, .. } => {
                let length = match self.family {
                    Family::V4 => len.saturating_sub(20),
                    Family::V6 => len,
                };
                // Of the range for ports that nobody is assigned (RFC 6335 section 6).
                let sport = 0xc000 | (inner.flow >> 16) as u16 & 0x3fff;
                let gue = [0, ip_in_ip(family), 0, 0];
                let checksum = match self.sums() {
                    false => 0,
                    true => {
                        let sum = sum.u16(self.addresses).u16(17).u16(length).bytes(&gue);
                        udp_field(sum.u16(sport).u16(dport).u16(length).checksum())
                    }
                };
                let udp = UdpFixed {
                    sport: sport.into(),
                    dport: dport.into(),
                    length: length.into(),
                    checksum: checksum.into(),
                };
                put(&udp, out).and_then(|()| put(&gue, out.get_mut(8..)?))
            }
        };
        debug_assert!(written.is_some(), "the caller made room");
    }
}

/// Writes a header to where there is room for it.
fn put(header: &(impl IntoBytes + Immutable), out: &mut [u8]) -> Option<()> {
    header.write_to_prefix(out).ok()
}

/// First word of a GRE header with a checksum (RFC 2784 section 2.1).
const GRE_CHECKSUM: u16 = 0x8000;

/// The Ethernet header with its tags.
fn link_of(data: &[u8], l3: usize) -> Result<[u8; LINK], RewriteError> {
    let header = data.get(..l3).filter(|header| (2..=LINK).contains(&header.len()));
    let header = header.ok_or(RewriteError::Mismatch)?;
    let mut link = [0; LINK];
    for (to, from) in link.iter_mut().zip(header) {
        *to = *from;
    }
    Ok(link)
}

fn read(data: &[u8], headers: &Headers) -> Result<Inner, RewriteError> {
    let ip = data.get(usize::from(headers.l3)..).ok_or(RewriteError::Mismatch)?;
    let fixed = ip.first_chunk::<20>().ok_or(RewriteError::Mismatch)?;
    let flow = flow_of(ip, headers).ok_or(RewriteError::Mismatch)?;
    let [b0, b1, .., f0, _, t, _, _, _, _, _, _, _, _, _, _, _] = *fixed;
    Ok(match headers.family {
        Family::V4 => Inner { tos: b1, ttl: t, dont_fragment: f0 & 0x40 != 0, flow },
        Family::V6 => {
            let [.., limit] = *ip.first_chunk::<8>().ok_or(RewriteError::Mismatch)?;
            Inner { tos: b0 << 4 | b1 >> 4, ttl: limit, dont_fragment: true, flow }
        }
    })
}

/// A number that is the same for all packets of a flow, and differs between flows. Fragments have no
/// ports but in the first, so there it is of the addresses alone.
fn flow_of(ip: &[u8], headers: &Headers) -> Option<u32> {
    let (from, to) = match headers.family {
        Family::V4 => (12, 20),
        Family::V6 => (8, 40),
    };
    let mut hash = 0x9e37_79b9_7f4a_7c15u64;
    let mut mix = |word: u32| {
        hash = (hash ^ u64::from(word)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 32;
    };
    for word in ip.get(from..to)?.as_chunks::<4>().0 {
        mix(u32::from_be_bytes(*word));
    }
    let whole = headers.fragment == Fragment::No;
    if let Some(tuple) = headers.tuple.filter(|_| whole) {
        mix(u32::from(tuple.sport()) << 16 | u32::from(tuple.dport()));
    }
    mix(0);
    Some((hash ^ hash >> 29) as u32)
}

/// The sum of the packet as it will be on the wire.
fn sum_of(data: &[u8], headers: &Headers, csum: L4Csum) -> Sum {
    let (l3, l4) = (usize::from(headers.l3), usize::from(headers.l4));
    let end = usize::try_from(headers.end).unwrap_or(usize::MAX);
    let field = match headers.transport {
        Transport::Tcp { .. } => Some(16),
        Transport::Udp => Some(6),
        Transport::Icmp { .. } | Transport::Other(_) => None,
    };
    let seed = field
        .filter(|_| csum == L4Csum::Partial)
        .and_then(|at| data.get(l4.checked_add(at)?..)?.first_chunk::<2>());
    match seed {
        // Completed, the transport part and the pseudo-header sum to nothing.
        Some(seed) => {
            Sum::ZERO.bytes(data.get(l3..l4).unwrap_or_default()).u16(!u16::from_be_bytes(*seed))
        }
        None => Sum::ZERO.bytes(data.get(l3..end).unwrap_or_default()),
    }
}
