//! Readers of single values: each takes what stands in the file and gives the typed value, or says
//! what is wrong with it in words that follow the name of the key.

use super::guess;
use super::model::{SelfAddress, Target};
use super::range::{AddressRange, PortRange};
use super::reader::{Wrong, article};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use lvs_core::addr::{Family, MacAddr, Prefix, is_martian_source};
use lvs_core::flow::L4Proto;
use toml::de::DeValue;

/// The words for protocols.
pub(super) const PROTOCOLS: [(&str, L4Proto); 4] = [
    ("tcp", L4Proto::Tcp),
    ("udp", L4Proto::Udp),
    ("sctp", L4Proto::Sctp),
    ("icmp", L4Proto::Icmp),
];

/// Any text that is not empty and has no control characters.
pub(super) fn text<'v>(value: &'v DeValue<'_>) -> Result<&'v str, Wrong> {
    let DeValue::String(text) = value else {
        return Err(Wrong::new(format!("must be a text in quotes, not {}", article(value))));
    };
    if text.trim().is_empty() {
        return Err(Wrong::new("is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Wrong::new("has a control character in it"));
    }
    Ok(text)
}

/// A name that messages show and other keys refer to.
pub(super) fn name(value: &DeValue<'_>) -> Result<String, Wrong> {
    text(value).map(str::to_owned)
}

/// A name that the kernel takes for an interface: `dev_valid_name` in `net/core/dev.c`.
pub(super) fn interface(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    interface_name(name).map_err(Wrong::new)?;
    Ok(name.to_owned())
}

/// Says why the kernel would refuse the name of an interface.
pub(super) fn interface_name(name: &str) -> Result<(), &'static str> {
    if name.len() > 15 {
        return Err("is longer than the 15 bytes that an interface name may have");
    }
    if name == "."
        || name == ".."
        || name.contains(['/', ':'])
        || name.contains(char::is_whitespace)
    {
        return Err("is not a name that an interface can have");
    }
    Ok(())
}

/// An integer within limits.
pub(super) fn integer<T: TryFrom<i64>>(
    value: &DeValue<'_>,
    least: i64,
    most: i64,
) -> Result<T, Wrong> {
    let DeValue::Integer(written) = value else {
        let wrong = Wrong::new(format!("must be an integer, not {}", article(value)));
        return Err(match value {
            DeValue::String(_) => wrong.help("write the number without quotes"),
            _ => wrong,
        });
    };
    i64::from_str_radix(written.as_str(), written.radix())
        .ok()
        .filter(|number| (least..=most).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| Wrong::new(format!("must be between {least} and {most}, not {written}")))
}

/// Yes or no.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    value.as_bool().ok_or_else(|| {
        Wrong::new(format!("must be true or false, not {}", article(value)))
            .help("write it without quotes")
    })
}

/// One of a few words.
pub(super) fn choice<T: Copy>(value: &DeValue<'_>, words: &[(&str, T)]) -> Result<T, Wrong> {
    let text = text(value)?;
    if let Some((_, choice)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*choice);
    }
    Err(unknown_word(text, words.iter().map(|(word, _)| *word)))
}

/// The fault of a word that is none of the known ones.
pub(super) fn unknown_word<'k>(text: &str, known: impl Iterator<Item = &'k str> + Clone) -> Wrong {
    let all: Vec<_> = known.clone().map(|word| format!("\"{word}\"")).collect();
    let wrong = Wrong::new(format!("cannot be \"{text}\""));
    match guess::closest(text, known) {
        Some(close) => wrong.help(format!("did you mean \"{close}\"?")),
        None if all.len() == 1 => wrong.help(format!("the only value is {}", all.join(""))),
        None => wrong.help(format!("the values are {}", all.join(", "))),
    }
}

/// The longest duration that makes sense here.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A number with a unit.
pub(super) fn duration(value: &DeValue<'_>) -> Result<Duration, Wrong> {
    if let DeValue::Integer(number) = value {
        return Err(Wrong::new("needs a unit").help(format!("write \"{number}s\" for seconds")));
    }
    let text = text(value)?;
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim() {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60 * 1000),
        "h" => Some(3600 * 1000),
        "d" => Some(24 * 3600 * 1000),
        _ => None,
    };
    let number = digits.parse::<u64>().ok().filter(|_| digits.bytes().all(|c| c.is_ascii_digit()));
    let (Some(number), Some(unit)) = (number, unit) else {
        return Err(Wrong::new(format!("is not a duration: \"{text}\"")).help(
            "a duration is a whole number and ms, s, m, h or d: \"500ms\", \"90s\", \"2h\"",
        ));
    };
    let duration = number.checked_mul(unit).map(Duration::from_millis);
    duration
        .filter(|duration| !duration.is_zero() && *duration <= WEEK)
        .ok_or_else(|| Wrong::new(format!("must be between 1ms and 7d, not {text}")))
}

/// An Ethernet address that a host can have.
pub(super) fn mac(value: &DeValue<'_>) -> Result<MacAddr, Wrong> {
    let text = text(value)?;
    let mac: MacAddr = text.parse().map_err(|error| {
        Wrong::new(format!("is not an Ethernet address: \"{text}\"")).help(format!("{error}"))
    })?;
    if mac.is_host() {
        Ok(mac)
    } else {
        Err(Wrong::new(format!("is no host's address: {mac} is zero or a group address")))
    }
}

/// An address that a host can have.
pub(super) fn host(value: &DeValue<'_>) -> Result<IpAddr, Wrong> {
    host_from(text(value)?)
}

fn host_from(text: &str) -> Result<IpAddr, Wrong> {
    let ip = text.parse().map_err(|_| not_an_address(text))?;
    reject_martian(ip)?;
    Ok(ip)
}

fn reject_martian(ip: IpAddr) -> Result<(), Wrong> {
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if mapped {
        return Err(Wrong::new(format!("is an IPv4 address in the form of an IPv6 one: {ip}"))
            .help(format!("write {}", ip.to_canonical())));
    }
    if is_martian_source(&ip) {
        return Err(Wrong::new(format!(
            "is no host's address: {ip} is unspecified, loopback, multicast or reserved"
        )));
    }
    Ok(())
}

fn not_an_address(text: &str) -> Wrong {
    let wrong = Wrong::new(format!("is not an IP address: \"{text}\""));
    if text.parse::<SocketAddr>().is_ok() {
        wrong.help("leave the port out")
    } else if text.contains('/') {
        wrong.help("leave the prefix length out")
    } else if text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains(':') {
        wrong.help("names are not looked up; write the number")
    } else {
        wrong.help("for example 10.0.0.1 or 2001:db8::1")
    }
}

/// An address with a port that is not zero.
pub(super) fn endpoint(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    let text = text(value)?;
    let endpoint: SocketAddr = text.parse().map_err(|_| {
        let wrong = Wrong::new(format!("is not an address with a port: \"{text}\""));
        match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) => wrong.help(format!("add the port: \"{v4}:80\"")),
            Ok(IpAddr::V6(v6)) => wrong.help(format!("add brackets and the port: \"[{v6}]:80\"")),
            Err(_) => wrong.help("for example \"10.0.0.80:80\" or \"[2001:db8::80]:80\""),
        }
    })?;
    reject_martian(endpoint.ip())?;
    Ok(endpoint)
}

fn prefix_length(ip: IpAddr, text: &str) -> Result<u8, Wrong> {
    let most = match Family::of(&ip) {
        Family::V4 => 32,
        Family::V6 => 128,
    };
    text.parse::<u8>()
        .ok()
        .filter(|len| *len <= most)
        .ok_or_else(|| Wrong::new(format!("has no prefix length between 0 and {most}: \"{text}\"")))
}

/// An address of the director's own with the prefix of its neighbours.
pub(super) fn self_address(value: &DeValue<'_>) -> Result<SelfAddress, Wrong> {
    let text = text(value)?;
    let Some((ip, len)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) => Wrong::new("has no prefix length").help(format!("for example \"{ip}/24\"")),
            Err(_) => not_an_address(text),
        });
    };
    let ip = host_from(ip)?;
    let len = prefix_length(ip, len)?;
    let prefix = Prefix::new(ip, len).ok_or_else(|| Wrong::new("has no valid prefix length"))?;
    if let Some(reserved) = reserved_in(ip, &prefix) {
        return Err(Wrong::new(format!("is the {reserved} of {prefix}")));
    }
    Ok(SelfAddress { ip, prefix })
}

/// What an IPv4 address means in its subnet other than a host. RFC 1812 section 4.2.2.11; a subnet
/// of two addresses has neither (RFC 3021).
fn reserved_in(ip: IpAddr, prefix: &Prefix) -> Option<&'static str> {
    let (IpAddr::V4(ip), IpAddr::V4(network)) = (ip, prefix.addr()) else { return None };
    if prefix.len() > 30 {
        return None;
    }
    let hosts = u32::MAX >> prefix.len();
    match ip.to_bits() ^ network.to_bits() {
        0 => Some("network address"),
        rest if rest == hosts => Some("broadcast address"),
        _ => None,
    }
}

/// The destinations of a route.
pub(super) fn target(value: &DeValue<'_>) -> Result<Target, Wrong> {
    let text = text(value)?;
    if text == "default" {
        return Ok(Target::Default);
    }
    prefix(value).map(Target::Prefix)
}

/// Addresses with the same first bits.
pub(super) fn prefix(value: &DeValue<'_>) -> Result<Prefix, Wrong> {
    let text = text(value)?;
    let Some((ip, len)) = text.split_once('/') else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip @ IpAddr::V4(_)) => {
                Wrong::new("has no prefix length").help(format!("for one host: \"{ip}/32\""))
            }
            Ok(ip @ IpAddr::V6(_)) => {
                Wrong::new("has no prefix length").help(format!("for one host: \"{ip}/128\""))
            }
            Err(_) => not_an_address(text),
        });
    };
    let ip: IpAddr = ip.parse().map_err(|_| not_an_address(ip))?;
    let len = prefix_length(ip, len)?;
    let prefix = Prefix::new(ip, len).ok_or_else(|| Wrong::new("has no valid prefix length"))?;
    if prefix.addr() != ip {
        return Err(Wrong::new(format!("has bits set behind its prefix: {text}"))
            .help(format!("did you mean \"{prefix}\"?")));
    }
    Ok(prefix)
}

/// One address, or the first and last of several.
pub(super) fn address_range(value: &DeValue<'_>) -> Result<AddressRange, Wrong> {
    let text = text(value)?;
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (host_from(first.trim())?, host_from(last.trim())?),
        None => {
            let one = host_from(text)?;
            (one, one)
        }
    };
    if Family::of(&first) != Family::of(&last) {
        return Err(Wrong::new("runs from one address family into the other"));
    }
    AddressRange::new(first, last)
        .ok_or_else(|| Wrong::new("ends before it begins").help(format!("\"{last}-{first}\"")))
}

/// One port, or the first and last of several.
pub(super) fn port_range(value: &DeValue<'_>) -> Result<PortRange, Wrong> {
    let text = text(value)?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(Wrong::new(format!("is not a range of ports: \"{text}\""))
            .help("for example \"1025-65535\"; a port is between 1 and 65535"));
    };
    PortRange::new(first, last)
        .ok_or_else(|| Wrong::new("ends before it begins").help(format!("\"{last}-{first}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn string(text: &str) -> DeValue<'_> {
        DeValue::String(Cow::Borrowed(text))
    }

    #[test]
    fn a_duration_is_a_whole_number_with_a_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("2 m", 120_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(duration(&string(text)), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["90", "s", "0s", "8d", "1.5s", "-1s", "1h30m", "99999999999999999999s", "٣s"]
        {
            assert!(duration(&string(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_of_ports_has_two_ends_in_order_and_no_zero() {
        assert_eq!(port_range(&string("5")), Ok(PortRange::new(5, 5).unwrap()));
        assert_eq!(port_range(&string("1-65535")), Ok(PortRange::new(1, 65535).unwrap()));
        for text in ["0-5", "5-0", "6-5", "1-65536", "-", "1-", "a-b", "1-2-3"] {
            assert!(port_range(&string(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_self_address_is_neither_the_network_nor_its_broadcast() {
        for good in ["10.0.0.1/24", "10.0.0.0/31", "10.0.0.1/32", "2001:db8::/64"] {
            assert!(self_address(&string(good)).is_ok(), "{good}");
        }
        for bad in ["10.0.0.0/24", "10.0.0.255/24", "10.0.0.1", "10.0.0.1/33", "127.0.0.1/8"] {
            assert!(self_address(&string(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_range_of_addresses_stays_in_its_family_and_order() {
        let three = address_range(&string("10.0.0.9-10.0.0.11")).unwrap();
        assert_eq!(three.count(), 3);
        assert_eq!(three.iter().last(), Some("10.0.0.11".parse().unwrap()));
        assert_eq!(address_range(&string("2001:db8::1")).unwrap().count(), 1);
        for bad in ["10.0.0.2-10.0.0.1", "10.0.0.1-2001:db8::1", "10.0.0.0/24", "10.0.0.1-5"] {
            assert!(address_range(&string(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_endpoint_names_a_host_and_a_port() {
        for good in ["10.0.0.1:80", "[2001:db8::1]:80", "10.0.0.1:0"] {
            assert!(endpoint(&string(good)).is_ok(), "{good}");
        }
        for bad in
            ["10.0.0.1", "10.0.0.1:", "2001:db8::1", "0.0.0.0:80", "[::ffff:10.0.0.1]:80", "a:80"]
        {
            assert!(endpoint(&string(bad)).is_err(), "{bad}");
        }
    }
}
