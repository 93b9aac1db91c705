//! Free slots in first-in first-out order, one ring per local address and one for all other sessions.
//!
//! The order makes the time between two uses of one local port as long as it can be. Allocating the
//! slot *is* allocating the port.

/// One ring: a part of the common ring memory.
#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    base: u32,
    size: u32,
    head: u32,
    len: u32,
}

pub(super) struct FreeSlots<'m> {
    cells: &'m mut [u32],
    per_local: u32,
    locals: u32,
    rings: &'m mut [RingState],
}

/// Head and length of a ring, in caller-lent memory.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
)]
#[repr(C)]
pub(super) struct RingState {
    head: u32,
    len: u32,
}

/// Which ring a slot belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// Slots of the local address with this number.
    Local(u16),
    /// Slots without a local port.
    General,
}

impl<'m> FreeSlots<'m> {
    /// All slots free: `locals` rings of `per_local` slots, then one ring with the rest. Each ring starts
    /// at an offset made from `seed`, so that a restart does not reuse the same ports at once.
    pub(super) fn new(
        cells: &'m mut [u32],
        rings: &'m mut [RingState],
        locals: u16,
        per_local: u32,
        seed: u64,
    ) -> Self {
        for (slot, cell) in (0u32..).zip(cells.iter_mut()) {
            *cell = slot;
        }
        let free = Self { cells, per_local, locals: u32::from(locals), rings };
        for number in 0..=u32::from(locals) {
            let ring = free.bounds(number);
            let mixed = seed.wrapping_add(u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let head = (mixed >> 32).checked_rem(u64::from(ring.size)).unwrap_or(0);
            if let Some(state) = free.rings.get_mut(number as usize) {
                *state = RingState { head: u32::try_from(head).unwrap_or(0), len: ring.size };
            }
        }
        free
    }

    fn bounds(&self, number: u32) -> Ring {
        let base = number.saturating_mul(self.per_local);
        let total = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        let size = if number < self.locals { self.per_local } else { total.saturating_sub(base) };
        let state = self.rings.get(number as usize).copied().unwrap_or_default();
        Ring { base, size, head: state.head, len: state.len }
    }

    fn number(&self, group: Group) -> u32 {
        match group {
            Group::Local(local) => u32::from(local).min(self.locals),
            Group::General => self.locals,
        }
    }

    /// Slots of a local address.
    #[inline(always)]
    pub(super) const fn per_local(&self) -> u32 {
        self.per_local
    }

    /// First slot of a group.
    pub(super) fn base(&self, group: Group) -> u32 {
        self.number(group).saturating_mul(self.per_local)
    }

    /// The group of a slot.
    pub(super) fn group_of(&self, slot: u32) -> Group {
        match slot.checked_div(self.per_local) {
            Some(local) if local < self.locals => {
                u16::try_from(local).map_or(Group::General, Group::Local)
            }
            _ => Group::General,
        }
    }

    /// How many are free.
    pub(super) fn len(&self, group: Group) -> u32 {
        self.bounds(self.number(group)).len
    }

    /// Takes the slot that has been free longest.
    pub(super) fn pop(&mut self, group: Group) -> Option<u32> {
        if let Group::Local(local) = group
            && u32::from(local) >= self.locals
        {
            return None;
        }
        let number = self.number(group);
        let ring = self.bounds(number);
        if ring.len == 0 {
            return None;
        }
        let slot = *self.cells.get(ring.base.checked_add(ring.head)? as usize)?;
        let next = ring.head.wrapping_add(1);
        *self.rings.get_mut(number as usize)? = RingState {
            head: if next >= ring.size { 0 } else { next },
            len: ring.len.saturating_sub(1),
        };
        Some(slot)
    }

    /// [`pop`](Self::pop) for a local address: the slot, and its number within the address.
    #[inline]
    pub(super) fn pop_local(&mut self, local: u16) -> Option<(u32, u32)> {
        let number = u32::from(local);
        if number >= self.locals {
            return None;
        }
        let base = number.wrapping_mul(self.per_local);
        let slot = self.pop_from(number, base, self.per_local)?;
        Some((slot, slot.wrapping_sub(base)))
    }

    /// [`pop`](Self::pop) for the sessions without a local port.
    #[inline]
    pub(super) fn pop_general(&mut self) -> Option<u32> {
        let base = self.base(Group::General);
        let total = u32::try_from(self.cells.len()).unwrap_or(u32::MAX);
        self.pop_from(self.locals, base, total.saturating_sub(base))
    }

    #[inline]
    fn pop_from(&mut self, number: u32, base: u32, size: u32) -> Option<u32> {
        let state = self.rings.get_mut(number as usize)?;
        let len = state.len.checked_sub(1)?;
        let slot = *self.cells.get(base.wrapping_add(state.head) as usize)?;
        let next = state.head.wrapping_add(1);
        *state = RingState { head: if next >= size { 0 } else { next }, len };
        Some(slot)
    }

    /// The slot that the pop after next will take, if it is not past the end of the ring's memory.
    #[inline]
    pub(super) fn soon(&self, local: Option<u16>) -> Option<u32> {
        let number = local.map_or(self.locals, u32::from);
        let head = self.rings.get(number as usize)?.head;
        let at = number.wrapping_mul(self.per_local).wrapping_add(head).wrapping_add(1);
        self.cells.get(at as usize).copied()
    }

    /// Gives a slot back; it will be the last to be taken again.
    pub(super) fn push(&mut self, slot: u32) {
        let number = self.number(self.group_of(slot));
        let ring = self.bounds(number);
        if ring.len >= ring.size {
            debug_assert!(false, "slot {slot} was free already");
            return;
        }
        let end = ring.head.wrapping_add(ring.len);
        let at = if end >= ring.size { end.wrapping_sub(ring.size) } else { end };
        if let Some(cell) = self.cells.get_mut(ring.base.wrapping_add(at) as usize) {
            *cell = slot;
        }
        if let Some(state) = self.rings.get_mut(number as usize) {
            state.len = ring.len.wrapping_add(1);
        }
    }

    /// Puts a slot back where it was taken from: it will be the first to be taken again. For an open
    /// that failed, so that nothing has changed.
    pub(super) fn unpop(&mut self, slot: u32) {
        let number = self.number(self.group_of(slot));
        let ring = self.bounds(number);
        if ring.len >= ring.size {
            return;
        }
        let head = ring.head.checked_sub(1).unwrap_or(ring.size.saturating_sub(1));
        if let Some(cell) = self.cells.get_mut(ring.base.wrapping_add(head) as usize) {
            *cell = slot;
        }
        if let Some(state) = self.rings.get_mut(number as usize) {
            *state = RingState { head, len: ring.len.wrapping_add(1) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::vec;

    #[test]
    fn every_slot_is_given_once_and_comes_back_last() {
        let (mut cells, mut rings) = (vec![0; 25], vec![RingState::default(); 3]);
        let mut free = FreeSlots::new(&mut cells, &mut rings, 2, 10, 99);
        for (group, range) in
            [(Group::Local(0), 0..10), (Group::Local(1), 10..20), (Group::General, 20..25)]
        {
            let first = free.pop(group).unwrap();
            free.push(first);
            let all: vec::Vec<u32> = core::iter::from_fn(|| free.pop(group)).collect();
            assert_eq!(all.last(), Some(&first));
            assert_eq!(all.iter().copied().collect::<BTreeSet<_>>(), range.clone().collect());
            assert!(all.iter().all(|slot| free.group_of(*slot) == group));
            for slot in all {
                free.push(slot);
            }
        }
        assert_eq!(free.pop(Group::Local(2)), None);
    }

    #[test]
    fn a_slot_put_back_after_a_failed_open_is_next_again() {
        let (mut cells, mut rings) = (vec![0; 4], vec![RingState::default(); 1]);
        let mut free = FreeSlots::new(&mut cells, &mut rings, 0, 0, 3);
        for _ in 0..9 {
            let slot = free.pop(Group::General).unwrap();
            free.unpop(slot);
            assert_eq!(free.pop(Group::General), Some(slot));
            free.push(slot);
            assert_eq!(free.len(Group::General), 4);
        }
    }
}
