//! Marks: which packets belong together although they have no virtual address in common.
//!
//! Linux lets its packet filter put a mark on packets and IPVS balance by it (`ipvsadm -f`). Packets that come from a
//! device carry none, so a table of rules gives it here, and the first rule that matches decides.

use crate::addr::Prefix;
use crate::flow::{L4Proto, WireTuple};

/// A mark, and the packets that get it. What is `None` matches everything, but for the protocol: echo has to be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "fwmark")]
pub struct MarkRule {
    /// Where packets come from.
    pub src: Option<Prefix>,
    /// Where they go. A rule for a single address makes it one of the director's virtual addresses; others have
    /// to be routed to the director.
    pub dst: Option<Prefix>,
    /// Protocol; `None` = TCP and UDP. Echo is not among them: the director answers it for its addresses, and who wants
    /// the servers to answer has to say so.
    pub proto: Option<L4Proto>,
    /// Destination ports, first and last. Host byte order.
    pub ports: (u16, u16),
    /// The mark; 0 = none, for exceptions from the rules behind.
    pub mark: u32,
}

impl MarkRule {
    /// A rule that matches every packet.
    #[must_use]
    pub const fn all(mark: u32) -> Self {
        Self { src: None, dst: None, proto: None, ports: (0, u16::MAX), mark }
    }

    /// Whether a packet gets this mark.
    ///
    /// ```
    /// use lvs_core::flow::{L4Proto, WireTuple};
    /// use lvs_core::snapshot::MarkRule;
    /// let rule = MarkRule { ports: (80, 443), ..MarkRule::all(7) };
    /// let to = |port| {
    ///     let (client, vip) = ([10, 0, 0, 2].into(), [10, 0, 0, 80].into());
    ///     WireTuple::new(L4Proto::Tcp, client, 4000, vip, port).unwrap()
    /// };
    /// assert!(rule.matches(&to(443)) && !rule.matches(&to(444)));
    /// ```
    #[must_use]
    pub fn matches(&self, packet: &WireTuple) -> bool {
        let (first, last) = self.ports;
        (first..=last).contains(&packet.dport())
            && self.proto.map_or(packet.proto() != L4Proto::Icmp, |proto| proto == packet.proto())
            && self.dst.is_none_or(|dst| dst.contains(&packet.dst()))
            && self.src.is_none_or(|src| src.contains(&packet.src()))
    }

    /// The only destination of the rule, if it has one.
    pub(super) fn address(&self) -> Option<core::net::IpAddr> {
        let dst = self.dst.filter(|_| self.mark != 0)?;
        let ip = dst.addr();
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        (dst.len() == whole).then_some(ip)
    }
}

/// The mark of a packet; 0 = none.
pub(super) fn mark_of(rules: &[MarkRule], packet: &WireTuple) -> u32 {
    rules.iter().find(|rule| rule.matches(packet)).map_or(0, |rule| rule.mark)
}
