//! Why an edit was refused. A refused edit has changed nothing.

use core::fmt;

/// Why an edit in place was refused; the frame is untouched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RewriteError {
    /// The headers do not fit into the bytes: they were parsed from another frame.
    Mismatch,
    /// The rewrite is for the other IP version.
    Family,
    /// Neither TCP, UDP nor an echo; an edit of TCP on something else; or an edit that needs more than
    /// the bytes of the frame.
    Unsupported,
    /// The packet may not be forwarded any further: its time to live or hop limit is 0 or 1.
    TtlExpired,
    /// The buffer has too little headroom for the header in front.
    NoRoom,
    /// The packet would be longer than its IP header can state.
    TooLong,
    /// The port cannot cut this segment train, or not behind this header: segment it first.
    NoGso,
    /// The whole packet has to be summed, and part of it lies outside of the first contiguous bytes.
    NotWhole,
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mismatch => "the headers were parsed from another frame",
            Self::Family => "the rewrite is for the other IP version",
            Self::Unsupported => "this transport protocol is not translated",
            Self::TtlExpired => "the time to live is used up",
            Self::NoRoom => "the buffer has no headroom for another header",
            Self::TooLong => "the packet would be longer than its IP header can state",
            Self::NoGso => "the port cannot cut this segment train",
            Self::NotWhole => "part of the packet lies outside of the contiguous bytes",
        })
    }
}

impl core::error::Error for RewriteError {}
