//! The system calls of packet sockets that generator and bare ring need, each behind a safe function.
#![allow(unsafe_code, reason = "system calls; each block proves its own")]

use core::mem::MaybeUninit;
use core::ptr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn check(answer: libc::c_int) -> io::Result<libc::c_int> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

/// A packet socket, not bound: it receives nothing.
///
/// # Errors
/// Without `CAP_NET_RAW`.
pub fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed.
    let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the kernel has just made this descriptor, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Option values: plain data without pointers.
pub trait OptionValue: sealed::Sealed + Copy {}
impl OptionValue for i32 {}
impl OptionValue for libc::tpacket_req {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for i32 {}
    impl Sealed for libc::tpacket_req {}
}

/// Sets an option of the packet level.
///
/// # Errors
/// The kernel's.
pub fn set(fd: BorrowedFd<'_>, name: libc::c_int, value: &impl OptionValue) -> io::Result<()> {
    let len = size_of_val(value) as libc::socklen_t;
    let pointer = ptr::from_ref(value).cast();
    // SAFETY: pointer and length describe `value`, which the kernel only reads.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, name, pointer, len) })
        .map(drop)
}

/// Binds to an interface; `protocol` 0 receives nothing.
///
/// # Errors
/// The kernel's; there may be no such interface.
pub fn bind(fd: BorrowedFd<'_>, interface: &str, protocol: u16) -> io::Result<()> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: a string that ends with a zero byte.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        return Err(io::Error::last_os_error());
    }
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: protocol.to_be(),
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: pointer and length describe `address`, which the kernel only reads.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) }).map(drop)
}

/// Most frames of one [`Batch`].
pub const BATCH: usize = 64;

/// Room for one `sendmmsg` call.
pub struct Batch {
    parts: Box<[libc::iovec; BATCH]>,
    messages: Box<[libc::mmsghdr; BATCH]>,
}

impl Default for Batch {
    fn default() -> Self {
        let none = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        // SAFETY: integers and raw pointers: all zero bytes are a value.
        let message: libc::mmsghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        Self { parts: Box::new([none; BATCH]), messages: Box::new([message; BATCH]) }
    }
}

impl Batch {
    /// Sends frames, at most [`BATCH`], and returns how many the kernel took.
    ///
    /// # Errors
    /// The kernel's about the first frame.
    pub fn send<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        frames: impl Iterator<Item = &'a [u8]>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for (frame, (part, message)) in
            frames.zip(self.parts.iter_mut().zip(&mut self.messages[..]))
        {
            part.iov_base = frame.as_ptr().cast_mut().cast();
            part.iov_len = frame.len();
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the first `count` messages have each been pointed at one part just above, which
        // describes a slice that lives for `'a`, longer than this call; the kernel only reads it. All
        // other pointers in the messages are null. It writes `msg_len`, which `self` owns.
        let sent = check(unsafe {
            libc::sendmmsg(fd.as_raw_fd(), self.messages.as_mut_ptr(), count, flags as _)
        })?;
        Ok(usize::try_from(sent).unwrap_or(0))
    }
}

/// The ring of a socket in this process's memory.
pub struct RingMemory {
    base: *mut u8,
    len: usize,
}

impl RingMemory {
    /// Maps the ring, which has `len` bytes.
    ///
    /// # Errors
    /// The kernel's; a socket without a ring of this length has nothing to map.
    pub fn map(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_POPULATE);
        // SAFETY: the kernel chooses the address, so no existing memory is replaced.
        let base =
            unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd.as_raw_fd(), 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), len })
    }

    /// Address of the byte at `offset`.
    ///
    /// # Panics
    /// When it lies outside.
    #[must_use]
    pub fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "inside the ring");
        // SAFETY: inside of one mapping, as just checked.
        unsafe { self.base.add(offset) }
    }
}

impl Drop for RingMemory {
    fn drop(&mut self) {
        // SAFETY: exactly the range that `mmap` gave.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}
