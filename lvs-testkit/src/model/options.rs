//! Edits of TCP option lists, each by taking the list apart and writing it again.

use core::net::SocketAddr;
use lvs_core::service::{ToaFormat, ToaOptions};

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

/// Overwrites what a server may read as a client address: the known kinds, those of the service, and
/// every experiment of kinds 253 and 254 but Fast Open's in a SYN. Returns how many.
pub(super) fn strip_addresses(options: &mut Vec<u8>, own: Option<&ToaOptions>, syn: bool) -> usize {
    // Kinds that every TCP needs are never taken for an address.
    let needed = |kind: u8| matches!(kind, 0..=5 | 8);
    let own = own.map_or([254; 2], |own| [own.kind_v4, own.kind_v6]);
    blank(options, |option| match option {
        [254, len, 0xf9, 0x89, ..] if syn => matches!(len, 8 | 16 | 20),
        [28 | 200 | 252..=254, ..] => true,
        [kind, ..] => own.contains(kind) && !needed(*kind),
        [] => false,
    })
}

/// Overwrites timestamps with padding.
pub(super) fn strip_timestamps(options: &mut Vec<u8>) {
    blank(options, |option| matches!(option, [8, 10, ..]));
}

/// Overwrites what asks for Fast Open.
pub(super) fn strip_fast_open(options: &mut Vec<u8>) {
    blank(options, |option| matches!(option, [34, ..] | [254, _, 0xf9, 0x89, ..]));
}

/// The first timestamps with the padding that they usually have, or nothing.
pub(super) fn only_timestamps(options: &[u8]) -> Vec<u8> {
    let list = entries(options);
    let stamps = list.iter().find(|entry| matches!(entry[..], [8, 10, ..]));
    stamps.map_or_else(Vec::new, |stamps| [&[1, 1], &stamps[..]].concat())
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

/// The address option for this client, as the service says an address, padded to whole words.
pub(super) fn address(client: SocketAddr, virt: SocketAddr, own: &ToaOptions) -> Vec<u8> {
    let kind = if client.is_ipv4() { own.kind_v4 } else { own.kind_v6 };
    let ip = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => v4.ip().octets().to_vec(),
        SocketAddr::V6(v6) => v6.ip().octets().to_vec(),
    };
    let port = |address: SocketAddr| address.port().to_be_bytes().to_vec();
    let said = match (own.format, client.is_ipv4()) {
        (ToaFormat::Versioned, true) => [vec![1], ip(client)].concat(),
        (ToaFormat::Versioned, false) => [vec![2], ip(client)].concat(),
        (ToaFormat::WithVirtual, true) => {
            [port(client), ip(client), vec![0, 0], port(virt), ip(virt)].concat()
        }
        _ => [port(client), ip(client)].concat(),
    };
    let mut option = [vec![kind, said.len() as u8 + 2], said].concat();
    option.resize(option.len().next_multiple_of(4), 1);
    option
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
