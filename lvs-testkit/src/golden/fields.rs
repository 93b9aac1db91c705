//! Fields that may differ, by name: set to zero before frames are compared.

/// Length of the Ethernet header; recorded frames have no tags.
const L3: usize = 14;

/// Zeroes a field. A name that the frame has no field for changes nothing.
///
/// # Panics
/// With a name that is none.
pub(super) fn blank(frame: &mut [u8], field: &str) {
    let v4 = frame.get(L3).is_some_and(|first| first >> 4 == 4);
    let l4 = frame.get(L3).map_or(0, |first| L3 + usize::from(first & 15) * 4);
    let l4 = if v4 { l4 } else { L3 + 40 };
    let proto = frame.get(if v4 { L3 + 9 } else { L3 + 6 }).copied();
    let mut zero = |at: usize, len: usize| {
        if let Some(bytes) = frame.get_mut(at..at + len) {
            bytes.fill(0);
        }
    };
    match field {
        // The header checksum covers what is blanked.
        "ip.id" | "ip.tos" | "ip.ttl" | "ip.dont_fragment" if v4 => {
            let (at, len) = match field {
                "ip.id" => (4, 2),
                "ip.tos" => (1, 1),
                "ip.ttl" => (8, 1),
                _ => (6, 1),
            };
            zero(L3 + at, len);
            zero(L3 + 10, 2);
        }
        "ip.flow_label" if !v4 => {
            if let Some([class, low @ ..]) = frame.get_mut(L3 + 1..L3 + 4) {
                *class &= 0xf0;
                low.fill(0);
            }
        }
        // Checksums cover it: that of the quoted IPv4 header, and that of the message.
        "icmp.quoted_ttl" if matches!(proto, Some(1 | 58)) => {
            zero(l4 + 2, 2);
            zero(l4 + 8 + if v4 { 8 } else { 7 }, 1);
            if v4 {
                zero(l4 + 8 + 10, 2);
            }
        }
        // The upper half of what is unused, too, which nobody sets.
        "icmp.mtu" if matches!(proto, Some(1 | 58)) => {
            zero(l4 + 2, 2);
            zero(l4 + 4, 4);
        }
        "udp.checksum" if proto == Some(17) => zero(l4 + 6, 2),
        "udp.source_port" if proto == Some(17) => {
            zero(l4, 2);
            zero(l4 + 6, 2);
        }
        "ip.id" | "ip.tos" | "ip.ttl" | "ip.dont_fragment" | "ip.flow_label"
        | "icmp.quoted_ttl" | "icmp.mtu" | "udp.checksum" | "udp.source_port" => {}
        other => panic!("no field {other}"),
    }
}
