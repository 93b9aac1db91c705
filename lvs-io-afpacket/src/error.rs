//! Why a port could not be opened: which interface, which step, which error, and what to do.

use core::fmt;
use std::io;

/// A step of opening a port, in the order in which they are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Finding the interface.
    FindInterface,
    /// Asking for its address, MTU and flags.
    ReadInterface,
    /// Creating a packet socket.
    CreateSocket,
    /// Asking for ring layout `TPACKET_V2`.
    RingVersion,
    /// Asking for the virtio header in front of frames.
    VnetHeader,
    /// Asking for headroom in the slots.
    Headroom,
    /// Making the receive ring.
    MakeRing,
    /// Mapping memory.
    MapMemory,
    /// Shutting out frames that the host itself sends.
    IgnoreOutgoing,
    /// Binding a socket to the interface.
    Bind,
    /// Joining the promiscuous membership.
    Promiscuous,
    /// Joining the fanout group.
    JoinFanout,
    /// Loading the program of the fanout group.
    FanoutProgram,
    /// Going around the queueing discipline.
    QdiscBypass,
}

impl Step {
    const fn text(self) -> &'static str {
        match self {
            Self::FindInterface => "find the interface",
            Self::ReadInterface => "read address, MTU and flags of the interface",
            Self::CreateSocket => "create a packet socket",
            Self::RingVersion => "select TPACKET_V2",
            Self::VnetHeader => "switch the virtio header on",
            Self::Headroom => "reserve headroom",
            Self::MakeRing => "make the receive ring",
            Self::MapMemory => "map memory",
            Self::IgnoreOutgoing => "shut out frames of the host itself",
            Self::Bind => "bind to the interface",
            Self::Promiscuous => "receive promiscuously",
            Self::JoinFanout => "join the fanout group",
            Self::FanoutProgram => "load the fanout program",
            Self::QdiscBypass => "bypass the queueing discipline",
        }
    }
}

/// Why a port could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The kernel refused a step.
    Refused {
        /// The interface.
        interface: String,
        /// What was attempted.
        step: Step,
        /// The kernel's error number.
        errno: i32,
    },
    /// The interface does not carry Ethernet frames.
    NotEthernet {
        /// The interface.
        interface: String,
        /// Its hardware type (`ARPHRD_*`).
        kind: u16,
    },
    /// The configured ring cannot be.
    Geometry {
        /// The interface.
        interface: String,
        /// Why not.
        reason: &'static str,
    },
    /// The description that came with the sockets cannot be read.
    BadDescription,
}

impl OpenError {
    /// What the operator can do about it, in one sentence; empty when nobody knows.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        let (step, errno) = match self {
            Self::Refused { step, errno, .. } => (*step, *errno),
            Self::NotEthernet { .. } => {
                return "choose an Ethernet-like interface: physical, veth, bridge, bond, tap";
            }
            Self::Geometry { .. } => return "correct slot size and slot count of the port",
            Self::BadDescription => return "run supervisor and data process of the same version",
        };
        match (step, errno) {
            (Step::FindInterface, _) => {
                "check the name with `ip link`, in the network namespace of this process"
            }
            (Step::CreateSocket, libc::EPERM | libc::EACCES) => {
                "grant CAP_NET_RAW (setcap cap_net_raw+ep, AmbientCapabilities=CAP_NET_RAW, or root)"
            }
            (Step::CreateSocket, libc::EAFNOSUPPORT) => {
                "load the kernel module af_packet, or allow AF_PACKET in the seccomp or \
                 RestrictAddressFamilies= settings"
            }
            (_, libc::EMFILE | libc::ENFILE) => "raise the limit of open files (LimitNOFILE=)",
            (_, libc::EBUSY) => {
                "the socket has a ring already: open new sockets for each process that maps them"
            }
            (Step::MakeRing | Step::MapMemory, libc::ENOMEM | libc::EAGAIN) => {
                "free memory, or configure fewer or smaller slots"
            }
            (Step::VnetHeader | Step::IgnoreOutgoing | Step::RingVersion, libc::ENOPROTOOPT) => {
                "use Linux 4.20 or later, and hand over packet sockets only"
            }
            (Step::JoinFanout, libc::EINVAL) => {
                "bring the interface up first, and let all members of the group have the same \
                 interface and mode"
            }
            (Step::JoinFanout, libc::EALREADY | libc::EADDRINUSE | libc::ENOSPC) => {
                "choose another fanout group number, or close the old members of the group first"
            }
            (_, libc::ENODEV | libc::ENXIO) => "the interface has gone: create it again",
            (_, libc::EPERM) => {
                "allow the call in the seccomp or capability settings of the service"
            }
            _ => "",
        }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { interface, step, errno } => {
                let cause = io::Error::from_raw_os_error(*errno);
                write!(f, "{interface}: could not {}: {cause}", step.text())?;
            }
            Self::NotEthernet { interface, kind } => {
                write!(f, "{interface}: not an Ethernet interface (hardware type {kind})")?;
            }
            Self::Geometry { interface, reason } => write!(f, "{interface}: {reason}")?,
            Self::BadDescription => {
                f.write_str("the description of the sockets is not readable")?;
            }
        }
        match self.advice() {
            "" => Ok(()),
            advice => write!(f, "; {advice}"),
        }
    }
}

impl core::error::Error for OpenError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_interface_step_cause_and_cure() {
        let error = OpenError::Refused {
            interface: "eth7".into(),
            step: Step::CreateSocket,
            errno: libc::EPERM,
        };
        let text = error.to_string();
        for part in ["eth7", "create a packet socket", "os error 1", "CAP_NET_RAW"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
