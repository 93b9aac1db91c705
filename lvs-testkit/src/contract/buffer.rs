//! The promises of one packet.

use super::ensure;
use lvs_core::io::{Gso, GsoKind, L4Csum, NoRoom, PacketBuf, Vlan};

/// Everything that must not change when a call fails.
#[derive(Debug, PartialEq, Eq)]
struct State {
    data: Vec<u8>,
    total_len: usize,
    headroom: usize,
    tailroom: usize,
}

fn state<B: PacketBuf>(packet: &B) -> State {
    State {
        data: packet.data().to_vec(),
        total_len: packet.total_len(),
        headroom: packet.headroom(),
        tailroom: packet.tailroom(),
    }
}

/// Goes through the promises of [`PacketBuf`] with one packet, which ends as it began except for
/// its metadata.
///
/// # Errors
/// The first promise that is broken, and how.
pub fn check_buffer<B: PacketBuf>(packet: &mut B) -> Result<(), String> {
    refuses_what_does_not_fit(packet)?;
    grows_and_shrinks(packet)?;
    remembers_what_it_is_told(packet)
}

fn refuses_what_does_not_fit<B: PacketBuf>(packet: &mut B) -> Result<(), String> {
    let before = state(packet);
    let refused = [
        ("push_front", packet.push_front(before.headroom + 1).err()),
        ("push_back", packet.push_back(before.tailroom + 1).err()),
        ("pull_front", packet.pull_front(before.data.len() + 1).err()),
        ("push_front of the most", packet.push_front(usize::MAX).err()),
        ("push_back of the most", packet.push_back(usize::MAX).err()),
    ];
    for (what, answer) in refused {
        ensure(answer == Some(NoRoom), || format!("{what} took more than there is room"))?;
    }
    packet.truncate(before.total_len + 1);
    ensure(state(packet) == before, || "a refused call changed the packet".into())
}

fn grows_and_shrinks<B: PacketBuf>(packet: &mut B) -> Result<(), String> {
    let before = state(packet);
    let (front, back) = (before.headroom.min(20), before.tailroom.min(20));
    let grown = packet.push_front(front).map_err(|error| error.to_string())?;
    ensure(grown.ends_with(&before.data), || "push_front moved the old bytes".into())?;
    grown.iter_mut().take(front).for_each(|byte| *byte = 0xa5);
    let grown = packet.push_back(back).map_err(|error| error.to_string())?.len();
    let sizes = (grown, packet.headroom(), packet.tailroom());
    let due = (before.data.len() + front + back, before.headroom - front, before.tailroom - back);
    ensure(sizes == due, || format!("length, headroom, tailroom {sizes:?} where {due:?} is due"))?;
    ensure(packet.data()[..front].iter().all(|byte| *byte == 0xa5), || {
        "bytes written in front are gone".into()
    })?;
    packet.truncate(before.total_len + front);
    packet.pull_front(front).map_err(|error| error.to_string())?;
    ensure(state(packet) == before, || "growing and shrinking changed the packet".into())
}

fn remembers_what_it_is_told<B: PacketBuf>(packet: &mut B) -> Result<(), String> {
    let tag = Some(Vlan { tpid: 0x8100, tci: 0x2123 });
    packet.set_vlan(tag);
    ensure(packet.vlan() == tag, || format!("the tag reads {:?}", packet.vlan()))?;
    packet.set_vlan(None);
    ensure(packet.vlan().is_none(), || "the tag stays".into())?;
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1000 });
    packet.set_gso(gso, 54);
    ensure(packet.gso() == gso, || format!("the train reads {:?}", packet.gso()))?;
    packet.set_gso(None, 0);
    ensure(packet.gso().is_none(), || "the train stays".into())?;
    for csum in [L4Csum::Partial, L4Csum::Unknown] {
        packet.set_l4_csum(csum, 14, 34);
        ensure(packet.l4_csum() == csum, || {
            format!("the checksum state reads {:?} where {csum:?} was set", packet.l4_csum())
        })?;
    }
    Ok(())
}
