//! Edits of a byte stream in flight: bytes inserted into or replaced in what a client sends, with every
//! number that counts bytes made to follow.
//!
//! A TCP sequence number counts bytes. When a director puts bytes into the client's stream (a PROXY
//! header), removes some or replaces them, all later numbers differ on the two sides:
//!
//! ```text
//!   client's stream   ···── at ┤ removed ├──────────···      seq  ↓        ↑ ack, SACK edges
//!   server's stream   ···── start ┤ inserted ├──────···
//! ```
//!
//! | kind of edit | in these terms |
//! |---|---|
//! | new initial sequence number | no edit, only a [base](EditList::with_base) |
//! | address option ([`toa`](crate::toa)) | none: options take no sequence numbers |
//! | PROXY header ([`proxy`](crate::proxy)) | [`StreamEdit`] at the first byte |
//! | other changes of the payload | [`StreamEdit`] anywhere |
//!
//! [`EditList`] is the arithmetic, [`inbound`] edits a client's segment, [`returning`] a server's
//! acknowledgement, [`quoted`] what an ICMP error quotes, [`splice`](fn@splice) changes a payload, [`own`]
//! builds segments of the director's own. Everything is a function of the edit and the segment, so a retransmission gets the same bytes at
//! the same numbers however the client cuts it.
//!
//! # What a session stores
//! For the one edit that a session may have: six bytes (see [`proxy::Stored`](crate::proxy::Stored),
//! which packs position, lengths and kind), from the moment the bytes have been sent first. Before that there is no edit in the list. The constant difference stays where it is, with the
//! [`Rewrite`](crate::Rewrite): a list of base zero works in numbers of the client,
//!
//! ```text
//!   inbound   edit::inbound, then Rewrite      (seq += base after the edit)
//!   return    Rewrite, then edit::returning    (ack -= base before the edit)
//! ```
//!
//! When the server has acknowledged the inserted bytes ([`EditList::settled`]) the edit folds into the
//! constant difference and the session can become plain: old segments and acknowledgements that arrive
//! later lie below what the server has, and below what the client knows, wherever they are mapped.
//!
//! # Known limit
//! The window that a server announces before it has acknowledged the inserted bytes reaches the client
//! as it is, so a client may send up to that many bytes too many. It repeats what the server refuses.

mod acks;
mod list;
pub mod own;
mod quoted;
mod segment;
mod splice;

pub use acks::returning;
pub use list::{Bias, EditList, EditListError, SegmentPlan, StreamEdit};
pub use quoted::quoted;
pub use segment::{behind, inbound, reset};
pub use splice::{EditError, Splice, splice};
