//! Stream edits against a naive model of the two byte streams, with loss, disorder and repetition.

mod support;

use lvs_core::flow::L4Proto;
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::wire::{Headers, Parsed, Transport};
use lvs_nat::edit::{
    Bias, EditError, EditList, EditListError, Splice, StreamEdit, inbound, own, returning, splice,
};
use proptest::prelude::*;
use support::{ACK, Opt, SYN, Spec, edgy, encode, specs, tcp_specs};

const FIN: u8 = 0x01;
const URG: u8 = 0x20;

/// The two streams, byte by byte.
struct Streams {
    /// Number of the first byte of the client.
    first: u32,
    base: u32,
    edits: Vec<(StreamEdit, Vec<u8>)>,
    client: Vec<u8>,
    server: Vec<u8>,
    /// For each byte of the client: the range of the server's stream that it stands for.
    stands_for: Vec<(usize, usize)>,
    /// For each edit: where its bytes are in the server's stream.
    inserted: Vec<(usize, usize)>,
}

/// Lengths kept, removed and inserted, one after another.
type Shape = Vec<(usize, usize, usize)>;

impl Streams {
    fn new(first: u32, base: u32, shape: &Shape, rest: usize) -> Self {
        let mut s = Self {
            first,
            base,
            edits: vec![],
            client: vec![],
            server: vec![],
            stands_for: vec![],
            inserted: vec![],
        };
        let mut next = 0u8;
        let mut byte = || {
            next = next.wrapping_mul(5).wrapping_add(77);
            next
        };
        for (kept, removed, inserted) in shape.iter().copied() {
            s.keep(kept, &mut byte);
            let at = first.wrapping_add(s.client.len() as u32);
            let bytes: Vec<u8> = (0..inserted).map(|_| byte()).collect();
            let place = (s.server.len(), s.server.len() + inserted);
            s.server.extend(&bytes);
            for _ in 0..removed {
                s.client.push(byte());
                s.stands_for.push(place);
            }
            s.inserted.push(place);
            let edit = StreamEdit { at, removed: removed as u16, inserted: inserted as u16 };
            s.edits.push((edit, bytes));
        }
        s.keep(rest, &mut byte);
        s
    }

    fn keep(&mut self, len: usize, byte: &mut impl FnMut() -> u8) {
        for _ in 0..len {
            let b = byte();
            self.stands_for.push((self.server.len(), self.server.len() + 1));
            self.client.push(b);
            self.server.push(b);
        }
    }

    fn list(&self) -> EditList<3> {
        let mut list = EditList::with_base(self.base);
        for (edit, _) in &self.edits {
            list.push(*edit).unwrap();
        }
        list
    }

    /// Number of a byte of the server's stream, as the server counts.
    fn at_server(&self, index: usize) -> u32 {
        self.first.wrapping_add(self.base).wrapping_add(index as u32)
    }

    fn at_client(&self, index: usize) -> u32 {
        self.first.wrapping_add(index as u32)
    }

    /// Bytes of the client that the server has all of when it has `index` bytes; the FIN counts.
    fn delivered(&self, index: usize) -> usize {
        let all = self.stands_for.iter().take_while(|(_, end)| *end <= index).count();
        let fin = all == self.client.len() && index > self.server.len();
        all + usize::from(fin)
    }
}

fn shapes(max: usize) -> impl Strategy<Value = Shape> {
    let one = (1usize..40, prop_oneof![Just(0usize), 0usize..30], 0usize..40).prop_map(
        |(kept, removed, inserted)| (kept, removed, inserted.max(usize::from(removed == 0))),
    );
    (prop::collection::vec(one, 0..=max), any::<bool>()).prop_map(|(mut shape, at_start)| {
        if let (Some(first), true) = (shape.first_mut(), at_start) {
            first.0 = 0;
        }
        shape
    })
}

fn firsts() -> impl Strategy<Value = u32> {
    prop_oneof![any::<u32>(), (0u32..300).prop_map(|n| 0u32.wrapping_sub(n))]
}

fn spec(seq: u32, flags: u8, payload: Vec<u8>, options: &[Opt]) -> Spec {
    Spec {
        src: "10.0.0.1:40000".parse().unwrap(),
        dst: "10.0.0.2:80".parse().unwrap(),
        proto: L4Proto::Tcp,
        vlan: false,
        ip_extra: false,
        ttl: 64,
        seq,
        ack: 2,
        flags,
        options: encode(options, 1),
        payload,
        no_checksum: false,
        csum: L4Csum::Unknown,
        padding: 0,
    }
}

/// A frame that arrived, verified by pnet_packet: sequence number, flags, payload.
fn arrived(frame: &[u8], like: &Spec) -> (u32, u8, Vec<u8>) {
    let Ok(Parsed::Ip(h)) = Headers::parse(frame, frame.len()) else { panic!() };
    let Transport::Tcp { seq, flags, .. } = h.transport else { panic!() };
    let payload = frame[usize::from(h.payload)..h.end as usize].to_vec();
    let now = Spec { payload: payload.clone(), ..like.clone() };
    assert_eq!(now.field(frame), now.computed(frame), "checksum");
    (seq, flags, payload)
}

/// A small generator of its own, so that a failing conversation shrinks by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides.max(1)
    }
}

/// What the server has, the FIN as one more byte.
struct Server {
    has: Vec<bool>,
}

impl Server {
    fn next(&self) -> usize {
        self.has.iter().take_while(|has| **has).count()
    }

    fn take(&mut self, s: &Streams, (seq, flags, payload): (u32, u8, Vec<u8>)) {
        let start = seq.wrapping_sub(s.at_server(0)) as usize;
        assert!(start <= s.server.len() || payload.is_empty(), "starts outside: {start}");
        for (n, byte) in payload.iter().enumerate() {
            assert_eq!(s.server.get(start + n), Some(byte), "byte {} of the server", start + n);
            self.has[start + n] = true;
        }
        if flags & FIN != 0 {
            assert_eq!(start + payload.len(), s.server.len(), "place of the FIN");
            self.has[s.server.len()] = true;
        }
    }

    /// Ranges behind the first gap.
    fn blocks(&self) -> Vec<(usize, usize)> {
        let mut blocks = vec![];
        let mut at = self.next();
        while at < self.has.len() {
            let start = at + self.has[at..].iter().take_while(|has| !**has).count();
            at = start + self.has[start..].iter().take_while(|has| **has).count();
            if start < at {
                blocks.push((start, at));
            }
        }
        blocks
    }
}

/// Sends bytes `from..to` of the client (one past the end: the FIN) through the edits to the server.
fn send(s: &Streams, list: &EditList<3>, server: &mut Server, from: usize, to: usize) {
    let fin = if to > s.client.len() { FIN } else { 0 };
    let end = to.min(s.client.len());
    let spec = spec(s.at_client(from), ACK | fin, s.client[from.min(end)..end].to_vec(), &[]);
    let mut buf = spec.buffer(200, None, false);
    let bytes = |n: usize| &s.edits[n].1[..];
    let headers = inbound(&mut buf, &spec.parsed(), list, bytes, 1500).unwrap();
    let Ok(Parsed::Ip(again)) = Headers::parse(buf.data(), buf.total_len()) else { panic!() };
    assert_eq!(headers, again);
    server.take(s, arrived(buf.data(), &spec));
}

/// The server's acknowledgement as the client gets it, checked against the streams.
fn acknowledge(s: &Streams, list: &EditList<3>, server: &Server, dice: &mut Dice) -> usize {
    let next = server.next();
    let mut blocks = server.blocks();
    while blocks.len() > 3 {
        let gone = dice.roll(blocks.len());
        blocks.remove(gone);
    }
    // A report of something received twice comes first (RFC 2883).
    if next > 3 && blocks.len() < 3 && dice.roll(4) == 0 {
        let start = dice.roll(next - 1);
        blocks.insert(0, (start, start + 1 + dice.roll(next - start - 1)));
    }
    let edges: Vec<_> = blocks.iter().map(|(l, r)| (s.at_server(*l), s.at_server(*r))).collect();
    let mut options = vec![Opt::Nop, Opt::WindowScale(1)];
    options.extend((!edges.is_empty()).then_some(Opt::Sack(edges)));
    let mut spec = spec(9, ACK, vec![], &options);
    spec.ack = s.at_server(next);
    let mut frame = spec.build();
    returning(&mut frame, &spec.parsed(), spec.csum, list).unwrap();
    let Ok(Parsed::Ip(h)) = Headers::parse(&frame, frame.len()) else { panic!() };
    let view = h.tcp(&frame).unwrap();
    let after = Spec { options: view.option_bytes().to_vec(), ..spec.clone() };
    assert_eq!(after.field(&frame), after.computed(&frame));
    assert_eq!(view.ack(), s.at_client(s.delivered(next)), "acknowledgement of {next}");

    let claimed = claims(s, view.option_bytes());
    check_claims(s, server, next, &blocks, &claimed);
    s.delivered(next)
}

/// Client bytes that the SACK option in `options` reports.
fn claims(s: &Streams, options: &[u8]) -> Vec<bool> {
    let mut claimed = vec![false; s.client.len() + 1];
    let mut at = 0;
    while at < options.len() {
        match options[at] {
            0 => break,
            1 => at += 1,
            5 => {
                let len = usize::from(options[at + 1]);
                assert!(len % 8 == 2 && len >= 10, "length of SACK {len}");
                for block in options[at + 2..at + len].chunks(8) {
                    let edge = |b: &[u8]| {
                        u32::from_be_bytes(b.try_into().unwrap()).wrapping_sub(s.first) as usize
                    };
                    let (left, right) = (edge(&block[..4]), edge(&block[4..]));
                    assert!(left < right, "an empty block");
                    claimed[left..right].fill(true);
                }
                at += len;
            }
            _ => at += usize::from(options[at + 1]),
        }
    }
    claimed
}

fn check_claims(
    s: &Streams,
    server: &Server,
    next: usize,
    blocks: &[(usize, usize)],
    claimed: &[bool],
) {
    let has = |range: (usize, usize)| server.has[range.0..range.1].iter().all(|has| *has);
    for (index, claimed) in claimed.iter().enumerate() {
        let stands_for =
            s.stands_for.get(index).copied().unwrap_or((s.server.len(), s.server.len() + 1));
        let before = s
            .edits
            .iter()
            .zip(&s.inserted)
            .find(|((edit, _), _)| edit.removed == 0 && edit.at == s.at_client(index));
        let complete = before.is_none_or(|(_, place)| has(*place));
        if *claimed {
            assert!(has(stands_for) && complete, "byte {index} of the client is not there");
        }
        let in_block = blocks.iter().any(|(l, r)| *l <= stands_for.0 && stands_for.1 <= *r)
            && stands_for.0 < stands_for.1;
        // The byte behind an insertion may be kept back while another block brings the insertion.
        if in_block && stands_for.0 >= next && before.is_none() {
            assert!(*claimed, "byte {index} of the client is there and not reported");
        }
    }
}

fn converse(s: &Streams, seed: u64) {
    let mut dice = Dice(seed);
    let mut list = s.list();
    let total = s.client.len() + 1;
    let mut server = Server { has: vec![false; s.server.len() + 1] };
    let mut una = 0;
    for round in 0..400 {
        let mut flight: Vec<(usize, usize)> = (0..1 + dice.roll(5))
            .map(|_| {
                // Mostly what is missing, sometimes what is long there.
                let low = if dice.roll(4) == 0 { 0 } else { una };
                let from = low + dice.roll(total - low);
                (from, from + 1 + dice.roll((total - from).min(60)))
            })
            .collect();
        if round % 3 == 2 {
            flight.push((una, una + 1 + dice.roll(total - una)));
        }
        for (from, to) in flight {
            if dice.roll(3) > 0 || round > 350 {
                send(s, &list, &mut server, from, to.min(total));
            }
        }
        let acked = acknowledge(s, &list, &server, &mut dice);
        assert!(acked >= una);
        una = acked;
        if dice.roll(5) == 0 {
            fold_keeps_the_rest(s, &mut list, &server);
        }
        if una == total {
            break;
        }
    }
    assert_eq!(una, total, "everything arrives in the end");
    assert!(server.has.iter().all(|has| *has));
    let settled = list.settled(s.at_server(server.next())).unwrap();
    let growth = (s.server.len() as u32).wrapping_sub(s.client.len() as u32);
    assert_eq!(settled.seq, s.base.wrapping_add(growth));
}

/// Folding settled edits changes nothing for what is still open.
fn fold_keeps_the_rest(s: &Streams, list: &mut EditList<3>, server: &Server) {
    let ack = s.at_server(server.next());
    let mut folded = *list;
    folded.fold(ack);
    for index in server.next()..=s.server.len() {
        let at = s.at_server(index);
        assert_eq!(folded.unmap(at), list.unmap(at));
    }
    // The bytes of an edit are asked for by its number, so the model keeps its own list.
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn positions_are_those_of_the_two_streams(
        first in firsts(), base: u32, shape in shapes(3), rest in 0usize..50,
    ) {
        let s = Streams::new(first, base, &shape, rest);
        let list = s.list();
        for (index, place) in s.stands_for.iter().enumerate() {
            let at = s.at_client(index);
            let removed = s.edits.iter().any(|(edit, _)| {
                let into = at.wrapping_sub(edit.at);
                into < u32::from(edit.removed)
            });
            let insertion = s.edits.iter().zip(&s.inserted)
                .find(|((edit, _), _)| edit.at == at && edit.removed == 0);
            let start = insertion.map_or(place.0, |(_, inserted)| inserted.0);
            prop_assert_eq!(list.map(at, Bias::Before), s.at_server(start), "client {}", index);
            if !removed {
                prop_assert_eq!(list.map(at, Bias::After), s.at_server(place.0));
            }
        }
        for index in 0..=s.server.len() {
            prop_assert_eq!(
                list.unmap(s.at_server(index)), s.at_client(s.delivered(index)), "server {}", index
            );
        }
    }

    #[test]
    fn a_conversation_with_loss_and_disorder_ends_with_the_edited_stream(
        first in firsts(), base: u32, shape in shapes(3), rest in 0usize..200, seed: u64,
    ) {
        converse(&Streams::new(first, base, &shape, rest), seed);
    }

    #[test]
    fn one_insertion_at_the_first_byte_is_what_a_proxy_header_needs(
        first in firsts(), base: u32, len in 1usize..110, rest in 0usize..300, seed: u64,
    ) {
        converse(&Streams::new(first, base, &vec![(0, 0, len)], rest), seed);
    }

    #[test]
    fn behind_a_settled_edit_the_constant_shift_does_the_same(
        first in firsts(), base: u32, shape in shapes(3), beyond in 0u32..1_000_000,
    ) {
        let s = Streams::new(first, base, &shape, 0);
        let list = s.list();
        let end = s.at_server(s.server.len());
        let deltas = list.settled(end).unwrap();
        for ack in 0..s.server.len() {
            let unsettled = s.inserted.iter().any(|(_, end)| *end > ack);
            prop_assert_eq!(list.settled(s.at_server(ack)).is_none(), unsettled);
        }
        let (inward, back) = (deltas.inbound(), deltas.returning());
        let at = s.at_client(s.client.len()).wrapping_add(beyond);
        prop_assert_eq!(list.map(at, Bias::After), at.wrapping_add(inward.seq_add));
        let ack = end.wrapping_add(beyond);
        prop_assert_eq!(list.unmap(ack), ack.wrapping_add(back.ack_add));
        let mut folded = list;
        prop_assert_eq!(folded.fold(end), s.edits.len());
        prop_assert!(folded.edits().is_empty());
        prop_assert_eq!(folded, EditList::with_base(deltas.seq));
    }

    /// Right checksums by pnet_packet, all states, both families and protocols, any parity.
    #[test]
    fn a_spliced_packet_is_the_packet_that_would_have_been_built(
        (spec, _) in specs(), at in 0usize..90, cut in 0usize..40, bytes in edgy(120),
        chained: bool, headroom in 0usize..130,
    ) {
        let chained = chained && spec.padding == 0;
        let mut buf = spec.buffer(headroom, None, chained);
        let before = (buf.to_vec(), buf.headroom(), buf.data().len(), *buf.meta());
        let result = splice(&mut buf, &spec.parsed(), &Splice { at, cut, bytes: &bytes }, 1500);
        let reach = if chained { 0 } else { spec.payload.len() + spec.padding };
        match result {
            Ok(headers) => {
                let mut want = spec.clone();
                want.payload.splice(at..at + cut, bytes.iter().copied());
                prop_assert_eq!(buf.to_vec(), want.build());
                prop_assert_eq!(headers, want.parsed());
            }
            Err(error) => {
                prop_assert_eq!((buf.to_vec(), buf.headroom(), buf.data().len(), *buf.meta()), before);
                match error {
                    EditError::OutOfReach => prop_assert!(at + cut > spec.payload.len().min(reach)),
                    EditError::NoHeadroom => prop_assert!(bytes.len() > cut + headroom),
                    other => prop_assert!(false, "{}", other),
                }
            }
        }
    }

    /// INV-3.
    #[test]
    fn damage_in_front_of_a_splice_is_damage_behind_it(
        (mut spec, _) in tcp_specs(), value: u16, at in 0usize..20, bytes in edgy(30),
    ) {
        spec.csum = L4Csum::Unknown;
        let at = at.min(spec.payload.len());
        let mut buf = spec.buffer(64, None, false);
        let place = spec.field_at();
        let right = spec.field(buf.data());
        buf.data_mut()[place..place + 2].copy_from_slice(&value.to_be_bytes());
        splice(&mut buf, &spec.parsed(), &Splice { at, cut: 0, bytes: &bytes }, 1500).unwrap();
        let mut want = spec.clone();
        want.payload.splice(at..at, bytes.iter().copied());
        let field = want.field(&buf.to_vec());
        let zero = |f: u16| if f == 0xffff { 0 } else { f };
        prop_assert_eq!(
            zero(field) == zero(want.computed(&buf.to_vec())), zero(value) == zero(right)
        );
    }

    #[test]
    fn headers_of_another_frame_do_no_harm(
        (spec, _) in specs(), offsets: (u16, u16, u16), near: bool, end: u32, len in 0usize..150,
        at in 0usize..200, cut in 0usize..200, bytes in edgy(20),
    ) {
        let pick = |wild: u16| if near { wild % 160 } else { wild };
        let headers = Headers {
            l3: pick(offsets.0),
            l4: pick(offsets.1),
            payload: pick(offsets.2),
            end: if near { end % 300 } else { end },
            ..spec.headers()
        };
        let mut buf = spec.buffer(64, None, false);
        buf.truncate(len);
        let before = buf.to_vec();
        if splice(&mut buf, &headers, &Splice { at, cut, bytes: &bytes }, 1500).is_err() {
            prop_assert_eq!(buf.to_vec(), before);
        }
        let mut list = EditList::<1>::default();
        let edit = StreamEdit { at: spec.seq, removed: 0, inserted: bytes.len() as u16 };
        list.push(edit).unwrap();
        let mut buf = spec.buffer(64, None, false);
        buf.truncate(len);
        let _ = inbound(&mut buf, &headers, &list, |_| &bytes, 1500);
        let csum = buf.l4_csum();
        let _ = returning(buf.data_mut(), &headers, csum, &list);
        let mut out = [0; 300];
        let _ = own::ahead(&mut out, (buf.data(), &[]), &headers, csum, &[], &bytes);
    }

    #[test]
    fn options_of_any_bytes_survive_the_way_back(
        (mut spec, _) in tcp_specs(), garbage in edgy(41), small: bool, first: u32, inserted: u16,
    ) {
        spec.options = garbage.iter().map(|b| if small { b % 12 } else { *b }).collect();
        spec.options.truncate(spec.options.len() / 4 * 4);
        spec.flags |= ACK;
        let mut list = EditList::<1>::default();
        list.push(StreamEdit { at: first, removed: 0, inserted }).unwrap();
        let headers = spec.headers();
        let mut frame = spec.build();
        returning(&mut frame, &headers, spec.csum, &list).unwrap();
        let at = usize::from(headers.l4);
        spec.ack = list.unmap(spec.ack);
        spec.options = frame[at + 20..usize::from(headers.payload)].to_vec();
        prop_assert_eq!(frame, spec.build());
    }

    #[test]
    fn a_segment_of_our_own_is_what_a_builder_makes(
        (spec, _) in tcp_specs(), tos: u8,
    ) {
        let segment = own::OwnSegment {
            src: spec.src, dst: spec.dst, seq: spec.seq, ack: spec.ack, flags: spec.flags,
            window: 7, ttl: spec.ttl, tos, id: 3, options: &spec.options, payload: &spec.payload,
        };
        let mut frame = vec![0xee; 400];
        frame[..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]);
        if spec.src.is_ipv6() {
            frame[12..14].copy_from_slice(&[0x86, 0xdd]);
        }
        let len = own::write(&mut frame[14..], &segment).unwrap();
        let Ok(Parsed::Ip(h)) = Headers::parse(&frame[..14 + len], 14 + len) else { panic!() };
        let plain = Spec { vlan: false, ip_extra: false, padding: 0, ..spec.clone() };
        prop_assert_eq!(plain.field(&frame), plain.computed(&frame));
        let window = 7;
        let want = Transport::Tcp { flags: spec.flags, seq: spec.seq, ack: spec.ack, window };
        prop_assert_eq!((h.transport, h.end as usize), (want, 14 + len));
        prop_assert_eq!(h.tcp(&frame).unwrap().payload(), &spec.payload[..]);
        prop_assert_eq!(h.tcp(&frame).unwrap().option_bytes(), &spec.options[..]);
        // Not a byte more, and nothing when it is too short.
        prop_assert!(frame[14 + len..].iter().all(|b| *b == 0xee));
        let mut short = vec![0xee; len - 1];
        prop_assert_eq!(own::write(&mut short, &segment), None);
        prop_assert!(short.iter().all(|b| *b == 0xee));
    }
}

fn header_at(at: u32) -> EditList<1> {
    let mut list = EditList::default();
    list.push(StreamEdit { at, removed: 0, inserted: 28 }).unwrap();
    list
}

#[test]
fn a_pure_acknowledgement_never_carries_the_header_and_does_not_look_old() {
    let plan = header_at(100).plan(100, ACK, 0, 0);
    assert_eq!((plan.seq, plan.cuts), (128, [None]));
    // A keep-alive probe (RFC 9293 section 3.8.4) with its byte of nothing stays in front.
    for payload in [0, 1] {
        let plan = header_at(100).plan(99, ACK, payload, 0);
        assert_eq!((plan.seq, plan.cuts), (99, [None]));
    }
}

#[test]
fn a_fin_without_data_and_a_syn_with_data_carry_the_header() {
    let plan = header_at(100).plan(100, ACK | FIN, 0, 0);
    assert_eq!((plan.seq, plan.cuts), (100, [Some((0, 0))]));
    let plan = header_at(100).plan(99, SYN, 5, 0);
    assert_eq!((plan.seq, plan.cuts), (99, [Some((0, 0))]));
    let plan = header_at(100).plan(99, SYN, 0, 0);
    assert_eq!((plan.seq, plan.cuts), (99, [None]));
}

#[test]
fn a_reset_has_the_number_that_the_server_expects() {
    let list = header_at(100);
    // The client counts 100 whatever the server has of the 28 bytes.
    for server_ack in 100..=128 {
        assert_eq!(list.reset(100, server_ack), server_ack);
    }
    assert_eq!(list.reset(150, 178), 178);
    assert_eq!(list.reset(150, 128), 178);
    assert_eq!(list.reset(90, 90), 90);
}

#[test]
fn a_sack_option_without_a_block_stays_one_that_can_be_read() {
    let options = [Opt::Sack(vec![]), Opt::Sack(vec![]), Opt::Mss(1460)];
    let spec = spec(9, ACK, vec![], &options);
    let mut frame = spec.build();
    returning(&mut frame, &spec.parsed(), spec.csum, &header_at(100)).unwrap();
    let Ok(Parsed::Ip(h)) = Headers::parse(&frame, frame.len()) else { panic!("{frame:02x?}") };
    assert_eq!(h.tcp(&frame).unwrap().option_bytes(), spec.options);
}

#[test]
fn the_urgent_pointer_points_at_the_same_byte() {
    let list = header_at(100);
    assert_eq!(list.plan(100, ACK | URG, 10, 4).urgent, 32);
    assert_eq!(list.plan(90, ACK | URG, 20, 4).urgent, 4);
    assert_eq!(list.plan(90, ACK | URG, 20, 10).urgent, 10);
    assert_eq!(list.plan(90, ACK | URG, 20, 11).urgent, 39);
    assert_eq!(list.plan(200, ACK | URG, 20, 11).urgent, 11);
    assert_eq!(list.plan(100, ACK | URG, 20, 65_530).urgent, u16::MAX);
    // Without the flag it is no number.
    assert_eq!(list.plan(100, ACK, 10, 4).urgent, 4);
}

#[test]
fn an_icmp_error_about_an_edited_segment_speaks_of_the_clients_numbers() {
    let list = header_at(u32::MAX - 3);
    for (server, client) in [(0u32, u32::MAX - 3), (24, u32::MAX - 3), (25, u32::MAX - 2), (40, 12)]
    {
        assert_eq!(list.unmap(server), client, "{server}");
    }
}

#[test]
fn edits_stand_in_order_and_a_full_list_says_so() {
    let mut list = EditList::<2>::default();
    let edit = |at, removed, inserted| StreamEdit { at, removed, inserted };
    assert_eq!(list.push(edit(10, 5, 1)), Ok(()));
    assert_eq!(list.push(edit(14, 0, 1)), Err(EditListError::Order));
    assert_eq!(list.push(edit(15, 0, 1)), Ok(()));
    assert_eq!(list.push(edit(15, 0, 1)), Err(EditListError::Order));
    assert_eq!(list.push(edit(16, 0, 1)), Err(EditListError::Full));
    assert_eq!(list.edits().len(), 2);
    assert_eq!(EditList::<0>::default().push(edit(1, 0, 1)), Err(EditListError::Full));
}

#[test]
fn a_full_segment_is_refused_and_a_segment_of_its_own_goes_ahead() {
    let full = spec(100, ACK | 0x08, vec![0x5a; 1460], &[]);
    let mut buf = full.buffer(64, None, false);
    let before = buf.to_vec();
    let header = [7u8; 28];
    let result = inbound(&mut buf, &full.parsed(), &header_at(100), |_| &header, 1500);
    assert_eq!(result, Err(EditError::TooBig));
    assert_eq!(buf.to_vec(), before);

    let mut out = [0u8; 14 + 68];
    out[..14].copy_from_slice(&before[..14]);
    let headers = full.parsed();
    let len = own::ahead(&mut out[14..], (&before, &[]), &headers, full.csum, &[], &header);
    assert_eq!(len, Ok(68));
    assert_eq!(arrived(&out, &full), (100, ACK | 0x08, header.to_vec()));
    // What follows is the segment as it was, behind the header.
    let plan = header_at(100).plan(128, ACK, 1460, 0);
    assert_eq!((plan.seq, plan.cuts), (156, [None]));

    // A damaged segment is not made to look sound.
    let mut damaged = before.clone();
    damaged[100] ^= 1;
    let ahead =
        |csum, frame: &[u8]| own::ahead(&mut [0; 100], (frame, &[]), &headers, csum, &[], &header);
    assert_eq!(ahead(L4Csum::Unknown, &damaged), Err(own::AheadError::Corrupt));
    assert_eq!(ahead(L4Csum::Bad, &before), Err(own::AheadError::Corrupt));
    assert_eq!(ahead(L4Csum::Good, &damaged), Ok(68));
}

#[test]
fn a_train_takes_the_header_in_front_and_keeps_its_size() {
    let mut train = spec(100, ACK, vec![0x5a; 14_600], &[]);
    train.csum = L4Csum::Partial;
    let mut buf = train.buffer(64, Some(1460), true);
    let header = [7u8; 29];
    let mut list = EditList::<1>::default();
    list.push(StreamEdit { at: 100, removed: 0, inserted: 29 }).unwrap();
    inbound(&mut buf, &train.headers(), &list, |_| &header, 1500).unwrap();
    let mut want = train.clone();
    want.payload.splice(0..0, header);
    assert_eq!(buf.to_vec(), want.build());
    assert_eq!(buf.gso().unwrap().size, 1460);
    // What the IP header cannot say goes ahead on a segment of its own.
    train.payload = vec![0; 65_535 - 40 - 28];
    let mut buf = train.buffer(64, Some(1460), true);
    let result = inbound(&mut buf, &train.headers(), &list, |_| &header, 1500);
    assert_eq!(result, Err(EditError::TooBig));
}

#[test]
fn timestamps_are_found_wherever_they_stand() {
    let list = encode(&[Opt::Mss(5), Opt::Timestamps(7, 8), Opt::SackPermitted], 1);
    let want = encode(&[Opt::Nop, Opt::Nop, Opt::Timestamps(7, 8)], 1);
    assert_eq!(own::timestamps_of(&list).map(Vec::from), Some(want));
    assert_eq!(own::timestamps_of(&encode(&[Opt::Mss(5)], 1)), None);
    assert_eq!(own::timestamps_of(&[8, 10, 0]), None);
}

#[test]
fn the_wait_for_an_acknowledgement_doubles_and_ends() {
    let waits: Vec<u32> = (1..).map_while(own::retransmit_after_ms).collect();
    assert_eq!(waits, [200, 400, 800, 1600, 3200, 6400]);
}
