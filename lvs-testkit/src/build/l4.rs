//! TCP with options, UDP, and any other protocol.

use super::packet::{Layer4, Packet};
use core::net::SocketAddr;
use lvs_core::io::GsoKind;

/// TCP flags, as in byte 13 of the header.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// Explicit congestion notification echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;
}

/// TCP options as bytes, for [`Packet::options`](super::Packet::options).
pub mod option {
    use core::net::SocketAddr;

    /// No operation.
    pub const NOP: [u8; 1] = [1];
    /// End of the list.
    pub const END: [u8; 1] = [0];

    /// Any option: kind, the right length, data.
    #[must_use]
    pub fn any(kind: u8, data: &[u8]) -> Vec<u8> {
        [&[kind, (data.len() + 2) as u8], data].concat()
    }

    /// Maximum segment size (RFC 9293 section 3.2).
    #[must_use]
    pub fn mss(size: u16) -> Vec<u8> {
        any(2, &size.to_be_bytes())
    }

    /// Window scale (RFC 7323 section 2).
    #[must_use]
    pub fn window_scale(shift: u8) -> Vec<u8> {
        any(3, &[shift])
    }

    /// SACK permitted (RFC 2018 section 2).
    #[must_use]
    pub fn sack_permitted() -> Vec<u8> {
        any(4, &[])
    }

    /// SACK blocks (RFC 2018 section 3): left edge, right edge.
    #[must_use]
    pub fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
        let edges =
            blocks.iter().flat_map(|(left, right)| [left.to_be_bytes(), right.to_be_bytes()]);
        any(5, &edges.flatten().collect::<Vec<u8>>())
    }

    /// Timestamps (RFC 7323 section 3): value, echo reply.
    #[must_use]
    pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
        any(8, &[value.to_be_bytes(), echo.to_be_bytes()].concat())
    }

    /// The client's address in the option that LVS FullNAT uses: kind 254, port, address.
    #[must_use]
    pub fn toa(client: SocketAddr) -> Vec<u8> {
        let port = client.port().to_be_bytes();
        match client {
            SocketAddr::V4(v4) => any(254, &[&port[..], &v4.ip().octets()].concat()),
            SocketAddr::V6(v6) => any(254, &[&port[..], &v6.ip().octets()].concat()),
        }
    }
}

/// A TCP header in the making.
#[derive(Clone, Debug)]
pub struct Tcp {
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    urgent: u16,
    options: Vec<u8>,
    data_offset: Option<u8>,
}

/// A TCP segment from 10.0.0.2:40000 to 10.0.0.80:80, without flags.
#[must_use]
pub fn tcp() -> Packet<Tcp> {
    Packet::new(Tcp {
        flags: 0,
        seq: 1000,
        ack: 0,
        window: 65535,
        urgent: 0,
        options: Vec::new(),
        data_offset: None,
    })
}

impl Layer4 for Tcp {
    fn proto(&self, _v6: bool) -> u8 {
        6
    }

    /// RFC 9293 section 3.1.
    fn header(&self, src: SocketAddr, dst: SocketAddr, _payload: &[u8]) -> Vec<u8> {
        let options = self.options.len().next_multiple_of(4);
        let offset = self.data_offset.unwrap_or(((20 + options) / 4) as u8);
        let mut bytes = [src.port().to_be_bytes(), dst.port().to_be_bytes()].concat();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend([offset << 4, self.flags]);
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(&self.options);
        bytes.resize(20 + options, 0);
        bytes
    }

    fn csum_at(&self) -> Option<usize> {
        Some(16)
    }

    fn gso_kind(&self, v6: bool) -> Option<GsoKind> {
        Some(if v6 { GsoKind::TcpV6 } else { GsoKind::TcpV4 })
    }
}

impl Packet<Tcp> {
    /// Adds these [`flag`]s.
    #[must_use]
    pub fn flags(mut self, flags: u8) -> Self {
        self.l4.flags |= flags;
        self
    }

    /// Adds SYN.
    #[must_use]
    pub fn syn(self) -> Self {
        self.flags(flag::SYN)
    }

    /// Adds FIN.
    #[must_use]
    pub fn fin(self) -> Self {
        self.flags(flag::FIN)
    }

    /// Adds RST.
    #[must_use]
    pub fn rst(self) -> Self {
        self.flags(flag::RST)
    }

    /// Adds PSH.
    #[must_use]
    pub fn psh(self) -> Self {
        self.flags(flag::PSH)
    }

    /// Adds ACK with this acknowledgement number.
    #[must_use]
    pub fn ack(mut self, number: u32) -> Self {
        self.l4.ack = number;
        self.flags(flag::ACK)
    }

    /// Sequence number.
    #[must_use]
    pub fn seq(mut self, number: u32) -> Self {
        self.l4.seq = number;
        self
    }

    /// Window.
    #[must_use]
    pub fn window(mut self, window: u16) -> Self {
        self.l4.window = window;
        self
    }

    /// Adds URG with this pointer.
    #[must_use]
    pub fn urgent(mut self, pointer: u16) -> Self {
        self.l4.urgent = pointer;
        self.flags(flag::URG)
    }

    /// The acknowledgement number without the flag.
    #[must_use]
    pub fn ack_number(mut self, number: u32) -> Self {
        self.l4.ack = number;
        self
    }

    /// Takes all options away.
    #[must_use]
    pub fn no_options(mut self) -> Self {
        self.l4.options.clear();
        self
    }

    /// Appends option bytes as they are. The header is padded with zeros to whole words.
    #[must_use]
    pub fn options(mut self, bytes: &[u8]) -> Self {
        self.l4.options.extend(bytes);
        self
    }

    /// Appends a maximum segment size.
    #[must_use]
    pub fn mss(self, size: u16) -> Self {
        self.options(&option::mss(size))
    }

    /// Appends a window scale.
    #[must_use]
    pub fn window_scale(self, shift: u8) -> Self {
        self.options(&option::window_scale(shift))
    }

    /// Appends SACK permitted.
    #[must_use]
    pub fn sack_permitted(self) -> Self {
        self.options(&option::sack_permitted())
    }

    /// Appends SACK blocks.
    #[must_use]
    pub fn sack(self, blocks: &[(u32, u32)]) -> Self {
        self.options(&option::sack(blocks))
    }

    /// Appends timestamps.
    #[must_use]
    pub fn timestamps(self, value: u32, echo: u32) -> Self {
        self.options(&option::timestamps(value, echo))
    }

    /// Appends the client's address as LVS FullNAT does.
    #[must_use]
    pub fn toa(self, client: SocketAddr) -> Self {
        self.options(&option::toa(client))
    }

    /// The options that a Linux client sends with a SYN: MSS, SACK permitted, timestamps, window
    /// scale.
    #[must_use]
    pub fn linux_options(self, mss: u16) -> Self {
        self.mss(mss)
            .sack_permitted()
            .timestamps(0x0102_0304, 0)
            .options(&option::NOP)
            .window_scale(7)
    }

    /// Any header length, in 32-bit words, instead of the right one.
    #[must_use]
    pub fn data_offset(mut self, words: u8) -> Self {
        self.l4.data_offset = Some(words);
        self
    }
}

/// A UDP header in the making.
#[derive(Clone, Debug)]
pub struct Udp {
    len: Option<u16>,
}

/// A UDP datagram from 10.0.0.2:40000 to 10.0.0.80:80.
#[must_use]
pub fn udp() -> Packet<Udp> {
    Packet::new(Udp { len: None })
}

impl Layer4 for Udp {
    fn proto(&self, _v6: bool) -> u8 {
        17
    }

    /// RFC 768.
    fn header(&self, src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
        let len = self.len.unwrap_or((payload.len() + 8) as u16);
        [src.port(), dst.port(), len, 0].iter().flat_map(|field| field.to_be_bytes()).collect()
    }

    fn csum_at(&self) -> Option<usize> {
        Some(6)
    }

    fn gso_kind(&self, _v6: bool) -> Option<GsoKind> {
        Some(GsoKind::Udp)
    }
}

impl Packet<Udp> {
    /// Any length field instead of the right one. The checksum still covers the real length.
    #[must_use]
    pub fn udp_len(mut self, len: u16) -> Self {
        self.l4.len = Some(len);
        self
    }
}

/// Any protocol number, without a header of its own.
#[derive(Clone, Debug)]
pub struct Raw(u8);

/// An IP packet of this protocol whose payload is all there is behind the IP header.
#[must_use]
pub fn raw(proto: u8) -> Packet<Raw> {
    Packet::new(Raw(proto))
}

impl Layer4 for Raw {
    fn proto(&self, _v6: bool) -> u8 {
        self.0
    }

    fn header(&self, _src: SocketAddr, _dst: SocketAddr, _payload: &[u8]) -> Vec<u8> {
        Vec::new()
    }

    fn csum_at(&self) -> Option<usize> {
        None
    }

    fn gso_kind(&self, _v6: bool) -> Option<GsoKind> {
        None
    }
}
