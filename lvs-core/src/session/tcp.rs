//! TCP states as a director sees them, and the transition table.
//!
//! A director sees both directions but owns neither end, so its states follow flags alone. Behaviour
//! follows Linux `net/netfilter/ipvs/ip_vs_proto_tcp.c` (`tcp_states`), with two deviations on purpose:
//! a segment without SYN, FIN, ACK and RST changes nothing (one forged segment must not shorten a
//! session), and in the `lvs` profile a stray ACK in NONE closes instead of establishing (as DPVS).

use crate::flow::Direction;

/// State of a TCP session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[doc(alias = "IP_VS_TCP_S_NONE")]
pub enum TcpState {
    /// Nothing seen.
    #[default]
    None = 0,
    /// Both ends have spoken.
    Established,
    /// The server has sent a SYN of its own.
    SynSent,
    /// The client has sent its SYN.
    SynRecv,
    /// The server has closed its side.
    FinWait,
    /// Both sides have closed.
    TimeWait,
    /// Reset, or closed by a stray segment.
    Close,
    /// The client has closed its side.
    CloseWait,
    /// The last acknowledgement is awaited.
    LastAck,
    /// Kept for completeness of the table.
    Listen,
    /// SYN answered by the director itself (SYN proxy).
    SynAck,
}

impl TcpState {
    /// How many states there are.
    pub const COUNT: usize = 11;
    /// All, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] = [
        Self::None,
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::SynAck,
    ];

    /// The number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// From the number; anything unknown is `None`.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or_default()
    }

    /// Name as `ipvsadm -lc` prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait => "FIN_WAIT",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::SynAck => "SYNACK",
        }
    }

    /// Whether a session in this state counts as active for least-connection schedulers.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Established)
    }

    /// Whether a new SYN of the client may start the session anew: both ends are done with the old one.
    /// Linux `is_new_conn` and `ip_vs_conn` reuse mode 1.
    #[must_use]
    pub const fn may_be_reused(self) -> bool {
        matches!(self, Self::TimeWait | Self::Close)
    }
}

/// TCP flags, as byte 13 of the header holds them.
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
}

/// Which direction, and whether the other one has ever been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seen {
    /// From the client.
    Inbound,
    /// From the server.
    Return,
    /// From the client, on a session whose replies never pass here (DR, TUN).
    InboundOnly,
}

impl From<Direction> for Seen {
    fn from(direction: Direction) -> Self {
        match direction {
            Direction::Inbound => Self::Inbound,
            Direction::Return => Self::Return,
        }
    }
}

use TcpState::{
    Close as CL, CloseWait as CW, Established as ES, FinWait as FW, LastAck as LA, Listen as LI,
    SynRecv as SR, SynSent as SS, TimeWait as TW,
};

type Row = [TcpState; TcpState::COUNT];

/// Rows: SYN, FIN, ACK, RST. Columns: the current state in the order of [`TcpState::ALL`].
#[rustfmt::skip]
const TABLE: [[Row; 4]; 3] = [
    [   //       NO  ES  SS  SR  FW  TW  CL  CW  LA  LI  SA
        /*syn*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /*fin*/ [CL, CW, SS, TW, TW, TW, CL, CW, LA, LI, TW],
        /*ack*/ [CL, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, SR],
    ],
    [
        /*syn*/ [SS, ES, SS, SR, SS, SS, SS, SS, SS, LI, SR],
        /*fin*/ [TW, FW, SS, TW, FW, TW, CL, TW, LA, LI, TW],
        /*ack*/ [ES, ES, SS, ES, FW, TW, CL, CW, LA, ES, ES],
        /*rst*/ [CL, CL, SS, CL, CL, TW, CL, CL, CL, CL, CL],
    ],
    [
        /*syn*/ [SR, ES, ES, SR, SR, SR, SR, SR, SR, SR, SR],
        /*fin*/ [CL, FW, SS, TW, FW, TW, CL, CW, LA, LI, TW],
        /*ack*/ [CL, ES, SS, ES, FW, TW, CL, CW, CL, LI, ES],
        /*rst*/ [CL, CL, CL, SR, CL, CL, CL, CL, LA, LI, CL],
    ],
];

/// The state after a segment with these flags. Of several flags RST counts before SYN before FIN before
/// ACK; none of the four changes nothing.
#[must_use]
pub fn next(state: TcpState, seen: Seen, tcp_flags: u8) -> TcpState {
    let row: usize = if tcp_flags & flags::RST != 0 {
        3
    } else if tcp_flags & flags::SYN != 0 {
        0
    } else if tcp_flags & flags::FIN != 0 {
        1
    } else if tcp_flags & flags::ACK != 0 {
        2
    } else {
        return state;
    };
    TABLE
        .get(seen as usize)
        .and_then(|rows| rows.get(row))
        .and_then(|states| states.get(state.index()))
        .copied()
        .unwrap_or(state)
}

#[cfg(test)]
mod tests {
    use super::flags::{ACK, FIN, PSH, RST, SYN};
    use super::*;

    fn walk(steps: &[(Seen, u8)]) -> TcpState {
        steps.iter().fold(TcpState::None, |state, (seen, bits)| next(state, *seen, *bits))
    }

    use Seen::{Inbound as In, InboundOnly as Only, Return as Out};

    #[test]
    fn a_life_ends_in_time_wait_whoever_closes_first() {
        let open = [(In, SYN), (Out, SYN | ACK), (In, ACK), (In, ACK | PSH), (Out, ACK)];
        assert_eq!(walk(&open), ES);
        let client_first =
            [&open[..], &[(In, FIN | ACK), (Out, ACK), (Out, FIN | ACK), (In, ACK)]].concat();
        assert_eq!(walk(&client_first), TW);
        let server_first =
            [&open[..], &[(Out, FIN | ACK), (In, ACK), (In, FIN | ACK), (Out, ACK)]].concat();
        assert_eq!(walk(&server_first), TW);
    }

    #[test]
    fn a_client_reset_in_syn_recv_does_not_close() {
        assert_eq!(walk(&[(In, SYN), (In, RST)]), SR);
        assert_eq!(walk(&[(In, SYN), (Out, RST | ACK)]), CL);
        assert_eq!(walk(&[(In, SYN), (In, ACK), (In, RST)]), CL);
    }

    #[test]
    fn a_lone_client_fin_of_a_one_way_session_waits() {
        assert_eq!(walk(&[(Only, SYN), (Only, ACK), (Only, FIN | ACK)]), FW);
    }

    #[test]
    fn a_null_segment_changes_nothing_in_any_state() {
        for state in TcpState::ALL {
            for seen in [In, Out, Only] {
                assert_eq!(next(state, seen, 0), state);
                assert_eq!(next(state, seen, PSH | flags::URG), state);
            }
        }
    }

    #[test]
    fn numbers_and_states_agree() {
        for (number, state) in (0u8..).zip(TcpState::ALL) {
            assert_eq!(TcpState::from_number(number), state);
            assert_eq!(state.index(), usize::from(number));
        }
        assert_eq!(TcpState::from_number(200), TcpState::None);
    }
}
