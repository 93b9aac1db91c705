//! Probes of stream edits, the PROXY protocol, address layouts, SCTP and NAT64.

use core::hash::{Hash, Hasher};
use core::hint::black_box;
use core::net::SocketAddr;

use lvs_core::flow::{Direction, L4Proto};
use lvs_core::io::{Burst, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::End;
use lvs_nat::crc32c::{Change, Crc32c};
use lvs_nat::edit::{
    EditList, Splice, StreamEdit, behind, inbound, own, quoted, reset, returning, splice,
};
use lvs_nat::icmp::embedded;
use lvs_nat::nat64::{Links, Quote, To4, To6, error_to_v4, error_to_v6, v4_to_v6, v6_to_v4};
use lvs_nat::options::drop_fast_open;
use lvs_nat::proxy::policy::{ClientHeader, Decision, Policy, Undecided, decide};
use lvs_nat::proxy::{Header, Recognised, Stored, Version, decode};
use lvs_nat::sctp::{Event, State, Tags, complete, ports, rewrite, verify};
use lvs_nat::toa::place::{Handshake, Placement};
use lvs_nat::toa::{Format, ToaOption, read};

use crate::lane::OneFrame;
use crate::probes::Fold;

fn ends(frame: &[u8]) -> (SocketAddr, SocketAddr) {
    let octets: [u8; 16] = frame.first_chunk().copied().unwrap_or_default();
    let v4 = frame.first_chunk::<4>().copied().unwrap_or_default();
    match black_box(octets[0]) {
        0..128 => ((octets, 7).into(), (v4, 8).into()),
        _ => ((v4, 9).into(), (v4, 10).into()),
    }
}

/// Edits the byte stream of every segment received over a lane, and its acknowledgements.
pub fn streams(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let mut list = EditList::<2>::with_base(black_box(5));
    for (at, removed, inserted) in [(7u32, 0u16, 3u16), (20, 5, 9)] {
        let edit = StreamEdit { at: black_box(at), removed, inserted: black_box(inserted) };
        list.push(edit).is_ok().hash(&mut seen);
    }
    let mut lane = OneFrame::new(frame, black_box(3));
    let mut burst = Burst::new();
    let mut out = [0u8; 200];
    while let Ok(1..) = lane.rx_burst(PortId(0), &mut burst) {
        while let Some(mut packet) = burst.pop() {
            let Ok(Parsed::Ip(headers)) = Headers::parse(packet.data(), packet.total_len()) else {
                continue;
            };
            let csum = packet.l4_csum();
            let whole = (packet.data(), &[][..]);
            own::ahead(&mut out, whole, &headers, csum, &[], black_box(b"abc"))
                .is_ok()
                .hash(&mut seen);
            let change = Splice { at: black_box(3), cut: black_box(1), bytes: black_box(b"xyz") };
            splice(&mut packet, &headers, &change, 1500).is_ok().hash(&mut seen);
            let bytes = |_| black_box(&b"abcdefghi"[..]);
            inbound(&mut packet, &headers, &list, bytes, black_box(1500)).is_ok().hash(&mut seen);
            returning(packet.data_mut(), &headers, csum, &list).is_ok().hash(&mut seen);
            let mut one = EditList::<1>::default();
            let edit = StreamEdit { at: black_box(9), removed: 3, inserted: black_box(5) };
            one.push(edit).is_ok().hash(&mut seen);
            behind(&mut packet, &headers, &one).is_ok().hash(&mut seen);
            reset(&mut packet, &headers, &one, black_box(7)).is_ok().hash(&mut seen);
            drop_fast_open(packet.data_mut(), &headers, csum).is_ok().hash(&mut seen);
            if let Some(about) = embedded(packet.data(), &headers) {
                quoted(packet.data_mut(), &headers, &about, csum, &one).is_ok().hash(&mut seen);
            }
            packet.data().hash(&mut seen);
        }
    }
    (list.fold(black_box(30)), list.unmap(black_box(9)), out).hash(&mut seen);
    own::timestamps_of(frame).hash(&mut seen);
    seen.finish()
}

/// Reads a PROXY header, decides about it, and writes one.
pub fn proxy(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let (client, virt) = ends(frame);
    let mut out = [0u8; 300];
    if let Recognised::Header(read) = decode(frame) {
        (read.len, read.ends, read.crc, read.values().count()).hash(&mut seen);
    }
    for version in [Version::V1, Version::V2] {
        let header = Header::new(black_box(version), L4Proto::Tcp, &client, &virt);
        header.map(|header| header.as_bytes().len()).is_ok().hash(&mut seen);
        for how in [ClientHeader::Convert, ClientHeader::ReplaceKeepingValues] {
            let policy = Policy { version, client: black_box(how), undecided: Undecided::Drop };
            if let Decision::Rebuild(rebuild) = decide(frame, &policy) {
                rebuild.write(&mut out, L4Proto::Tcp, &client, &virt).is_ok().hash(&mut seen);
            }
        }
        if let Some(stored) = Stored::unpack(black_box(5), (black_box(6), black_box(0x3025))) {
            stored
                .again(&mut out, (6, frame), L4Proto::Tcp, &client, &virt)
                .is_ok()
                .hash(&mut seen);
            stored.pack(black_box(7)).hash(&mut seen);
        }
    }
    out.hash(&mut seen);
    seen.finish()
}

/// Reads, judges and translates a packet as SCTP, whatever it is.
pub fn sctp(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let value = Crc32c::new().bytes(frame).value();
    let change = Change::word(black_box([1; 4]), black_box([2; 4]), frame.len() as u32);
    (change.apply(value), Event::several_addresses(frame), ports(frame)).hash(&mut seen);
    if let Some(event) = Event::of(frame, black_box(true)) {
        let tags = Tags::default().accept(Direction::Inbound, black_box(7), event);
        (tags.is_some(), State::InitSent.next(Direction::Return, event)).hash(&mut seen);
    }
    let to = ends(frame);
    if let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) {
        let csum = black_box(L4Csum::Unknown);
        rewrite(frame, &headers, csum, to, black_box(true)).is_ok().hash(&mut seen);
    }
    (complete(frame), verify(frame, &[])).hash(&mut seen);
    seen.finish()
}

/// Writes and reads the address option in all its layouts, and decides where it goes.
pub fn layouts(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let (client, virt) = ends(frame);
    for format in [Format::Port, Format::Versioned, Format::WithVirtual] {
        ToaOption::encode_as(black_box(format), black_box(28), &client, &virt).hash(&mut seen);
    }
    let told = read(frame, black_box(254));
    told.map(|told| (told.client, told.port, told.virt)).hash(&mut seen);
    let known = Handshake { server_first: black_box(Some(5)), ..Handshake::default() };
    let placement = black_box(Placement::default());
    known.wants(&placement, black_box(16), 5, black_box(6)).hash(&mut seen);
    seen.finish()
}

/// Turns every packet received over a lane into one of the other IP version, errors as well.
pub fn nat64(frame: &mut [u8]) -> u64 {
    let mut lane = OneFrame::new(frame, black_box(3));
    let mut burst = Burst::new();
    let mut seen = Fold::default();
    let to4 = To4 { mtu: black_box(1500), decrement_ttl: black_box(true), id: black_box(7) };
    let to6 = To6 { mtu: black_box(1500), decrement_ttl: true, compute_udp: black_box(true) };
    let links = Links { mtu_v4: 1500, mtu_v6: black_box(1500), decrement_ttl: true, id: 7 };
    let near = (End::new(black_box(1u32), 2), End::new(black_box(3u32), 4));
    let far = (End::new(black_box(1u128), 2), End::new(black_box(3u128), 4));
    let quote4 = Quote { src: near.0, dst: near.1, seq_add: black_box(5) };
    let quote6 = Quote { src: far.0, dst: far.1, seq_add: black_box(5) };
    while let Ok(1..) = lane.rx_burst(PortId(0), &mut burst) {
        while let Some(mut packet) = burst.pop() {
            let Ok(Parsed::Ip(headers)) = Headers::parse(packet.data(), packet.total_len()) else {
                continue;
            };
            error_to_v4(&mut packet, &headers, (1, 2), &quote4, &links).is_ok().hash(&mut seen);
            error_to_v6(&mut packet, &headers, (1, 2), &quote6, &links).is_ok().hash(&mut seen);
            if let Ok(headers) = v6_to_v4(&mut packet, &headers, near, &to4) {
                v4_to_v6(&mut packet, &headers, far, &to6).is_ok().hash(&mut seen);
            }
            v4_to_v6(&mut packet, &headers, far, &to6).is_ok().hash(&mut seen);
            packet.data().hash(&mut seen);
        }
    }
    seen.finish()
}
