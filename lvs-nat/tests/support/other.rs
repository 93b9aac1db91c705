//! The ends of a session that a packet does not show, and the slow twin of translating it.

use super::{ACK, Opt, Spec, encode, socket};
use core::net::SocketAddr;
use lvs_core::addr::{ClientAddr, LocalAddress, RealAddr, VirtualAddr};
use lvs_core::flow::{Direction, L4Proto};
use lvs_nat::{AnyRewrite, SeqDeltas, SeqShift};
use proptest::prelude::*;

/// The other two ends and the number differences.
#[derive(Clone, Debug)]
pub(crate) struct Other {
    pub(crate) local: Option<(u128, u16)>,
    pub(crate) server: (u128, u16),
    pub(crate) seq: SeqDeltas,
    pub(crate) hop: bool,
}

pub(crate) fn others() -> impl Strategy<Value = Other> {
    let number = || prop_oneof![Just(0u32), Just(u32::MAX), any::<u32>()];
    (any::<Option<(u128, u16)>>(), any::<(u128, u16)>(), number(), number(), any::<bool>())
        .prop_map(|(local, server, seq, ack, hop)| Other {
            local,
            server,
            seq: SeqDeltas { seq, ack },
            hop,
        })
}

impl Other {
    pub(crate) fn server(&self, spec: &Spec) -> SocketAddr {
        socket(spec.src.is_ipv6(), self.server.0, self.server.1)
    }

    pub(crate) fn local(&self, spec: &Spec) -> Option<SocketAddr> {
        self.local.map(|(ip, port)| socket(spec.src.is_ipv6(), ip, port))
    }

    /// For a session whose client packets look like `spec`.
    pub(crate) fn rewrite(&self, spec: &Spec, direction: Direction) -> AnyRewrite {
        AnyRewrite::from_roles(
            direction,
            ClientAddr(spec.src),
            VirtualAddr(spec.dst),
            self.local(spec).map(LocalAddress),
            RealAddr(self.server(spec)),
            self.seq,
        )
        .unwrap()
        .decrement_ttl(self.hop)
    }

    /// The slow twin: other numbers in the description.
    pub(crate) fn moved(&self, spec: &Spec, list: &[Opt], shift: SeqShift) -> Spec {
        let mut spec = spec.clone();
        spec.seq = spec.seq.wrapping_add(shift.seq_add);
        if spec.flags & ACK != 0 && spec.proto == L4Proto::Tcp {
            spec.ack = spec.ack.wrapping_add(shift.ack_add);
            let pad = spec.options.last().copied().filter(|&b| b == 0).unwrap_or(1);
            let moved: Vec<Opt> = list.iter().map(|o| o.shifted(shift.ack_add)).collect();
            spec.options = encode(&moved, pad);
        }
        spec.ttl -= u8::from(self.hop);
        spec
    }
}
