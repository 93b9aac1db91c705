//! Servers in an order that every director has, whatever the order of its configuration.

use crate::steady;
use alloc::vec::Vec;
use lvs_core::sched::ServerLoad;

/// A server that takes part.
pub(crate) struct Member {
    /// Its index in the list.
    pub(crate) at: u16,
    /// Above 0.
    pub(crate) weight: u16,
    /// [`steady::member`] of its address.
    pub(crate) id: [u64; 3],
}

/// The servers with a weight, by address and port. Those beyond the 65 535th of the list take no part.
pub(crate) fn in_order(servers: &[ServerLoad]) -> Vec<Member> {
    let numbered = (0..u16::MAX).zip(servers).filter(|(_, server)| server.weight.0 > 0);
    let member = |(at, server): (u16, &ServerLoad)| Member {
        at,
        weight: server.weight.0,
        id: steady::member(&server.addr),
    };
    let mut members: Vec<Member> = numbered.map(member).collect();
    members.sort_by_key(|member| (member.id, member.at));
    members
}
