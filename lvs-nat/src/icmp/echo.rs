//! Echo as a flow: the identifier is its port.

use crate::rewrite::echo_side;
use core::net::IpAddr;
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::wire::{Fragment, Headers, Transport};

/// The flow that an echo message belongs to (RFC 5508 section 3.1).
///
/// The asking side has the identifier for its port; the answering one has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Echo {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Identifier.
    pub id: u16,
    /// A request, not a reply.
    pub request: bool,
}

impl Echo {
    /// The answer to it, or the question.
    #[must_use]
    pub const fn reverse(&self) -> Self {
        Self { src: self.dst, dst: self.src, id: self.id, request: !self.request }
    }

    /// The tuple of the message, by which a session knows it: see [`L4Proto::Icmp`]. `None` when the families differ.
    #[must_use]
    pub const fn tuple(&self) -> Option<WireTuple> {
        let (sport, dport) = if self.request { (self.id, 0) } else { (0, self.id) };
        WireTuple::new(L4Proto::Icmp, self.src, sport, self.dst, dport)
    }
}

/// The flow of an echo request or reply, whole or a first fragment. `None` for anything else.
#[must_use]
pub fn echo(frame: &[u8], headers: &Headers) -> Option<Echo> {
    let Transport::Icmp { kind, code: 0 } = headers.transport else { return None };
    let request = echo_side(headers.family, kind)?;
    if headers.fragment == Fragment::Later {
        return None;
    }
    let (src, dst) = headers.addresses(frame)?;
    let &[_, _, _, _, a, b] = frame.get(usize::from(headers.l4)..)?.first_chunk()?;
    Some(Echo { src, dst, id: u16::from_be_bytes([a, b]), request })
}
