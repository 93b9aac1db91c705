//! What a network card does with a packet that a lane took: put the tag into the bytes, finish a
//! partial checksum, cut a train into segments.
//!
//! It believes the metadata as a card does. A partial field that holds the wrong sum, or an offset
//! that points elsewhere, becomes a wrong checksum on the wire, where the receiver notices.
//!
//! ```
//! use lvs_testkit::{build::tcp, nic, oracle};
//! let train = tcp().ack(1).payload_len(4000).gso(1460).build_buf();
//! let frames = nic::on_wire(&train);
//! assert_eq!(frames.len(), 3);
//! assert!(frames.iter().all(|frame| oracle::checksums_ok(frame).is_ok()));
//! ```

use crate::build::sum::ones_sum;
use lvs_core::io::mem::{MemBuf, MemMeta};
use lvs_core::io::{L4Csum, Vlan};

/// The frames that appear on the wire for one packet.
#[must_use]
pub fn on_wire(packet: &MemBuf) -> Vec<Vec<u8>> {
    let meta = *packet.meta();
    let bytes = packet.to_vec();
    let mut frames = match meta.gso {
        Some(gso) => cut(&bytes, &meta, usize::from(gso.size)),
        None => vec![bytes],
    };
    for frame in &mut frames {
        if meta.l4_csum == L4Csum::Partial {
            finish(frame, &meta);
        }
        if let Some(vlan) = meta.vlan {
            insert_tag(frame, vlan);
        }
    }
    frames
}

/// The packet that arrives for a frame at a port which takes a tag out of the bytes.
#[must_use]
pub fn from_wire(frame: &[u8], take_tag: bool) -> MemBuf {
    if !take_tag || frame.len() < 18 || frame[12..14] != [0x81, 0x00] {
        return MemBuf::from_bytes(frame);
    }
    let tci = u16::from_be_bytes([frame[14], frame[15]]);
    let vlan = Some(Vlan { tpid: 0x8100, tci });
    MemBuf::from_bytes(&[&frame[..12], &frame[16..]].concat())
        .with_meta(MemMeta { vlan, ..MemMeta::default() })
}

fn insert_tag(frame: &mut Vec<u8>, vlan: Vlan) {
    let tag = [vlan.tpid.to_be_bytes(), vlan.tci.to_be_bytes()].concat();
    if frame.len() >= 12 {
        frame.splice(12..12, tag);
    }
}

/// IP version, protocol of the transport header, end of the IP packet.
fn ip_facts(frame: &[u8], l3: usize) -> Option<(u8, u8, usize)> {
    let ip = frame.get(l3..)?;
    match ip.first()? >> 4 {
        4 => {
            let total = u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]);
            Some((4, *ip.get(9)?, l3 + usize::from(total)))
        }
        6 => {
            let payload = u16::from_be_bytes([*ip.get(4)?, *ip.get(5)?]);
            let mut proto = *ip.get(6)?;
            let mut at = 40;
            while matches!(proto, 0 | 43 | 60) {
                proto = *ip.get(at)?;
                at += (usize::from(*ip.get(at + 1)?) + 1) * 8;
            }
            Some((6, proto, l3 + 40 + usize::from(payload)))
        }
        _ => None,
    }
}

/// Offset of the checksum field in the transport header.
fn field_of(proto: u8) -> usize {
    if proto == 17 { 6 } else { 16 }
}

/// Sums from the transport header to the end, the partial field included, and writes the complement.
fn finish(frame: &mut [u8], meta: &MemMeta) {
    let Some((_, proto, end)) = ip_facts(frame, usize::from(meta.l3)) else { return };
    let l4 = usize::from(meta.l4);
    let end = end.min(frame.len());
    let Some(segment) = frame.get(l4..end) else { return };
    let mut sum = !ones_sum(&[segment]);
    if proto == 17 && sum == 0 {
        sum = 0xffff;
    }
    let at = l4 + field_of(proto);
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
}

/// Cuts a train. Each segment keeps the partial sum of the whole, corrected by the difference of
/// the lengths, so that a wrong sum stays wrong.
fn cut(bytes: &[u8], meta: &MemMeta, size: usize) -> Vec<Vec<u8>> {
    let (l3, l4) = (usize::from(meta.l3), usize::from(meta.l4));
    let facts = ip_facts(bytes, l3).filter(|_| size > 0 && l4 + 20 <= bytes.len());
    let Some((version, proto, end)) = facts else { return vec![bytes.to_vec()] };
    let end = end.min(bytes.len());
    let headers = usize::from(meta.gso_headers).clamp(l4 + 8, end);
    let whole = end - l4;
    let pieces: Vec<&[u8]> = bytes[headers..end].chunks(size).collect();
    let mut frames = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let mut frame = bytes[..headers].to_vec();
        frame.extend(*piece);
        let last = index + 1 == pieces.len();
        write_ip(&mut frame[l3..], version, index);
        if proto == 17 {
            let len = ((headers - l4) + piece.len()) as u16;
            frame[l4 + 4..l4 + 6].copy_from_slice(&len.to_be_bytes());
        } else {
            write_tcp(&mut frame[l4..], (index * size) as u32, index == 0, last);
        }
        let at = l4 + field_of(proto);
        let partial = [frame[at], frame[at + 1]];
        let part = frame.len() - l4;
        let minus = !(whole as u16);
        let fixed = ones_sum(&[&partial, &minus.to_be_bytes(), &(part as u16).to_be_bytes()]);
        frame[at..at + 2].copy_from_slice(&fixed.to_be_bytes());
        frames.push(frame);
    }
    frames
}

fn write_ip(ip: &mut [u8], version: u8, index: usize) {
    let len = ip.len();
    if version == 6 {
        ip[4..6].copy_from_slice(&((len - 40) as u16).to_be_bytes());
        return;
    }
    ip[2..4].copy_from_slice(&(len as u16).to_be_bytes());
    let ident = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(index as u16);
    ip[4..6].copy_from_slice(&ident.to_be_bytes());
    ip[10..12].fill(0);
    let header = usize::from(ip[0] & 0x0f) * 4;
    let sum = !ones_sum(&[&ip[..header]]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// CWR stays on the first segment only (RFC 3168 section 6.1.2), FIN and PSH on the last only.
fn write_tcp(tcp: &mut [u8], offset: u32, first: bool, last: bool) {
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(offset);
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    if !first {
        tcp[13] &= !0x80;
    }
    if !last {
        tcp[13] &= !0x09;
    }
}
