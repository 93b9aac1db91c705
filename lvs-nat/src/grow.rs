//! Making a packet longer or shorter in the middle: what the address option and payload edits share.

use crate::fields::{Ipv4Fixed, Ipv6Fixed};
use lvs_core::addr::Family;
use lvs_core::checksum::Delta;
use lvs_core::io::{Gso, NoRoom, PacketBuf};
use zerocopy::FromBytes;

/// Moves the first `front` bytes so that the `old` bytes behind them become `new` ones, whose content
/// is then undefined, and returns the packet's bytes. What follows stays where it is.
pub(crate) fn resize<B: PacketBuf>(
    buf: &mut B,
    front: usize,
    old: usize,
    new: usize,
) -> Result<&mut [u8], NoRoom> {
    match new.checked_sub(old) {
        Some(grown) => {
            let data = buf.push_front(grown)?;
            if let Some(moved) = data.get_mut(..front.saturating_add(grown)) {
                move_to_front(moved, grown);
            }
            Ok(data)
        }
        None => {
            let shrunk = old.saturating_sub(new);
            if let Some(moved) = buf.data_mut().get_mut(..front.saturating_add(shrunk)) {
                move_to_back(moved, shrunk);
            }
            buf.pull_front(shrunk)?;
            Ok(buf.data_mut())
        }
    }
}

/// Moves all but the first `by` bytes to the start.
fn move_to_front(bytes: &mut [u8], by: usize) {
    if by <= bytes.len() {
        bytes.copy_within(by.., 0);
    }
}

/// Moves all but the last `by` bytes to the end.
fn move_to_back(bytes: &mut [u8], by: usize) {
    if let Some(keep) = bytes.len().checked_sub(by) {
        bytes.copy_within(..keep, by);
    }
}

/// The bytes from `start` to `end` as a length field may state them.
pub(crate) fn len_u32(end: usize, start: usize) -> u32 {
    u32::try_from(end.saturating_sub(start)).unwrap_or(u32::MAX)
}

/// The train with segments small enough for headers of `header_len` bytes; `None` when not even one
/// byte of payload would fit.
pub(crate) fn fit(gso: Gso, header_len: usize, mtu: u16) -> Option<Gso> {
    let most = usize::from(mtu).checked_sub(header_len)?;
    let most = u16::try_from(most).ok().filter(|most| *most > 0)?;
    Some(Gso { size: gso.size.min(most), ..gso })
}

/// The length field of the IP header.
pub(crate) enum IpLength {
    V4(u16),
    V6(u16),
}

impl IpLength {
    /// For a packet from `l3` to `end`; `None` when the field cannot state it.
    pub(crate) fn new(family: Family, l3: usize, end: usize) -> Option<Self> {
        let total = end.checked_sub(l3)?;
        match family {
            Family::V4 => u16::try_from(total).ok().map(Self::V4),
            Family::V6 => u16::try_from(total.checked_sub(40)?).ok().map(Self::V6),
        }
    }

    /// Whether the fixed header is there.
    pub(crate) fn fits(&self, data: &[u8], l3: usize) -> bool {
        let len = match self {
            Self::V4(_) => 20,
            Self::V6(_) => 40,
        };
        data.get(l3..).is_some_and(|ip| ip.len() >= len)
    }

    pub(crate) fn write(&self, ip: &mut [u8]) {
        match *self {
            Self::V4(total) => {
                let Ok((ip, _)) = Ipv4Fixed::mut_from_prefix(ip) else { return };
                let delta = Delta::ZERO.u16(ip.total_len.get(), total);
                ip.total_len.set(total);
                ip.checksum.set(delta.apply(ip.checksum.get()));
            }
            Self::V6(payload) => {
                let Ok((ip, _)) = Ipv6Fixed::mut_from_prefix(ip) else { return };
                ip.payload_len.set(payload);
            }
        }
    }
}
