//! The PROXY protocol: the client's address in front of its first bytes, and every number that counts bytes
//! behind them.
//!
//! ```text
//!   SYN             its data is taken out: the header has to come first
//!   first data      decided once, on a verified segment; the decision stays in the session
//!   until settled   each segment at that place gets the same header, all later numbers move on;
//!                   the server's acknowledgements move back
//!   settled         the server has the header: what it adds becomes part of the session's constant
//!                   difference, and the session may become plain
//! ```
//!
//! The edit of a session lives in its cold record ([`Stored`]) and works in the client's numbers: inbound before
//! the rewrite, return behind it. Once there it goes on whatever a new configuration says.

use crate::admit::Packet;
use crate::ahead::ahead;
use crate::client_addr::is_corrupt;
use crate::director::Director;
use crate::outputs::Outputs;
use core::net::SocketAddr;
use lvs_core::flow::{Direction, L4Proto};
use lvs_core::id::HopId;
use lvs_core::io::{Lane, PacketBuf};
use lvs_core::plan::PortPlan;
use lvs_core::service::{
    ClientAddrMode, ClientHeader, Forwarding, ProxyOptions, ProxyTiming, ProxyVersion,
    VirtualService,
};
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::session::{Detail, Quad, pending};
use lvs_core::time::Time;
use lvs_core::verdict::DropReason;
use lvs_core::wire::{Headers, Transport};
use lvs_nat::edit::{self, EditError, EditList, Splice, StreamEdit};
use lvs_nat::options;
use lvs_nat::proxy::policy::{self, Decision, Undecided};
use lvs_nat::proxy::stored::Again;
use lvs_nat::proxy::{Header, Stored, Version};
use lvs_nat::seq::after;

/// The PROXY protocol of a service, if it has it. Not where replies do not pass here: their acknowledgements count
/// the header.
pub(crate) const fn proxy_of(service: &VirtualService) -> Option<ProxyOptions> {
    match (service.client_addr, service.forwarding) {
        (ClientAddrMode::Proxy(options), Forwarding::Nat | Forwarding::FullNat) => Some(options),
        _ => None,
    }
}

/// Longest header that the director writes: a line of version 1, also one that was translated.
const LONGEST: usize = 128;

/// A header as it goes into a segment.
struct Bytes {
    bytes: [u8; LONGEST],
    len: usize,
}

impl Bytes {
    fn get(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

const fn version_of(options: &ProxyOptions) -> Version {
    match options.version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    }
}

/// The policy of a service as `lvs-nat` decides by it.
const fn policy_of(options: &ProxyOptions) -> policy::Policy {
    policy::Policy {
        version: version_of(options),
        client: match (options.timing, options.client) {
            (ProxyTiming::FirstData, ClientHeader::Convert) => policy::ClientHeader::Convert,
            (ProxyTiming::FirstData, ClientHeader::Keep) => policy::ClientHeader::Keep,
            _ => policy::ClientHeader::Replace,
        },
        undecided: Undecided::Data,
    }
}

/// Client and virtual address, as a header names them.
const fn ends(quad: &Quad) -> (SocketAddr, SocketAddr) {
    let ((client, cport), (virt, vport)) = (quad.client, quad.virt);
    (SocketAddr::new(client, cport), SocketAddr::new(virt, vport))
}

/// Whether a session's segments need the edits of this file.
pub(crate) const fn speaks_proxy(detail: &Detail) -> bool {
    !detail.plain && detail.pending & pending::PROXY != 0
}

/// The edit of a session as a list in the client's numbers; without edits when it has none.
pub(crate) fn list_of(detail: &Detail) -> EditList<1> {
    let mut list = EditList::with_base(0);
    if speaks_proxy(detail)
        && let Some(stored) = Stored::unpack(detail.client_isn, detail.edit)
    {
        // Nothing is in front of the first edit.
        let _ = list.push(stored.edit);
    }
    list
}

/// Folds the edit into the constant difference once the server has acknowledged all of it (`ack`, as the server
/// counts).
pub(crate) fn settle(detail: &mut Detail, ack: u32) {
    let list = list_of(detail);
    if list.edits().is_empty() {
        return;
    }
    if let Some(settled) = list.settled(ack.wrapping_sub(detail.seq_delta)) {
        detail.seq_delta = detail.seq_delta.wrapping_add(settled.seq);
        detail.edit = (0, 0);
        detail.pending &= !pending::PROXY;
    }
}

/// A session whose client's segment is at hand.
pub(crate) struct Speaker<'a> {
    pub(crate) detail: &'a mut Detail,
    pub(crate) quad: Quad,
    pub(crate) hop: HopId,
    pub(crate) options: Option<ProxyOptions>,
}

/// What counts in a segment.
#[derive(Clone, Copy)]
struct Facts {
    flags: u8,
    seq: u32,
    payload: u32,
}

impl Facts {
    fn of(headers: &Headers) -> Option<Self> {
        let Transport::Tcp { flags, seq, .. } = headers.transport else { return None };
        Some(Self { flags, seq, payload: headers.end.saturating_sub(headers.payload.into()) })
    }

    const fn brings_nothing(&self) -> bool {
        self.flags & RST != 0 || self.payload == 0 && self.flags & FIN == 0
    }
}

impl<P: PortPlan> Director<'_, P> {
    /// Edits a client's segment of a session that speaks PROXY. What comes back is a segment of the director's
    /// own that goes ahead.
    pub(crate) fn proxy_inbound<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        speaker: &mut Speaker<'_>,
        out: &mut Outputs<L::Buf>,
    ) -> Result<Option<Packet<L::Buf>>, DropReason> {
        self.fits_or_tell(now, lane, packet, (speaker.hop, 0), out)?;
        let Some(facts) = Facts::of(&packet.headers) else { return Ok(None) };
        if facts.flags & SYN != 0 {
            self.without_data(packet)?;
            return Ok(None);
        }
        let bytes = match Stored::unpack(speaker.detail.client_isn, speaker.detail.edit) {
            Some(stored) => again(&stored, packet, facts, speaker)?,
            None => match self.decide(packet, facts, speaker)? {
                Some(bytes) => Some(bytes),
                None => return Ok(None),
            },
        };
        let list = list_of(speaker.detail);
        if facts.flags & RST != 0 {
            let known = speaker.detail.server_ack.wrapping_sub(speaker.detail.seq_delta);
            packet.headers =
                edit::reset(&mut packet.buf, &packet.headers, &list, known).map_err(refused)?;
            return Ok(None);
        }
        let way = self.neighbours.hop(speaker.hop).ok_or(DropReason::NoRoute)?;
        let mtu = self.most(lane, packet, way.port);
        if bytes.is_some() && facts.brings_nothing() {
            return self.put_alone(packet, bytes.as_ref(), mtu).map(|()| None);
        }
        let ahead = self.put(lane, packet, &list, bytes.as_ref(), mtu)?;
        if ahead.is_some() {
            speaker.detail.pending |= pending::AHEAD;
        }
        Ok(ahead)
    }

    /// Puts the header into the acknowledgement that ends the handshake.
    fn put_alone<B: PacketBuf>(
        &mut self,
        packet: &mut Packet<B>,
        bytes: Option<&Bytes>,
        mtu: u16,
    ) -> Result<(), DropReason> {
        let splice = Splice { at: 0, cut: 0, bytes: bytes.map_or(&[], Bytes::get) };
        let edited = edit::splice(&mut packet.buf, &packet.headers, &splice, mtu);
        packet.headers = edited.map_err(refused)?;
        bump(&mut self.counters.proxy_alone);
        bump(&mut self.counters.proxy_sent);
        Ok(())
    }

    /// Puts the header into the segment that brings the first byte, or ahead of it.
    fn put<L: Lane>(
        &mut self,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        list: &EditList<1>,
        bytes: Option<&Bytes>,
        mtu: u16,
    ) -> Result<Option<Packet<L::Buf>>, DropReason> {
        let header = bytes.map_or(&[][..], Bytes::get);
        match edit::inbound(&mut packet.buf, &packet.headers, list, |_| header, mtu) {
            Ok(headers) => {
                packet.headers = headers;
                if bytes.is_some() {
                    bump(&mut self.counters.proxy_sent);
                }
                return Ok(None);
            }
            Err(EditError::TooBig | EditError::NoHeadroom) if bytes.is_some() => {}
            Err(error) => return Err(refused(error)),
        }
        let ahead = ahead(lane, packet, (&[], header), DropReason::ProxyOrder)?;
        let headers = edit::behind(&mut packet.buf, &packet.headers, list).map_err(refused)?;
        packet.headers = headers;
        bump(&mut self.counters.proxy_ahead);
        bump(&mut self.counters.proxy_sent);
        Ok(Some(ahead))
    }

    /// Decides what becomes of the first bytes of a session. `None`: the segment goes as it is.
    fn decide<B: PacketBuf>(
        &mut self,
        packet: &Packet<B>,
        facts: Facts,
        speaker: &mut Speaker<'_>,
    ) -> Result<Option<Bytes>, DropReason> {
        let Some(options) = speaker.options else {
            // The service speaks PROXY no more, and this session has not begun to.
            speaker.detail.pending &= !pending::PROXY;
            return Ok(None);
        };
        let first = speaker.detail.client_isn.wrapping_add(1);
        if facts.brings_nothing() && !ends_handshake(speaker, facts) {
            return Ok(None);
        }
        if facts.seq != first || speaker.detail.server_first == 0 {
            // A question whether the server is alive repeats a byte in front (RFC 9293 section 3.8.4).
            let end = facts.seq.wrapping_add(facts.payload);
            let probe = facts.flags & FIN == 0 && !after(end, first);
            return if probe { Ok(None) } else { Err(DropReason::ProxyOrder) };
        }
        if is_corrupt(packet) {
            return Err(DropReason::BadL4Checksum);
        }
        let Some((stored, bytes)) = self.begin(packet, speaker, &options)? else {
            speaker.detail.pending &= !pending::PROXY;
            return Ok(None);
        };
        let packed = stored.pack(speaker.detail.client_isn).ok_or(DropReason::ProxyOrder)?;
        speaker.detail.edit = packed;
        speaker.detail.pending |= pending::TOLD_BY_PROXY;
        Ok(Some(bytes))
    }

    /// The edit that a session begins with. `None`: the client's own header stays.
    fn begin<B: PacketBuf>(
        &mut self,
        packet: &Packet<B>,
        speaker: &Speaker<'_>,
        options: &ProxyOptions,
    ) -> Result<Option<(Stored, Bytes)>, DropReason> {
        let policy = policy_of(options);
        let (client, virt) = ends(&speaker.quad);
        let payload = match options.timing {
            ProxyTiming::FirstData => payload_of(packet),
            ProxyTiming::Handshake => &[],
        };
        let mut bytes = Bytes { bytes: [0; LONGEST], len: 0 };
        let (form, removed) = match policy::decide(payload, &policy) {
            Decision::Leave => {
                bump(&mut self.counters.proxy_kept);
                return Ok(None);
            }
            Decision::Drop => return Err(DropReason::ProxyOrder),
            Decision::Insert => (policy::own_form(policy.version), 0),
            Decision::Replace(removed) => (policy::own_form(policy.version), removed),
            Decision::Rebuild(rebuild) => {
                let written = rebuild.write(&mut bytes.bytes, L4Proto::Tcp, &client, &virt);
                bytes.len = written.map_err(|_| DropReason::ProxyOrder)?;
                (rebuild.form(), u16::try_from(rebuild.sent.len).unwrap_or(0))
            }
        };
        if bytes.len == 0 {
            let own = Header::new(policy.version, L4Proto::Tcp, &client, &virt);
            copy(&mut bytes, own.map_err(|_| DropReason::ProxyOrder)?.as_bytes());
        }
        if removed > 0 {
            bump(&mut self.counters.proxy_replaced);
        }
        let at = speaker.detail.client_isn.wrapping_add(1);
        let inserted = u16::try_from(bytes.len).unwrap_or(0);
        Ok(Some((Stored { edit: StreamEdit { at, removed, inserted }, form }, bytes)))
    }

    /// Takes data out of a SYN, and the option that announces some (RFC 7413): a server that took it would read
    /// it before the header. The client sends it again, as the answer does not acknowledge it.
    pub(crate) fn without_data<B: PacketBuf>(
        &mut self,
        packet: &mut Packet<B>,
    ) -> Result<(), DropReason> {
        let csum = packet.buf.l4_csum();
        let fast_open = options::drop_fast_open(packet.buf.data_mut(), &packet.headers, csum);
        let payload = payload_of(packet).len();
        if payload > 0 {
            let cut = Splice { at: 0, cut: payload, bytes: &[] };
            packet.headers =
                edit::splice(&mut packet.buf, &packet.headers, &cut, u16::MAX).map_err(refused)?;
        }
        if payload > 0 || fast_open.is_ok_and(|dropped| dropped > 0) {
            bump(&mut self.counters.syn_data_cut);
        }
        Ok(())
    }

    /// The packet that opens a session: a SYN brings no data, the first datagram gets the header.
    pub(crate) fn begin_proxy<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        packet: &mut Packet<L::Buf>,
        (options, quad, hop): (&ProxyOptions, &Quad, HopId),
        out: &mut Outputs<L::Buf>,
    ) -> Result<(), DropReason> {
        if quad.proto == L4Proto::Tcp {
            return self.without_data(packet);
        }
        let (client, virt) = ends(quad);
        let header = Header::new(version_of(options), L4Proto::Udp, &client, &virt);
        let header = header.map_err(|_| DropReason::ProxyOrder)?;
        let growth = u16::try_from(header.len()).unwrap_or(u16::MAX);
        self.fits_or_tell(now, lane, packet, (hop, growth), out)?;
        let way = self.neighbours.hop(hop).ok_or(DropReason::NoRoute)?;
        let mtu = self.most(lane, packet, way.port);
        let splice = Splice { at: 0, cut: 0, bytes: header.as_bytes() };
        let edited = edit::splice(&mut packet.buf, &packet.headers, &splice, mtu);
        packet.headers = edited.map_err(refused)?;
        bump(&mut self.counters.proxy_sent);
        Ok(())
    }

    /// A server's acknowledgement on its way to the client, behind the rewrite.
    pub(crate) fn proxy_return<B: PacketBuf>(&self, packet: &mut Packet<B>, list: &EditList<1>) {
        if list.edits().is_empty() {
            return;
        }
        let csum = packet.buf.l4_csum();
        // The headers are this frame's and TCP, so nothing can be refused.
        let _ = edit::returning(packet.buf.data_mut(), &packet.headers, csum, list);
    }
}

/// What a packet tells about the settling of the edit, looked at before it is translated; only of a verified one.
pub(crate) fn settles<B: PacketBuf>(
    detail: &Detail,
    direction: Direction,
    packet: &Packet<B>,
) -> Option<u32> {
    let Transport::Tcp { flags, ack, .. } = packet.headers.transport else { return None };
    let counts = direction == Direction::Return && flags & (ACK | RST) == ACK;
    let list = list_of(detail);
    if !counts || list.edits().is_empty() {
        return None;
    }
    let settled = list.settled(ack.wrapping_sub(detail.seq_delta)).is_some();
    // A damaged number would part client and server for good.
    (settled && !is_corrupt(packet)).then_some(ack)
}

/// The header once more, if the segment brings the byte behind it.
fn again<B: PacketBuf>(
    stored: &Stored,
    packet: &Packet<B>,
    facts: Facts,
    speaker: &Speaker<'_>,
) -> Result<Option<Bytes>, DropReason> {
    if !carries(&list_of(speaker.detail), &packet.headers) && !ends_handshake(speaker, facts) {
        return Ok(None);
    }
    let (client, virt) = ends(&speaker.quad);
    let mut bytes = Bytes { bytes: [0; LONGEST], len: 0 };
    let payload = (facts.seq, payload_of(packet));
    match stored.again(&mut bytes.bytes, payload, L4Proto::Tcp, &client, &virt) {
        Ok(Again::Written(len)) if len == usize::from(stored.edit.inserted) => bytes.len = len,
        _ => return Err(DropReason::ProxyOrder),
    }
    Ok(Some(bytes))
}

/// Whether a segment is the acknowledgement that ends the handshake, toward a server that speaks first. The header
/// takes its place: should it be lost, the server repeats its SYN-ACK, the client answers it again, and the header
/// goes again.
fn ends_handshake(speaker: &Speaker<'_>, facts: Facts) -> bool {
    speaker.options.is_some_and(|options| options.timing == ProxyTiming::Handshake)
        && facts.flags & (ACK | RST | FIN | SYN) == ACK
        && facts.payload == 0
        && facts.seq == speaker.detail.client_isn.wrapping_add(1)
        && speaker.detail.server_first != 0
}

/// Whether a segment brings the byte that the header stands in front of.
fn carries(list: &EditList<1>, headers: &Headers) -> bool {
    let Some(Facts { flags, seq, payload }) = Facts::of(headers) else { return false };
    flags & RST == 0 && list.plan(seq, flags, payload, 0).cuts.iter().any(Option::is_some)
}

/// The payload of a packet, as far as it lies in the first part of its buffer.
fn payload_of<B: PacketBuf>(packet: &Packet<B>) -> &[u8] {
    let end = usize::try_from(packet.headers.end).unwrap_or(usize::MAX);
    let data = packet.buf.data();
    data.get(usize::from(packet.headers.payload)..end.min(data.len())).unwrap_or_default()
}

fn copy(to: &mut Bytes, from: &[u8]) {
    to.bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
    to.len = from.len().min(LONGEST);
}

const fn refused(error: EditError) -> DropReason {
    match error {
        EditError::TooBig => DropReason::TooBig,
        EditError::NoHeadroom => DropReason::NoHeadroom,
        EditError::Fragment => DropReason::Fragment,
        EditError::Train => DropReason::NoGso,
        _ => DropReason::ProxyOrder,
    }
}

const fn bump(count: &mut u64) {
    *count = count.wrapping_add(1);
}
