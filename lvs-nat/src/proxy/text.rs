//! Addresses and numbers as text without allocation, and back.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes written one after another into lent memory; too much is remembered, not written.
pub(super) struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
    full: bool,
}

impl<'a> Writer<'a> {
    pub(super) const fn new(out: &'a mut [u8]) -> Self {
        Self { out, len: 0, full: false }
    }

    pub(super) fn byte(&mut self, byte: u8) {
        match self.out.get_mut(self.len) {
            Some(place) => {
                *place = byte;
                self.len = self.len.saturating_add(1);
            }
            None => self.full = true,
        }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.byte(*byte));
    }

    /// How much was written, unless something was left out.
    pub(super) const fn finish(self) -> Option<usize> {
        if self.full { None } else { Some(self.len) }
    }

    /// A number with base `base`, without leading zeros.
    fn number(&mut self, number: u16, base: u16) {
        let mut place = match base {
            10 => 10_000u16,
            _ => 0x1000,
        };
        while place > 1 && number < place {
            place = place.checked_div(base).unwrap_or(1);
        }
        while place > 0 {
            let digit = number.checked_div(place).and_then(|n| n.checked_rem(base)).unwrap_or(0);
            self.byte(if digit < 10 { b'0' } else { b'a' - 10 } + (digit & 0xf) as u8);
            place = place.checked_div(base).unwrap_or(0);
        }
    }

    pub(super) fn decimal(&mut self, number: u16) {
        self.number(number, 10);
    }

    pub(super) fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => self.v4(v4),
            IpAddr::V6(v6) => self.v6(v6),
        }
    }

    fn v4(&mut self, ip: Ipv4Addr) {
        let [a, b, c, d] = ip.octets();
        self.decimal(a.into());
        for octet in [b, c, d] {
            self.byte(b'.');
            self.decimal(octet.into());
        }
    }

    /// RFC 5952 sections 4.1 to 4.3; a mapped IPv4 address stays hexadecimal, which every reader takes.
    fn v6(&mut self, ip: Ipv6Addr) {
        let groups = ip.segments();
        let (start, len) = longest_zeros(&groups);
        let mut at = 0usize;
        while let Some(group) = groups.get(at) {
            if len > 1 && at == start {
                self.bytes(if at == 0 { b"::" } else { b":" });
                at = at.saturating_add(len);
                continue;
            }
            self.number(*group, 16);
            at = at.saturating_add(1);
            if at < groups.len() {
                self.byte(b':');
            }
        }
    }
}

/// Start and length of the longest run of zero groups, the first of equals.
fn longest_zeros(groups: &[u16; 8]) -> (usize, usize) {
    let (mut best, mut run) = ((0usize, 0usize), (0usize, 0usize));
    for (at, group) in groups.iter().enumerate() {
        run = match (*group, run.1) {
            (0, 0) => (at, 1),
            (0, len) => (run.0, len.saturating_add(1)),
            _ => (0, 0),
        };
        if run.1 > best.1 {
            best = run;
        }
    }
    best
}

/// A decimal number of at most five digits without leading zeros.
fn decimal(text: &[u8]) -> Option<u16> {
    let plain = !text.is_empty() && text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    let short = text.len() == 1 || text.first() != Some(&b'0');
    if !plain || !short {
        return None;
    }
    let number = text.iter().fold(0u32, |n, digit| {
        n.wrapping_mul(10).wrapping_add(u32::from(digit.wrapping_sub(b'0')))
    });
    u16::try_from(number).ok()
}

/// A port: digits only, no leading zero (section 2.1).
pub(super) fn port(text: &[u8]) -> Option<u16> {
    decimal(text)
}

/// An IPv4 address in dotted decimal. Own code, as that of the standard library may panic for all the
/// linker knows.
pub(super) fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut parts = text.split(|byte| *byte == b'.');
    let mut octet = || u8::try_from(decimal(parts.next()?)?).ok();
    let octets = [octet()?, octet()?, octet()?, octet()?];
    parts.next().is_none().then(|| octets.into())
}

/// Groups of an IPv6 address up to the end or to `::`, and what follows that.
struct Groups<'a> {
    groups: [u16; 8],
    len: usize,
    behind: Option<&'a [u8]>,
}

/// An IPv6 address, compressed or not, the last two groups perhaps in dotted decimal (RFC 4291
/// section 2.2).
pub(super) fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let front = match text.strip_prefix(b"::") {
        Some(behind) => Groups { groups: [0; 8], len: 0, behind: Some(behind) },
        None => groups(text)?,
    };
    let Some(behind) = front.behind else {
        return (front.len == 8).then(|| front.groups.into());
    };
    let back = match behind {
        [] => Groups { groups: [0; 8], len: 0, behind: None },
        behind => groups(behind)?,
    };
    // Two gaps would say nothing, and a gap is at least one group.
    let total = front.len.checked_add(back.len)?;
    if back.behind.is_some() || total > 7 {
        return None;
    }
    let mut all = front.groups;
    let start = 8usize.checked_sub(back.len)?;
    let tail = all.get_mut(start..)?;
    tail.iter_mut().zip(back.groups).for_each(|(to, from)| *to = from);
    Some(all.into())
}

fn groups(text: &[u8]) -> Option<Groups<'_>> {
    let mut found = Groups { groups: [0; 8], len: 0, behind: None };
    let mut rest = text;
    loop {
        let end = rest.iter().position(|byte| *byte == b':').unwrap_or(rest.len());
        let (word, behind) = rest.split_at_checked(end)?;
        if behind.is_empty() && word.contains(&b'.') {
            let [a, b, c, d] = ipv4(word)?.octets();
            push(&mut found, u16::from_be_bytes([a, b]))?;
            push(&mut found, u16::from_be_bytes([c, d]))?;
            return Some(found);
        }
        push(&mut found, hexadecimal(word)?)?;
        match behind {
            [] => return Some(found),
            [b':', b':', gap @ ..] => {
                found.behind = Some(gap);
                return Some(found);
            }
            [_, more @ ..] => rest = more,
        }
    }
}

fn push(found: &mut Groups<'_>, group: u16) -> Option<()> {
    *found.groups.get_mut(found.len)? = group;
    found.len = found.len.checked_add(1)?;
    Some(())
}

fn hexadecimal(word: &[u8]) -> Option<u16> {
    if !(1..=4).contains(&word.len()) {
        return None;
    }
    word.iter().try_fold(0u16, |n, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte.wrapping_sub(b'0'),
            b'a'..=b'f' => byte.wrapping_sub(b'a').wrapping_add(10),
            b'A'..=b'F' => byte.wrapping_sub(b'A').wrapping_add(10),
            _ => return None,
        };
        Some(n << 4 | u16::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};

    fn written(ip: IpAddr) -> String {
        let mut out = [0; 64];
        let mut writer = Writer::new(&mut out);
        writer.ip(ip);
        let len = writer.finish().unwrap();
        String::from_utf8(out[..len].to_vec()).unwrap()
    }

    proptest! {
        #[test]
        fn addresses_are_written_as_the_standard_library_writes_them(
            v4: u32, groups in prop::array::uniform8(prop_oneof![Just(0u16), any::<u16>()]),
        ) {
            let v4 = IpAddr::from(Ipv4Addr::from_bits(v4));
            prop_assert_eq!(written(v4), v4.to_string());
            let v6 = Ipv6Addr::from(groups);
            if v6.to_ipv4_mapped().is_none() {
                prop_assert_eq!(written(v6.into()), v6.to_string());
            }
            prop_assert_eq!(written(v6.into()).parse::<IpAddr>().unwrap(), IpAddr::from(v6));
        }

        #[test]
        fn ports_are_read_as_they_are_written(number: u16, text in "[0-9+ ]{0,6}") {
            prop_assert_eq!(port(number.to_string().as_bytes()), Some(number));
            let strict = text.parse::<u16>().ok().filter(|n| n.to_string() == text);
            prop_assert_eq!(port(text.as_bytes()), strict);
        }

        #[test]
        fn addresses_are_read_as_the_standard_library_reads_them(
            text in "[0-9a-f:.]{0,20}", groups in prop::array::uniform8(0u16..3), at: usize, byte: u8,
        ) {
            prop_assert_eq!(ipv4(text.as_bytes()), text.parse().ok());
            prop_assert_eq!(ipv6(text.as_bytes()), text.parse().ok());
            // And what nearly is one.
            let mut near = Ipv6Addr::from(groups).to_string().into_bytes();
            prop_assert_eq!(ipv6(&near), Some(Ipv6Addr::from(groups)));
            let at = at % near.len();
            near[at] = [b':', b'.', b'0', b'f', byte][usize::from(byte) % 5];
            let std = core::str::from_utf8(&near).ok().and_then(|text| text.parse().ok());
            prop_assert_eq!(ipv6(&near), std);
        }
    }
}
