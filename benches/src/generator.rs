//! Sends prepared frames when told to.
//!
//! It works between the measured passes, on the core of the forwarder: there its work and what the
//! kernel does on its behalf (over veth, all of the reception) is not counted, and the forwarder finds
//! the caches as they are when the kernel receives on its core, not as some other program left them
//! while the forwarder slept.

use crate::socket::{BATCH, Batch, bind, packet_socket};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Frames for the two interfaces of one forwarder, and the interfaces that they are sent on.
pub struct Source {
    /// Interface and its frames, sent in turn.
    pub sides: [(String, Vec<Vec<u8>>); 2],
}

struct Side {
    fd: OwnedFd,
    frames: Vec<Vec<u8>>,
    next: usize,
}

/// Sends for several forwarders.
pub struct Generator {
    sources: Vec<[Side; 2]>,
    batch: Batch,
}

impl Generator {
    /// Opens its sockets.
    ///
    /// # Errors
    /// The kernel's about the sockets.
    pub fn new(sources: Vec<Source>) -> io::Result<Self> {
        let open = |(interface, frames): (String, Vec<Vec<u8>>)| -> io::Result<Side> {
            let fd = packet_socket()?;
            bind(fd.as_fd(), &interface, 0)?;
            Ok(Side { fd, frames, next: 0 })
        };
        let sources = sources
            .into_iter()
            .map(|source| {
                let [left, right] = source.sides.map(open);
                Ok([left?, right?])
            })
            .collect::<io::Result<Vec<[Side; 2]>>>()?;
        Ok(Self { sources, batch: Batch::default() })
    }

    /// Sends `count` frames on each side of a source. When it returns the kernel has delivered them,
    /// unless it was so busy that it left that to a thread of its own.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&mut self, source: usize, count: usize) -> io::Result<()> {
        let mut sides = self.sources.get_mut(source).into_iter().flatten();
        sides.try_for_each(|side| side.send(&mut self.batch, count))
    }
}

impl Side {
    fn send(&mut self, batch: &mut Batch, count: usize) -> io::Result<()> {
        let mut left = count;
        while left > 0 {
            let burst = left.min(BATCH);
            let frames = self.frames.iter().cycle().skip(self.next).take(burst);
            let sent = batch.send(self.fd.as_fd(), frames.map(Vec::as_slice))?;
            self.next = (self.next + sent) % self.frames.len();
            left -= sent;
        }
        Ok(())
    }
}
