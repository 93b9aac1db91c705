//! Persistence templates: which server a client belongs to, for all workers.
//!
//! A bucket has twelve places and one word that says which of them are taken: four bits of the key's hash for
//! each, and a version. A key becomes known by one exchange of that word, so of two workers that enter the
//! same key one finds the other's. What a template says lies in one further word ([`super::life`]).
//! Nobody waits for anybody: a repetition means that another worker has come forward.

use super::life::{CLAIMED, DEAD, FREE, Life};
use super::word::Word;
use crate::addr::Prefix;
use crate::id::{ServerId, ServiceId};
use crate::prefetch::prefetch;
use crate::siphash::SipHash13;
use crate::time::Tick;
use alloc::boxed::Box;
use core::net::IpAddr;

/// Places of a bucket.
const WAYS: usize = 12;
/// Where the version of a bucket begins.
const VERSION: u32 = 48;

/// Whose templates: those of one service, or of a group that shares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// One service, all its ports.
    Service(ServiceId),
    /// Several services; a client belongs to the same host in all of them.
    #[doc(alias = "fwmark")]
    Group(u32),
}

/// A client, or a net of clients, of a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TemplateKey {
    scope: u64,
    high: u64,
    low: u64,
}

impl TemplateKey {
    /// The key of a client; `len` is the length of the prefix that counts as one client.
    #[must_use]
    pub fn new(scope: Scope, client: IpAddr, len: u8) -> Self {
        let client = Prefix::new(client, len).map_or(client, |prefix| prefix.addr());
        let bits = match client {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        // 33 bits: a group's number is a whole word.
        let scope = match scope {
            Scope::Service(id) => u64::from(id.0),
            Scope::Group(number) => (1 << 32) | u64::from(number),
        };
        Self { scope, high: (bits >> 64) as u64, low: bits as u64 }
    }

    /// The net of clients; an IPv4 one in IPv4 form.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        let v6 =
            core::net::Ipv6Addr::from_bits((u128::from(self.high) << 64) | u128::from(self.low));
        v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
    }

    /// Whose template it is.
    #[must_use]
    pub const fn scope(&self) -> Scope {
        if self.scope >> 32 == 0 {
            Scope::Service(ServiceId(self.scope as u16))
        } else {
            Scope::Group(self.scope as u32)
        }
    }
}

/// A session's part in a template: where the template is, and the server that it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// To be given back by [`Templates::release`]. A number beyond the table, which that ignores, when the
    /// template cannot count more sessions.
    pub slot: u32,
    /// Where the client belongs. Its state is for the caller to judge.
    pub server: ServerId,
}

/// What became of a new template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It is there.
    New(Hold),
    /// Another worker was faster; its server counts.
    Other(Hold),
    /// There is no room: nothing was kept.
    Full,
}

/// How a session's end prolongs its template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not at all.
    Plain,
    /// It lives until this tick at least.
    Until(Tick),
    /// When it should have ended before `now`, it lives on by whole steps until then.
    Steps {
        /// The present.
        now: Tick,
        /// Length of a step in ticks.
        step: u32,
    },
}

/// A template as lists show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Template {
    /// Whose.
    pub key: TemplateKey,
    /// Where the client belongs.
    pub server: ServerId,
    /// Its live sessions.
    pub sessions: u32,
    /// Ticks that it lives on after its last session; 0 = it ends with that.
    pub left: u32,
}

/// What a table of templates has met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TemplateStats {
    /// Templates now.
    pub live: u32,
    /// Idle templates that gave way to others because their bucket was full.
    pub evicted: u64,
    /// Clients without a template because their bucket was full of busy ones.
    pub refused: u64,
}

/// A key, and where its template would be in one table.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    key: TemplateKey,
    place: Option<(usize, u64)>,
}

#[derive(Debug)]
struct Entry {
    life: Word,
    /// Times that the place was given to a key, in the high 31 bits; scope in the low 33.
    meta: Word,
    high: Word,
    low: Word,
}

const SCOPE: u64 = (1 << 33) - 1;

impl Entry {
    fn empty() -> Self {
        Self { life: Word::new(FREE), meta: Word::new(0), high: Word::new(0), low: Word::new(0) }
    }

    /// The key, and the incarnation that it belongs to. Good only if the incarnation is still the same after
    /// the template was held.
    fn key(&self) -> (u64, TemplateKey) {
        let meta = self.meta.load();
        (meta, TemplateKey { scope: meta & SCOPE, high: self.high.load(), low: self.low.load() })
    }

    fn write(&self, key: &TemplateKey, life: Life) {
        let age = (self.meta.load() >> 33).wrapping_add(1);
        // The incarnation goes first: who sees a part of the new key sees that it is new.
        self.meta.store((age << 33) | key.scope);
        self.high.store(key.high);
        self.low.store(key.low);
        self.life.store(life.pack());
    }
}

/// The templates of all workers. Bounded; see [`super::Shared`].
#[derive(Debug)]
#[doc(alias = "ip_vs_conn template")]
pub struct Templates {
    hash: SipHash13,
    buckets: Box<[Word]>,
    entries: Box<[Entry]>,
    cursor: Word,
    live: Word,
    evicted: Word,
    refused: Word,
}

/// What an entry said about a key.
enum Look {
    Held(Hold),
    Revived(Hold),
    No,
}

impl Templates {
    /// Room for at least `most` templates; twice as many places, so that buckets seldom fill up. 65 bytes each.
    #[must_use]
    pub fn new(most: u32, key: &[u64; 2]) -> Self {
        let buckets = if most == 0 { 0 } else { (most as usize).saturating_mul(2).div_ceil(WAYS) };
        Self {
            hash: SipHash13::new(key),
            buckets: (0..buckets).map(|_| Word::new(0)).collect(),
            entries: (0..buckets.saturating_mul(WAYS)).map(|_| Entry::empty()).collect(),
            cursor: Word::new(0),
            live: Word::new(0),
            evicted: Word::new(0),
            refused: Word::new(0),
        }
    }

    /// The template of a client, held for one more session; it lives until `deadline` at least. `None` when
    /// there is none, or its time has passed.
    #[must_use]
    pub fn find(&self, key: &TemplateKey, now: Tick, deadline: Tick) -> Option<Hold> {
        self.find_at(&self.spot(key), now, deadline)
    }

    /// Where the template of a client is, if there is one: for [`find_at`](Self::find_at) and
    /// [`insert_at`](Self::insert_at), which need not look for it twice.
    #[must_use]
    #[inline]
    pub fn spot(&self, key: &TemplateKey) -> Spot {
        Spot { key: *key, place: self.place(key) }
    }

    /// Begins to fetch what says where the template of a client is.
    #[inline]
    pub fn prefetch(&self, spot: &Spot) {
        if let Some(word) = spot.place.and_then(|(bucket, _)| self.buckets.get(bucket)) {
            prefetch(word);
        }
    }

    /// Behind [`prefetch`](Self::prefetch): begins to fetch the template itself, or the place that it would get.
    #[inline]
    pub fn prefetch_entry(&self, spot: &Spot) {
        let Some((bucket, tag)) = spot.place else { return };
        let taken = self.buckets.get(bucket).map_or(0, Word::load);
        let way = ways(taken, tag).next().or_else(|| ways(taken, 0).next());
        if let Some(entry) = way.and_then(|way| self.entries.get(at(bucket, way))) {
            prefetch(entry);
        }
    }

    /// [`find`](Self::find).
    #[must_use]
    pub fn find_at(&self, spot: &Spot, now: Tick, deadline: Tick) -> Option<Hold> {
        let (key, (bucket, tag)) = (&spot.key, spot.place?);
        let taken = self.buckets.get(bucket)?.load();
        ways(taken, tag).find_map(|way| {
            match self.look(at(bucket, way), key, now, deadline, None) {
                Look::Held(hold) => Some(hold),
                Look::Revived(_) | Look::No => None,
            }
        })
    }

    /// Enters a template for the first session of a client, unless another worker has done so meanwhile.
    #[must_use]
    pub fn insert(
        &self,
        key: &TemplateKey,
        server: ServerId,
        now: Tick,
        deadline: Tick,
    ) -> Inserted {
        self.insert_at(&self.spot(key), server, now, deadline)
    }

    /// [`insert`](Self::insert).
    #[must_use]
    pub fn insert_at(&self, spot: &Spot, server: ServerId, now: Tick, deadline: Tick) -> Inserted {
        let (key, Some((bucket, tag))) = (&spot.key, spot.place) else { return Inserted::Full };
        let Some(word) = self.buckets.get(bucket) else { return Inserted::Full };
        let mut mine: Option<usize> = None;
        let mut taken = word.load();
        loop {
            let known = ways(taken, tag).find_map(|way| {
                match self.look(at(bucket, way), key, now, deadline, Some(server)) {
                    Look::Held(hold) => Some(Inserted::Other(hold)),
                    Look::Revived(hold) => Some(Inserted::New(hold)),
                    Look::No => None,
                }
            });
            if let Some(known) = known {
                self.unclaim(bucket, mine);
                return known;
            }
            let Some(way) = mine.or_else(|| self.claim(bucket, taken, now)) else {
                self.refused.add(1);
                return Inserted::Full;
            };
            if mine.is_none() {
                if let Some(entry) = self.entries.get(at(bucket, way)) {
                    entry.write(key, Life::new(server, deadline));
                }
                mine = Some(way);
            }
            match word.exchange(taken, with_way(taken, way, tag)) {
                Ok(()) => {
                    self.live.add(1);
                    return Inserted::New(Hold { slot: slot(bucket, way), server });
                }
                Err(seen) => taken = seen,
            }
        }
    }

    /// The server of a held template cannot be used: from now on it is `server`, unless another worker has
    /// already decided. What comes back is what counts.
    #[must_use]
    pub fn retarget(&self, hold: Hold, server: ServerId) -> Hold {
        let Some(entry) = self.entries.get(hold.slot as usize) else { return hold };
        let changed = entry.life.update(|word| {
            let life = Life::unpack(word).filter(|life| life.server == hold.server)?;
            Some(Life { server, ..life }.pack())
        });
        match changed {
            Ok(_) => Hold { server, ..hold },
            Err(word) => {
                Life::unpack(word).map_or(hold, |life| Hold { server: life.server, ..hold })
            }
        }
    }

    /// A session that held the template has ended, or was not opened after all.
    pub fn release(&self, slot: u32, ending: Ending) {
        let Some(entry) = self.entries.get(slot as usize) else { return };
        let _ = entry.life.update(|word| {
            let life = Life::unpack(word)?.closed();
            let life = match ending {
                Ending::Plain => life,
                Ending::Until(deadline) => life.until(deadline),
                Ending::Steps { now, step } => life.stepped(now, step),
            };
            Some(life.pack())
        });
    }

    /// Takes templates out whose time has passed, looking at `budget` places; the workers share the turn.
    /// Returns how many have gone.
    pub fn sweep(&self, now: Tick, budget: u32) -> u32 {
        let all = self.entries.len() as u64;
        if all == 0 {
            return 0;
        }
        let budget = u64::from(budget).min(all);
        let first = self.cursor.add(budget).checked_rem(all).unwrap_or(0);
        let mut gone = 0u32;
        for offset in 0..budget {
            let index = first.wrapping_add(offset).checked_rem(all).unwrap_or(0) as usize;
            gone = gone.wrapping_add(u32::from(self.kill(index, |life| !life.lives(now))));
        }
        gone
    }

    /// Shows up to `most` places' templates to `each`, from place `first` on; returns where to go on.
    pub fn scan(
        &self,
        first: u32,
        most: u32,
        now: Tick,
        mut each: impl FnMut(&Template),
    ) -> Option<u32> {
        let end = (first as usize).saturating_add(most.max(1) as usize).min(self.entries.len());
        for entry in self.entries.get(first as usize..end).unwrap_or_default() {
            let (meta, key) = entry.key();
            let life = Life::unpack(entry.life.load()).filter(|life| life.lives(now));
            if let Some(life) = life.filter(|_| entry.meta.load() == meta) {
                let (server, sessions) = (life.server, life.sessions);
                each(&Template { key, server, sessions, left: life.left(now) });
            }
        }
        if end < self.entries.len() { u32::try_from(end).ok() } else { None }
    }

    /// What the table has met.
    #[must_use]
    pub fn stats(&self) -> TemplateStats {
        TemplateStats {
            live: self.live.load() as u32,
            evicted: self.evicted.load(),
            refused: self.refused.load(),
        }
    }

    /// Places of all buckets.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.entries.len()
    }

    /// Bucket and tag of a key; `None` in a table without places.
    fn place(&self, key: &TemplateKey) -> Option<(usize, u64)> {
        let hash = self.hash.words(&[key.scope, key.high, key.low]);
        let bucket = (u128::from(hash) * self.buckets.len() as u128) >> 64;
        // The bucket follows from the high bits, the tag from the low ones; 0 means free.
        (!self.buckets.is_empty()).then_some((bucket as usize, (hash % 15).wrapping_add(1)))
    }

    /// Holds the template at `index` if it is the key's and lives. When its time has passed and `revive` names
    /// a server, it begins anew with that.
    fn look(
        &self,
        index: usize,
        key: &TemplateKey,
        now: Tick,
        deadline: Tick,
        revive: Option<ServerId>,
    ) -> Look {
        let Some(entry) = self.entries.get(index) else { return Look::No };
        let (meta, found) = entry.key();
        if found != *key {
            return Look::No;
        }
        let mut next = None;
        let held = entry.life.update(|word| {
            let life = Life::unpack(word)?;
            next = if life.lives(now) {
                // A session too many to be counted is told where to go all the same.
                let more = life.opened().unwrap_or(life);
                Some((more.until(deadline), false, more != life))
            } else {
                revive.map(|server| (Life::new(server, deadline), true, true))
            };
            next.map(|(life, ..)| life.pack())
        });
        let (Ok(_), Some((life, revived, counted))) = (held, next) else { return Look::No };
        let slot = u32::try_from(index).ok().filter(|_| counted).unwrap_or(u32::MAX);
        if entry.meta.load() != meta {
            // The place has another key by now.
            self.release(slot, Ending::Plain);
            return Look::No;
        }
        let hold = Hold { slot, server: life.server };
        if revived { Look::Revived(hold) } else { Look::Held(hold) }
    }

    /// A place of the bucket that nobody else writes to. In a full bucket a template whose time has passed
    /// gives way, else the idle one that would end first.
    fn claim(&self, bucket: usize, taken: u64, now: Tick) -> Option<usize> {
        for way in ways(taken, 0) {
            if self.claim_way(bucket, way) {
                return Some(way);
            }
        }
        let life = |way: usize| Life::unpack(self.entries.get(at(bucket, way))?.life.load());
        let idle = (0..WAYS).filter_map(|way| Some((way, life(way)?)));
        let idle = idle.filter(|(_, life)| life.sessions == 0);
        let (way, oldest) = idle.min_by_key(|(_, life)| life.left(now))?;
        let unexpired = oldest.left(now) > 0;
        let gone = self.kill(at(bucket, way), |life| *life == oldest);
        if gone && unexpired {
            self.evicted.add(1);
        }
        (gone && self.claim_way(bucket, way)).then_some(way)
    }

    fn claim_way(&self, bucket: usize, way: usize) -> bool {
        let entry = self.entries.get(at(bucket, way));
        entry.is_some_and(|entry| entry.life.exchange(FREE, CLAIMED).is_ok())
    }

    /// Gives back a place that was written to and never became known.
    fn unclaim(&self, bucket: usize, way: Option<usize>) {
        if let Some(entry) = way.and_then(|way| self.entries.get(at(bucket, way))) {
            entry.life.store(FREE);
        }
    }

    /// Takes out a template without sessions that `doomed` approves of.
    fn kill(&self, index: usize, doomed: impl Fn(&Life) -> bool) -> bool {
        let (bucket, way) = (index / WAYS, index % WAYS);
        let (Some(entry), Some(word)) = (self.entries.get(index), self.buckets.get(bucket)) else {
            return false;
        };
        let dead = entry.life.update(|life| {
            let life = Life::unpack(life)?;
            (life.sessions == 0 && doomed(&life)).then_some(DEAD)
        });
        if dead.is_err() {
            return false;
        }
        let _ = word.update(|taken| Some(with_way(taken, way, 0)));
        entry.life.store(FREE);
        self.live.add(u64::MAX);
        true
    }
}

const fn at(bucket: usize, way: usize) -> usize {
    bucket.wrapping_mul(WAYS).wrapping_add(way)
}

fn slot(bucket: usize, way: usize) -> u32 {
    u32::try_from(at(bucket, way)).unwrap_or(u32::MAX)
}

/// The places whose tag this is, in order.
fn ways(taken: u64, tag: u64) -> Ways {
    /// Seven in each four bits.
    const SEVENS: u64 = 0x7777_7777_7777;
    // What is not the tag is not zero now, and sets the highest of its four bits; no carry leaves them.
    let other = taken ^ tag.wrapping_mul(0x1111_1111_1111);
    let set = (other & SEVENS).wrapping_add(SEVENS) | other;
    Ways(!set & 0x8888_8888_8888)
}

/// Places of a bucket, by the highest of their four bits.
struct Ways(u64);

impl Iterator for Ways {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let way = self.0.trailing_zeros() as usize / 4;
        self.0 &= self.0.wrapping_sub(1);
        (way < WAYS).then_some(way)
    }
}

/// The bucket's word with another tag for one place, and the next version.
const fn with_way(taken: u64, way: usize, tag: u64) -> u64 {
    let cleared = taken & !(0xf << (way * 4));
    (cleared | (tag << (way * 4))).wrapping_add(1 << VERSION)
}

#[cfg(all(test, not(loom)))]
#[path = "templates_tests.rs"]
mod tests;
