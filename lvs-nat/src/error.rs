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
    /// Neither TCP nor UDP, or an edit of TCP on something else.
    Unsupported,
    /// The packet may not be forwarded any further: its time to live or hop limit is 0 or 1.
    TtlExpired,
}

impl fmt::Display for RewriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mismatch => "the headers were parsed from another frame",
            Self::Family => "the rewrite is for the other IP version",
            Self::Unsupported => "this transport protocol is not translated",
            Self::TtlExpired => "the time to live is used up",
        })
    }
}

impl core::error::Error for RewriteError {}
