//! ICMP echo.

use super::app::App;
use super::stack::Stack;
use core::net::IpAddr;
use core::time::Duration;
use smoltcp::iface::SocketHandle;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, Ipv6Address};

/// Sends echo requests once in a while and counts the replies.
#[derive(Debug)]
pub struct Ping {
    to: IpAddr,
    count: u16,
    socket: Option<SocketHandle>,
    sent: u16,
    replies: u16,
    next_ns: u64,
}

const IDENT: u16 = 0x4c56;
const PERIOD: Duration = Duration::from_millis(100);

impl Ping {
    /// So many requests, ten in a second.
    ///
    /// # Panics
    /// When the text is not an address.
    #[must_use]
    pub fn new(to: &str, count: u16) -> Self {
        let to = to.parse().unwrap_or_else(|_| panic!("{to:?} is not an address"));
        Self { to, count, socket: None, sent: 0, replies: 0, next_ns: 0 }
    }

    /// Replies received.
    #[must_use]
    pub const fn replies(&self) -> u16 {
        self.replies
    }

    /// All requests were sent.
    #[must_use]
    pub const fn sent_all(&self) -> bool {
        self.sent == self.count
    }

    fn request(&self, source: IpAddr) -> Vec<u8> {
        let caps = ChecksumCapabilities::default();
        let data = b"are you there?".as_slice();
        if let (IpAddr::V6(source), IpAddr::V6(to)) = (source, self.to) {
            let repr = Icmpv6Repr::EchoRequest { ident: IDENT, seq_no: self.sent, data };
            let mut bytes = vec![0; repr.buffer_len()];
            let (source, to): (Ipv6Address, Ipv6Address) = (source, to);
            repr.emit(&source, &to, &mut Icmpv6Packet::new_unchecked(&mut bytes[..]), &caps);
            return bytes;
        }
        let repr = Icmpv4Repr::EchoRequest { ident: IDENT, seq_no: self.sent, data };
        let mut bytes = vec![0; repr.buffer_len()];
        repr.emit(&mut Icmpv4Packet::new_unchecked(&mut bytes[..]), &caps);
        bytes
    }
}

impl App for Ping {
    fn poll(&mut self, now_ns: u64, stack: &mut Stack) {
        let source = stack.source_for(self.to);
        let handle = *self.socket.get_or_insert_with(|| stack.icmp_bind(IDENT));
        let to = IpAddress::from(self.to);
        while let Ok((_, from)) = stack.icmp(handle).recv() {
            self.replies += u16::from(from == to);
        }
        if self.sent < self.count && now_ns >= self.next_ns {
            let request = self.request(source);
            // A full socket is one more loss.
            let _ = stack.icmp(handle).send_slice(&request, to);
            self.sent += 1;
            self.next_ns = now_ns + PERIOD.as_nanos() as u64;
        }
    }

    fn wake_at(&self) -> Option<u64> {
        (self.sent < self.count).then_some(self.next_ns)
    }

    fn describe(&self) -> String {
        format!(
            "ping {}: {} replies to {} of {} requests",
            self.to, self.replies, self.sent, self.count
        )
    }
}
