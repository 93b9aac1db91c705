//! Heap-free batch of packets: one contiguous array, so that a backend whose buffer is a transparent
//! pointer hands it to the driver as it is.
//!
//! One of the two modules of this crate that use `unsafe` (storage that is only partly filled).
//! Invariant of the whole file: entries `0..len` are initialised, entries `len..BURST` are not.
#![allow(unsafe_code, reason = "partly filled storage; the invariant above is the proof")]

use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

/// Most packets a backend moves in one call.
pub const BURST: usize = 64;

/// Up to [`BURST`] packets in order.
///
/// ```
/// use lvs_core::io::Burst;
/// let mut burst = Burst::new();
/// assert!(burst.push(7u8).is_ok() && burst.push(8).is_ok());
/// assert_eq!(&burst[..], &[7, 8]);
/// let mut seen = 0;
/// burst.drain_with(|byte| seen += u32::from(byte));
/// assert_eq!((seen, burst.len()), (15, 0));
/// ```
pub struct Burst<B> {
    len: usize,
    buf: [MaybeUninit<B>; BURST],
}

impl<B> Burst<B> {
    /// An empty burst.
    #[must_use]
    pub const fn new() -> Self {
        Self { len: 0, buf: [const { MaybeUninit::uninit() }; BURST] }
    }

    /// How many more fit.
    #[must_use]
    #[inline(always)]
    pub const fn room(&self) -> usize {
        BURST.saturating_sub(self.len)
    }

    /// Appends one.
    ///
    /// # Errors
    /// Gives the packet back when the burst is full.
    #[inline(always)]
    pub fn push(&mut self, packet: B) -> Result<(), B> {
        let Some(place) = self.buf.get_mut(self.len) else { return Err(packet) };
        place.write(packet);
        self.len += 1;
        Ok(())
    }

    /// Removes the last one.
    pub fn pop(&mut self) -> Option<B> {
        let last = self.len.checked_sub(1)?;
        let place = self.buf.get(last)?;
        self.len = last;
        // SAFETY: `last` was below the old `len`, so the entry is initialised; lowering `len` first
        // means nobody reads it again.
        Some(unsafe { place.assume_init_read() })
    }

    /// Drops all.
    pub fn clear(&mut self) {
        while self.pop().is_some() {}
    }

    /// Empties the burst in order. Packets not yet visited are dropped if `f` unwinds.
    #[inline(always)]
    pub fn drain_with(&mut self, mut f: impl FnMut(B)) {
        struct Rest<'a, B> {
            burst: &'a mut Burst<B>,
            next: usize,
            end: usize,
        }
        impl<B> Drop for Rest<'_, B> {
            fn drop(&mut self) {
                for place in self.burst.buf.iter_mut().take(self.end).skip(self.next) {
                    // SAFETY: entries `next..end` are initialised and not yet moved out; `len` is
                    // already zero, so the burst itself will not drop them.
                    unsafe { place.assume_init_drop() };
                }
            }
        }
        let end = core::mem::take(&mut self.len);
        let mut rest = Rest { burst: self, next: 0, end };
        while rest.next < rest.end {
            let Some(place) = rest.burst.buf.get(rest.next) else { break };
            rest.next += 1;
            // SAFETY: the entry was below the old `len`, and `next` has moved past it, so neither
            // this loop nor `Rest::drop` touches it again.
            f(unsafe { place.assume_init_read() });
        }
    }

    /// Moves all packets of another burst behind those of this one, in order; what does not fit stays there.
    pub fn append(&mut self, other: &mut Self) {
        if other.len > self.room() {
            let mut rest = Self::new();
            core::mem::swap(&mut rest, other);
            rest.drain_with(|packet| {
                if let Err(packet) = self.push(packet) {
                    // `other` is empty and has as many places as `rest` had packets.
                    let _ = other.push(packet);
                }
            });
            return;
        }
        let count = core::mem::take(&mut other.len);
        // SAFETY: `self.len + count <= BURST`, so the target lies inside `self.buf`; the first `count`
        // entries of `other` were initialised, and `other.len` is zero by now, so only one owner is left.
        unsafe {
            let to = self.buf.as_mut_ptr().add(self.len);
            core::ptr::copy_nonoverlapping(other.buf.as_ptr(), to, count);
        }
        self.len += count;
    }

    /// Driver side: the uninitialised tail, to be filled from its front and claimed with
    /// [`grow`](Self::grow).
    pub fn spare(&mut self) -> &mut [MaybeUninit<B>] {
        self.buf.get_mut(self.len..).unwrap_or_default()
    }

    /// Driver side: claims the first `n` entries of [`spare`](Self::spare).
    ///
    /// # Safety
    /// Those entries are initialised, and `n <= room()`.
    pub unsafe fn grow(&mut self, n: usize) {
        debug_assert!(n <= self.room(), "grow past the end of a burst");
        self.len += n;
    }

    /// Driver side: forgets the first `n` packets and closes the gap.
    ///
    /// # Safety
    /// Ownership of the first `n` packets has passed to the driver, and `n <= len()`.
    pub unsafe fn forget_front(&mut self, n: usize) {
        debug_assert!(n <= self.len, "forget more packets than there are");
        let base = self.buf.as_mut_ptr();
        // SAFETY: the caller promises `n <= len <= BURST`, so both ranges lie inside `buf`; `copy`
        // allows overlap; the moved-from tail is beyond the new `len`.
        unsafe { core::ptr::copy(base.add(n), base, self.len - n) };
        self.len -= n;
    }
}

impl<B> Default for Burst<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Deref for Burst<B> {
    type Target = [B];
    #[inline(always)]
    fn deref(&self) -> &[B] {
        // SAFETY: entries `0..len` are initialised and `MaybeUninit<B>` has the layout of `B`; the
        // slice borrows `self`.
        unsafe { core::slice::from_raw_parts(self.buf.as_ptr().cast(), self.len) }
    }
}

impl<B> DerefMut for Burst<B> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [B] {
        // SAFETY: as in `deref`; `&mut self` makes the borrow exclusive.
        unsafe { core::slice::from_raw_parts_mut(self.buf.as_mut_ptr().cast(), self.len) }
    }
}

impl<B> Drop for Burst<B> {
    fn drop(&mut self) {
        self.clear();
    }
}

impl<B: core::fmt::Debug> core::fmt::Debug for Burst<B> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use std::vec::Vec;

    #[test]
    fn every_packet_is_dropped_exactly_once() {
        let token = Rc::new(());
        let mut burst = Burst::new();
        while burst.push(Rc::clone(&token)).is_ok() {}
        assert_eq!((burst.len(), burst.room(), Rc::strong_count(&token)), (BURST, 0, BURST + 1));
        drop(burst.pop());
        // SAFETY: the two packets are read out, so their ownership has left the burst.
        let pair = unsafe { [core::ptr::read(&burst[0]), core::ptr::read(&burst[1])] };
        // SAFETY: as above.
        unsafe { burst.forget_front(2) };
        assert_eq!(burst.len(), BURST - 3);
        drop(pair);
        assert_eq!(Rc::strong_count(&token), BURST - 3 + 1);
        drop(burst);
        assert_eq!(Rc::strong_count(&token), 1);
    }

    #[test]
    fn a_panic_in_drain_with_leaks_and_doubles_nothing() {
        let token = Rc::new(());
        let mut burst = Burst::new();
        for _ in 0..10 {
            burst.push(Rc::clone(&token)).unwrap();
        }
        let mut left = 4;
        let outcome = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            burst.drain_with(|_packet| {
                left -= 1;
                assert!(left > 0, "stop here");
            });
        }));
        assert!(outcome.is_err());
        assert_eq!((burst.len(), Rc::strong_count(&token)), (0, 1));
    }

    #[test]
    fn append_moves_what_fits_and_leaves_the_rest_in_order() {
        let token = Rc::new(());
        let make = |numbers: core::ops::Range<usize>| {
            let mut burst = Burst::new();
            for number in numbers {
                assert!(burst.push((number, Rc::clone(&token))).is_ok());
            }
            burst
        };
        for (have, more) in [(0, 0), (0, BURST), (3, 5), (60, 4), (60, 5), (BURST, 7)] {
            let (mut a, mut b) = (make(0..have), make(have..have + more));
            a.append(&mut b);
            let numbers: Vec<usize> = a.iter().chain(b.iter()).map(|(number, _)| *number).collect();
            assert_eq!(numbers, (0..have + more).collect::<Vec<_>>());
            assert_eq!(a.len(), BURST.min(have + more));
        }
        assert_eq!(Rc::strong_count(&token), 1);
    }

    #[test]
    fn spare_and_grow_append_in_order() {
        let mut burst = Burst::new();
        burst.push(1).unwrap();
        burst.spare()[0].write(2);
        burst.spare()[1].write(3);
        // SAFETY: two entries were written.
        unsafe { burst.grow(2) };
        assert_eq!(&burst[..], &[1, 2, 3]);
    }
}
