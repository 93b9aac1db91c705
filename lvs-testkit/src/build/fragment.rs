//! Real fragments of a whole packet (RFC 791 section 3.2, RFC 8200 section 4.5).

use super::sum;

/// The IP packet in an Ethernet frame: everything behind the EtherType, tags skipped; empty when
/// the frame ends before.
#[must_use]
pub fn ip_of(frame: &[u8]) -> &[u8] {
    frame.get(l3_of(frame)..).unwrap_or_default()
}

/// Offset of the IP header, behind all 802.1Q and 802.1ad tags; at least 14, perhaps past the end.
pub(crate) fn l3_of(frame: &[u8]) -> usize {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    at + 2
}

/// Splits a valid frame, which may be an IPv4 fragment, into fragments whose IP packets have at most `mtu` bytes,
/// in order. An IPv6 packet must not have extension headers yet; `ident` goes into its fragment headers.
///
/// ```
/// use lvs_testkit::build::{fragments, udp};
/// let whole = udp().dont_fragment(false).payload_len(3000).build();
/// let parts = fragments(&whole, 1500, 0);
/// assert_eq!(parts.len(), 3);
/// assert!(parts.iter().all(|part| part.len() <= 1514));
/// ```
///
/// # Panics
/// When the frame is not IP, or the MTU leaves no room for eight bytes.
#[must_use]
pub fn fragments(frame: &[u8], mtu: usize, ident: u32) -> Vec<Vec<u8>> {
    let l3 = l3_of(frame);
    let (link, ip) = frame.split_at(l3);
    let v6 = ip[0] >> 4 == 6;
    let (header, end) = if v6 {
        (40, 40 + usize::from(u16::from_be_bytes([ip[4], ip[5]])))
    } else {
        assert_eq!(ip[0] >> 4, 4, "only IP packets have fragments");
        (usize::from(ip[0] & 0x0f) * 4, usize::from(u16::from_be_bytes([ip[2], ip[3]])))
    };
    let (head, body) = (&ip[..header], &ip[header..end]);
    let room = (mtu - header - if v6 { 8 } else { 0 }) / 8 * 8;
    assert!(room > 0, "an MTU of {mtu} has no room for a fragment");
    let mut parts = Vec::new();
    for (index, piece) in body.chunks(room).enumerate() {
        let offset = (index * room) as u16;
        let more = index * room + piece.len() < body.len();
        let mut part = link.to_vec();
        part.extend(if v6 {
            v6_header(head, piece.len(), offset, more, ident)
        } else {
            // Of a fragment: its own offset, and what follows it follows its last piece.
            let field = u16::from_be_bytes([head[6], head[7]]);
            v4_header(head, piece.len(), offset + field % 0x2000 * 8, more || field & 0x2000 != 0)
        });
        part.extend(piece);
        parts.push(part);
    }
    parts
}

fn v4_header(head: &[u8], payload: usize, offset: u16, more: bool) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes[2..4].copy_from_slice(&((head.len() + payload) as u16).to_be_bytes());
    bytes[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    bytes[10..12].fill(0);
    let sum = !sum::ones_sum(&[&bytes]);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

fn v6_header(head: &[u8], payload: usize, offset: u16, more: bool, ident: u32) -> Vec<u8> {
    let mut bytes = head.to_vec();
    bytes[4..6].copy_from_slice(&((payload + 8) as u16).to_be_bytes());
    let next = core::mem::replace(&mut bytes[6], 44);
    bytes.extend([next, 0]);
    bytes.extend((offset | u16::from(more)).to_be_bytes());
    bytes.extend(ident.to_be_bytes());
    bytes
}
