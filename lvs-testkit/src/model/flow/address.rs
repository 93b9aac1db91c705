//! The client's address on its way to the server: taken out where a client wrote one, put in where it
//! belongs.

use super::{ACK, RST, SYN, is_corrupt};
use crate::model::frame::Tcp;
use crate::model::sessions::Numbers;
use crate::model::{Model, Passing, options, tcp};
use core::net::SocketAddr;
use lvs_core::service::{Forwarding, NoToaRoom, TimestampPolicy, ToaOptions};
use lvs_core::snapshot::ServiceSpec;
use lvs_core::time::Time;
use lvs_core::verdict::DropReason;

impl Model {
    /// Takes out what a client must not tell its server.
    pub(super) fn take_out(
        &mut self,
        packet: &mut Passing,
        spec: &ServiceSpec,
        toa: Option<&ToaOptions>,
    ) {
        let Some(tcp) = packet.ip.tcp_mut() else { return };
        let syn = tcp.flags & SYN != 0;
        let full = spec.forwarding == Forwarding::FullNat;
        let distrusts = toa.is_some() || !spec.flags.trust_toa;
        let forged =
            if distrusts { options::strip_addresses(&mut tcp.options, toa, syn) } else { 0 };
        if syn && full && spec.timestamps == TimestampPolicy::Strip {
            options::strip_timestamps(&mut tcp.options);
        }
        if forged > 0 {
            self.count("toa_stripped");
        }
    }

    /// Puts the client's address in, or prepares a segment that carries it ahead.
    pub(super) fn put_in(
        &mut self,
        now: Time,
        packet: &mut Passing,
        toa: &ToaOptions,
        (client, virt): (SocketAddr, SocketAddr),
        hop: usize,
    ) -> Result<Option<Passing>, DropReason> {
        let option = options::address(client, virt, toa);
        let mtu = self.most(packet, self.hops.place(hop).port);
        let syn = packet.ip.tcp().is_some_and(|tcp| tcp.flags & SYN != 0);
        if self.try_insert(packet, &option, mtu, syn) {
            return Ok(None);
        }
        self.count("toa_no_room");
        let drops = toa.no_room == NoToaRoom::Drop;
        if syn
            && !drops
            && self.hold_data_back(packet)
            && self.try_insert(packet, &option, mtu, syn)
        {
            return Ok(None);
        }
        let later = toa.placement.handshake || toa.placement.until_server_data;
        if drops || (syn || packet.ip.fragment) && !later {
            return Err(DropReason::NoToaRoom);
        }
        // A train that was to be cut into smaller segments goes as it is now.
        self.fits(now, packet, hop, 0)?;
        if syn || packet.ip.fragment {
            self.count("toa_later");
            return Ok(None);
        }
        self.ahead(packet, &option).map(Some)
    }

    fn try_insert(&mut self, packet: &mut Passing, option: &[u8], mtu: usize, syn: bool) -> bool {
        let Some(compacted) = insert(packet, option, mtu, syn) else { return false };
        self.count("toa_inserted");
        if compacted {
            self.count("toa_compacted");
        }
        true
    }

    /// A segment without payload that carries the option, in front of one without room.
    fn ahead(&mut self, packet: &Passing, option: &[u8]) -> Result<Passing, DropReason> {
        // Its checksum will be new: a corrupt segment must not look sound (INV-3).
        if is_corrupt(packet) {
            return Err(DropReason::BadL4Checksum);
        }
        let mut ahead = packet.clone();
        // A buffer of the director's own has room enough.
        (ahead.gso, ahead.headroom) = (None, usize::MAX);
        ahead.ip.make_own();
        let tcp = ahead.ip.tcp_mut().ok_or(DropReason::NoToaRoom)?;
        let stamps = options::only_timestamps(&tcp.options);
        tcp.make_bare_ack();
        tcp.options = [option, &stamps].concat();
        ahead.ip.set_right();
        self.count("toa_ahead");
        Ok(ahead)
    }

    /// Takes data out of a SYN that does not carry the address, and what announces it; whether there was any.
    pub(super) fn hold_data_back(&mut self, packet: &mut Passing) -> bool {
        let Some(tcp) = packet.ip.tcp_mut() else { return false };
        if tcp.payload.is_empty() {
            return false;
        }
        let cut = tcp.payload.len();
        tcp.payload.clear();
        options::strip_fast_open(&mut tcp.options);
        if cut % 2 == 1 {
            packet.ip.turn_wrong();
        }
        // The headers move up to where the data began.
        packet.headroom = packet.headroom.saturating_add(cut);
        self.count("syn_data_cut");
        true
    }
}

/// Whether the client has acknowledged data that the server has sent.
pub(super) fn has_acked(tcp: &Tcp, numbers: &Numbers) -> bool {
    let Numbers { server_first, server_end, .. } = *numbers;
    let within = tcp::after(tcp.ack, server_first) && !tcp::after(tcp.ack, server_end);
    tcp.flags & ACK != 0 && server_first != 0 && within
}

/// Whether a client segment is to carry the address: the SYN, and whatever comes before the client has
/// acknowledged the server's first data.
pub(super) fn wants_address(packet: &Passing, toa: &ToaOptions, numbers: &Numbers) -> bool {
    let first = numbers.client_isn.wrapping_add(1);
    match packet.ip.tcp() {
        Some(tcp) if tcp.flags & RST != 0 => false,
        Some(tcp) if tcp.flags & SYN != 0 => toa.placement.syn,
        Some(tcp) if has_acked(tcp, numbers) => false,
        Some(tcp) => toa.placement.until_server_data || toa.placement.handshake && tcp.seq == first,
        None => false,
    }
}

/// Puts the option in front of all others. Answers whether the others had to be compacted; `None`, and
/// nothing has changed, when there is no room in the header, the MTU or the buffer.
fn insert(packet: &mut Passing, option: &[u8], mtu: usize, syn: bool) -> Option<bool> {
    if packet.ip.fragment {
        return None;
    }
    let (l3, l4, payload, end) = packet.ip.offsets();
    let carried = if packet.gso.is_some() { 1 } else { end - payload };
    let most = mtu.checked_sub(l4 + 20 - l3 + carried)?.min(40) / 4 * 4;
    let room = most.checked_sub(option.len())?;
    let tcp = packet.ip.tcp()?;
    let (list, compacted) = if tcp.options.len() <= room {
        (tcp.options.clone(), false)
    } else {
        (options::compact(&tcp.options, syn, room, syn)?, true)
    };
    let grown = option.len() + list.len();
    if grown.saturating_sub(tcp.options.len()) > packet.headroom {
        return None;
    }
    let mut larger = packet.clone();
    larger.ip.tcp_mut()?.options = [option, &list].concat();
    larger.ip.build()?;
    if let Some(gso) = &mut larger.gso {
        let (l3, _, payload, _) = larger.ip.offsets();
        gso.size = gso.size.min(u16::try_from(mtu.checked_sub(payload - l3)?).ok()?);
    }
    *packet = larger;
    Some(compacted)
}
