//! Maglev hashing with large tables, for directors that share an address: each chooses the same server
//! for a flow, and a server that comes or goes moves hardly anybody else's flows.
//!
//! After Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016),
//! section 3.4, with a prime number of places, 65 537 or 655 373. Added to it: weights (the k-th turn of a
//! server of weight w comes at time (k - 1/2) / w), an order of servers by address, so that the order of the
//! configuration does not count, and a hash of our own ([`steady`]) with published vectors. The table
//! depends on addresses, ports and weights alone, never on what was before.
//!
//! Weight 0 takes a server out of the table. A server that is overloaded keeps its places; each of them draws
//! other places, one after the other, so its flows spread by weight and go back when it recovers. After
//! [`DRAWS`] draws the next server of the list that may be used is taken. What was drawn is remembered until
//! somebody may be used again or no more.
//!
//! `maglev` hashes addresses, ports and protocol; `maglev-source` the client's address alone. Each worker
//! has a table of its own: 260 KiB, or 2.6 MiB for `maglev-large`, `maglev-source-large`.
//! With a hundred places for each server, shares are met within 1 % or so; the large table is for
//! services of more than 650 servers, or with weights far apart.

use crate::detours::Detours;
use crate::members::{Member, in_order};
use crate::ready::Ready;
use crate::steady;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use lvs_core::flow::WireTuple;
use lvs_core::sched::{Scheduler, SchedulerArgs, SchedulerDef, ServerLoad};

/// Places of the usual table, a prime.
pub const PLACES: u32 = 65_537;
/// Places of the large table, a prime.
pub const PLACES_LARGE: u32 = 655_373;
/// How many other places are drawn for one whose server may not be used.
pub const DRAWS: u32 = 32;

/// Servers by place.
///
/// ```
/// use lvs_core::{addr::RealAddr, id::ServerId, sched::{ServerLoad, Weight}};
/// use lvs_sched::maglev::Table;
///
/// let server = |n: u8| ServerLoad {
///     id: ServerId(n.into()),
///     addr: RealAddr::new([10, 1, 0, n].into(), 80),
///     weight: Weight(1),
///     overloaded: false,
///     active: 0,
///     inactive: 0,
/// };
/// let table = Table::new(65_537, &[server(1), server(2)]);
/// let of_first = table.places().iter().filter(|at| **at == 0).count();
/// assert_eq!(of_first, 32_769); // half of a prime, rounded
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    places: Vec<u16>,
}

impl Table {
    /// The table of some servers; empty when none has a weight. `places` must be a prime above 1, or
    /// servers do not reach all places.
    #[must_use]
    pub fn new(places: u32, servers: &[ServerLoad]) -> Self {
        let members = in_order(servers);
        if members.is_empty() || places < 2 {
            return Self::default();
        }
        Self { places: Filling::new(places, &members).run(&members) }
    }

    /// The index of the server of each place.
    #[must_use]
    pub fn places(&self) -> &[u16] {
        &self.places
    }

    /// The server of a place; nobody in an empty table.
    #[inline(always)]
    fn at(&self, place: u32) -> Option<usize> {
        self.places.get(place as usize).map(|at| usize::from(*at))
    }
}

/// A server while the table is filled.
struct Turn {
    place: u32,
    skip: u32,
    /// How many turns it has had.
    taken: u64,
}

/// Turns in the order of their time. A calendar: day d lists the members whose next turn falls on it. No
/// member has two turns on one day, so each stands in one list at a time.
struct Filling {
    table: Vec<u16>,
    /// One bit for each place.
    taken: Vec<u64>,
    size: u32,
    turns: Vec<Turn>,
    /// Length of a day: time between two turns of the heaviest member.
    day: u64,
    /// First member of each day's list; `END` = none.
    days: Vec<u32>,
    /// The next member in the same list.
    next: Vec<u32>,
}

const END: u32 = u32::MAX;

/// When the k-th turn of a member comes: (2k - 1) / 2 weight in units of 2^-40, cut off. Less than 2^61.
fn time(turn: u64, weight: u16) -> u64 {
    let odd = turn.saturating_mul(2).saturating_sub(1);
    (odd << 39).checked_div(u64::from(weight)).unwrap_or(u64::MAX)
}

impl Filling {
    fn new(size: u32, members: &[Member]) -> Self {
        let turn = |member: &Member| {
            let hash = |seed| steady::hash(seed, &member.id);
            Turn {
                place: steady::scaled(hash(steady::PLACE), size),
                skip: steady::scaled(hash(steady::SKIP), size.saturating_sub(1)).saturating_add(1),
                taken: 0,
            }
        };
        let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(1);
        // As many days as the heaviest alone would need, and one for each that starts.
        let days = (size as usize).saturating_add(members.len()).saturating_add(2);
        Self {
            table: vec![0; size as usize],
            taken: vec![0; (size as usize).div_ceil(64)],
            size,
            turns: members.iter().map(turn).collect(),
            day: (1u64 << 40).checked_div(u64::from(heaviest)).unwrap_or(1),
            days: vec![END; days],
            next: vec![END; members.len()],
        }
    }

    /// Enters a member's next turn.
    fn enter(&mut self, number: u32, weight: u16) {
        let Some(turn) = self.turns.get(number as usize) else { return };
        let day = time(turn.taken.saturating_add(1), weight).checked_div(self.day).unwrap_or(0);
        // What lies behind the last day comes after the table is full.
        let Some(first) = self.days.get_mut(usize::try_from(day).unwrap_or(usize::MAX)) else {
            return;
        };
        if let Some(next) = self.next.get_mut(number as usize) {
            *next = core::mem::replace(first, number);
        }
    }

    fn run(mut self, members: &[Member]) -> Vec<u16> {
        for (number, member) in (0u32..).zip(members) {
            self.enter(number, member.weight);
        }
        let mut free = self.size;
        let mut today: Vec<(u64, u32)> = Vec::new();
        for day in 0..self.days.len() {
            self.list(day, members, &mut today);
            for (_, number) in &today {
                let Some(member) = members.get(*number as usize) else { continue };
                self.take_next(*number, member.at);
                free = free.saturating_sub(1);
                if free == 0 {
                    return self.table;
                }
                self.enter(*number, member.weight);
            }
        }
        self.table
    }

    /// The turns of a day, by time, of equals by order of members.
    fn list(&self, day: usize, members: &[Member], today: &mut Vec<(u64, u32)>) {
        today.clear();
        let mut number = self.days.get(day).copied().unwrap_or(END);
        while let (Some(turn), Some(member)) =
            (self.turns.get(number as usize), members.get(number as usize))
        {
            today.push((time(turn.taken.saturating_add(1), member.weight), number));
            number = self.next.get(number as usize).copied().unwrap_or(END);
        }
        // Lists are entered at their head, so they lie nearly backwards.
        today.reverse();
        today.sort_unstable();
    }

    /// The member takes the next free place of its permutation.
    fn take_next(&mut self, number: u32, at: u16) {
        let Some(turn) = self.turns.get_mut(number as usize) else { return };
        turn.taken = turn.taken.saturating_add(1);
        for _ in 0..self.size {
            let place = turn.place as usize;
            turn.place = turn.place.wrapping_add(turn.skip);
            turn.place = turn.place.checked_sub(self.size).unwrap_or(turn.place);
            let Some(taken) = self.taken.get_mut(place / 64) else { return };
            let bit = 1 << (place % 64);
            if *taken & bit == 0 {
                *taken |= bit;
                if let Some(server) = self.table.get_mut(place) {
                    *server = at;
                }
                return;
            }
        }
    }
}

struct Maglev<const PLACES: u32, const SOURCE: bool> {
    table: Table,
    ready: Ready,
    detours: Detours,
}

impl<const PLACES: u32, const SOURCE: bool> Maglev<PLACES, SOURCE> {
    /// The server of a place, found by drawing, when some may not be used.
    #[inline(never)]
    fn find(&mut self, place: u32) -> Option<usize> {
        let home = self.table.at(place)?;
        let found = if self.ready.has(home) { Some(home) } else { self.draw(place, home) };
        self.detours.enter(place, found?);
        found
    }

    /// Another server for a place whose own may not be used.
    fn draw(&self, place: u32, home: usize) -> Option<usize> {
        let (mut state, mut last) = (steady::step(steady::DRAW, place.into()), home);
        for draw in 1..=u64::from(DRAWS) {
            state = steady::step(state, draw);
            last = self.table.at(steady::scaled(state, PLACES))?;
            if self.ready.has(last) {
                return Some(last);
            }
        }
        self.ready.round(last)
    }
}

impl<const PLACES: u32, const SOURCE: bool> Scheduler for Maglev<PLACES, SOURCE> {
    fn rebuild(&mut self, servers: &[ServerLoad]) {
        self.table = Table::new(PLACES, servers);
        self.ready.rebuild(servers);
        self.detours = Detours::new(self.table.places.len());
    }

    fn pick(&mut self, flow: &WireTuple, _servers: &[ServerLoad]) -> Option<usize> {
        let hash = if SOURCE { steady::source(flow) } else { steady::flow(flow) };
        let place = steady::scaled(hash, PLACES);
        if self.ready.all() {
            return self.table.at(place);
        }
        self.detours.known(place).or_else(|| self.find(place))
    }

    fn load_changed(&mut self, index: usize, servers: &[ServerLoad]) {
        if self.ready.changed(index, servers) {
            self.detours.forget();
        }
    }
}

fn build<const PLACES: u32, const SOURCE: bool>(_args: SchedulerArgs) -> Box<dyn Scheduler> {
    Box::new(Maglev::<PLACES, SOURCE> {
        table: Table::default(),
        ready: Ready::default(),
        detours: Detours::default(),
    })
}

/// By addresses, ports and protocol.
pub const DEF: SchedulerDef = SchedulerDef {
    name: "maglev",
    summary: "Maglev, 65537 places: by flow, the same on all directors, few move",
    build: build::<PLACES, false>,
};

/// The same with the large table.
pub const LARGE: SchedulerDef = SchedulerDef {
    name: "maglev-large",
    summary: "Maglev, 655373 places: by flow, for hundreds of servers",
    build: build::<PLACES_LARGE, false>,
};

/// By the client's address.
pub const SOURCE: SchedulerDef = SchedulerDef {
    name: "maglev-source",
    summary: "Maglev, 65537 places: by client address, the same on all directors, few move",
    build: build::<PLACES, true>,
};

/// The same with the large table.
pub const SOURCE_LARGE: SchedulerDef = SchedulerDef {
    name: "maglev-source-large",
    summary: "Maglev, 655373 places: by client address, for hundreds of servers",
    build: build::<PLACES_LARGE, true>,
};
