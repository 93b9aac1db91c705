//! Raw IPv4 sockets: whole packets of one protocol in, whole packets out. They need `CAP_NET_RAW`.

use crate::sys;
use core::ffi::c_int;
use std::io;
use std::net::UdpSocket;
use std::os::fd::{FromRawFd, OwnedFd};

/// Takes packets in whose addresses and ports are theirs already: `IPPROTO_RAW` of `linux/in.h`.
pub const ANY_HEADER: u8 = 255;

/// A raw socket. What it receives are the packets of that IP protocol for this host, from their IP header on; what is
/// sent is a payload, or with [`ANY_HEADER`] a whole packet that goes where [`UdpSocket::connect`] says. The type is that
/// of `std` whose calls fit; its ports mean nothing.
///
/// # Errors
/// The kernel's, without the capability above all.
pub fn ipv4(protocol: u8) -> io::Result<UdpSocket> {
    // SAFETY: integers; the descriptor is new and ours.
    let socket = unsafe {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        OwnedFd::from_raw_fd(sys::check(libc::socket(libc::AF_INET, kind, c_int::from(protocol)))?)
    };
    Ok(UdpSocket::from(socket))
}
