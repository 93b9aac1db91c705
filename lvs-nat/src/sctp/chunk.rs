//! The chunks of a packet, and what they mean to a session.

use super::HEADER_LEN;

/// Chunk types (RFC 9260 section 3.2).
pub mod kind {
    /// Payload.
    pub const DATA: u8 = 0;
    /// Start of an association.
    pub const INIT: u8 = 1;
    /// Answer to it, with a cookie.
    pub const INIT_ACK: u8 = 2;
    /// End without agreement.
    pub const ABORT: u8 = 6;
    /// Wish to end.
    pub const SHUTDOWN: u8 = 7;
    /// Agreement to end.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// The cookie comes back.
    pub const COOKIE_ECHO: u8 = 10;
    /// The cookie is accepted.
    pub const COOKIE_ACK: u8 = 11;
    /// The end.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// One chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chunk<'a> {
    /// Its type ([`kind`]).
    pub kind: u8,
    /// Its flags; bit 0 of ABORT and SHUTDOWN COMPLETE says that the tag is reflected.
    pub flags: u8,
    /// Its value, without padding.
    pub value: &'a [u8],
}

/// The chunks in order, from the bytes behind the common header. Ends at the first malformed one, after
/// which [`Chunks::is_sound`] is false.
#[derive(Clone, Copy, Debug)]
pub struct Chunks<'a> {
    rest: &'a [u8],
    sound: bool,
}

impl<'a> Chunks<'a> {
    /// Of a packet that starts with the common header.
    #[must_use]
    pub fn new(packet: &'a [u8]) -> Self {
        Self {
            rest: packet.get(HEADER_LEN..).unwrap_or_default(),
            sound: packet.len() >= HEADER_LEN,
        }
    }

    /// Whether all that was read so far is in order.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.sound
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let rest = core::mem::take(&mut self.rest);
        let chunk = chunk_of(rest);
        self.sound = chunk.is_some();
        let (chunk, behind) = chunk?;
        self.rest = behind;
        Some(chunk)
    }
}

fn chunk_of(bytes: &[u8]) -> Option<(Chunk<'_>, &[u8])> {
    let ([kind, flags, l0, l1], rest) = bytes.split_first_chunk::<4>()?;
    let len = usize::from(u16::from_be_bytes([*l0, *l1]));
    let value = rest.get(..len.checked_sub(4)?)?;
    // Padding to four bytes is not counted; the last chunk may go without.
    let padded = value.len().checked_add(3)? & !3;
    Some((Chunk { kind: *kind, flags: *flags, value }, rest.get(padded..).unwrap_or_default()))
}

/// What a packet means to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// INIT with the sender's tag, never zero.
    Init {
        /// Initiate tag.
        tag: u32,
    },
    /// INIT-ACK with the sender's tag, never zero.
    InitAck {
        /// Initiate tag.
        tag: u32,
    },
    /// The cookie comes back, perhaps with data.
    CookieEcho,
    /// The cookie is accepted, perhaps with data.
    CookieAck,
    /// Anything of an open association.
    Other,
    /// One side wishes to end.
    Shutdown,
    /// The other agrees.
    ShutdownAck,
    /// The end; whether the tag is reflected.
    ShutdownComplete {
        /// The T bit.
        reflected: bool,
    },
    /// The end at once; whether the tag is reflected.
    Abort {
        /// The T bit.
        reflected: bool,
    },
}

/// Chunks that are looked at in one packet. An ABORT behind so many is not one that an end would send.
const MOST_CHUNKS: usize = 64;

impl Event {
    /// Of a packet that starts with the common header, `None` when it is malformed: INIT, INIT-ACK and
    /// SHUTDOWN COMPLETE have to be alone (RFC 9260 section 6.10), tags of a start are not zero.
    ///
    /// `data` may end before the packet does, if not `whole`: a last chunk that is cut is left out.
    #[must_use]
    pub fn of(data: &[u8], whole: bool) -> Option<Self> {
        let mut chunks = Chunks::new(data);
        let (mut found, mut count) = (None, 0usize);
        for chunk in chunks.by_ref().take(MOST_CHUNKS) {
            count = count.saturating_add(1);
            let event = Self::of_chunk(&chunk)?;
            found = Some(found.map_or(event, |found| Self::stronger(found, event)));
        }
        if !chunks.is_sound() && (whole || data.len() < HEADER_LEN) {
            return None;
        }
        match found {
            None => (!whole).then_some(Self::Other),
            Some(Self::Init { .. } | Self::InitAck { .. } | Self::ShutdownComplete { .. })
                if count > 1 =>
            {
                None
            }
            found => found,
        }
    }

    fn of_chunk(chunk: &Chunk<'_>) -> Option<Self> {
        let reflected = chunk.flags & 1 == 1;
        Some(match chunk.kind {
            kind::INIT => Self::Init { tag: initiate_tag(chunk)? },
            kind::INIT_ACK => Self::InitAck { tag: initiate_tag(chunk)? },
            kind::ABORT => Self::Abort { reflected },
            kind::SHUTDOWN => Self::Shutdown,
            kind::SHUTDOWN_ACK => Self::ShutdownAck,
            kind::COOKIE_ECHO => Self::CookieEcho,
            kind::COOKIE_ACK => Self::CookieAck,
            kind::SHUTDOWN_COMPLETE => Self::ShutdownComplete { reflected },
            _ => Self::Other,
        })
    }

    /// Of two in one packet the one that decides: ABORT, then what has to stand alone, then the first
    /// control chunk, then data.
    const fn stronger(a: Self, b: Self) -> Self {
        match (a, b) {
            (Self::Abort { .. }, _) => a,
            (_, Self::Abort { .. }) => b,
            (_, Self::Init { .. } | Self::InitAck { .. } | Self::ShutdownComplete { .. })
            | (Self::Other, _) => b,
            _ => a,
        }
    }

    /// Whether an INIT or INIT-ACK announces addresses besides the one it comes from: parameters 5
    /// (IPv4) and 6 (IPv6) of RFC 9260 section 3.3.2, and 11 (a host name).
    #[must_use]
    pub fn several_addresses(packet: &[u8]) -> bool {
        let start = |chunk: &Chunk<'_>| matches!(chunk.kind, kind::INIT | kind::INIT_ACK);
        let Some(chunk) = Chunks::new(packet).next().filter(start) else { return false };
        let mut rest = chunk.value.get(16..).unwrap_or_default();
        while let Some(([k0, k1, l0, l1], _)) = rest.split_first_chunk::<4>() {
            if matches!(u16::from_be_bytes([*k0, *k1]), 5 | 6 | 11) {
                return true;
            }
            let len = usize::from(u16::from_be_bytes([*l0, *l1])).max(4);
            rest = rest.get(len.saturating_add(3) & !3..).unwrap_or_default();
        }
        false
    }
}

/// The tag in an INIT or INIT-ACK of full length (16 bytes of fixed fields).
fn initiate_tag(chunk: &Chunk<'_>) -> Option<u32> {
    let [a, b, c, d, ..] = *chunk.value.first_chunk::<16>()?;
    Some(u32::from_be_bytes([a, b, c, d])).filter(|tag| *tag != 0)
}
