//! What `std` does not offer of TCP sockets: the SYN that opened a connection and the TOA option in it,
//! connections from a chosen address, longer queues of listeners.

use crate::sys;
use core::ffi::c_int;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `TCP_SAVE_SYN` of `linux/tcp.h`.
const TCP_SAVE_SYN: c_int = 27;
/// `TCP_SAVED_SYN` of `linux/tcp.h`.
const TCP_SAVED_SYN: c_int = 28;
/// The longest IPv6 header chain plus TCP header that the kernel saves fits easily.
const MAX_SYN: usize = 512;

/// Makes the kernel keep the SYN of every connection that `listener` accepts from now on.
/// No privilege needed; Linux 4.2.
///
/// # Errors
/// The kernel's, when it does not know the option.
pub fn save_syn(listener: &TcpListener) -> io::Result<()> {
    switch_on(listener, libc::IPPROTO_TCP, TCP_SAVE_SYN)
}

fn switch_on(socket: &impl AsRawFd, level: c_int, option: c_int) -> io::Result<()> {
    let on: c_int = 1;
    // SAFETY: the option value is one c_int that lives through the call; the descriptor is borrowed.
    sys::check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(4),
        )
    })
    .map(drop)
}

/// Lets so many connections wait for [`TcpListener::accept`]; `std` asks for 128. The system's own limit
/// (`net.core.somaxconn`) holds too.
///
/// # Errors
/// The kernel's.
pub fn set_backlog(listener: &TcpListener, waiting: u16) -> io::Result<()> {
    // SAFETY: an integer and a borrowed descriptor.
    sys::check(unsafe { libc::listen(listener.as_raw_fd(), c_int::from(waiting)) }).map(drop)
}

/// Connects from an address of this host. The port is chosen when the target is known, so that each
/// address has all ports for each target.
///
/// # Errors
/// The kernel's; `WouldBlock` when there is no answer within `patience`.
pub fn connect_from(
    source: Ipv4Addr,
    target: SocketAddrV4,
    patience: Duration,
) -> io::Result<TcpStream> {
    // SAFETY: integers; the descriptor is new and ours.
    let socket = unsafe {
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        OwnedFd::from_raw_fd(sys::check(libc::socket(libc::AF_INET, kind, 0))?)
    };
    switch_on(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    let (from, to) = (sockaddr(SocketAddrV4::new(source, 0)), sockaddr(target));
    let len = libc::socklen_t::try_from(size_of::<libc::sockaddr_in>()).unwrap_or(16);
    // SAFETY: the address is a sockaddr_in of that length that lives through the call.
    sys::check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const from).cast(), len) })?;
    let stream = TcpStream::from(socket);
    // Linux holds `connect` to it as well (tcp_v4_connect, sock_sndtimeo).
    stream.set_write_timeout(Some(patience))?;
    // SAFETY: as for bind.
    let done = unsafe { libc::connect(stream.as_raw_fd(), (&raw const to).cast(), len) };
    match sys::check(done) {
        Ok(_) => Ok(stream),
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {
            Err(io::ErrorKind::WouldBlock.into())
        }
        Err(e) => Err(e),
    }
}

fn sockaddr(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(2),
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: address.ip().to_bits().to_be() },
        sin_zero: [0; 8],
    }
}

/// The saved SYN of an accepted connection, from its IP header on. One-shot: the kernel forgets it
/// when it has been read, and then (or without [`save_syn`]) the answer is empty.
///
/// # Errors
/// The kernel's, when it does not know the option.
pub fn saved_syn(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; MAX_SYN];
    let mut len = libc::socklen_t::try_from(MAX_SYN).unwrap_or(0);
    // SAFETY: the kernel writes at most `len` bytes into the buffer, which is that long.
    sys::check(unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_SAVED_SYN,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    })?;
    bytes.truncate(usize::try_from(len).unwrap_or(0));
    Ok(bytes)
}

/// The client's address and port in the TCP option `kind` (TOA: 254) of a saved SYN: 8 bytes long
/// for IPv4 (kind, length, port, address), 20 for IPv6.
///
/// Returns `None` where there is no such option or the bytes are not an IP packet with TCP.
///
/// ```
/// let mut syn = [0u8; 48];
/// syn[0] = 0x45; // IPv4, 20-byte header
/// syn[9] = 6; // TCP
/// syn[20 + 12] = 7 << 4; // TCP header of 28 bytes
/// syn[40..].copy_from_slice(&[254, 8, 0x9c, 0x40, 10, 0, 0, 2]);
/// let client = lvs_os::tcp::client_from_toa(&syn, 254);
/// assert_eq!(client, Some("10.0.0.2:40000".parse().unwrap()));
/// ```
#[must_use]
pub fn client_from_toa(syn: &[u8], kind: u8) -> Option<SocketAddr> {
    let tcp = match syn.first()? >> 4 {
        4 => {
            let header = usize::from(syn.first()? & 0x0f) * 4;
            (*syn.get(9)? == 6).then(|| syn.get(header..)).flatten()?
        }
        // The kernel saves no more than a fixed header for the IPv6 SYNs that the lab sends;
        // extension headers are not walked.
        6 => (*syn.get(6)? == 6).then(|| syn.get(40..)).flatten()?,
        _ => return None,
    };
    let options = tcp.get(20..usize::from(tcp.get(12)? >> 4) * 4)?;
    toa_in_options(options, kind)
}

fn toa_in_options(mut options: &[u8], kind: u8) -> Option<SocketAddr> {
    loop {
        match *options.first()? {
            0 => return None,
            1 => options = options.get(1..)?,
            found => {
                let len = usize::from(*options.get(1)?);
                let body = options.get(2..len)?;
                if found == kind {
                    return decode(body);
                }
                options = options.get(len..)?;
            }
        }
    }
}

fn decode(body: &[u8]) -> Option<SocketAddr> {
    let (port, address) = body.split_first_chunk::<2>()?;
    let ip = if let Ok(v4) = <[u8; 4]>::try_from(address) {
        IpAddr::V4(Ipv4Addr::from(v4))
    } else {
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?))
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}
