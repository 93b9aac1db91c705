//! Lists of sessions with a short time-out: one per class and state, oldest first.
//!
//! All sessions of a list have the same time-out and are moved to its end by every packet, so a list is
//! sorted by age and only its head has to be looked at. Links are slot + 1 in the cold records; 0 = none.

use super::layout::Cold;

/// Time-out classes a store tells apart.
pub(super) const CLASSES: usize = 64;
/// Kinds of state: 11 of TCP, one for UDP, one for ICMP, 4 of SCTP.
pub(super) const KINDS: usize = 17;

#[derive(Clone, Copy, Default)]
struct List {
    head: u32,
    tail: u32,
}

/// Which list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListId {
    pub(super) class: u8,
    pub(super) kind: u8,
}

impl ListId {
    fn index(self) -> usize {
        usize::from(self.class).wrapping_mul(KINDS).wrapping_add(usize::from(self.kind))
    }
}

pub(super) struct Lists {
    lists: [List; CLASSES * KINDS],
    /// One bit per list: not empty.
    busy: [u64; CLASSES * KINDS / 64],
}

impl Lists {
    pub(super) const fn new() -> Self {
        Self {
            lists: [List { head: 0, tail: 0 }; CLASSES * KINDS],
            busy: [0; CLASSES * KINDS / 64],
        }
    }

    fn mark(&mut self, index: usize, busy: bool) {
        if let Some(word) = self.busy.get_mut(index / 64) {
            let bit = 1u64 << (index % 64);
            *word = if busy { *word | bit } else { *word & !bit };
        }
    }

    /// Appends a slot that is in no list.
    pub(super) fn append(&mut self, id: ListId, slot: u32, cold: &mut [Cold]) {
        let index = id.index();
        let link = slot.wrapping_add(1);
        let Some(list) = self.lists.get_mut(index) else { return };
        let tail = core::mem::replace(&mut list.tail, link);
        if tail == 0 {
            list.head = link;
            self.mark(index, true);
        } else if let Some(record) = record(cold, tail) {
            record.next = link;
        }
        if let Some(record) = record(cold, link) {
            record.prev = tail;
            record.next = 0;
        }
    }

    /// Takes a slot out of the list that it is in.
    pub(super) fn unlink(&mut self, id: ListId, slot: u32, cold: &mut [Cold]) {
        let index = id.index();
        let Some(own) = record(cold, slot.wrapping_add(1)) else { return };
        let (next, prev) = (core::mem::take(&mut own.next), core::mem::take(&mut own.prev));
        if let Some(record) = record(cold, next) {
            record.prev = prev;
        }
        if let Some(record) = record(cold, prev) {
            record.next = next;
        }
        let Some(list) = self.lists.get_mut(index) else { return };
        if prev == 0 {
            list.head = next;
        }
        if next == 0 {
            list.tail = prev;
        }
        if list.head == 0 {
            self.mark(index, false);
        }
    }

    /// The oldest slot of a list.
    pub(super) fn oldest(&self, id: ListId) -> Option<u32> {
        self.lists.get(id.index())?.head.checked_sub(1)
    }

    /// The first list at or behind `from` that is not empty, as a number to continue from.
    pub(super) fn next_busy(&self, from: usize) -> Option<(usize, ListId)> {
        let mut at = from;
        loop {
            let word = *self.busy.get(at / 64)?;
            let rest = word >> (at % 64);
            if rest != 0 {
                let found = at.checked_add(rest.trailing_zeros() as usize)?;
                let (class, kind) = (found / KINDS, found % KINDS);
                return Some((
                    found,
                    ListId { class: u8::try_from(class).ok()?, kind: u8::try_from(kind).ok()? },
                ));
            }
            at = (at / 64).checked_add(1)?.checked_mul(64)?;
        }
    }
}

fn record(cold: &mut [Cold], link: u32) -> Option<&mut Cold> {
    cold.get_mut(link.checked_sub(1)? as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::vec;

    #[test]
    fn lists_agree_with_a_deque_over_random_moves() {
        let mut cold = vec![Cold::default(); 40];
        let mut lists = Lists::new();
        let ids = [ListId { class: 0, kind: 3 }, ListId { class: 63, kind: 11 }];
        let mut model = [VecDeque::new(), VecDeque::new()];
        let mut random = 7u32;
        for _ in 0..if cfg!(miri) { 500 } else { 50_000 } {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = (random >> 8) % 40;
            let which = usize::from(random >> 30 & 1 == 1);
            if let Some(home) = (0..2).find(|n| model[*n].contains(&slot)) {
                lists.unlink(ids[home], slot, &mut cold);
                model[home].retain(|s| *s != slot);
            } else {
                lists.append(ids[which], slot, &mut cold);
                model[which].push_back(slot);
            }
            for n in 0..2 {
                assert_eq!(lists.oldest(ids[n]), model[n].front().copied());
            }
            let busy: vec::Vec<_> =
                core::iter::successors(lists.next_busy(0), |(at, _)| lists.next_busy(at + 1))
                    .map(|(_, id)| id)
                    .collect();
            let wanted: vec::Vec<_> =
                (0..2).filter(|n| !model[*n].is_empty()).map(|n| ids[n]).collect();
            assert_eq!(busy, wanted);
        }
    }
}
