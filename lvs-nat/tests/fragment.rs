//! Cutting a packet, following its pieces, and translating them: the datagram at the end is the one
//! that would have been without any of it.

mod support;

use core::net::IpAddr;
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::io::L4Csum;
use lvs_core::time::Tick;
use lvs_core::wire::{Fragment, Headers, Parsed};
use lvs_nat::fragment::{
    FragmentKey, FragmentMemory, FragmentSlot, HeldFrame, Later, Limits, Piece, Received, Refusal,
    SplitError, SplitV4,
};
use proptest::prelude::*;
use std::collections::HashMap;
use support::other::others;
use support::{Spec, specs};

const ID: [u8; 2] = [0x12, 0x34];

fn parsed(frame: &[u8]) -> Headers {
    match Headers::parse(frame, frame.len()) {
        Ok(Parsed::Ip(headers)) => headers,
        other => panic!("{other:?}"),
    }
}

/// An IPv4 packet that may be fragmented.
fn without_df(mut spec: Spec) -> Option<(Spec, Vec<u8>)> {
    if spec.src.is_ipv6() || spec.csum == L4Csum::Partial {
        return None;
    }
    spec.padding = 0;
    let mut frame = spec.build();
    let ip = &mut frame[spec.l3()..spec.l4()];
    ip[4..6].copy_from_slice(&ID);
    ip[6] = 0;
    fix_header(ip);
    Some((spec, frame))
}

fn fix_header(ip: &mut [u8]) {
    let sum = pnet_packet::ipv4::checksum(&pnet_packet::ipv4::Ipv4Packet::new(ip).unwrap());
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn split(frame: &[u8], mtu: u16) -> Result<Vec<Vec<u8>>, SplitError> {
    let plan = SplitV4::new(frame, &parsed(frame), L4Csum::Unknown, mtu)?;
    let all = (0..plan.count()).map(|i| {
        let mut out = vec![0xaa; plan.len(i).unwrap()];
        assert_eq!(plan.write(i, frame, &mut vec![0; out.len() - 1]), None);
        assert_eq!(plan.write(i, frame, &mut out), Some(out.len()));
        out
    });
    let all = all.collect();
    assert_eq!(plan.len(plan.count()), None);
    Ok(all)
}

/// The slow twin of putting together: by the header fields alone (RFC 791 section 3.2).
fn join(fragments: &[Vec<u8>], spec: &Spec) -> Vec<u8> {
    let (l3, l4) = (spec.l3(), spec.l4());
    let mut whole =
        fragments.iter().find(|f| f[l3 + 6] & 0x1f == 0 && f[l3 + 7] == 0).unwrap()[..l4].to_vec();
    let mut payload = vec![None; 70_000];
    let mut total = None;
    for fragment in fragments {
        let ip = &fragment[l3..];
        let len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        let at = usize::from(u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff) * 8;
        let data = &ip[l4 - l3..len];
        for (i, byte) in data.iter().enumerate() {
            assert_eq!(payload[at + i].replace(*byte), None, "overlap");
        }
        if ip[6] & 0x20 == 0 {
            total = Some(at + data.len());
        }
    }
    let data = payload[..total.unwrap()].iter().map(|byte| byte.expect("a gap"));
    whole.extend(data);
    let len = (whole.len() - l3) as u16;
    whole[l3 + 2..l3 + 4].copy_from_slice(&len.to_be_bytes());
    whole[l3 + 6] = 0;
    fix_header(&mut whole[l3..l4]);
    whole
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn a_packet_cut_and_joined_is_the_packet(
        (spec, _) in specs(), more in 0usize..3000, mtu in 68u16..1600, again in 68u16..1600,
    ) {
        let mut spec = spec;
        spec.payload.extend((0..more).map(|i| (i * 7) as u8));
        let Some((spec, frame)) = without_df(spec) else { return Ok(()) };
        let made = split(&frame, mtu).unwrap();
        for fragment in &made {
            prop_assert!(fragment.len() - spec.l3() <= usize::from(mtu));
            // The library's parser accepts each of them.
            if fragment.len() - spec.l4() >= 60 || made.len() == 1 {
                prop_assert_eq!(parsed(fragment).fragment == Fragment::No, made.len() == 1);
            }
        }
        prop_assert_eq!(join(&made, &spec), frame.clone());
        // Fragments of fragments are fragments.
        let pieces = made.iter().filter(|f| Headers::parse(f, f.len()).is_ok());
        let finer: Result<Vec<_>, _> = pieces.clone().map(|f| split(f, again)).collect();
        if pieces.count() == made.len() {
            prop_assert_eq!(join(&finer.unwrap().concat(), &spec), frame);
        }
    }

    /// INV-3: the checksum is in the first fragment and covers all.
    #[test]
    fn translating_fragments_is_translating_the_datagram(
        (spec, list) in specs(), more in 100usize..3000, mtu in 148u16..1600, mut other in others(),
    ) {
        let mut spec = spec;
        other.hop = false;
        spec.payload.extend((0..more).map(|i| (i * 7) as u8));
        let Some((spec, frame)) = without_df(spec) else { return Ok(()) };
        let _ = list;
        let rewrite = other.rewrite(&spec, Direction::Inbound);
        let made: Vec<Vec<u8>> = split(&frame, mtu).unwrap().into_iter().map(|mut fragment| {
            let headers = parsed(&fragment);
            rewrite.apply(&mut fragment, &headers, L4Csum::Unknown).unwrap();
            fragment
        }).collect();
        let mut whole = frame;
        rewrite.apply(&mut whole, &spec.parsed(), L4Csum::Unknown).unwrap();
        prop_assert_eq!(join(&made, &spec), whole);
    }

    #[test]
    fn hostile_packets_are_not_cut_into_harm(
        (spec, _) in specs(), mtu: u16, len in 0usize..150, wild: (u16, u16, u16, u32), part in 0u16..3,
        flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4),
    ) {
        let mut frame = spec.build();
        for (at, byte) in flips {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        frame.truncate(len);
        let hostile = Headers { l3: wild.0 % 40, l4: wild.1, payload: wild.2, end: wild.3 % 200, ..spec.parsed() };
        for headers in [spec.parsed(), hostile] {
            let _ = FragmentKey::of(&frame, &headers);
            let first = Headers { fragment: Fragment::First, ..headers };
            if let Some((_, piece)) = FragmentKey::of(&frame, &first) {
                prop_assert!(piece.start < piece.end);
            }
            let Ok(plan) = SplitV4::new(&frame, &headers, L4Csum::Unknown, mtu) else { continue };
            let _ = plan.write(part, &frame, &mut [0; 200]);
            let _ = plan.write(part, &frame[..frame.len() / 2], &mut [0; 200]);
        }
    }
}

fn udp(payload: usize) -> Spec {
    Spec {
        src: "10.0.0.1:1".parse().unwrap(),
        dst: "10.0.0.2:2".parse().unwrap(),
        proto: L4Proto::Udp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq: 0,
        ack: 0,
        flags: 0,
        options: vec![],
        payload: vec![1; payload],
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    }
}

#[test]
fn what_must_not_be_cut_is_not() {
    let spec = udp(2000);
    let ask = |frame: &[u8], headers, csum, mtu| {
        SplitV4::new(frame, &headers, csum, mtu).map(|plan| plan.count())
    };
    let frame = spec.build();
    let good = L4Csum::Good;
    assert_eq!(ask(&frame, spec.parsed(), good, 1500), Err(SplitError::DontFragment));
    let (spec, frame) = without_df(spec).unwrap();
    let headers = parsed(&frame);
    assert_eq!(ask(&frame, headers, good, 1500), Ok(2));
    assert_eq!(ask(&frame, headers, L4Csum::Partial, 1500), Err(SplitError::Partial));
    assert_eq!(ask(&frame, headers, good, 27), Err(SplitError::TooNarrow));
    assert_eq!(ask(&frame, headers, good, 28), Ok(251));
    assert_eq!(ask(&frame[..1000], headers, good, 1500), Err(SplitError::NotWhole));
    let mut v6 = spec;
    v6.src = "[2001:db8::1]:1".parse().unwrap();
    v6.dst = "[2001:db8::2]:1".parse().unwrap();
    assert_eq!(ask(&v6.build(), v6.parsed(), good, 1500), Err(SplitError::NotV4));
}

#[test]
fn options_that_are_for_the_first_fragment_are_padding_in_the_others() {
    let spec = Spec { ip_extra: true, ..udp(600) };
    let (spec, mut frame) = without_df(spec).unwrap();
    let ip = &mut frame[spec.l3()..spec.l4()];
    // Record route is for the first one only, router alert for all (RFC 791 section 3.1).
    ip[20..28].copy_from_slice(&[7, 3, 4, 1, 148, 4, 0, 0]);
    fix_header(ip);
    let made = split(&frame, 300).unwrap();
    assert_eq!(made.len(), 3);
    for (i, fragment) in made.iter().enumerate() {
        let want = if i == 0 { [7, 3, 4, 1, 148, 4, 0, 0] } else { [1, 1, 1, 1, 148, 4, 0, 0] };
        assert_eq!(fragment[spec.l3() + 20..][..8], want, "fragment {i}");
    }
}

#[test]
fn the_key_of_an_ipv6_fragment_counts_from_behind_its_fragment_header() {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    // First fragment: destination options behind the fragment header belong to the datagram.
    let udp = [0, 1, 0, 2, 0, 40, 0x11, 0x11];
    frame.extend([0, 8 + 8 + 16, 44, 64]);
    frame.extend([0x20; 16]);
    frame.extend([0x21; 16]);
    frame.extend([60, 0, 0, 1, 9, 9, 9, 9]);
    frame.extend([17, 0, 1, 4, 0, 0, 0, 0]);
    frame.extend(udp);
    frame.extend([7; 8]);
    let headers = parsed(&frame);
    let (key, piece) = FragmentKey::of(&frame, &headers).unwrap();
    assert_eq!(piece, Piece { start: 0, end: 24, last: false });
    assert_eq!((key.id, key.protocol), (0x0909_0909, 0));
    // A later one of the same datagram.
    let mut later = frame[..54].to_vec();
    later[19] = 8 + 5;
    later.extend([17, 0, 0, 24, 9, 9, 9, 9, 1, 2, 3, 4, 5]);
    let (other, piece) = FragmentKey::of(&later, &parsed(&later)).unwrap();
    assert_eq!(piece, Piece { start: 24, end: 29, last: true });
    assert_eq!(other, key);
    let whole = udp_frame();
    assert_eq!(FragmentKey::of(&whole, &parsed(&whole)), None);
}

fn udp_frame() -> Vec<u8> {
    udp(10).build()
}

/// The slow twin of the memory: every byte of every datagram in a map, no bounds.
#[derive(Default)]
struct Naive {
    datagrams: HashMap<FragmentKey, NaiveDatagram>,
}

#[derive(Default)]
struct NaiveDatagram {
    born: u32,
    bytes: Vec<bool>,
    ends: Option<usize>,
    way: Option<u8>,
    waiting: Vec<Vec<u8>>,
    dead: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Go(u8, Vec<Vec<u8>>),
    Held,
    Refused(Refusal),
}

impl Naive {
    fn tell(
        &mut self,
        now: u32,
        timeout: u32,
        key: FragmentKey,
        piece: Piece,
        way: Option<u8>,
        frame: &[u8],
    ) -> Told {
        if self.datagrams.get(&key).is_some_and(|datagram| now - datagram.born >= timeout) {
            self.datagrams.remove(&key);
        }
        let datagram = self
            .datagrams
            .entry(key)
            .or_insert_with(|| NaiveDatagram { born: now, ..Default::default() });
        if datagram.dead {
            return Told::Refused(Refusal::Dead);
        }
        let (from, to) = (piece.start as usize, piece.end as usize);
        let len = datagram.bytes.len().max(to);
        datagram.bytes.resize(len, false);
        let came = datagram.bytes[from..to].iter().filter(|came| **came).count();
        if came == to - from {
            return Told::Refused(Refusal::Duplicate);
        }
        let contradicts = datagram.ends.is_some_and(|ends| to > ends || piece.last)
            || piece.last && datagram.bytes[to..].iter().any(|came| *came);
        if came > 0 || contradicts {
            datagram.dead = true;
            datagram.waiting.clear();
            return Told::Refused(Refusal::Overlap);
        }
        datagram.bytes[from..to].fill(true);
        if piece.last {
            datagram.ends = Some(to);
        }
        let mut released = vec![];
        if let Some(way) = way {
            datagram.way = Some(way);
            released = core::mem::take(&mut datagram.waiting);
        }
        let Some(way) = datagram.way else {
            datagram.waiting.push(frame.to_vec());
            return Told::Held;
        };
        if datagram.ends.is_some_and(|ends| datagram.bytes[..ends].iter().all(|came| *came)) {
            self.datagrams.remove(&key);
        }
        Told::Go(way, released)
    }
}

fn key(source: u8, id: u32) -> FragmentKey {
    let ip = |last| IpAddr::from([10, 0, 0, last]);
    FragmentKey { src: ip(source), dst: ip(200), id, protocol: 17 }
}

/// No datagram, and no source that would be counted as having one.
fn all_empty(slots: &[FragmentSlot<u8>]) -> bool {
    slots.iter().all(|slot| format!("{slot:?}").contains("datagram: None, of_source: 0"))
}

const LIMITS: Limits = Limits { timeout: 20, wait: 20, per_source: u16::MAX, held: u8::MAX };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Random fragments of a few datagrams, in any order, with copies, overlaps and pauses.
    #[test]
    fn the_memory_agrees_with_the_naive_one(
        script in prop::collection::vec((0u8..2, 0u32..3, 0u32..6, 1u32..4, any::<bool>(), any::<u8>(), 0u32..6), 1..120),
        secret: [u64; 2],
    ) {
        let mut slots = [FragmentSlot::EMPTY; 64];
        let mut held = [const { HeldFrame::<16>::EMPTY }; 200];
        let mut memory = FragmentMemory::new(&mut slots[..], &mut held[..], secret, LIMITS);
        let mut naive = Naive::default();
        let mut now = 7;
        for (source, id, start, len, last, way, pause) in script {
            now += pause / 5;
            let key = key(source, id);
            let piece = Piece { start: start * 8, end: (start + len) * 8, last };
            let frame = [source, id as u8, start as u8, len as u8, way];
            let received = Received { csum: L4Csum::Good, ..Received::default() };
            let first = start == 0;
            let want = naive.tell(now, LIMITS.timeout, key, piece, first.then_some(way), &frame);
            let told = if first {
                match memory.first(Tick(now), &key, piece, way) {
                    Ok(()) => {
                        let mut released = vec![];
                        while let Some(frame) = memory.release(&key, |to, how, frame| {
                            assert_eq!((to, how), (way, received));
                            frame.to_vec()
                        }) {
                            released.push(frame);
                        }
                        Told::Go(way, released)
                    }
                    Err(why) => Told::Refused(why),
                }
            } else {
                match memory.later(Tick(now), &key, piece, &frame, received) {
                    Ok(Later::Go(way)) => Told::Go(way, vec![]),
                    Ok(Later::Held) => Told::Held,
                    Err(why) => Told::Refused(why),
                }
            };
            prop_assert_eq!(told, want);
            let waiting: usize = naive.datagrams.values().map(|d| d.waiting.len()).sum();
            if memory.live() == naive.datagrams.len() {
                prop_assert_eq!(memory.waiting(), waiting);
            }
        }
        // Conserved: after the last time-out everything is free.
        memory.expire(Tick(now + 100), 64);
        prop_assert_eq!((memory.live(), memory.waiting()), (0, 0));
        prop_assert!(all_empty(&slots));
        // And usable: as many frames as there are places can wait again.
        let mut memory = FragmentMemory::new(&mut slots[..], &mut held[..], secret, LIMITS);
        for id in 0..200u32 {
            let piece = Piece { start: 8 + id % 8 * 16, end: 16 + id % 8 * 16, last: false };
            let told = memory.later(Tick(0), &key(1, id / 8), piece, &[1], Received::default());
            prop_assert!(matches!(told, Ok(Later::Held) | Err(Refusal::Full)));
        }
    }

    /// However little memory there is and whatever comes.
    #[test]
    fn bounds_hold_and_nothing_leaks(
        script in prop::collection::vec((0u8..20, 0u32..40, 0u32..40, 1u32..9, any::<bool>(), any::<bool>()), 1..200),
        slots in 0usize..20, cells in 0usize..6, per_source in 0u16..5, most in 0u8..4, secret: [u64; 2],
    ) {
        let mut slots = vec![FragmentSlot::EMPTY; slots];
        let mut held = vec![const { HeldFrame::<16>::EMPTY }; cells];
        let room = slots.len();
        let limits = Limits { timeout: 20, wait: 20, per_source, held: most };
        let mut memory = FragmentMemory::new(&mut slots[..], &mut held[..], secret, limits);
        for (i, (source, id, start, len, last, first)) in script.into_iter().enumerate() {
            let now = Tick((u32::MAX - 50).wrapping_add(i as u32));
            let key = key(source, id);
            let start = if first { 0 } else { start };
            let piece = Piece { start: start * 8, end: (start + len) * 8, last };
            if first {
                let _ = memory.first(now, &key, piece, 1u8);
                if !last {
                    let _ = memory.release(&key, |_, _, frame| frame.len());
                }
            } else {
                let _ = memory.later(now, &key, piece, &[0; 16], Received::default());
            }
            if i % 3 == 0 {
                memory.expire(now, 2);
            }
            prop_assert!(memory.live() <= room && memory.waiting() <= cells);
        }
        memory.expire(Tick(5000), room);
        prop_assert_eq!((memory.live(), memory.waiting()), (0, 0));
        prop_assert!(all_empty(&slots));
    }
}

type Memory<'m> = FragmentMemory<u8, 16, &'m mut [FragmentSlot<u8>], &'m mut [HeldFrame<16>]>;

#[test]
fn every_bound_refuses_with_its_own_reason() {
    let mut slots = [FragmentSlot::EMPTY; 8];
    let mut held = [const { HeldFrame::<16>::EMPTY }; 3];
    let limits = Limits { timeout: 20, wait: 20, per_source: 4, held: 2 };
    let mut memory = FragmentMemory::new(&mut slots[..], &mut held[..], [1, 2], limits);
    let now = Tick(0);
    let part = |n: u32| Piece { start: n * 16, end: n * 16 + 8, last: false };
    let later = |memory: &mut Memory<'_>, id, n, len| {
        memory.later(now, &key(1, id), part(n), &vec![0; len], Received::default())
    };
    assert_eq!(later(&mut memory, 0, 1, 17), Err(Refusal::TooLong));
    assert_eq!(memory.live(), 0, "nothing was taken for it");
    assert_eq!(later(&mut memory, 0, 1, 16), Ok(Later::Held));
    assert_eq!(later(&mut memory, 0, 2, 16), Ok(Later::Held));
    assert_eq!(later(&mut memory, 0, 3, 16), Err(Refusal::TooManyHeld), "of one datagram");
    assert_eq!(later(&mut memory, 1, 1, 16), Ok(Later::Held));
    assert_eq!(later(&mut memory, 2, 1, 16), Err(Refusal::TooManyHeld), "of all");
    for id in 2..4 {
        memory.first(now, &key(1, id), part(0), 9).unwrap();
    }
    assert_eq!(memory.first(now, &key(1, 9), part(0), 9), Err(Refusal::TooManyOfSource));
    // Sixteen separate stretches are remembered.
    for n in 1..16 {
        assert_eq!(later(&mut memory, 2, n, 16), Ok(Later::Go(9)));
    }
    assert_eq!(later(&mut memory, 2, 16, 16), Err(Refusal::TooManyPieces));
    assert_eq!(later(&mut memory, 2, 17, 16), Err(Refusal::Dead));
    let mut full = 0;
    for source in 2..60 {
        full += usize::from(memory.first(now, &key(source, 0), part(0), 9) == Err(Refusal::Full));
    }
    assert!(full > 0 && memory.live() <= 8);
    // A place whose time is over is taken by whoever needs it.
    assert_eq!(memory.first(Tick(20), &key(100, 0), part(0), 9), Ok(()));
}

/// Whoever sends no first fragments keeps a place for a short time only, and what waited in vain is told.
#[test]
fn datagrams_without_a_first_fragment_are_forgotten_soon_and_old_ones_make_room() {
    let mut slots = [FragmentSlot::EMPTY; 8];
    let mut held = [const { HeldFrame::<16>::EMPTY }; 4];
    let limits = Limits { timeout: 20, wait: 3, per_source: 99, held: 4 };
    let mut memory = FragmentMemory::new(&mut slots[..], &mut held[..], [1, 2], limits);
    let piece = Piece { start: 8, end: 16, last: false };
    for id in 0..4 {
        let told = memory.later(Tick(0), &key(1, id), piece, &[id as u8], Received::default());
        assert_eq!(told, Ok(Later::Held));
    }
    memory.expire(Tick(2), 8);
    assert_eq!((memory.live(), memory.waiting(), memory.take_lost().expired), (4, 4, 0));
    memory.expire(Tick(3), 8);
    assert_eq!((memory.live(), memory.waiting(), memory.take_lost().expired), (0, 0, 4));
    let first = Piece { start: 0, end: 8, last: false };
    for id in 0..8 {
        assert_eq!(memory.first(Tick(3), &key(1, id), first, 9), Ok(()));
    }
    assert_eq!(memory.first(Tick(5), &key(1, 8), first, 9), Err(Refusal::Full));
    assert_eq!(memory.first(Tick(6), &key(1, 8), first, 9), Ok(()), "before the time-out");
    assert_eq!(memory.live(), 8);
}
