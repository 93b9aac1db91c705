//! What a session keeps of its edit: six bytes, a word of 4 and one of 2, beside the client's initial
//! sequence number that it has anyway.
//!
//! ```text
//!   word (4)   inserted bytes (16) │ position behind the SYN (16)
//!   half (2)   form (4) │ removed bytes (12)              zero: no edit
//! ```
//!
//! The bytes of one of our own headers follow from the session's addresses, so they are made again for
//! each retransmission. Those of a header made from the client's follow from the client's bytes, which a
//! retransmission brings again; one that brings only a part of them cannot be edited and is dropped
//! ([`Again::Incomplete`]), until the client repeats all of it.

use super::Version;
use super::decode::{Recognised, decode};
use super::encode::{Header, ProxyError, convert, reencode};
use crate::edit::StreamEdit;
use core::net::SocketAddr;
use lvs_core::flow::L4Proto;

/// Longest header of a client that can be taken out: twelve bits. Longer ones are data.
pub const MAX_REMOVED: usize = 0x0fff;

/// Which header was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Form {
    /// Our own, version 1.
    OwnV1 = 1,
    /// Our own, version 2.
    OwnV2 = 2,
    /// The client's, translated to version 1.
    ConvertV1 = 3,
    /// The client's, translated to version 2.
    ConvertV2 = 4,
    /// Version 2 with our addresses and the client's values.
    KeepValues = 5,
}

/// The edit of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stored {
    /// The edit, in numbers of the client.
    pub edit: StreamEdit,
    /// What was put in.
    pub form: Form,
}

/// The header again, for a retransmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// This many bytes were written.
    Written(usize),
    /// The segment does not bring the client's header as a whole.
    Incomplete,
}

impl Stored {
    /// The six bytes, for a client whose SYN had the number `isn`. `None` when the edit lies more than
    /// 64 KiB behind the SYN or removes more than [`MAX_REMOVED`] bytes.
    #[must_use]
    pub fn pack(&self, isn: u32) -> Option<(u32, u16)> {
        let offset = u16::try_from(self.edit.at.wrapping_sub(isn).wrapping_sub(1)).ok()?;
        if usize::from(self.edit.removed) > MAX_REMOVED {
            return None;
        }
        let word = u32::from(self.edit.inserted) << 16 | u32::from(offset);
        Some((word, (self.form as u16) << 12 | self.edit.removed))
    }

    /// From the six bytes; `None` when there is no edit.
    #[must_use]
    pub const fn unpack(isn: u32, (word, half): (u32, u16)) -> Option<Self> {
        let form = match half >> 12 {
            1 => Form::OwnV1,
            2 => Form::OwnV2,
            3 => Form::ConvertV1,
            4 => Form::ConvertV2,
            5 => Form::KeepValues,
            _ => return None,
        };
        let edit = StreamEdit {
            at: isn.wrapping_add(1).wrapping_add(word & 0xffff),
            removed: half & 0x0fff,
            inserted: (word >> 16) as u16,
        };
        Some(Self { edit, form })
    }

    /// Writes the header once more. `payload` is that of a segment whose first byte of payload has
    /// sequence number `seq`; own headers do not need it.
    ///
    /// # Errors
    /// [`ProxyError`], as when it was written first.
    pub fn again(
        &self,
        out: &mut [u8],
        (seq, payload): (u32, &[u8]),
        proto: L4Proto,
        client: &SocketAddr,
        virt: &SocketAddr,
    ) -> Result<Again, ProxyError> {
        let own = |out: &mut [u8], version| {
            let header = Header::new(version, proto, client, virt)?;
            let place = out.get_mut(..header.len()).ok_or(ProxyError::TooLong)?;
            place.iter_mut().zip(header.as_bytes()).for_each(|(to, from)| *to = *from);
            Ok(Again::Written(header.len()))
        };
        let sent = match self.form {
            Form::OwnV1 => return own(out, Version::V1),
            Form::OwnV2 => return own(out, Version::V2),
            _ => self.sent(seq, payload).map(decode),
        };
        let Some(Recognised::Header(sent)) = sent else { return Ok(Again::Incomplete) };
        if sent.len != usize::from(self.edit.removed) {
            return Ok(Again::Incomplete);
        }
        let written = match self.form {
            Form::ConvertV1 => convert(out, Version::V1, &sent),
            Form::ConvertV2 => convert(out, Version::V2, &sent),
            _ => reencode(out, proto, client, virt, &sent),
        };
        written.map(Again::Written)
    }

    /// The client's header in a segment, if it is all there.
    fn sent<'a>(&self, seq: u32, payload: &'a [u8]) -> Option<&'a [u8]> {
        let at = usize::try_from(self.edit.at.wrapping_sub(seq)).ok()?;
        payload.get(at..)?.get(..usize::from(self.edit.removed))
    }
}
