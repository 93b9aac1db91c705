//! [`PortMeta`] as bytes, for the way from supervisor to data process.
//!
//! A fixed order of fixed-width little-endian fields behind a version number; both processes are the
//! same program, so no other version is ever read.

use core::net::IpAddr;

use lvs_core::addr::MacAddr;

use crate::config::{Cures, Fanout, FanoutMode, Geometry, PortMeta};
use crate::error::OpenError;
use crate::steer::LocalNet;

const VERSION: u8 = 1;

impl PortMeta {
    /// The description as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.push(u8::try_from(self.name.len()).unwrap_or(u8::MAX));
        out.extend(self.name.bytes().take(usize::from(u8::MAX)));
        out.extend(self.index.to_le_bytes());
        out.extend(self.mac.0);
        out.extend(self.mtu.to_le_bytes());
        out.extend(self.geometry.slot_size.to_le_bytes());
        out.extend(self.geometry.slots.to_le_bytes());
        let Cures { vnet_header, ignore_outgoing, qdisc_for_trains } = self.cures;
        let flags =
            [self.link_up, self.promiscuous, vnet_header, ignore_outgoing, qdisc_for_trains];
        out.extend(flags.map(u8::from));
        match &self.fanout {
            None => out.push(0),
            Some(Fanout { group, mode: FanoutMode::Hash }) => {
                out.push(1);
                out.extend(group.to_le_bytes());
            }
            Some(Fanout { group, mode: FanoutMode::LocalPort { locals, virtuals } }) => {
                out.push(2);
                out.extend(group.to_le_bytes());
                // More than the kernel takes in one program anyway.
                let count = u16::try_from(locals.len()).unwrap_or(u16::MAX);
                out.extend(count.to_le_bytes());
                let locals = locals.iter().take(count.into());
                locals.chain(virtuals).for_each(|net| put_net(&mut out, net));
            }
        }
        out
    }

    /// The description from the bytes that [`to_bytes`](Self::to_bytes) made.
    ///
    /// # Errors
    /// [`OpenError::BadDescription`] when they are something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OpenError> {
        let mut reader = Reader(bytes);
        reader.meta().filter(|_| reader.0.is_empty()).ok_or(OpenError::BadDescription)
    }
}

fn put_net(out: &mut Vec<u8>, net: &LocalNet) {
    match net.addr {
        IpAddr::V4(addr) => {
            out.push(4);
            out.extend(addr.octets());
        }
        IpAddr::V6(addr) => {
            out.push(6);
            out.extend(addr.octets());
        }
    }
    out.push(net.prefix);
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn name(&mut self) -> Option<String> {
        let len = usize::from(self.byte()?);
        let (name, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        String::from_utf8(name.to_vec()).ok()
    }

    fn meta(&mut self) -> Option<PortMeta> {
        if self.byte()? != VERSION {
            return None;
        }
        Some(PortMeta {
            name: self.name()?,
            index: self.u32()?,
            mac: MacAddr(self.take()?),
            mtu: self.u16()?,
            geometry: Geometry { slot_size: self.u32()?, slots: self.u32()? },
            link_up: self.flag()?,
            promiscuous: self.flag()?,
            cures: Cures {
                vnet_header: self.flag()?,
                ignore_outgoing: self.flag()?,
                qdisc_for_trains: self.flag()?,
            },
            fanout: self.fanout()?,
        })
    }

    /// `None`: not readable. `Some(None)`: no fanout.
    #[expect(clippy::option_option, reason = "two different absences")]
    fn fanout(&mut self) -> Option<Option<Fanout>> {
        let kind = self.byte()?;
        if kind == 0 {
            return Some(None);
        }
        let group = self.u16()?;
        match kind {
            1 => Some(Some(Fanout { group, mode: FanoutMode::Hash })),
            2 => {
                let count = self.u16()?;
                let locals = (0..count).map(|_| self.net()).collect::<Option<_>>()?;
                let mut virtuals = Vec::new();
                while !self.0.is_empty() {
                    virtuals.push(self.net()?);
                }
                Some(Some(Fanout { group, mode: FanoutMode::LocalPort { locals, virtuals } }))
            }
            _ => None,
        }
    }

    fn net(&mut self) -> Option<LocalNet> {
        let addr = match self.byte()? {
            4 => IpAddr::from(self.take::<4>()?),
            6 => IpAddr::from(self.take::<16>()?),
            _ => return None,
        };
        Some(LocalNet { addr, prefix: self.byte()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<PortMeta> {
        let locals = vec![
            LocalNet { addr: "10.1.0.0".parse().unwrap(), prefix: 16 },
            LocalNet { addr: "fd00::".parse().unwrap(), prefix: 64 },
        ];
        [
            None,
            Some(Fanout { group: 7, mode: FanoutMode::Hash }),
            Some(Fanout {
                group: 65535,
                mode: FanoutMode::LocalPort { locals: locals.clone(), virtuals: vec![] },
            }),
            Some(Fanout {
                group: 0,
                mode: FanoutMode::LocalPort { locals: vec![], virtuals: locals },
            }),
        ]
        .into_iter()
        .map(|fanout| PortMeta {
            name: "eth0".into(),
            index: 70_000,
            mac: MacAddr([2, 1, 2, 3, 4, 5]),
            mtu: 9000,
            link_up: true,
            geometry: Geometry::MTU_ONLY,
            promiscuous: fanout.is_none(),
            cures: Cures { qdisc_for_trains: fanout.is_some(), ..Cures::default() },
            fanout,
        })
        .collect()
    }

    #[test]
    fn a_description_survives_the_way_and_no_shortened_one_is_taken_for_whole() {
        for meta in examples() {
            let bytes = meta.to_bytes();
            assert_eq!(PortMeta::from_bytes(&bytes), Ok(meta.clone()));
            for cut in 0..bytes.len() {
                assert_ne!(PortMeta::from_bytes(&bytes[..cut]), Ok(meta.clone()));
            }
            let longer = [&bytes[..], &[9]].concat();
            assert_eq!(PortMeta::from_bytes(&longer), Err(OpenError::BadDescription));
            let other = [&[VERSION + 1], &bytes[1..]].concat();
            assert_eq!(PortMeta::from_bytes(&other), Err(OpenError::BadDescription));
        }
    }
}
