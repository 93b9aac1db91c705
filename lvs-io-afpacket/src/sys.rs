//! Every system call of the crate, each behind a function that is safe to call.
//!
//! Errors are error numbers. Nothing here decides anything.
#![allow(unsafe_code, reason = "system calls; each block proves its own")]

use core::ffi::{c_int, c_void};
use core::mem::{MaybeUninit, size_of};
use core::ptr::{self, NonNull};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use lvs_core::io::BURST;

use crate::steer::Op;

/// The kernel's answer when it is not an error number.
pub(crate) type Sys<T> = Result<T, i32>;

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

fn check(answer: c_int) -> Sys<c_int> {
    if answer < 0 { Err(errno()) } else { Ok(answer) }
}

/// Plain old data: no padding that matters, no pointers, every bit pattern is a value.
///
/// # Safety
/// The implementing type is exactly that.
pub(crate) unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for c_int {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: two integers.
unsafe impl Plain for libc::tpacket_stats {}
// SAFETY: four integers.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: integers and a byte array, without padding (4 + 2 + 2 + 8 bytes).
unsafe impl Plain for libc::packet_mreq {}

/// A packet socket that receives nothing until it is bound to a protocol.
pub(crate) fn packet_socket() -> Sys<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Any descriptor that can carry an interface request.
pub(crate) fn request_socket() -> Sys<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd =
        check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn set<T: Plain>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> Sys<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    let answer =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, ptr::from_ref(value).cast(), len) };
    check(answer).map(|_| ())
}

pub(crate) fn get<T: Plain>(fd: BorrowedFd<'_>, level: c_int, name: c_int, zero: T) -> Sys<T> {
    let mut value = zero;
    let mut len = size_of::<T>() as libc::socklen_t;
    let place = ptr::from_mut(&mut value).cast();
    // SAFETY: pointer and length describe `value`; the kernel writes at most `len` bytes, and any
    // bytes make a `Plain` value.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place, &raw mut len) })?;
    Ok(value)
}

/// Loads the program of a fanout group.
pub(crate) fn set_fanout_program(fd: BorrowedFd<'_>, program: &[Op]) -> Sys<()> {
    let mut ops: Vec<libc::sock_filter> = program
        .iter()
        .map(|op| libc::sock_filter { code: op.code, jt: op.jt, jf: op.jf, k: op.k })
        .collect();
    let len = u16::try_from(ops.len()).map_err(|_| libc::E2BIG)?;
    let fprog = libc::sock_fprog { len, filter: ops.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: `fprog` points to `len` instructions in `ops`, which outlives the call; the kernel
    // copies both.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_FANOUT_DATA,
            ptr::from_ref(&fprog).cast(),
            size,
        )
    };
    check(answer).map(|_| ())
}

/// Binds a packet socket to an interface; `protocol` 0 receives nothing.
pub(crate) fn bind(fd: BorrowedFd<'_>, index: u32, protocol: u16) -> Sys<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: c_int::try_from(index).map_err(|_| libc::ENODEV)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: pointer and length describe `address`, which the kernel only reads.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(&address).cast(), len) }).map(|_| ())
}

/// The interface request of this name, all else zero.
fn request(name: &str) -> Sys<libc::ifreq> {
    // SAFETY: integers, byte arrays and raw pointers: all zero bytes are a value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(libc::ENODEV);
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    Ok(request)
}

fn ask(fd: BorrowedFd<'_>, what: libc::c_ulong, request: &mut libc::ifreq) -> Sys<()> {
    // SAFETY: all requests that this file makes (`SIOCGIF*`) read and write one `ifreq`, and
    // `request` is one.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), what as _, ptr::from_mut(request)) }).map(|_| ())
}

/// Index of the interface of this name.
pub(crate) fn interface_index(fd: BorrowedFd<'_>, name: &str) -> Sys<u32> {
    let mut request = request(name)?;
    ask(fd, libc::SIOCGIFINDEX, &mut request)?;
    // SAFETY: `SIOCGIFINDEX` has filled this member of the union.
    u32::try_from(unsafe { request.ifr_ifru.ifru_ifindex }).map_err(|_| libc::ENODEV)
}

/// Name of the interface of this index.
pub(crate) fn interface_name(fd: BorrowedFd<'_>, index: u32) -> Sys<String> {
    let mut request = request("?")?;
    request.ifr_ifru.ifru_ifindex = c_int::try_from(index).map_err(|_| libc::ENODEV)?;
    ask(fd, libc::SIOCGIFNAME, &mut request)?;
    let bytes = request.ifr_name.iter().map(|c| c.cast_unsigned()).take_while(|b| *b != 0);
    Ok(String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned())
}

/// Hardware type (`ARPHRD_*`) and address of an interface.
pub(crate) fn interface_address(fd: BorrowedFd<'_>, name: &str) -> Sys<(u16, [u8; 6])> {
    let mut request = request(name)?;
    ask(fd, libc::SIOCGIFHWADDR, &mut request)?;
    // SAFETY: `SIOCGIFHWADDR` has filled this member of the union.
    let address = unsafe { request.ifr_ifru.ifru_hwaddr };
    let mut mac = [0; 6];
    for (place, byte) in mac.iter_mut().zip(address.sa_data) {
        *place = byte.cast_unsigned();
    }
    Ok((address.sa_family, mac))
}

/// MTU of an interface; 65535 also stands for more.
pub(crate) fn interface_mtu(fd: BorrowedFd<'_>, name: &str) -> Sys<u16> {
    let mut request = request(name)?;
    ask(fd, libc::SIOCGIFMTU, &mut request)?;
    // SAFETY: `SIOCGIFMTU` has filled this member of the union.
    Ok(u16::try_from(unsafe { request.ifr_ifru.ifru_mtu }).unwrap_or(u16::MAX))
}

/// Whether an interface is up and has carrier.
pub(crate) fn interface_running(fd: BorrowedFd<'_>, name: &str) -> Sys<bool> {
    let mut request = request(name)?;
    ask(fd, libc::SIOCGIFFLAGS, &mut request)?;
    // SAFETY: `SIOCGIFFLAGS` has filled this member of the union.
    let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags });
    let both = libc::IFF_UP | libc::IFF_RUNNING;
    Ok(flags & both == both)
}

/// Memory from `mmap`, zeroed, unmapped on drop. Hands out its address only: whoever makes
/// references from it proves that they are exclusive.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread, and `Mapping` itself never
// dereferences the address.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps the ring of a packet socket. The kernel refuses any other length than that of the ring.
    pub(crate) fn of_ring(fd: BorrowedFd<'_>, len: usize) -> Sys<Self> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd())
    }

    /// Memory of its own.
    pub(crate) fn private(len: usize) -> Sys<Self> {
        // Miri, which checks the users of this memory, knows no populating.
        let populate = if cfg!(miri) { 0 } else { libc::MAP_POPULATE };
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | populate, -1)
    }

    fn map(len: usize, flags: c_int, fd: c_int) -> Sys<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses the address, so no existing memory is replaced.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, 0) };
        if base == libc::MAP_FAILED {
            return Err(errno());
        }
        NonNull::new(base.cast()).map(|base| Self { base, len }).ok_or(libc::ENOMEM)
    }

    pub(crate) const fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `mmap` gave; the owner of the mapping outlives everything
        // that was derived from its address.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// The parts of a frame, in order; empty parts are left out.
pub(crate) type Parts<'a> = [&'a [u8]; 3];

/// Room for one `sendmmsg` call, kept to spare its set-up.
pub(crate) struct SendBatch {
    parts: Box<[[libc::iovec; 3]; BURST]>,
    messages: Box<[libc::mmsghdr; BURST]>,
}

impl SendBatch {
    pub(crate) fn new() -> Self {
        let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: integers and raw pointers: all zero bytes are a value.
        let message: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        Self { parts: Box::new([[none; 3]; BURST]), messages: Box::new([message; BURST]) }
    }

    /// Sends frames, at most [`BURST`], and returns how many the kernel took; an error concerns the
    /// first frame.
    pub(crate) fn send<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        frames: impl Iterator<Item = Parts<'a>>,
    ) -> Sys<usize> {
        let mut count: u32 = 0;
        let places = self.parts.iter_mut().zip(self.messages.iter_mut());
        for (frame, (parts, message)) in frames.zip(places) {
            let mut used = 0;
            for part in frame {
                if let Some(place) = parts.get_mut(used).filter(|_| !part.is_empty()) {
                    place.iov_base = part.as_ptr().cast_mut().cast::<c_void>();
                    place.iov_len = part.len();
                    used += 1;
                }
            }
            message.msg_hdr.msg_iov = parts.as_mut_ptr();
            message.msg_hdr.msg_iovlen = used as _;
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the first `count` messages have each been pointed at their `msg_iovlen` parts just
        // above; all other pointers in them are null. The parts describe slices that live for `'a`,
        // that is, longer than this call; the kernel only reads them. It writes `msg_len` into the
        // messages, which `self` owns.
        let sent = check(unsafe {
            libc::sendmmsg(fd.as_raw_fd(), self.messages.as_mut_ptr(), count, flags as _)
        })?;
        Ok(usize::try_from(sent).unwrap_or(0))
    }
}

/// Waits until one of the sockets can be read or has an error, or the time is over; tells whether
/// one has.
pub(crate) fn wait(polls: &mut [libc::pollfd], timeout_us: u32) -> Sys<bool> {
    let timeout = libc::timespec {
        tv_sec: (timeout_us / 1_000_000).into(),
        tv_nsec: (timeout_us % 1_000_000 * 1000).into(),
    };
    // SAFETY: pointer and count describe `polls`; the time is only read; no signal mask is given.
    let answer = unsafe {
        libc::ppoll(polls.as_mut_ptr(), polls.len() as _, ptr::from_ref(&timeout), ptr::null())
    };
    match check(answer) {
        Ok(ready) => Ok(ready > 0),
        Err(libc::EINTR) => Ok(false),
        Err(errno) => Err(errno),
    }
}
