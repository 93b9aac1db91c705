//! The TCP states of a director, as rules.

use lvs_core::flow::Direction::{self, Inbound, Return};
use lvs_core::session::TcpState::{
    self, Close, CloseWait, Established, FinWait, LastAck, Listen, SynAck, SynRecv, SynSent,
    TimeWait,
};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

const NONE: TcpState = TcpState::None;

/// Who sends what, from which states, leads where. Whatever no rule speaks of changes nothing.
const RULES: &[(Direction, u8, &[TcpState], TcpState)] = &[
    // A client's SYN starts anew, except on a connection that the server has agreed to.
    (Inbound, SYN, &[Established, SynSent], Established),
    (Inbound, SYN, &TcpState::ALL, SynRecv),
    (Inbound, FIN, &[NONE], Close),
    (Inbound, FIN, &[Established], CloseWait),
    (Inbound, FIN, &[SynRecv, FinWait, SynAck], TimeWait),
    // An acknowledgement of nothing known closes, as does the one that was awaited.
    (Inbound, ACK, &[NONE, LastAck], Close),
    (Inbound, ACK, &[SynRecv, SynAck], Established),
    // A client's reset does not end a handshake: it is easily forged.
    (Inbound, RST, &[SynRecv, SynAck], SynRecv),
    (Inbound, RST, &[LastAck], LastAck),
    (Inbound, RST, &[Listen], Listen),
    (Inbound, RST, &TcpState::ALL, Close),
    (Return, SYN, &[Established], Established),
    (Return, SYN, &[SynRecv, SynAck], SynRecv),
    (Return, SYN, &[Listen], Listen),
    (Return, SYN, &TcpState::ALL, SynSent),
    (Return, FIN, &[NONE, SynRecv, CloseWait, SynAck], TimeWait),
    (Return, FIN, &[Established], FinWait),
    (Return, ACK, &[NONE, SynRecv, Listen, SynAck], Established),
    (Return, RST, &[SynSent], SynSent),
    (Return, RST, &[TimeWait], TimeWait),
    (Return, RST, &TcpState::ALL, Close),
];

/// The state after a segment. Of several flags the first of RST, SYN, FIN and ACK counts.
pub(super) fn next(state: TcpState, from: Direction, flags: u8) -> TcpState {
    let Some(flag) = [RST, SYN, FIN, ACK].into_iter().find(|flag| flags & flag != 0) else {
        return state;
    };
    let rule = RULES
        .iter()
        .find(|(by, what, states, _)| (*by, *what) == (from, flag) && states.contains(&state));
    rule.map_or(state, |(_, _, _, to)| *to)
}

/// Whether sequence number `a` comes after `b`, on the shorter way round.
pub(super) fn after(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) <= 0x8000_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::session::tcp::{Seen, next as table};

    #[test]
    fn the_rules_and_the_table_of_the_store_agree_everywhere() {
        for state in TcpState::ALL {
            for (from, seen) in [(Inbound, Seen::Inbound), (Return, Seen::Return)] {
                for flags in 0..=255 {
                    let (rule, table) = (next(state, from, flags), table(state, seen, flags));
                    assert_eq!(rule, table, "{state:?} {from:?} {flags:#04x}");
                }
            }
        }
    }
}
