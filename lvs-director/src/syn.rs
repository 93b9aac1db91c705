//! An ordinary SYN as it stands in its frame, and the numbers that its session gets.

use lvs_core::addr::MacAddr;
use lvs_core::flow::{L4Proto, TupleV4};
use lvs_core::io::{L4Csum, PacketBuf};
use lvs_core::key::KeyV4;
use lvs_core::service::ToaOptions;
use lvs_core::session::tcp::flags::{ACK, FIN, RST, SYN};
use lvs_core::session::{ReservedV4, TcpState, Translation};
use lvs_core::time::Time;
use lvs_core::wire::{Headers, QUICK_V4, QuickTcp};
use lvs_nat::options::{Survey, survey_options};
use lvs_nat::toa::{KindSet, TOA_V4_LEN};
use lvs_nat::{End, Ends, isn};

/// An ordinary SYN.
pub(crate) struct Syn {
    pub(crate) key: KeyV4,
    pub(crate) tuple: TupleV4,
    pub(crate) ip_len: u16,
    pub(crate) tcp_len: u8,
    pub(crate) flags: u8,
    pub(crate) ttl: u8,
    pub(crate) seq: u32,
}

impl Syn {
    /// For edits that want them.
    pub(crate) fn headers(&self) -> Headers {
        QuickTcp::<12> {
            to: MacAddr::ZERO,
            key: self.key,
            ip_len: self.ip_len,
            tcp_len: self.tcp_len,
            flags: self.flags,
            ttl: self.ttl,
            plain_options: false,
        }
        .headers()
    }
}

/// An ordinary SYN to this port, out of a frame that [`QuickTcp`] understood.
#[inline(always)]
pub(crate) fn read_syn<B: PacketBuf>(packet: &B, here: &MacAddr) -> Option<Syn> {
    let head = packet.data().first_chunk::<QUICK_V4>()?;
    let (flags, ttl) = (head[47], head[22]);
    let csum = packet.l4_csum();
    let ordinary = (flags & (SYN | ACK | FIN | RST) == SYN)
        & (ttl > 1)
        & (*head.first_chunk::<6>()? == here.0)
        & (csum != L4Csum::Bad)
        & (csum != L4Csum::Partial)
        & packet.gso().is_none()
        & packet.vlan().is_none();
    let key = QuickTcp::<12>::key_in(head);
    ordinary.then(|| Syn {
        key,
        tuple: key.tuple(L4Proto::Tcp),
        ip_len: u16::from_be_bytes([head[16], head[17]]),
        tcp_len: (head[46] >> 4) << 2,
        flags,
        ttl,
        seq: u32::from_be_bytes([head[38], head[39], head[40], head[41]]),
    })
}

/// What the options of a SYN hold; `None` when they are suspect or malformed, or there is no room for one more that
/// is wanted, or data has to be taken out.
#[inline]
pub(crate) fn survey_of<B: PacketBuf>(
    packet: &B,
    syn: &Syn,
    (kinds, toa): (KindSet, Option<ToaOptions>),
) -> Option<Survey> {
    let end = QUICK_V4.wrapping_sub(20).wrapping_add(syn.tcp_len.into());
    let survey = survey_options(packet.data().get(QUICK_V4..end)?, kinds);
    let grows = toa.is_some_and(|toa| toa.placement.syn);
    let room =
        usize::from(syn.tcp_len).wrapping_add(TOA_V4_LEN) <= 60 && packet.headroom() >= TOA_V4_LEN;
    let data = u16::from(syn.tcp_len).wrapping_add(20) != syn.ip_len;
    let keeps = if grows { room } else { toa.is_none() || !data };
    (!survey.suspect && !survey.malformed && keeps).then_some(survey)
}

#[inline(always)]
pub(crate) fn option_of(toa: &ToaOptions, key: &KeyV4) -> [u8; TOA_V4_LEN] {
    let [a, b, c, d, _, _, _, _, i, j, _, _] = key.0;
    [toa.kind_v4, TOA_V4_LEN as u8, i, j, a, b, c, d]
}

#[inline(always)]
pub(crate) fn isn_of(key: &[u64; 2], now: Time, reserved: &ReservedV4) -> u32 {
    let reply = reserved.reply.tuple(L4Proto::Tcp);
    let isn = isn::isn_v4(key, (reply.dst, reply.dport), (reply.src, reply.sport), now.0);
    reserved.floor.map_or(isn, |floor| isn::past(isn, floor))
}

#[inline(always)]
pub(crate) fn translation_of(inbound: &TupleV4, reply: &KeyV4, seq_delta: u32) -> Translation {
    let reply = reply.tuple(L4Proto::Tcp);
    let ends = Ends {
        client: End::new(inbound.src, inbound.sport),
        virt: End::new(inbound.dst, inbound.dport),
        local: End::new(reply.dst, reply.dport),
        server: End::new(reply.src, reply.sport),
    };
    let deltas = ends.deltas();
    Translation { l4_delta: deltas.l4, ip_delta: deltas.ip, seq_delta, ack_delta: 0 }
}

/// A new session waits for its server, which counts as half open and not as active.
const _: () = assert!(!TcpState::SynRecv.is_active());
