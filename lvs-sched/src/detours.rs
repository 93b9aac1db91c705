//! Where places of a table lead while their own servers may not be used, as far as it was asked.
//!
//! Everything is forgotten at once, by a number: blocks of places carry the number under which they were
//! entered, and are emptied when somebody enters them under another one.

use alloc::vec;
use alloc::vec::Vec;

/// Places that share a number.
const BLOCK: usize = 64;
/// Not asked yet; no server has this index.
const UNKNOWN: u16 = u16::MAX;

#[derive(Default)]
pub(crate) struct Detours {
    servers: Vec<u16>,
    /// The number of each block.
    entered: Vec<u32>,
    /// The present number; blocks start with 0, which it never is.
    present: u32,
}

impl Detours {
    /// Nothing known of so many places.
    pub(crate) fn new(places: usize) -> Self {
        Self {
            servers: vec![UNKNOWN; places],
            entered: vec![0; places.div_ceil(BLOCK)],
            present: 1,
        }
    }

    /// Where a place leads.
    #[inline(always)]
    pub(crate) fn known(&self, place: u32) -> Option<usize> {
        let place = place as usize;
        let fresh = self.entered.get(place / BLOCK) == Some(&self.present);
        let server = self.servers.get(place).filter(|server| fresh && **server != UNKNOWN)?;
        Some(usize::from(*server))
    }

    /// Remembers where a place leads.
    pub(crate) fn enter(&mut self, place: u32, server: usize) {
        let (block, place) = (place as usize / BLOCK, place as usize % BLOCK);
        let Some(servers) = self.servers.chunks_mut(BLOCK).nth(block) else { return };
        if let Some(entered) = self.entered.get_mut(block)
            && core::mem::replace(entered, self.present) != self.present
        {
            servers.fill(UNKNOWN);
        }
        if let (Some(known), Ok(server)) = (servers.get_mut(place), u16::try_from(server)) {
            *known = server;
        }
    }

    /// Forgets all.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.present = self.present.wrapping_add(1);
        if self.present == 0 {
            self.entered.fill(0);
            self.present = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_entered_is_known_until_all_is_forgotten() {
        let mut detours = Detours::new(130);
        for (place, server) in [(0, 5), (63, 6), (64, 7), (129, 65_534)] {
            assert_eq!(detours.known(place), None);
            detours.enter(place, server);
            assert_eq!(detours.known(place), Some(server));
        }
        assert_eq!([1, 130, u32::MAX].map(|place| detours.known(place)), [None; 3]);
        detours.enter(130, 1);
        detours.forget();
        detours.enter(1, 9);
        assert_eq!(
            [0, 1, 63, 64, 129].map(|p| detours.known(p)),
            [None, Some(9), None, None, None]
        );
    }

    #[test]
    fn numbers_that_come_round_do_not_bring_back_what_was_forgotten() {
        let mut detours = Detours::new(200);
        detours.enter(3, 4);
        detours.present = u32::MAX;
        detours.enter(100, 5);
        detours.forget();
        assert_eq!(detours.present, 1);
        assert_eq!([detours.known(3), detours.known(100)], [None, None]);
    }
}
