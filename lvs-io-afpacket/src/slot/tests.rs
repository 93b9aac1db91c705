//! Packets against a plain twin, and arrivals that no kernel would write.

use super::*;
use crate::pool::place;
use crate::sys::Mapping;
use proptest::prelude::*;

const SIZE: usize = 2048;

/// Plays the kernel: writes a slot.
struct Fake {
    place: Place,
    memory: Mapping,
}

impl Fake {
    fn new() -> Self {
        let memory = Mapping::private(SIZE).unwrap();
        Self { place: place(&memory, 0, SIZE as u32, 0), memory }
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.memory.len() && !self.place.held());
        // SAFETY: inside the mapping; no slot exists, so nobody else has a reference into it.
        unsafe {
            let to = self.memory.base().add(at).as_ptr();
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
    }

    fn arrive(&self, status: u32, len: u32, snaplen: u32, mac: u16, header: VnetHeader) {
        self.write(4, &[len.to_ne_bytes(), snaplen.to_ne_bytes()].concat());
        self.write(12, &mac.to_ne_bytes());
        if usize::from(mac) >= VNET_LEN && usize::from(mac) <= SIZE {
            self.write(usize::from(mac) - VNET_LEN, &header.to_bytes());
        }
        self.write(0, &(status | libc::TP_STATUS_USER).to_ne_bytes());
    }

    fn packet(&self, bytes: &[u8], header: VnetHeader) -> Slot<'_> {
        self.write(FRAME_START as usize, bytes);
        let len = bytes.len() as u32;
        self.arrive(0, len, len, FRAME_START as u16, header);
        self.place.receive(&self.place.arrival().unwrap(), true).unwrap()
    }
}

fn sent(slot: &mut Slot<'_>) -> (VnetHeader, Vec<u8>) {
    let all = slot.parts(true).concat();
    (VnetHeader::from_bytes(*all.first_chunk().unwrap()), all[VNET_LEN..].to_vec())
}

fn train() -> VnetHeader {
    VnetHeader {
        flags: vnet::NEEDS_CSUM,
        gso_type: vnet::GSO_TCPV4 | vnet::GSO_ECN,
        hdr_len: 54,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
    }
}

#[test]
fn a_packet_goes_out_as_it_came_in() {
    let fake = Fake::new();
    let bytes: Vec<u8> = (0..200).collect();
    let mut slot = fake.packet(&bytes, train());
    assert_eq!((slot.l4_csum(), slot.data()), (L4Csum::Partial, &bytes[..]));
    assert_eq!(slot.gso(), Some(Gso { kind: GsoKind::TcpV4, size: 1448 }));
    assert_eq!(sent(&mut slot), (train(), bytes));
}

#[test]
fn the_slot_goes_back_to_the_kernel_exactly_when_its_packet_is_dropped() {
    let fake = Fake::new();
    let slot = fake.packet(&[1; 60], VnetHeader::default());
    let arrival = fake.place.arrival().expect("a held slot still reads as ready");
    assert!(fake.place.receive(&arrival, true).is_none(), "but is not handed out again");
    drop(slot);
    assert!(fake.place.arrival().is_none() && !fake.place.held());
}

#[test]
fn growth_at_the_front_moves_every_offset_with_it() {
    let fake = Fake::new();
    let mut slot = fake.packet(&[7; 200], train());
    slot.push_front(20).unwrap().iter_mut().take(20).for_each(|b| *b = 9);
    let (header, bytes) = sent(&mut slot);
    assert_eq!((header.csum_start, header.hdr_len, header.csum_offset), (54, 74, 16));
    assert_eq!(bytes, [[9; 20].as_slice(), &[7; 200]].concat());
    slot.pull_front(20).unwrap();
    assert_eq!(sent(&mut slot).0, train());
}

#[test]
fn a_tag_shifts_offsets_and_leaves_the_packet_alone() {
    let fake = Fake::new();
    let bytes: Vec<u8> = (0..100).collect();
    let mut slot = fake.packet(&bytes, train());
    slot.set_vlan(Some(Vlan { tpid: 0x88a8, tci: 0x1234 }));
    for _ in 0..2 {
        let (header, out) = sent(&mut slot);
        assert_eq!((header.csum_start, header.hdr_len), (38, 58));
        assert_eq!(out, [&bytes[..12], &[0x88, 0xa8, 0x12, 0x34], &bytes[12..]].concat());
        assert_eq!(slot.data(), bytes);
    }
}

#[test]
fn a_changed_segment_size_keeps_the_congestion_bit_of_tcp_only() {
    let fake = Fake::new();
    let mut slot = fake.packet(&[0; 100], train());
    slot.set_gso(Some(Gso { kind: GsoKind::TcpV6, size: 1400 }), 74);
    let (header, _) = sent(&mut slot);
    assert_eq!(header.gso_type, vnet::GSO_TCPV6 | vnet::GSO_ECN);
    assert_eq!((header.gso_size, header.hdr_len), (1400, 74));
    slot.set_gso(None, 0);
    assert_eq!((slot.gso(), sent(&mut slot).0.gso_type), (None, vnet::GSO_NONE));
    slot.set_gso(Some(Gso { kind: GsoKind::TcpV4, size: 9 }), 54);
    assert_eq!(sent(&mut slot).0.gso_type, vnet::GSO_TCPV4, "an ordinary packet has no such bit");
}

#[test]
fn checksum_states_follow_header_and_status() {
    let states = [
        (0, 0, L4Csum::Unknown),
        (vnet::NEEDS_CSUM, 0, L4Csum::Partial),
        (vnet::DATA_VALID, 0, L4Csum::Good),
        (0, libc::TP_STATUS_CSUM_VALID, L4Csum::Good),
        (0, libc::TP_STATUS_CSUMNOTREADY, L4Csum::Partial),
    ];
    for (flags, status, want) in states {
        let fake = Fake::new();
        let header = VnetHeader { flags, ..VnetHeader::default() };
        fake.arrive(status, 60, 60, FRAME_START as u16, header);
        let slot = fake.place.receive(&fake.place.arrival().unwrap(), true).unwrap();
        assert_eq!(slot.l4_csum(), want);
    }
}

#[test]
fn only_a_partial_state_asks_for_a_checksum() {
    let fake = Fake::new();
    let mut slot = fake.packet(&[0; 100], train());
    slot.set_gso(None, 0);
    for state in [L4Csum::Good, L4Csum::Unknown, L4Csum::Bad] {
        slot.set_l4_csum(state, 14, 34);
        assert_eq!((slot.l4_csum(), sent(&mut slot).0), (state, VnetHeader::default()));
    }
}

#[test]
fn an_unfinished_sctp_crc_is_finished_on_receive() {
    let fake = Fake::new();
    let bytes: Vec<u8> = (0..90).collect();
    let mut finished = bytes.clone();
    assert!(sctp::finish(&mut finished, 34));
    let header = VnetHeader {
        flags: vnet::NEEDS_CSUM,
        csum_start: 34,
        csum_offset: sctp::FIELD,
        ..VnetHeader::default()
    };
    let mut slot = fake.packet(&bytes, header);
    assert_eq!((slot.l4_csum(), slot.data()), (L4Csum::Good, &finished[..]));
    assert_eq!(sent(&mut slot).0, VnetHeader::default());
}

#[derive(Clone, Debug)]
enum Change {
    PushFront(usize),
    PullFront(usize),
    PushBack(usize),
    Truncate(usize),
    Send(bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0usize..200).prop_map(Change::PushFront),
        (0usize..200).prop_map(Change::PullFront),
        (0usize..900).prop_map(Change::PushBack),
        (0usize..2000).prop_map(Change::Truncate),
        any::<bool>().prop_map(Change::Send),
    ]
}

/// Applies a change to packet and twin; both must agree on whether it fits.
fn apply(slot: &mut Slot<'_>, twin: &mut Vec<u8>, change: &Change, fill: u8) {
    let (head, tail, len) = (slot.headroom(), slot.tailroom(), twin.len());
    match *change {
        Change::PushFront(n) => {
            let grown =
                slot.push_front(n).map(|data| data.iter_mut().take(n).for_each(|b| *b = fill));
            assert_eq!(grown.is_ok(), n <= head);
            if grown.is_ok() {
                twin.splice(0..0, vec![fill; n]);
            }
        }
        Change::PullFront(n) => {
            assert_eq!(slot.pull_front(n).is_ok(), n <= len);
            if n <= len {
                twin.drain(..n);
            }
        }
        Change::PushBack(n) => {
            let grown =
                slot.push_back(n).map(|data| data.iter_mut().skip(len).for_each(|b| *b = fill));
            assert_eq!(grown.is_ok(), n <= tail);
            if grown.is_ok() {
                twin.resize(len + n, fill);
            }
        }
        Change::Truncate(n) => {
            slot.truncate(n);
            twin.truncate(n);
        }
        Change::Send(tagged) => {
            slot.set_vlan(tagged.then_some(Vlan { tpid: 0x8100, tci: 1 }));
            let (_, out) = sent(slot);
            let mut want = twin.clone();
            if tagged && len >= 12 {
                want.splice(12..12, [0x81, 0, 0, 1]);
            }
            assert_eq!(out, want);
        }
    }
    assert_eq!(slot.headroom() + slot.data().len() + slot.tailroom(), SIZE - LOWEST as usize);
}

proptest! {
    #[test]
    fn a_packet_behaves_like_a_plain_vector(
        bytes in proptest::collection::vec(any::<u8>(), 0..1500),
        changes in proptest::collection::vec(change(), 0..40),
    ) {
        let fake = Fake::new();
        let mut slot = fake.packet(&bytes, VnetHeader::default());
        let mut twin = bytes;
        for (i, change) in changes.iter().enumerate() {
            apply(&mut slot, &mut twin, change, i as u8);
            prop_assert_eq!(slot.data(), &twin[..]);
        }
    }

    #[test]
    fn no_arrival_makes_a_packet_outside_its_memory(
        status: u32, len: u32, snaplen in prop_oneof![0u32..3000, any::<u32>()],
        mac in prop_oneof![0u16..300, any::<u16>()], same: bool,
        flags: u8, gso_type: u8, hdr_len: u16, csum_start: u16,
        csum_offset in prop_oneof![Just(8u16), any::<u16>()],
    ) {
        let fake = Fake::new();
        let header = VnetHeader { flags, gso_type, hdr_len, gso_size: 3, csum_start, csum_offset };
        fake.arrive(status, if same { snaplen } else { len }, snaplen, mac, header);
        let arrival = fake.place.arrival().unwrap();
        if let Some(mut slot) = fake.place.receive(&arrival, true) {
            let fits = u32::from(mac) >= LOWEST && u32::from(mac) + snaplen <= SIZE as u32;
            prop_assert!(fits && (same || len == snaplen));
            prop_assert_eq!(slot.data_mut().len(), snaplen as usize);
            prop_assert_eq!(slot.parts(true).concat().len() >= snaplen as usize, true);
        }
    }
}
