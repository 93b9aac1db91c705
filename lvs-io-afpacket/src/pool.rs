//! Buffers for packets that the director makes itself: a fixed number, mapped at start, handed out
//! and taken back without the heap.

use core::cell::Cell;

use crate::slot::{FRAME_START, Place, Slot};
use crate::sys::{Mapping, Sys};

/// End of the list of free buffers.
const NONE: u32 = u32::MAX;

/// The buffers. See the [module](self).
#[derive(Debug)]
pub(crate) struct Pool {
    places: Box<[Place]>,
    /// First free buffer; each names the next.
    free: Cell<u32>,
    /// Owns the memory of `places`; fields drop in order, so it goes last.
    _memory: Mapping,
}

impl Pool {
    /// Maps `count` buffers that each take a frame of `max_frame` bytes and some tailroom.
    pub(crate) fn new(count: u32, max_frame: u32) -> Sys<Self> {
        let size = (FRAME_START + max_frame + 64).next_multiple_of(64);
        let count = count.clamp(1, 1 << 20);
        let memory = Mapping::private(size as usize * count as usize)?;
        let places = (0..count)
            .map(|i| {
                let next = if i + 1 < count { i + 1 } else { NONE };
                place(&memory, i as usize * size as usize, size, next)
            })
            .collect();
        Ok(Self { places, free: Cell::new(0), _memory: memory })
    }

    /// A packet of `len` bytes; `None` when all buffers are in use or `len` is too long for one.
    pub(crate) fn take(&self, len: usize) -> Option<Slot<'_>> {
        let place = self.places.get(self.free.get() as usize)?;
        let slot = place.fresh(len, self)?;
        self.free.set(place.next.get());
        Some(slot)
    }

    /// Takes a buffer back; called when its packet is gone.
    pub(crate) fn give_back(&self, place: &Place) {
        let first: *const Place = self.places.as_ptr();
        let number = (core::ptr::from_ref(place).addr() - first.addr()) / size_of::<Place>();
        place.next.set(self.free.get());
        self.free.set(number as u32);
    }
}

/// Describes `size` bytes at `offset` of a private mapping.
#[allow(unsafe_code, reason = "see the proof inside")]
pub(crate) fn place(memory: &Mapping, offset: usize, size: u32, next: u32) -> Place {
    assert!(offset + size as usize <= memory.len(), "a buffer lies inside its mapping");
    // SAFETY: checked above to lie inside the mapping, which `Pool` keeps as long as the place;
    // `Pool::new` calls this once for each multiple of `size`, which is a multiple of 64 and larger
    // than `FRAME_START`.
    unsafe { Place::new(memory.base().add(offset), size, next) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lvs_core::io::PacketBuf;

    #[test]
    fn every_buffer_is_handed_out_once_and_comes_back() {
        let pool = Pool::new(5, 1514).unwrap();
        for _ in 0..3 {
            let mut taken: Vec<_> = (0..5).map(|_| pool.take(1514).unwrap()).collect();
            assert!(pool.take(1).is_none(), "the pool is bounded");
            let starts: std::collections::BTreeSet<_> =
                taken.iter().map(|s| s.data().as_ptr().addr()).collect();
            assert_eq!(starts.len(), 5);
            for (i, slot) in taken.iter_mut().enumerate() {
                slot.data_mut().fill(i as u8);
            }
            for (i, slot) in taken.iter().enumerate() {
                assert!(slot.data().iter().all(|b| *b == i as u8), "buffers overlap");
            }
            taken.swap(1, 3);
        }
        assert!(pool.take(4000).is_none(), "longer than a buffer");
        assert!(pool.take(60).is_some());
    }
}
