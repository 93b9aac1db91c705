//! The whole table of TCP states, as Linux IPVS has it (`net/netfilter/ipvs/ip_vs_proto_tcp.c`), with what is done
//! otherwise on purpose; and the walks through it that people ask about.

use lvs_core::session::TcpState;
use lvs_core::session::tcp::flags::{ACK, FIN, PSH, RST, SYN, URG};
use lvs_core::session::tcp::{Seen, next};

const COLUMNS: &str = "NO ES SS SR FW TW CL CW LA LI SA";

/// One row for each direction and flag: the state that follows each column's.
///
/// NO + ACK of a client is CLOSE and not ESTABLISHED, as in DPVS: a stray segment opens nothing.
const ROWS: [(Seen, u8, &str); 12] = [
    (Seen::Inbound, SYN, "SR ES ES SR SR SR SR SR SR SR SR"),
    (Seen::Inbound, FIN, "CL CW SS TW TW TW CL CW LA LI TW"),
    (Seen::Inbound, ACK, "CL ES SS ES FW TW CL CW CL LI ES"),
    (Seen::Inbound, RST, "CL CL CL SR CL CL CL CL LA LI SR"),
    (Seen::Return, SYN, "SS ES SS SR SS SS SS SS SS LI SR"),
    (Seen::Return, FIN, "TW FW SS TW FW TW CL TW LA LI TW"),
    (Seen::Return, ACK, "ES ES SS ES FW TW CL CW LA ES ES"),
    (Seen::Return, RST, "CL CL SS CL CL TW CL CL CL CL CL"),
    (Seen::InboundOnly, SYN, "SR ES ES SR SR SR SR SR SR SR SR"),
    (Seen::InboundOnly, FIN, "CL FW SS TW FW TW CL CW LA LI TW"),
    (Seen::InboundOnly, ACK, "CL ES SS ES FW TW CL CW CL LI ES"),
    (Seen::InboundOnly, RST, "CL CL CL SR CL CL CL CL LA LI CL"),
];

fn state(short: &str) -> TcpState {
    match short {
        "NO" => TcpState::None,
        "ES" => TcpState::Established,
        "SS" => TcpState::SynSent,
        "SR" => TcpState::SynRecv,
        "FW" => TcpState::FinWait,
        "TW" => TcpState::TimeWait,
        "CL" => TcpState::Close,
        "CW" => TcpState::CloseWait,
        "LA" => TcpState::LastAck,
        "LI" => TcpState::Listen,
        "SA" => TcpState::SynAck,
        other => panic!("{other}"),
    }
}

#[test]
fn every_state_is_followed_by_the_one_of_the_table() {
    let columns: Vec<TcpState> = COLUMNS.split(' ').map(state).collect();
    assert_eq!(columns, TcpState::ALL, "every state once");
    for (seen, flag, row) in ROWS {
        let after: Vec<TcpState> = row.split(' ').map(state).collect();
        for (before, after) in columns.iter().zip(after) {
            // Flags that mean nothing to states change nothing.
            for others in [0, PSH, URG, PSH | URG, 0xc0] {
                assert_eq!(next(*before, seen, flag | others), after, "{before:?} {seen:?} {flag}");
            }
        }
    }
}

#[test]
fn of_several_flags_the_first_of_rst_syn_fin_ack_counts() {
    for seen in [Seen::Inbound, Seen::Return, Seen::InboundOnly] {
        for before in TcpState::ALL {
            for flags in 0..=255u8 {
                let counts = [RST, SYN, FIN, ACK].into_iter().find(|flag| flags & flag != 0);
                let expected = counts.map_or(before, |flag| next(before, seen, flag));
                assert_eq!(next(before, seen, flags), expected, "{before:?} {flags:#x}");
            }
        }
    }
}

fn walk(steps: &[(Seen, u8)]) -> TcpState {
    steps.iter().fold(TcpState::None, |state, (seen, flags)| next(state, *seen, *flags))
}

use Seen::{Inbound as In, InboundOnly as Only, Return as Out};

#[test]
fn a_simultaneous_open_is_established_when_one_side_has_agreed() {
    let both = [(In, SYN), (Out, SYN)];
    assert_eq!(walk(&both), TcpState::SynRecv);
    let agreed = [&both[..], &[(In, SYN | ACK), (Out, SYN | ACK)]].concat();
    assert_eq!(walk(&agreed), TcpState::SynRecv, "nobody has acknowledged without a SYN yet");
    for side in [In, Out] {
        assert_eq!(walk(&[&agreed[..], &[(side, ACK)]].concat()), TcpState::Established);
    }
}

#[test]
fn a_simultaneous_close_ends_in_time_wait() {
    let open = [(In, SYN), (Out, SYN | ACK), (In, ACK)];
    let ends = |order: [Seen; 2]| {
        walk(
            &[&open[..], &[(order[0], FIN | ACK), (order[1], FIN | ACK), (In, ACK), (Out, ACK)]]
                .concat(),
        )
    };
    assert_eq!((ends([In, Out]), ends([Out, In])), (TcpState::TimeWait, TcpState::TimeWait));
}

#[test]
fn a_lone_acknowledgement_of_the_client_establishes_what_the_server_never_answered() {
    assert_eq!(walk(&[(In, SYN), (In, ACK)]), TcpState::Established);
    assert_eq!(walk(&[(Only, SYN), (Only, ACK)]), TcpState::Established);
}

#[test]
fn one_way_sessions_end_by_the_client_alone() {
    let open = [(Only, SYN), (Only, ACK)];
    let then = |flags: u8| walk(&[&open[..], &[(Only, flags)]].concat());
    assert_eq!(
        (then(FIN | ACK), then(RST), then(ACK | PSH)),
        (TcpState::FinWait, TcpState::Close, TcpState::Established)
    );
    let wait = [&open[..], &[(Only, FIN | ACK), (Only, ACK)]].concat();
    assert_eq!(walk(&wait), TcpState::FinWait, "the rest is by time-out");
    assert_eq!(walk(&[&wait[..], &[(Only, SYN)]].concat()), TcpState::SynRecv);
}
