//! Fragments: which datagram one belongs to, where the datagram goes, and cutting one.
//!
//! Only the first fragment shows ports. A director translates it like any packet and remembers where
//! it went ([`FragmentMemory`]); later fragments follow, with addresses translated and nothing else
//! ([`AnyRewrite::apply_to`](crate::AnyRewrite::apply_to) does that for a later fragment). Nothing is
//! put together, so nothing of the size of a datagram is held; those that overtake their first one
//! wait as copies, in bounds. The transport checksum, which covers all fragments, is right at the end
//! because the first fragment's field moves by what the pseudo-header and the ports change.
//!
//! # How a director uses it
//! ```text
//!   let (key, piece) = FragmentKey::of(frame, &headers)?;
//!   worker = key.hash(seed) % workers            all fragments of a datagram to one of them
//!   headers.fragment == First:  look up / open the session, then
//!       memory.first(now, &key, piece, way)?     and, behind the first fragment itself,
//!       while memory.release(&key, |way, received, frame| … carry a copy …).is_some() {}
//!   headers.fragment == Later:
//!       match memory.later(now, &key, piece, frame, received)? { Go(way) => …, Held => absorb }
//!   between bursts: memory.expire(now, some)
//! ```
//! A first fragment may gain nothing (no address option): later offsets could not follow.

mod key;
mod memory;
mod split;

pub use key::{FragmentKey, Piece};
pub use memory::{FragmentMemory, FragmentSlot, HeldFrame, Later, Limits, Lost, Received, Refusal};
pub use split::{SplitError, SplitV4};
