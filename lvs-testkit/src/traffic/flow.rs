//! Sessions: opened by handshakes, kept in a few bytes, and their frames.

use super::frame::{Ends, Ip, Segment, flags, read, write};
use lvs_core::addr::MacAddr;

/// Which side of the balancer a frame is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where clients are.
    Clients,
    /// Where servers are.
    Servers,
}

/// What a frame is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment of the client with data.
    Inbound,
    /// A segment of the server with data.
    Reply,
}

/// Around the balancer: one virtual service, clients behind a gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network<A> {
    /// The virtual service.
    pub service: (A, u16),
    /// First of 2^17 client addresses.
    pub clients: A,
    /// Ethernet address of the gateway to the clients.
    pub gateway: MacAddr,
    /// The balancer's Ethernet addresses, towards clients and towards servers.
    pub own: [MacAddr; 2],
}

const ADDRESSES: u64 = 1 << 17;
const FIRST_PORT: u64 = 1024;
/// Clients of one network that differ: every address with every port from 1024 on.
const CLIENTS: u64 = ADDRESSES * (65_536 - FIRST_PORT);

impl Network<u32> {
    /// Service 10.0.0.80:80, clients 198.18.0.0/15 (RFC 2544).
    #[must_use]
    pub const fn example() -> Self {
        Self {
            service: (0x0a00_0050, 80),
            clients: 0xc612_0000,
            gateway: MacAddr([2, 0, 0, 0, 1, 0xfe]),
            own: [MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2])],
        }
    }
}

impl Network<u128> {
    /// Service `[fd00::80]:80`, clients 2001:2::/48 (RFC 5180).
    #[must_use]
    pub const fn example() -> Self {
        let v4 = Network::<u32>::example();
        Self {
            service: (0xfd00 << 112 | 0x80, 80),
            clients: 0x2001_0002 << 96,
            gateway: v4.gateway,
            own: v4.own,
        }
    }
}

impl<A: Ip> Network<A> {
    /// Address and port of client `number`, different for the first 2^32 and more of them. Neighbours in
    /// number have unrelated addresses.
    #[must_use]
    pub fn client(&self, number: u64) -> (A, u16) {
        let number = number % CLIENTS;
        // An odd factor permutes the addresses.
        let address = (number % ADDRESSES).wrapping_mul(0x1_3c6f) % ADDRESSES;
        let port = FIRST_PORT + number / ADDRESSES;
        (self.clients.plus(address as u32), port as u16)
    }

    /// Writes the SYN of client `number`; gives its length.
    pub fn syn(&self, number: u64, frame: &mut [u8]) -> Option<usize> {
        let seq = isn(number);
        self.from_client(
            number,
            frame,
            &Segment { flags: flags::SYN, seq, mss: Some(1460), ..NONE },
        )
    }

    /// Writes any segment of client `number`.
    pub fn from_client(&self, number: u64, frame: &mut [u8], segment: &Segment) -> Option<usize> {
        let ends = Ends { src: self.client(number), dst: self.service };
        write(frame, [self.own[0], self.gateway], &ends, segment)
    }

    /// Opens session `number` until ordinary segments are all that is left: handshake, data of the
    /// server, acknowledgement, data of the client. `pass` takes a frame that arrives on a side and
    /// replaces the content of the vector by what left on the other side.
    ///
    /// # Errors
    /// What `pass` said, or what was strange about a frame that came out.
    pub fn establish(
        &self,
        number: u64,
        pass: &mut impl FnMut(Side, &[u8], &mut Vec<u8>) -> Result<(), String>,
    ) -> Result<Flow<A>, String> {
        let (mut frame, mut sent) = ([0; 256], Vec::with_capacity(256));
        let len = self.syn(number, &mut frame).ok_or("a SYN does not fit")?;
        pass(Side::Clients, &frame[..len], &mut sent)?;
        let (ends, seq, server_mac) = read::<A>(&sent).ok_or("no TCP header came out")?;
        let client_seq = isn(number).wrapping_add(1);
        let server_isn = isn(!number);
        let mut flow = Flow {
            client: self.client(number),
            local: ends.src,
            server: ends.dst,
            server_mac,
            client_seq,
            client_seen: seq.wrapping_add(1),
            server_seq: server_isn.wrapping_add(1),
        };
        let syn_ack = flags::SYN | flags::ACK;
        let answer = Segment { flags: syn_ack, seq: server_isn, mss: Some(1460), ..NONE };
        let mut server = |flow: &Flow<A>, segment: Segment| {
            let segment = Segment { ack: flow.client_seen, ..segment };
            let len = flow.from_server(self, &mut frame, &segment).ok_or("does not fit")?;
            pass(Side::Servers, &frame[..len], &mut sent)
        };
        server(&flow, answer)?;
        let mut out = Vec::with_capacity(256);
        let mut ack = |flow: &Flow<A>, pass: &mut dyn FnMut(Side, &[u8], &mut Vec<u8>) -> _| {
            let segment =
                Segment { flags: flags::ACK, seq: flow.client_seq, ack: flow.server_seq, ..NONE };
            let mut frame = [0; 256];
            let len = self.from_client(number, &mut frame, &segment).ok_or("does not fit")?;
            pass(Side::Clients, &frame[..len], &mut out)
        };
        ack(&flow, pass)?;
        let data = Segment {
            flags: flags::ACK | flags::PSH,
            seq: flow.server_seq,
            ack: flow.client_seen,
            payload: 6,
            ..NONE
        };
        let len = flow.from_server(self, &mut frame, &data).ok_or("does not fit")?;
        pass(Side::Servers, &frame[..len], &mut sent)?;
        flow.server_seq = flow.server_seq.wrapping_add(6);
        // The client's word that data has come ends the client-address option; its own data follows.
        ack(&flow, pass)?;
        let len = flow.write(self, Kind::Inbound, 60, &mut frame).ok_or("does not fit")?;
        pass(Side::Clients, &frame[..len], &mut sent)?;
        Ok(flow)
    }
}

const NONE: Segment = Segment { flags: 0, seq: 0, ack: 0, mss: None, payload: 0 };

/// Sequence numbers that differ from session to session.
const fn isn(number: u64) -> u32 {
    (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

/// An established session, as its two ends see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<A> {
    /// The client.
    pub client: (A, u16),
    /// Whom the server talks to: a local address with its port, or in NAT the client.
    pub local: (A, u16),
    /// The server.
    pub server: (A, u16),
    /// The server's Ethernet address.
    pub server_mac: MacAddr,
    /// Next sequence number of the client, as the client counts.
    pub client_seq: u32,
    /// The same as the server sees it.
    pub client_seen: u32,
    /// Next sequence number of the server.
    pub server_seq: u32,
}

impl<A: Ip> Flow<A> {
    /// Writes a segment with data, of a frame `len` bytes long; gives its length, which is that of the
    /// headers where `len` is less.
    pub fn write(
        &self,
        net: &Network<A>,
        kind: Kind,
        len: usize,
        frame: &mut [u8],
    ) -> Option<usize> {
        let payload = len.saturating_sub(14 + A::HEADER + 20);
        let flags = flags::ACK | flags::PSH;
        match kind {
            Kind::Inbound => {
                let (seq, ack) = (self.client_seq, self.server_seq);
                let ends = Ends { src: self.client, dst: net.service };
                let segment = Segment { flags, seq, ack, payload, mss: None };
                write(frame, [net.own[0], net.gateway], &ends, &segment)
            }
            Kind::Reply => {
                let (seq, ack) = (self.server_seq, self.client_seen);
                self.from_server(net, frame, &Segment { flags, seq, ack, payload, mss: None })
            }
        }
    }

    /// Writes any segment of the server.
    pub fn from_server(
        &self,
        net: &Network<A>,
        frame: &mut [u8],
        segment: &Segment,
    ) -> Option<usize> {
        let ends = Ends { src: self.server, dst: self.local };
        write(frame, [net.own[1], self.server_mac], &ends, segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn clients_differ_and_so_do_their_sequence_numbers() {
        let net = Network::<u32>::example();
        let clients: HashSet<_> = (0..300_000).chain(1 << 30..(1 << 30) + 1000).collect();
        let seen: HashSet<_> = clients.iter().map(|number| net.client(*number)).collect();
        assert_eq!(seen.len(), clients.len());
        assert_ne!(isn(1), isn(2));
    }

    /// A translator with one session, by hand: what a handshake is to see of FullNAT.
    #[test]
    fn a_handshake_learns_what_the_server_sees() {
        let net = Network::<u32>::example();
        let (local, server) = ((0x0a01_0101, 5000), (0x0a01_000b, 8080));
        let server_mac = MacAddr([2, 0, 0, 0, 2, 0]);
        let mut passed = Vec::new();
        let flow = net
            .establish(9, &mut |side, frame, sent| {
                let (ends, seq, _) = read::<u32>(frame).ok_or("short")?;
                crate::oracle::checksums_ok(frame)?;
                passed.push((side, frame[47]));
                let segment = Segment { seq: seq.wrapping_add(100), ..NONE };
                let ends = match side {
                    Side::Clients => Ends { src: local, dst: server },
                    Side::Servers => {
                        assert_eq!((ends.src, ends.dst), (server, local));
                        Ends { src: net.service, dst: net.client(9) }
                    }
                };
                sent.resize(128, 0);
                let len = write(sent, [server_mac, net.own[1]], &ends, &segment).ok_or("long")?;
                sent.truncate(len);
                Ok(())
            })
            .unwrap();
        let (s, a, p) = (flags::SYN, flags::ACK, flags::PSH);
        let (c, v) = (Side::Clients, Side::Servers);
        assert_eq!(passed, [(c, s), (v, s | a), (c, a), (v, a | p), (c, a), (c, a | p)]);
        assert_eq!((flow.local, flow.server, flow.server_mac), (local, server, server_mac));
        assert_eq!(flow.client_seen, flow.client_seq.wrapping_add(100));
        let mut frame = [0; 128];
        for kind in [Kind::Inbound, Kind::Reply] {
            let len = flow.write(&net, kind, 60, &mut frame).unwrap();
            assert_eq!((len, crate::oracle::checksums_ok(&frame[..len])), (60, Ok(())));
        }
    }
}
