//! Small numbers that name things, each a type of its own.

use core::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $text:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $int);

        impl $name {
            /// The number as an index.
            #[must_use]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($text, "{}"), self.0)
            }
        }
    };
}

id! {
    /// A virtual service; stable while the service exists, over any number of reloads.
    ServiceId, u16, "svc"
}
id! {
    /// A real server of one service; stable while the server exists or a session still points at it.
    ServerId, u16, "rs"
}
id! {
    /// A worker: one core with its own lane and its own sessions.
    WorkerId, u8, "w"
}
id! {
    /// A local address (FullNAT source address) by its place in the snapshot's list.
    LocalId, u16, "laddr"
}
id! {
    /// A pool of local addresses.
    PoolId, u16, "pool"
}
id! {
    /// A next hop: a neighbour on a port.
    HopId, u16, "hop"
}
id! {
    /// A set of session time-outs, shared by all services that use the same.
    TimeoutClass, u8, "timeouts"
}

/// A session, safely: the slot it lives in, and the incarnation of that slot. A handle kept longer
/// than its session reaches nothing instead of the next session in the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[doc(alias = "ip_vs_conn")]
pub struct SessionId {
    /// Whether the session lives in the IPv6 table.
    pub v6: bool,
    /// Slot in its table.
    pub slot: u32,
    /// Incarnation of the slot.
    pub generation: u32,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}{}.{}", if self.v6 { "6:" } else { "" }, self.slot, self.generation)
    }
}
