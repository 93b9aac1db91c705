//! Edits of TCP option lists, each by taking the list apart and writing it again.

use core::net::SocketAddr;
use lvs_core::service::ToaOptions;

/// One entry of a list: an option with kind and length, one byte of padding, or the end with
/// whatever stands behind it.
type Entry = Vec<u8>;

fn entries(options: &[u8]) -> Vec<Entry> {
    let (mut list, mut rest) = (Vec::new(), options);
    while let Some(kind) = rest.first() {
        let len = match kind {
            0 => rest.len(),
            1 => 1,
            _ => usize::from(rest[1]),
        };
        list.push(rest[..len].to_vec());
        rest = &rest[len..];
    }
    list
}

fn is_option(entry: &[u8]) -> bool {
    !matches!(entry[0], 0 | 1)
}

/// Overwrites the options for which `gone` says so with padding; returns how many.
fn blank(options: &mut Vec<u8>, gone: impl Fn(&[u8]) -> bool) -> usize {
    let mut count = 0;
    let mut list = entries(options);
    for entry in list.iter_mut().filter(|entry| is_option(entry) && gone(entry)) {
        entry.fill(1);
        count += 1;
    }
    *options = list.concat();
    count
}

/// Overwrites what a server may read as a client address: the known kinds, the service's own, and
/// every experiment of kinds 253 and 254 but Fast Open's in a SYN. Returns how many.
pub(super) fn strip_addresses(options: &mut Vec<u8>, own: &ToaOptions, syn: bool) -> usize {
    // Kinds that every TCP needs are never taken for an address.
    let needed = |kind: u8| matches!(kind, 0..=5 | 8);
    let own = [own.kind_v4, own.kind_v6];
    blank(options, |option| match option {
        [254, len, 0xf9, 0x89, ..] if syn => matches!(len, 8 | 16 | 20),
        [28 | 200 | 253 | 254, ..] => true,
        [kind, ..] => own.contains(kind) && !needed(*kind),
        [] => false,
    })
}

/// Overwrites timestamps with padding.
pub(super) fn strip_timestamps(options: &mut Vec<u8>) {
    blank(options, |option| matches!(option, [8, 10, ..]));
}

/// Lowers the announced maximum segment size, though not below `floor`.
pub(super) fn lower_mss(options: &mut Vec<u8>, by: u16, floor: u16) {
    let mut list = entries(options);
    for entry in &mut list {
        if let [2, 4, a, b] = entry[..] {
            let size = u16::from_be_bytes([a, b]);
            if size > floor {
                entry[2..].copy_from_slice(&size.saturating_sub(by).max(floor).to_be_bytes());
            }
        }
    }
    *options = list.concat();
}

/// Subtracts from all edges of selective acknowledgements.
pub(super) fn shift_sack(options: &mut Vec<u8>, by: u32) {
    let mut list = entries(options);
    for entry in list.iter_mut().filter(|entry| entry[0] == 5) {
        for edge in entry[2..].chunks_exact_mut(4) {
            let old = u32::from_be_bytes([edge[0], edge[1], edge[2], edge[3]]);
            edge.copy_from_slice(&old.wrapping_sub(by).to_be_bytes());
        }
    }
    *options = list.concat();
}

/// The address option for this client: kind, length, port, address.
pub(super) fn address(client: SocketAddr, own: &ToaOptions) -> Vec<u8> {
    let port = client.port().to_be_bytes();
    match client {
        SocketAddr::V4(v4) => [&[own.kind_v4, 8], &port[..], &v4.ip().octets()].concat(),
        SocketAddr::V6(v6) => [&[own.kind_v6, 20], &port[..], &v6.ip().octets()].concat(),
    }
}

/// The options in at most `room` bytes: without padding, and where `may_drop` says so without as
/// many options, first to last, as have to go. A SYN keeps one each of MSS, window scale, SACK
/// permitted, timestamps, MPTCP and Fast Open, other segments keep one timestamp.
pub(super) fn compact(options: &[u8], syn: bool, room: usize, may_drop: bool) -> Option<Vec<u8>> {
    let protected: &[(u8, usize)] =
        if syn { &[(2, 4), (3, 3), (4, 2), (8, 10), (30, 40), (34, 18)] } else { &[(8, 10)] };
    let list: Vec<Entry> = entries(options).into_iter().filter(|e| is_option(e)).collect();
    let first_of_kind = |at: usize| {
        let kind = list[at][0];
        !list[..at].iter().any(|earlier| earlier[0] == kind)
    };
    let mut kept: Vec<bool> = vec![true; list.len()];
    let size = |kept: &[bool]| -> usize {
        let kept = list.iter().zip(kept).filter(|(_, kept)| **kept);
        kept.map(|(entry, _)| entry.len()).sum::<usize>().next_multiple_of(4)
    };
    for (at, entry) in list.iter().enumerate() {
        let longest = protected.iter().find(|(kind, _)| *kind == entry[0]);
        let safe = longest.is_some_and(|(_, most)| entry.len() <= *most) && first_of_kind(at);
        if may_drop && !safe && size(&kept) > room {
            kept[at] = false;
        }
    }
    let len = size(&kept);
    let left = list.iter().zip(&kept).filter(|(_, kept)| **kept);
    let mut bytes: Vec<u8> = left.flat_map(|(entry, _)| entry.clone()).collect();
    bytes.resize(len, 0);
    (len <= room).then_some(bytes)
}
