//! Messages that carry file descriptors between two processes (`SCM_RIGHTS`).

use crate::sys;
use core::mem::MaybeUninit;
use core::ptr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The most descriptors in one message. The kernel's own limit is 253.
pub const MAX_FDS: usize = 64;
/// Room for the control message: header, alignment and [`MAX_FDS`] descriptors.
const CONTROL_LEN: usize = 64 + MAX_FDS * size_of::<RawFd>();

/// The control buffer, aligned as `cmsghdr` must be.
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

/// One end of a connection that keeps message borders (`SOCK_SEQPACKET`).
///
/// Give the other end to a child as its standard input: `command.stdin(OwnedFd::from(end))`, and
/// take it there with [`Channel::from_stdin`].
#[derive(Debug)]
pub struct Channel {
    fd: OwnedFd,
}

/// One received message.
#[derive(Debug)]
pub struct Message {
    /// How many bytes of the buffer were filled; zero means that the other end is closed.
    pub len: usize,
    /// The descriptors that came along, close-on-exec set.
    pub fds: Vec<OwnedFd>,
}

impl Channel {
    /// Two connected ends, both close-on-exec.
    ///
    /// # Errors
    /// The kernel's, when no descriptor is free.
    pub fn pair() -> io::Result<(Self, Self)> {
        let mut fds: [RawFd; 2] = [-1; 2];
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        // SAFETY: the array has room for the two descriptors; on success both are new and nobody
        // else owns them.
        unsafe {
            sys::check(libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()))?;
            Ok((
                Self { fd: OwnedFd::from_raw_fd(fds[0]) },
                Self { fd: OwnedFd::from_raw_fd(fds[1]) },
            ))
        }
    }

    /// The end that a parent gave as standard input.
    ///
    /// # Errors
    /// The kernel's, when the descriptor cannot be duplicated.
    pub fn from_stdin() -> io::Result<Self> {
        Ok(Self { fd: io::stdin().as_fd().try_clone_to_owned()? })
    }

    /// Sends one message with descriptors; the receiver gets duplicates. `bytes` must not be empty,
    /// because an empty message looks like the end.
    ///
    /// # Errors
    /// `InvalidInput` for an empty message or more than [`MAX_FDS`] descriptors, else the kernel's
    /// (`BrokenPipe` when the other end is closed).
    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if bytes.is_empty() || fds.len() > MAX_FDS {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let payload = u32::try_from(size_of_val(raw.as_slice())).unwrap_or(0);
        let mut control = Control([0; CONTROL_LEN]);
        let mut iov =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        if !raw.is_empty() {
            message.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: CMSG_SPACE and CMSG_LEN are arithmetic. CMSG_FIRSTHDR gives the start of
            // `control`, which is aligned for cmsghdr and long enough for MAX_FDS descriptors
            // (checked above), so header and data lie inside it.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(payload) as usize;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(payload) as usize;
                let data = libc::CMSG_DATA(header);
                ptr::copy_nonoverlapping(raw.as_ptr().cast::<u8>(), data, payload as usize);
            }
        }
        loop {
            // SAFETY: `message` points at buffers that live through the call; sendmsg only reads
            // them. The descriptors are borrowed, so they are open.
            let sent = unsafe {
                libc::sendmsg(self.fd.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)
            };
            match sys::check_len(sent) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }

    /// Waits for one message.
    ///
    /// # Errors
    /// `InvalidData` when the message or its descriptors did not fit (they are closed then), else
    /// the kernel's.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Message> {
        let mut control = Control([0; CONTROL_LEN]);
        let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        // SAFETY: all-zero is a valid msghdr (null pointers, zero lengths).
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut iov;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = CONTROL_LEN;
        let len = loop {
            // SAFETY: the kernel writes at most the lengths given above into buffers that are that
            // long and that nobody else uses during the call.
            let got = unsafe {
                libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC)
            };
            match sys::check_len(got) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        let fds = take_fds(&message);
        if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "message did not fit"));
        }
        Ok(Message { len, fds })
    }
}

/// Takes ownership of every descriptor in a message that `recvmsg` has just filled.
fn take_fds(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the kernel wrote msg_control and msg_controllen, so the CMSG walk stays inside the
    // control buffer. Descriptors in it are new, open and ours alone; each is read once.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len.saturating_sub(libc::CMSG_LEN(0) as usize);
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                for i in 0..bytes / size_of::<RawFd>() {
                    fds.push(OwnedFd::from_raw_fd(ptr::read_unaligned(data.add(i))));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> Self {
        channel.fd
    }
}

impl From<OwnedFd> for Channel {
    /// For a descriptor that came out of another [`Channel`] or message.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}
