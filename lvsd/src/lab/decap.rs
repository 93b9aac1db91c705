//! The server's end of a tunnel: takes the outer header off and gives the packet to its own kernel.
//!
//! Real servers have a device for it (`ip link add type ipip`, `ip fou add`), which many kernels lack. A packet that
//! is sent by a raw socket to an address of this host comes in over loopback, as from such a device.

use super::Problem;
use super::scenario::VIP;
use crate::Exit;
use core::net::Ipv4Addr;
use lvs_os::raw;
use std::io;
use std::net::UdpSocket;

/// What packets come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Outer {
    Ipip,
    Gre,
    Gue,
}

impl Outer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Gue => "gue",
        }
    }
}

const IPPROTO_IPIP: u8 = 4;
const IPPROTO_GRE: u8 = 47;
const GUE_PORT: u16 = 6080;

#[derive(Debug, clap::Args)]
pub(crate) struct DecapArgs {
    #[arg(long)]
    outer: Outer,
}

/// Runs until killed; writes `ready` once it takes packets.
pub(crate) fn main(args: &DecapArgs) -> Result<Exit, Problem> {
    let open = || -> io::Result<(UdpSocket, UdpSocket)> {
        let within = raw::ipv4(raw::ANY_HEADER)?;
        within.connect((*VIP.ip(), 0))?;
        let outside = match args.outer {
            Outer::Ipip => raw::ipv4(IPPROTO_IPIP)?,
            Outer::Gre => raw::ipv4(IPPROTO_GRE)?,
            Outer::Gue => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, GUE_PORT))?,
        };
        Ok((outside, within))
    };
    let (outside, within) = open().map_err(|e| Problem::failed("decap", e))?;
    println!("ready");
    let mut bytes = vec![0; 1 << 16];
    loop {
        let len = outside.recv(&mut bytes).map_err(|e| Problem::failed("decap", e))?;
        let Some(packet) = bytes.get(..len).and_then(|bytes| inside(args.outer, bytes)) else {
            eprintln!("{}: not a packet for {VIP}", args.outer.name());
            continue;
        };
        if let Err(error) = within.send(packet) {
            eprintln!("{}: {error}", args.outer.name());
        }
    }
}

/// The IPv4 packet to the virtual address that came in this way.
fn inside(outer: Outer, bytes: &[u8]) -> Option<&[u8]> {
    let behind_ip = || bytes.get(usize::from(bytes.first()? & 0x0f) * 4..);
    let packet = match outer {
        Outer::Ipip => behind_ip()?,
        Outer::Gre => {
            let gre = behind_ip()?;
            let head = gre.first_chunk::<4>()?;
            // RFC 2784: nothing but a checksum, and IPv4 behind.
            let growth = if head[0] & 0x80 == 0 { 4 } else { 8 };
            ([head[0] & 0x7f, head[1], head[2], head[3]] == [0, 0, 8, 0])
                .then(|| gre.get(growth..))??
        }
        Outer::Gue => {
            let head = bytes.first_chunk::<4>()?;
            // Variant 0, data, no flags; the length of what else there is in words; protocol 4.
            (head[0] & 0xe0 == 0 && head[1] == IPPROTO_IPIP)
                .then(|| bytes.get(4 + usize::from(head[0] & 0x1f) * 4..))??
        }
    };
    let is_for_us = packet.first()? >> 4 == 4 && packet.get(16..20)? == VIP.ip().octets();
    is_for_us.then_some(packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outer_header_is_taken_off_and_nothing_else_is() {
        let mut packet = vec![0x45; 40];
        packet[16..20].copy_from_slice(&VIP.ip().octets());
        let ip = [0x45; 20];
        let within =
            |outer, head: &[u8]| inside(outer, &[head, &packet].concat()) == Some(&packet[..]);
        assert!(within(Outer::Ipip, &ip));
        assert!(within(Outer::Gre, &[&ip[..], &[0, 0, 8, 0]].concat()));
        assert!(within(Outer::Gre, &[&ip[..], &[0x80, 0, 8, 0, 1, 2, 0, 0]].concat()));
        assert!(!within(Outer::Gre, &[&ip[..], &[0x20, 0, 8, 0]].concat()), "a key");
        assert!(within(Outer::Gue, &[0, 4, 0, 0]));
        assert!(!within(Outer::Gue, &[0, 41, 0, 0]) && !within(Outer::Gue, &[0x40, 4, 0, 0]));
        packet[19] ^= 1;
        assert_eq!(inside(Outer::Ipip, &[&ip[..], &packet].concat()), None, "for somebody else");
        assert_eq!(inside(Outer::Ipip, &[]), None);
    }
}
