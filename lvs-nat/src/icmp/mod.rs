//! ICMP of both versions: what an error quotes, translating an error, making one, echo as a flow.
//!
//! # How a director uses it
//! A frame whose transport is [`Transport::Icmp`] and whose destination is one of the director's own or
//! virtual addresses:
//! 1. [`checksum_is_right`]; a wrong one is dropped, as the kernel does.
//! 2. [`tunnelled`]: is the error about a tunnel packet of ours? Then lower the path MTU of that server,
//!    look up the inner flow, and tell the client with [`complain_about`].
//! 3. [`embedded`]: which flow is the error about? Look up [`Embedded::lookup`], the way back of the
//!    quoted packet: the session that it finds, and the direction in which it finds it, are those of
//!    the error.
//! 4. [`AnyRewrite::apply_error`](crate::AnyRewrite::apply_error) with the rewrite of that direction.
//! 5. No quote but an echo: [`echo`] is a tuple to look up like any other, and
//!    [`AnyRewrite::apply_to`](crate::AnyRewrite::apply_to) edits its identifier as a port.
//!
//! For packets that do not fit or may go no further: [`complain`]. How often is the caller's to limit.
//!
//! The checksum of an error moves by what changes in it, so even without step 1 a wrong one stays
//! wrong by the same amount.

mod complain;
mod echo;
mod embedded;
mod translate;
mod tunnelled;

pub use complain::{Complaint, Offender, Unreachable, complain, complain_about, may_complain};
pub use echo::{Echo, echo};
pub use embedded::{Carried, Embedded, embedded};
pub use translate::ErrorEdit;
pub use tunnelled::{Tunnelled, tunnelled};

use lvs_core::addr::Family;
use lvs_core::checksum::{AddrPair, verify_icmpv4, verify_icmpv6};
use lvs_core::wire::{Fragment, Headers, Transport};

/// Smallest MTU that an IPv4 link may have (RFC 791 section 3.2).
pub const MIN_MTU_V4: u32 = 68;
/// Smallest MTU that an IPv6 link may have (RFC 8200 section 5).
pub const MIN_MTU_V6: u32 = 1280;

/// Whether the checksum of an ICMP message is right; `None` when that cannot be told: not ICMP, a
/// fragment, or part of it outside of `frame`.
#[must_use]
pub fn checksum_is_right(frame: &[u8], headers: &Headers) -> Option<bool> {
    let whole = headers.fragment == Fragment::No;
    if !whole || !matches!(headers.transport, Transport::Icmp { .. }) {
        return None;
    }
    let message = frame.get(usize::from(headers.l4)..usize::try_from(headers.end).ok()?)?;
    match headers.family {
        Family::V4 => Some(verify_icmpv4(message, &[])),
        Family::V6 => {
            let (src, dst) = headers.addresses(frame)?;
            Some(verify_icmpv6(AddrPair::new(src, dst)?, message, &[]))
        }
    }
}

/// A path MTU less what a header gains on the way, though not below what every link carries. Zero
/// (routers from before RFC 1191) and what is too small already stay.
#[must_use]
pub const fn less_growth(mtu: u32, growth: u16, family: Family) -> u32 {
    let floor = match family {
        Family::V4 => MIN_MTU_V4,
        Family::V6 => MIN_MTU_V6,
    };
    let less = mtu.saturating_sub(growth as u32);
    match (mtu <= floor, less < floor) {
        (true, _) => mtu,
        (false, true) => floor,
        (false, false) => less,
    }
}
