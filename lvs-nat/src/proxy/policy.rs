//! A header that the client has sent itself: to believe it, to translate it, or to put ours in its place.
//!
//! Decided on the first segment with payload, once for the life of the connection. The default trusts
//! nobody: our header takes the place of the client's. What cannot be decided there, because the client
//! has cut its header into several segments, is data by default: the server then reads our header first
//! and the client's pieces as what they are, bytes of a stranger.

use super::decode::{Decoded, Recognised, decode};
use super::encode::{Header, ProxyError, convert, reencode};
use super::{Version, stored};
use core::net::SocketAddr;
use lvs_core::flow::L4Proto;

/// What becomes of a header that a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientHeader {
    /// Ours takes its place, without its values.
    #[default]
    Replace,
    /// Ours takes its place; the values of a version 2 header stay, with a new CRC32c.
    ReplaceKeepingValues,
    /// It is believed. In the other version it is translated, without values.
    Convert,
    /// It is believed and stays as it is, whatever its version.
    Keep,
}

/// What becomes of the start of a header whose end is not in the first segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Undecided {
    /// It is data; ours goes in front.
    #[default]
    Data,
    /// The segment is dropped. A client that repeats it with more in it gets through.
    Drop,
}

/// The policy of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Which version its servers read.
    pub version: Version,
    /// A header of the client.
    pub client: ClientHeader,
    /// The start of one.
    pub undecided: Undecided,
}

/// What to do with the first segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Nothing: the client's header stays, and no edit is made.
    Leave,
    /// Our header goes in front of the payload.
    Insert,
    /// Our header takes the place of the client's, of this many bytes.
    Replace(u16),
    /// The header made from the client's takes its place.
    Rebuild(Rebuild<'a>),
    /// The segment is dropped; nothing is known of the connection yet.
    Drop,
}

/// A header that is made from the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuild<'a> {
    /// What the client has sent.
    pub sent: Decoded<'a>,
    how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Convert(Version),
    KeepValues,
}

impl Rebuild<'_> {
    /// Writes it into `out` and returns its length.
    ///
    /// # Errors
    /// [`ProxyError`]; what `out` holds is then undefined.
    pub fn write(
        &self,
        out: &mut [u8],
        proto: L4Proto,
        client: &SocketAddr,
        virt: &SocketAddr,
    ) -> Result<usize, ProxyError> {
        match self.how {
            How::Convert(version) => convert(out, version, &self.sent),
            How::KeepValues => reencode(out, proto, client, virt, &self.sent),
        }
    }

    /// What a session stores about it.
    #[must_use]
    pub const fn form(&self) -> stored::Form {
        match self.how {
            How::Convert(Version::V1) => stored::Form::ConvertV1,
            How::Convert(Version::V2) => stored::Form::ConvertV2,
            How::KeepValues => stored::Form::KeepValues,
        }
    }
}

/// Decides by the payload of the first segment; empty for a FIN without data.
#[must_use]
pub fn decide<'a>(payload: &'a [u8], policy: &Policy) -> Decision<'a> {
    let sent = match decode(payload) {
        Recognised::Header(sent) if sent.len <= stored::MAX_REMOVED => sent,
        Recognised::Partial if policy.undecided == Undecided::Drop => return Decision::Drop,
        // Longer than a session can remember, cut, or broken: nothing that we believe.
        _ => return Decision::Insert,
    };
    let removed = sent.len as u16;
    match policy.client {
        ClientHeader::Keep => Decision::Leave,
        ClientHeader::Convert if sent.version == policy.version => Decision::Leave,
        ClientHeader::Convert => {
            let how = How::Convert(policy.version);
            // What the other version cannot say (a UDP client) is not believed.
            match convert(&mut [0; 107], policy.version, &sent) {
                Ok(_) => Decision::Rebuild(Rebuild { sent, how }),
                Err(_) => Decision::Replace(removed),
            }
        }
        ClientHeader::ReplaceKeepingValues
            if policy.version == Version::V2 && !sent.tlvs.is_empty() =>
        {
            Decision::Rebuild(Rebuild { sent, how: How::KeepValues })
        }
        ClientHeader::Replace | ClientHeader::ReplaceKeepingValues => Decision::Replace(removed),
    }
}

/// The form in which a session stores one of our own headers.
#[must_use]
pub const fn own_form(version: Version) -> stored::Form {
    match version {
        Version::V1 => stored::Form::OwnV1,
        Version::V2 => stored::Form::OwnV2,
    }
}

/// Our own header for a service.
///
/// # Errors
/// [`ProxyError::NotTcp`] for version 1 of a UDP service.
pub fn own_header(
    policy: &Policy,
    proto: L4Proto,
    client: &SocketAddr,
    virt: &SocketAddr,
) -> Result<Header, ProxyError> {
    Header::new(policy.version, proto, client, virt)
}
