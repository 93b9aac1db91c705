//! What the tests of the session store share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod model;

/// Number of cases of a property; an interpreter runs a few.
pub const fn cases(usual: u32) -> u32 {
    if cfg!(miri) { 4 } else { usual }
}
