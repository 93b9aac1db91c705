//! Direct routing: the packet stays what it is and goes to another Ethernet address.

use crate::error::RewriteError;
use crate::fields::{Ipv4Fixed, Ipv6Fixed};
use crate::rewrite::ttl_after;
use lvs_core::addr::Family;
use lvs_core::checksum::Delta;
use lvs_core::wire::Headers;
use zerocopy::FromBytes;

/// The edit of direct routing (DR), of plain routing and of local delivery: nothing above Ethernet but,
/// if wanted, one hop less to live. The Ethernet addresses are set where every packet gets them
/// ([`set_macs`](crate::set_macs)).
///
/// The kernel's IPVS takes a hop from what it sends to a server in this mode, too
/// (`ip_vs_dr_xmit` in `net/netfilter/ipvs/ip_vs_xmit.c`); replies do not pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[doc(alias = "ip_vs_dr_xmit")]
pub struct Direct {
    decrement_ttl: bool,
}

impl Direct {
    /// With or without taking one from the time to live or hop limit.
    #[must_use]
    pub const fn new(decrement_ttl: bool) -> Self {
        Self { decrement_ttl }
    }

    /// Edits a packet of either family. Nothing but the IP header is looked at, so any protocol and
    /// any fragment will do.
    ///
    /// # Errors
    /// `TtlExpired`; `Mismatch` when the headers are another frame's. The frame is then untouched.
    #[inline]
    pub fn apply(self, frame: &mut [u8], headers: &Headers) -> Result<(), RewriteError> {
        take_hop(self.decrement_ttl, frame, headers).map(drop)
    }
}

/// Takes a hop off the IP header at `headers.l3` and returns what is left to live.
#[inline]
pub(crate) fn take_hop(
    decrement: bool,
    frame: &mut [u8],
    headers: &Headers,
) -> Result<u8, RewriteError> {
    let bytes = frame.get_mut(usize::from(headers.l3)..).ok_or(RewriteError::Mismatch)?;
    match headers.family {
        Family::V4 => {
            let (ip, _) = Ipv4Fixed::mut_from_prefix(bytes).map_err(|_| RewriteError::Mismatch)?;
            let (ttl, protocol) = (ttl_after(decrement, ip.ttl)?, ip.protocol);
            let word = |ttl| u16::from_be_bytes([ttl, protocol]);
            let delta = Delta::ZERO.u16(word(ip.ttl), word(ttl));
            if decrement {
                ip.checksum.set(delta.apply(ip.checksum.get()));
            }
            ip.ttl = ttl;
            Ok(ttl)
        }
        Family::V6 => {
            let (ip, _) = Ipv6Fixed::mut_from_prefix(bytes).map_err(|_| RewriteError::Mismatch)?;
            ip.hop_limit = ttl_after(decrement, ip.hop_limit)?;
            Ok(ip.hop_limit)
        }
    }
}
