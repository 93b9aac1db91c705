//! Which bits of the local port choose the entry of the indirection table, and how to solve for them.

/// The split of a port's low bits: some choose the entry, the others are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PortBits {
    /// Bits that choose the entry.
    chosen: u16,
    /// For each bit of an index: the chosen bits that contribute exactly that bit.
    solve: [u16; 16],
    /// Places of the free bits below the highest chosen one, and above it up to the common block.
    free: [u8; 16],
    free_count: u8,
}

/// The port chooses fewer bits than an index has: this many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deficient(pub(super) u8);

/// A combination of port bits, and what it contributes.
#[derive(Clone, Copy, Default)]
struct Row {
    port: u16,
    index: u16,
}

impl PortBits {
    /// Chooses the lowest port bits whose columns are independent: `need` of them.
    pub(super) fn new(columns: &[u16; 16], need: u32) -> Result<Self, Deficient> {
        // `rows[bit]` has that bit of the index as its highest one.
        let mut rows = [Row::default(); 16];
        let (mut chosen, mut have) = (0u16, 0u32);
        for (bit, column) in columns.iter().enumerate() {
            if have == need {
                break;
            }
            let left = reduce(&rows, Row { port: 1 << bit, index: *column });
            let Some(top) = left.index.checked_ilog2() else { continue };
            if let Some(place) = rows.get_mut(top as usize) {
                *place = left;
                chosen |= 1 << bit;
                have = have.wrapping_add(1);
            }
        }
        if have < need {
            return Err(Deficient(have as u8));
        }
        let mut solve = [0; 16];
        for (bit, place) in solve.iter_mut().enumerate().take(need as usize) {
            // Adding rows until nothing is left names the bits that contribute this one.
            *place = reduce(&rows, Row { port: 0, index: 1 << bit }).port;
        }
        Ok(Self { chosen, solve, free: [0; 16], free_count: 0 })
    }

    /// Low bits of the port up to the highest chosen one: ports come in blocks of `2^block_bits`.
    pub(super) const fn block_bits(&self) -> u32 {
        u16::BITS - self.chosen.leading_zeros()
    }

    /// Fixes the block, which may be larger than [`block_bits`](Self::block_bits).
    pub(super) fn within(mut self, block_bits: u32) -> Self {
        self.free_count = 0;
        for bit in (0..block_bits.min(16)).filter(|bit| self.chosen >> bit & 1 == 0) {
            if let Some(place) = self.free.get_mut(usize::from(self.free_count)) {
                *place = bit as u8;
                self.free_count = self.free_count.wrapping_add(1);
            }
        }
        self
    }

    fn free(&self) -> impl Iterator<Item = u8> + '_ {
        self.free.iter().copied().take(self.free_count.into())
    }

    /// The free bits of a port, pushed together.
    #[inline]
    pub(super) fn gather(&self, port: u16) -> u32 {
        let mut gathered = 0;
        for (to, from) in self.free().enumerate() {
            gathered |= u32::from(port >> (from & 15) & 1) << (to & 31);
        }
        gathered
    }

    /// The inverse of [`gather`](Self::gather): a port with these free bits and no others.
    pub(super) fn scatter(&self, gathered: u32) -> u16 {
        let mut port = 0;
        for (from, to) in self.free().enumerate() {
            port |= ((gathered >> (from & 31) & 1) as u16) << (to & 15);
        }
        port
    }

    /// The chosen bits that contribute exactly `index`.
    pub(super) fn solve(&self, index: u16) -> u16 {
        let mut port = 0;
        for (bit, part) in self.solve.iter().enumerate() {
            port ^= part & 0u16.wrapping_sub(index >> (bit & 15) & 1);
        }
        port
    }
}

/// Adds rows until the highest bits of the index that rows have are gone.
fn reduce(rows: &[Row; 16], mut row: Row) -> Row {
    for (top, other) in rows.iter().enumerate().rev() {
        if row.index >> (top & 15) & 1 == 1 && other.index != 0 {
            row.index ^= other.index;
            row.port ^= other.port;
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contribution(columns: &[u16; 16], port: u16) -> u16 {
        (0..16).filter(|bit| port >> bit & 1 == 1).fold(0, |sum, bit| sum ^ columns[bit])
    }

    #[test]
    fn columns_that_repeat_are_passed_over_and_too_few_are_refused() {
        let mut columns = [0; 16];
        (columns[0], columns[1], columns[2], columns[5]) = (1, 1, 3, 4);
        let bits = PortBits::new(&columns, 3).unwrap();
        assert_eq!((bits.chosen, bits.block_bits()), (0b10_0101, 6));
        assert_eq!(bits.within(6).free().collect::<std::vec::Vec<_>>(), [1, 3, 4]);
        assert_eq!(PortBits::new(&columns, 4), Err(Deficient(3)));
        assert_eq!(PortBits::new(&[0; 16], 0).unwrap().block_bits(), 0);
    }

    proptest! {
        #[test]
        fn every_index_is_solved_and_free_bits_come_back(
            columns in any::<[u16; 16]>(),
            need in 0u32..=9,
            free in any::<u16>(),
        ) {
            let columns = columns.map(|column| column & ((1 << need) - 1));
            let Ok(bits) = PortBits::new(&columns, need) else { return Ok(()) };
            let bits = bits.within(bits.block_bits().max(10));
            for index in 0..1 << need {
                let port = bits.solve(index);
                prop_assert_eq!(contribution(&columns, port), index);
                prop_assert_eq!(port & !bits.chosen, 0);
            }
            let free = u32::from(free) & ((1 << bits.free_count) - 1);
            prop_assert_eq!(bits.gather(bits.scatter(free)), free);
            prop_assert_eq!(bits.scatter(free) & bits.chosen, 0);
        }
    }
}
