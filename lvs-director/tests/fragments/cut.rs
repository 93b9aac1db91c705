//! Cutting and joining, by the header fields alone (RFC 791 section 3.2, RFC 8200 section 4.5).
#![allow(unreachable_pub, reason = "shared by several tests")]

const L3: usize = 14;

fn is_v6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

/// Sums a header without options anew.
pub fn fix_v4(ip: &mut [u8]) {
    ip[10..12].fill(0);
    let words = ip[..20].as_chunks::<2>().0.iter();
    let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

/// One piece of an untagged frame without IPv4 options and extension headers: bytes `from..to` of its IP payload.
pub fn piece(frame: &[u8], from: usize, to: usize, more: bool, ident: u32) -> Vec<u8> {
    let mut part = frame[..L3].to_vec();
    if is_v6(frame) {
        let mut header = frame[L3..L3 + 40].to_vec();
        header[4..6].copy_from_slice(&((to - from + 8) as u16).to_be_bytes());
        let next = core::mem::replace(&mut header[6], 44);
        part.extend(header);
        part.extend([next, 0]);
        part.extend((from as u16 | u16::from(more)).to_be_bytes());
        part.extend(ident.to_be_bytes());
        part.extend(&frame[L3 + 40..][from..to]);
    } else {
        let mut header = frame[L3..L3 + 20].to_vec();
        header[2..4].copy_from_slice(&((20 + to - from) as u16).to_be_bytes());
        header[4..6].copy_from_slice(&(ident as u16).to_be_bytes());
        header[6..8].copy_from_slice(&((from / 8) as u16 | u16::from(more) << 13).to_be_bytes());
        fix_v4(&mut header);
        part.extend(header);
        part.extend(&frame[L3 + 20..][from..to]);
    }
    part
}

/// Bytes of the IP payload of an untagged frame.
pub fn payload_len(frame: &[u8]) -> usize {
    frame.len() - L3 - if is_v6(frame) { 40 } else { 20 }
}

/// All pieces, cut at these places, of which each is a multiple of eight.
pub fn cut(frame: &[u8], places: &[usize], ident: u32) -> Vec<Vec<u8>> {
    let end = payload_len(frame);
    let mut places: Vec<usize> =
        places.iter().copied().filter(|at| (1..end).contains(at)).collect();
    places.extend([0, end]);
    places.sort_unstable();
    places.dedup();
    places.windows(2).map(|w| piece(frame, w[0], w[1], w[1] < end, ident)).collect()
}

/// The datagram that a host makes of pieces; `None` when they are not whole.
pub fn join(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let v6 = is_v6(pieces.first()?);
    let mut bytes: Vec<Option<u8>> = Vec::new();
    let (mut head, mut end) = (None, None);
    for piece in pieces {
        assert_eq!(is_v6(piece), v6);
        let ip = &piece[L3..];
        let (field, body) = if v6 {
            assert_eq!(ip[6], 44);
            let len = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
            assert_eq!(ip.len(), 40 + len, "the length in the header");
            (u16::from_be_bytes([ip[42], ip[43]]), &ip[48..])
        } else {
            assert_eq!(ip.len(), usize::from(u16::from_be_bytes([ip[2], ip[3]])));
            let field = u16::from_be_bytes([ip[6], ip[7]]);
            ((field & 0x1fff) << 3 | field >> 13 & 1, &ip[20..])
        };
        let (from, more) = (usize::from(field & !7), field & 1 == 1);
        bytes.resize(bytes.len().max(from + body.len()), None);
        for (place, byte) in bytes[from..].iter_mut().zip(body) {
            assert_eq!(place.replace(*byte), None, "sent twice");
        }
        if from == 0 {
            head = Some(piece.clone());
        }
        if !more {
            end = Some(from + body.len());
        }
    }
    let (head, end) = (head?, end?);
    let body: Option<Vec<u8>> = bytes.into_iter().collect();
    let body = body.filter(|body| body.len() == end)?;
    let mut whole = head[..L3].to_vec();
    if v6 {
        let mut header = head[L3..L3 + 40].to_vec();
        header[6] = head[L3 + 40];
        header[4..6].copy_from_slice(&(end as u16).to_be_bytes());
        whole.extend(header);
    } else {
        let mut header = head[L3..L3 + 20].to_vec();
        header[2..4].copy_from_slice(&(20 + end as u16).to_be_bytes());
        header[6..8].fill(0);
        fix_v4(&mut header);
        whole.extend(header);
    }
    whole.extend(body);
    Some(whole)
}
