//! The least work on a packet whose session is at hand.

use lvs_core::io::PacketBuf;
use lvs_core::prefetch::prefetch;

/// Bytes up to the end of a TCP header without options.
pub const HEADERS: usize = 54;
/// Packets of one burst.
pub const BURST: usize = 64;

/// Source and destination address and both ports, as they stand in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pair {
    /// Source, destination.
    addresses: [u32; 2],
    ports: [u16; 2],
}

impl Pair {
    /// From numbers.
    #[must_use]
    pub const fn new(src: (u32, u16), dst: (u32, u16)) -> Self {
        Self { addresses: [src.0.to_be(), dst.0.to_be()], ports: [src.1.to_be(), dst.1.to_be()] }
    }

    /// Source, destination, ports, as they stand in a packet.
    #[must_use]
    pub const fn words(self) -> [u32; 3] {
        let [src, dst] = self.addresses;
        let [a, b] = self.ports;
        [src, dst, a as u32 | (b as u32) << 16]
    }

    /// The way back.
    #[must_use]
    pub const fn from_words(words: [u32; 3]) -> Self {
        let [src, dst, ports] = words;
        Self { addresses: [src, dst], ports: [ports as u16, (ports >> 16) as u16] }
    }

    const fn swapped(self) -> Self {
        let [a, b] = self.addresses;
        let [c, d] = self.ports;
        Self { addresses: [b, a], ports: [d, c] }
    }

    const fn sum(self) -> u64 {
        let [a, b] = self.addresses;
        let [c, d] = self.ports;
        a as u64 + b as u64 + c as u64 + d as u64
    }
}

/// A session with all that a packet reads or writes; one line. Checksums change by numbers in the byte
/// order of the machine: one's complement sums do not mind.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
pub struct Session {
    /// Client to virtual address: the key of inbound packets, turned round what replies become.
    pub inner: Pair,
    /// Local address to server: what inbound packets become, turned round the key of replies.
    pub outer: Pair,
    /// Change of the L4 checksum inbound; its complement in the other direction.
    pub l4_delta: u16,
    /// The same of the IPv4 header.
    pub ip_delta: u16,
    /// Added to sequence numbers of the client.
    pub seq_delta: u32,
    /// Added to sequence numbers of the server.
    pub ack_delta: u32,
    /// When the newest packet came.
    pub last_seen: u32,
    /// 1 = established.
    pub state: u8,
    /// 3 = live and plain.
    pub flags: u8,
    /// Next hop to the server.
    pub hop_in: u16,
    /// Next hop to the client.
    pub hop_out: u16,
    /// Whose it is.
    pub server_number: u16,
    /// Packets above 40 bits of bytes, inbound and out.
    pub carried: [u64; 2],
}

const _: () = assert!(size_of::<Session>() == 64);

/// One's complement sum of the 16-bit words. A number plus itself with its halves exchanged has the sum of
/// the halves on top, the carry already added at the end.
#[inline(always)]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// RFC 1624: a checksum field after a change of the sum.
#[inline(always)]
const fn moved(field: u16, delta: u64) -> u16 {
    !fold(!field as u64 + delta)
}

impl Session {
    /// Computes the checksum changes from the addresses.
    #[must_use]
    pub const fn with_deltas(mut self) -> Self {
        let (inner, outer) = (self.inner, self.outer);
        let (inner_ip, outer_ip) =
            (Pair { ports: [0; 2], ..inner }, Pair { ports: [0; 2], ..outer });
        // The complement of a folded sum takes it away.
        self.ip_delta = fold(outer_ip.sum() + !fold(inner_ip.sum()) as u64);
        self.l4_delta = fold(outer.sum() + !fold(inner.sum()) as u64);
        self
    }
}

#[inline(always)]
fn word<const N: usize, const M: usize>(b: &[u8; N], at: usize) -> [u8; M] {
    let mut bytes = [0; M];
    bytes.copy_from_slice(&b[at..at + M]);
    bytes
}

#[inline(always)]
fn u16_at(h: &[u8; HEADERS], at: usize) -> u16 {
    u16::from_ne_bytes(word(h, at))
}

#[inline(always)]
fn u32_at(h: &[u8; HEADERS], at: usize) -> u32 {
    u32::from_ne_bytes(word(h, at))
}

#[inline(always)]
fn u64_at(h: &[u8; HEADERS], at: usize) -> u64 {
    u64::from_ne_bytes(word(h, at))
}

/// The sum of the IPv4 header is right.
#[inline(always)]
fn header_sum(h: &[u8; HEADERS]) -> bool {
    let sum = [14, 18, 22, 26, 30].iter().map(|at| u64::from(u32_at(h, *at))).sum();
    fold(sum) == 0xffff
}

/// The Ethernet address of a port, ready to be compared.
#[derive(Clone, Copy, Debug)]
pub struct Own(u64);

impl Own {
    /// From the address.
    #[must_use]
    pub const fn new(mac: [u8; 6]) -> Self {
        let [a, b, c, d, e, f] = mac;
        Self(u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// All checks of an ordinary segment: Ethernet addresses, type, IPv4 without options or fragmentation,
/// lengths, time to live, header checksum, source, TCP without options, ACK and perhaps PSH.
#[inline(always)]
#[must_use]
pub fn inspect(h: &[u8; HEADERS], frame_len: usize, own: Own) -> bool {
    const fn pattern(bytes: [u8; 8]) -> u64 {
        u64::from_ne_bytes(bytes)
    }
    // Destination; and the source is a host.
    let ethernet = (u64_at(h, 0) & pattern([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0])) ^ own.0;
    // EtherType, version and header length.
    let kind = (u64_at(h, 12) & pattern([0xff, 0xff, 0xff, 0, 0, 0, 0, 0]))
        ^ pattern([8, 0, 0x45, 0, 0, 0, 0, 0]);
    // Fragmentation, protocol.
    let whole = (u64_at(h, 20) & pattern([0x3f, 0xff, 0, 0xff, 0, 0, 0, 0]))
        ^ pattern([0, 0, 0, 6, 0, 0, 0, 0]);
    // Header length, flags but PSH.
    let tcp = (u16_at(h, 46) & u16::from_ne_bytes([0xff, 0xf7])) ^ u16::from_ne_bytes([0x50, 0x10]);
    let ip_len = usize::from(u16::from_be(u16_at(h, 16)));
    ethernet | kind | whole | u64::from(tcp) == 0
        && ip_len >= 40
        && ip_len <= frame_len - 14
        && h[22] > 1
        && h[26].wrapping_sub(1) < 223
        && h[26] != 127
        && header_sum(h)
}

/// Compares the key, writes addresses, ports, numbers, time to live, checksums and Ethernet addresses,
/// stamps and counts. `INBOUND` is the direction.
#[inline(always)]
pub fn rewrite<const INBOUND: bool>(
    h: &mut [u8; HEADERS],
    s: &mut Session,
    now: u32,
    macs: &[u8; 12],
) -> bool {
    let is =
        Pair { addresses: [u32_at(h, 26), u32_at(h, 30)], ports: [u16_at(h, 34), u16_at(h, 36)] };
    let (key, becomes) =
        if INBOUND { (s.inner, s.outer) } else { (s.outer.swapped(), s.inner.swapped()) };
    if is != key || s.state != 1 || s.flags & 7 != 3 {
        return false;
    }
    let (add_seq, take_ack) =
        if INBOUND { (s.seq_delta, s.ack_delta) } else { (s.ack_delta, s.seq_delta) };
    let (seq, ack) = (u32_at(h, 38), u32_at(h, 42));
    let new_seq = u32::from_be(seq).wrapping_add(add_seq).to_be();
    let new_ack = u32::from_be(ack).wrapping_sub(take_ack).to_be();
    let (ip_delta, l4_delta) =
        if INBOUND { (s.ip_delta, s.l4_delta) } else { (!s.ip_delta, !s.l4_delta) };
    let numbers = u64::from(!seq) + u64::from(new_seq) + u64::from(!ack) + u64::from(new_ack);
    // One less to live takes 0x0100 from the word of time to live and protocol.
    let hop = u64::from(u16::from_ne_bytes([0xfe, 0xff]));
    let ip_sum = moved(u16_at(h, 24), u64::from(ip_delta) + hop);
    let l4_sum = moved(u16_at(h, 50), u64::from(l4_delta) + numbers);
    h[..12].copy_from_slice(macs);
    h[22] -= 1;
    h[24..26].copy_from_slice(&ip_sum.to_ne_bytes());
    h[26..30].copy_from_slice(&becomes.addresses[0].to_ne_bytes());
    h[30..34].copy_from_slice(&becomes.addresses[1].to_ne_bytes());
    h[34..36].copy_from_slice(&becomes.ports[0].to_ne_bytes());
    h[36..38].copy_from_slice(&becomes.ports[1].to_ne_bytes());
    h[38..42].copy_from_slice(&new_seq.to_ne_bytes());
    h[42..46].copy_from_slice(&new_ack.to_ne_bytes());
    h[50..52].copy_from_slice(&l4_sum.to_ne_bytes());
    s.last_seen = now;
    let carried = &mut s.carried[usize::from(!INBOUND)];
    *carried = carried.wrapping_add((1 << 40) + u64::from(u16::from_be(u16_at(h, 16))));
    true
}

/// The loop: all packets of one direction, of one session. Gives how many were translated.
#[inline(never)]
pub fn run<const INBOUND: bool, B: PacketBuf>(
    packets: &mut [B],
    session: &mut Session,
    own: Own,
    macs: &[u8; 12],
    now: u32,
) -> usize {
    let mut done = 0;
    let mut rest = packets;
    while !rest.is_empty() {
        let (burst, behind) = rest.split_at_mut(rest.len().min(BURST));
        // The headers of the next burst travel while this one is worked on.
        for packet in behind.iter().take(BURST) {
            if let Some(first) = packet.data().first() {
                prefetch(first);
            }
        }
        for packet in burst {
            let len = packet.total_len();
            let Some(headers) = packet.data_mut().first_chunk_mut::<HEADERS>() else { continue };
            let sound = inspect(headers, len, own);
            done += usize::from(sound && rewrite::<INBOUND>(headers, session, now, macs));
        }
        rest = behind;
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_testkit::oracle;
    use lvs_testkit::traffic::{Flow, Kind, Network};

    fn session() -> (Session, Flow<u32>, Network<u32>) {
        let net = Network::<u32>::example();
        let flow = Flow {
            client: net.client(5),
            local: (0x0a01_0101, 2000),
            server: (0x0a01_000b, 8080),
            server_seq: 0xffff_fff0,
            client_seq: 0xffff_fffe,
            client_seen: 0x1234_5678,
            ..Flow::default()
        };
        (crate::standin::session_of(&flow, &net), flow, net)
    }

    #[test]
    fn both_directions_come_out_right() {
        let (mut session, flow, net) = session();
        let mut frame = [0u8; 60];
        flow.write(&net, Kind::Inbound, 60, &mut frame).unwrap();
        let h = frame.first_chunk_mut().unwrap();
        assert!(
            inspect(h, 60, Own::new(net.own[0].0)) && rewrite::<true>(h, &mut session, 9, &[2; 12])
        );
        assert_eq!(oracle::checksums_ok(&frame), Ok(()));
        let seen = oracle::fields(&frame).unwrap();
        assert_eq!(seen.tcp.unwrap().seq, flow.client_seen);
        assert_eq!((seen.ports, seen.ttl), (Some((2000, 8080)), 63));

        flow.write(&net, Kind::Reply, 60, &mut frame).unwrap();
        let h = frame.first_chunk_mut().unwrap();
        assert!(
            inspect(h, 60, Own::new(net.own[1].0))
                && rewrite::<false>(h, &mut session, 9, &[2; 12])
        );
        assert_eq!(oracle::checksums_ok(&frame), Ok(()));
        let seen = oracle::fields(&frame).unwrap();
        assert_eq!(seen.ports, Some((80, flow.client.1)));
        assert_eq!(session.carried, [(1 << 40) + 46; 2]);
    }

    #[test]
    fn every_check_can_refuse() {
        let (mut session, flow, net) = session();
        let mut good = [0u8; 60];
        flow.write(&net, Kind::Inbound, 60, &mut good).unwrap();
        for at in (0..6).chain([6, 12, 14, 16, 20, 22, 24, 26, 46, 47]) {
            let mut bad = good;
            bad[at] ^= 0x81;
            assert!(!inspect(bad.first_chunk().unwrap(), 60, Own::new(net.own[0].0)), "byte {at}");
        }
        for at in [26, 30, 34, 36] {
            let mut bad = good;
            bad[at] ^= 1;
            let h = bad.first_chunk_mut().unwrap();
            assert!(!rewrite::<true>(h, &mut session, 1, &[2; 12]), "byte {at}");
        }
    }
}
