//! Probes of the translation crate.

use core::hash::{Hash, Hasher};
use core::hint::black_box;

use lvs_core::flow::WireTuple;
use lvs_core::io::{Burst, L4Csum, Lane, PacketBuf, PortId};
use lvs_core::wire::{Headers, Parsed};
use lvs_nat::options::{drop_timestamps, lower_mss};
use lvs_nat::toa::{Compaction, KindSet, Limits, ToaKinds, ToaOption, decode, insert, strip};
use lvs_nat::{AnyRewrite, End, Ends, Rewrite, SeqDeltas, isn, seq, set_macs};

use crate::lane::OneFrame;
use crate::probes::Fold;

/// A rewrite for the tuple, there and back, with other ends that the optimiser does not know.
pub(crate) fn rewrites(tuple: &WireTuple, numbers: SeqDeltas) -> [AnyRewrite; 2] {
    match *tuple {
        WireTuple::V4(t) => {
            let (client, virt) = (End::new(t.src, t.sport), End::new(t.dst, t.dport));
            let ends = black_box(Ends::nat(client, virt, End::new(!t.dst, 80)));
            let deltas = ends.deltas();
            [
                AnyRewrite::V4(Rewrite::inbound(&ends, deltas, numbers)),
                AnyRewrite::V4(Rewrite::returning(&ends, deltas, numbers)),
            ]
        }
        WireTuple::V6(t) => {
            let (client, virt) = (End::new(t.src, t.sport), End::new(t.dst, t.dport));
            let ends = black_box(Ends::full_nat(client, virt, virt, End::new(!t.dst, 80)));
            let deltas = ends.deltas();
            [
                AnyRewrite::V6(Rewrite::inbound(&ends, deltas, numbers)),
                AnyRewrite::V6(Rewrite::returning(&ends, deltas, numbers)),
            ]
        }
    }
}

/// Translates the frame in place, in every checksum state, with all edits of a handshake.
pub fn in_place(frame: &mut [u8]) -> u64 {
    let mut seen = Fold::default();
    let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else { return 0 };
    let csum = black_box(L4Csum::Partial);
    strip(frame, &headers, csum, black_box(KindSet::KNOWN)).hash(&mut seen);
    lower_mss(frame, &headers, csum, black_box(8), 536).hash(&mut seen);
    drop_timestamps(frame, &headers, csum).hash(&mut seen);
    if let Some(tuple) = headers.tuple {
        for rewrite in rewrites(&tuple, black_box(SeqDeltas { seq: 5, ack: 6 })) {
            let rewrite = rewrite.decrement_ttl(black_box(true));
            rewrite.apply(frame, &headers, csum).hash(&mut seen);
        }
    }
    let mac = black_box(lvs_core::addr::MacAddr::BROADCAST);
    set_macs(frame, mac, mac).hash(&mut seen);
    decode(frame, ToaKinds::default()).hash(&mut seen);
    seen.finish()
}

/// Inserts the client's address into every segment received over a lane.
pub fn address_option(frame: &mut [u8]) -> u64 {
    let mut lane = OneFrame::new(frame, black_box(3));
    let mut burst = Burst::new();
    let mut seen = Fold::default();
    let compaction = black_box(Compaction::Options);
    let limits = Limits { mtu: black_box(1500), compaction };
    while let Ok(1..) = lane.rx_burst(PortId(0), &mut burst) {
        while let Some(mut packet) = burst.pop() {
            let Ok(Parsed::Ip(headers)) = Headers::parse(packet.data(), packet.total_len()) else {
                continue;
            };
            let Some((client, _)) = headers.addresses(packet.data()) else { continue };
            let client = (client, black_box(4711)).into();
            let option = ToaOption::encode(&client, ToaKinds::default());
            let result = insert(&mut packet, &headers, &option, &limits);
            (result.is_ok(), packet.data()).hash(&mut seen);
        }
    }
    seen.finish()
}

/// Numbers for a new connection.
pub fn numbers(frame: &mut [u8]) -> u64 {
    let Some((first, rest)) = frame.split_first_chunk::<16>() else { return 0 };
    let (key, now) = (black_box([1, 2]), rest.len() as u64);
    let local = lvs_core::addr::LocalAddress::new((*first).into(), black_box(1));
    let real = lvs_core::addr::RealAddr::new((*first).into(), black_box(2));
    let isn = isn::isn_past(&key, &local, &real, now, black_box(77));
    u64::from(isn) << 1 | u64::from(seq::after(isn, black_box(78)))
}
