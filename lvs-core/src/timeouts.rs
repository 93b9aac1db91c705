//! How long a session may be silent in each state: profiles and what the store counts in ticks.
//!
//! Three profiles: `lvs` (the default: TCP established 90 s, closing states short, so that local ports
//! come back fast), `kernel` (Linux `net/netfilter/ipvs`, `tcp_timeouts`) and `rfc` (the minimums of
//! RFC 5382, RFC 4787 and RFC 5508). A service may override each state.

use crate::session::TcpState;
use crate::time::Tick;
use core::time::Duration;

/// How far an SCTP association is, as its time-outs count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SctpPhase {
    /// Until the cookie has been accepted.
    Opening,
    /// Open.
    Established,
    /// One side wishes to end.
    Closing,
    /// Over.
    Closed,
}

impl SctpPhase {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; Self::COUNT] =
        [Self::Opening, Self::Established, Self::Closing, Self::Closed];

    /// Of a session's state: SCTP uses the states of TCP that mean the same.
    #[must_use]
    pub const fn of(state: TcpState) -> Self {
        match state {
            TcpState::Established => Self::Established,
            TcpState::FinWait | TcpState::TimeWait | TcpState::CloseWait | TcpState::LastAck => {
                Self::Closing
            }
            TcpState::Close => Self::Closed,
            TcpState::None
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::Listen
            | TcpState::SynAck => Self::Opening,
        }
    }

    /// The number as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Time-outs of one service, or the defaults of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ip_vs_timeout_user")]
pub struct Timeouts {
    tcp: [Duration; TcpState::COUNT],
    udp: Duration,
    icmp: Duration,
    sctp: [Duration; SctpPhase::COUNT],
}

/// An echo session after its last message: the least that RFC 5508 (REQ-2) allows, in all profiles. Linux IPVS has none.
const ECHO: Duration = s(60);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Those of SCTP in every profile: Linux `net/netfilter/ipvs/ip_vs_proto_sctp.c`, `sctp_timeouts`. The systems that
/// the `lvs` profile follows have none, and RFC 9260 names none for those in between.
const SCTP: [Duration; SctpPhase::COUNT] = [s(60), s(900), s(60), s(10)];

impl Timeouts {
    /// The default: as alibaba/LVS v3 and DPVS, and as the reference deployment.
    pub const LVS: Self = Self {
        tcp: [s(2), s(90), s(3), s(30), s(7), s(7), s(3), s(7), s(7), s(120), s(30)],
        udp: s(300),
        icmp: ECHO,
        sctp: SCTP,
    };
    /// Linux IPVS.
    pub const KERNEL: Self = Self {
        tcp: [s(2), s(900), s(120), s(60), s(120), s(120), s(10), s(60), s(30), s(120), s(120)],
        udp: s(300),
        icmp: ECHO,
        sctp: SCTP,
    };
    /// RFC 5382 section 5 (established 2 h 4 min, transitory 4 min), RFC 4787 section 4.3 (5 min).
    pub const RFC: Self = Self {
        tcp: [
            s(2),
            s(7440),
            s(240),
            s(240),
            s(240),
            s(240),
            s(240),
            s(240),
            s(240),
            s(240),
            s(240),
        ],
        udp: s(300),
        icmp: ECHO,
        sctp: SCTP,
    };

    /// A profile by name: `lvs`, `kernel`, `rfc`.
    #[must_use]
    pub fn profile(name: &str) -> Option<Self> {
        match name {
            "lvs" => Some(Self::LVS),
            "kernel" => Some(Self::KERNEL),
            "rfc" => Some(Self::RFC),
            _ => None,
        }
    }

    /// Of a TCP state.
    #[must_use]
    pub fn tcp(&self, state: TcpState) -> Duration {
        self.tcp.get(state.index()).copied().unwrap_or(Duration::ZERO)
    }

    /// Of a UDP session.
    #[must_use]
    pub const fn udp(&self) -> Duration {
        self.udp
    }

    /// Of an echo session.
    #[must_use]
    pub const fn icmp(&self) -> Duration {
        self.icmp
    }

    /// The same with another time-out for echo sessions.
    #[must_use]
    pub const fn with_icmp(mut self, timeout: Duration) -> Self {
        self.icmp = timeout;
        self
    }

    /// Of an SCTP association.
    #[must_use]
    pub fn sctp(&self, phase: SctpPhase) -> Duration {
        self.sctp.get(phase.index()).copied().unwrap_or(Duration::ZERO)
    }

    /// The same with another time-out for one phase of SCTP.
    #[must_use]
    pub fn with_sctp(mut self, phase: SctpPhase, timeout: Duration) -> Self {
        if let Some(place) = self.sctp.get_mut(phase.index()) {
            *place = timeout;
        }
        self
    }

    /// The same with another time-out for one TCP state.
    #[must_use]
    pub fn with_tcp(mut self, state: TcpState, timeout: Duration) -> Self {
        if let Some(place) = self.tcp.get_mut(state.index()) {
            *place = timeout;
        }
        self
    }

    /// The same with another time-out for UDP.
    #[must_use]
    pub const fn with_udp(mut self, timeout: Duration) -> Self {
        self.udp = timeout;
        self
    }

    /// In ticks, as the session store counts.
    #[must_use]
    pub fn ticks(&self) -> TimeoutTicks {
        TimeoutTicks {
            tcp: self.tcp.map(Tick::covering),
            udp: Tick::covering(self.udp),
            icmp: Tick::covering(self.icmp),
            sctp: self.sctp.map(Tick::covering),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::LVS
    }
}

/// [`Timeouts`] in ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutTicks {
    pub(crate) tcp: [u32; TcpState::COUNT],
    pub(crate) udp: u32,
    pub(crate) icmp: u32,
    pub(crate) sctp: [u32; SctpPhase::COUNT],
}

impl Default for TimeoutTicks {
    fn default() -> Self {
        Timeouts::LVS.ticks()
    }
}
