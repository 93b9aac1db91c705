//! Opening a port: the part that needs `CAP_NET_RAW`, separate so that a supervisor can do it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lvs_core::addr::MacAddr;

use crate::config::{Interface, PortConfig, PortMeta};
use crate::error::{OpenError, Step};
use crate::sys::{self, Sys};

/// Socket buffer asked for on transmit; several trains must fit while the device is busy.
const SEND_BUFFER: i32 = 8 << 20;

/// The two sockets of a port and what is known about it. They receive nothing yet:
/// [`Rings::map`](crate::Rings::map) makes the ring, and needs no privilege for that.
///
/// A process without capabilities gets them from its supervisor: [`into_parts`](Self::into_parts)
/// there, [`from_parts`](Self::from_parts) here. A ring belongs to the process that mapped it; after
/// a restart the supervisor opens new sockets.
#[derive(Debug)]
pub struct PortSockets {
    pub(crate) rx: OwnedFd,
    pub(crate) tx: OwnedFd,
    pub(crate) meta: PortMeta,
}

/// Names interface and step of a refused call.
pub(crate) fn refused(interface: &str, step: Step) -> impl Fn(i32) -> OpenError {
    move |errno| OpenError::Refused { interface: interface.to_owned(), step, errno }
}

impl PortSockets {
    /// Opens the sockets of a port and reads what its interface is.
    ///
    /// # Errors
    /// [`OpenError`] says which step failed and what to do.
    pub fn open(config: &PortConfig) -> Result<Self, OpenError> {
        let given = config.interface.to_string();
        let requests = sys::request_socket().map_err(refused(&given, Step::FindInterface))?;
        let (index, name) = find(requests.as_fd(), &config.interface)
            .map_err(refused(&given, Step::FindInterface))?;
        config
            .geometry
            .blocks()
            .map_err(|reason| OpenError::Geometry { interface: name.clone(), reason })?;
        let meta = read(requests.as_fd(), index, name, config)?;
        let rx = sys::packet_socket().map_err(refused(&meta.name, Step::CreateSocket))?;
        let tx = sys::packet_socket().map_err(refused(&meta.name, Step::CreateSocket))?;
        // More than the system's limit is a privilege of the first network namespace; without it the
        // limit is what one gets, and both refusals are harmless.
        let forced = sys::set(tx.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER);
        let _ = forced
            .or_else(|_| sys::set(tx.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER));
        Ok(Self { rx, tx, meta })
    }

    /// What is known about the port.
    #[must_use]
    pub const fn meta(&self) -> &PortMeta {
        &self.meta
    }

    /// Receive socket, transmit socket and description, to be passed on.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, OwnedFd, PortMeta) {
        (self.rx, self.tx, self.meta)
    }

    /// Puts together what another process took apart. Wrong descriptors are found out when mapping.
    #[must_use]
    pub const fn from_parts(rx: OwnedFd, tx: OwnedFd, meta: PortMeta) -> Self {
        Self { rx, tx, meta }
    }
}

fn find(fd: BorrowedFd<'_>, interface: &Interface) -> Sys<(u32, String)> {
    match interface {
        Interface::Name(name) => Ok((sys::interface_index(fd, name)?, name.clone())),
        Interface::Index(index) => Ok((*index, sys::interface_name(fd, *index)?)),
    }
}

fn read(
    fd: BorrowedFd<'_>,
    index: u32,
    name: String,
    config: &PortConfig,
) -> Result<PortMeta, OpenError> {
    let failed = refused(&name, Step::ReadInterface);
    let (kind, mac) = sys::interface_address(fd, &name).map_err(&failed)?;
    let mtu = sys::interface_mtu(fd, &name).map_err(&failed)?;
    let link_up = sys::interface_running(fd, &name).map_err(failed)?;
    if kind != libc::ARPHRD_ETHER && kind != libc::ARPHRD_LOOPBACK {
        return Err(OpenError::NotEthernet { interface: name, kind });
    }
    Ok(PortMeta {
        name,
        index,
        mac: MacAddr(mac),
        mtu,
        link_up,
        geometry: config.geometry,
        promiscuous: config.promiscuous,
        fanout: config.fanout.clone(),
        cures: config.cures,
    })
}
