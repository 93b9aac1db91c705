//! Looking sessions up and touching them: the store as the packet path uses it, beside other tables.
//!
//! Every table leads to a line of 64 bytes for each session, in memory of its own, and each packet counts and
//! stamps it. Keys are drawn anew in each round, before the clock starts.

use super::store::{Filled, LOOKUPS, NOW, SECRET, Size, draw, tuple};
use super::{Effort, Report, size_name};
use crate::cpu::thread_ns;
use crate::rounds::{Figures, alternate};
use crate::standin::cuckoo::{BATCH, Cuckoo, Homes};
use crate::standin::{Key, key};
use crate::table::Row;
use core::hash::BuildHasher;
use core::hint::black_box;
use hashbrown::HashMap;
use lvs_core::flow::{L4Proto, TupleV4, WireTuple};
use lvs_core::io::BURST;
use lvs_core::key::KeyV4;
use lvs_core::prefetch::prefetch;
use lvs_core::session::{Hint, Plain, Probe};
use lvs_core::siphash::SipHash13;
use lvs_testkit::traffic::{Ends, Network, Rng};
use std::hash::RandomState;

const NAMES: [&str; 5] = [
    "lookup64/store",
    "lookup64/cuckoo",
    "lookup64/cuckoo-in-flight",
    "lookup/hashbrown",
    "lookup/hashbrown-siphash",
];
/// Bytes of the packet that is counted.
const BYTES: u16 = 46;

/// What a session is to the other tables.
#[repr(align(64))]
#[derive(Clone, Copy, Default)]
struct Line([u32; 16]);

impl Line {
    #[inline(always)]
    fn touch(&mut self) {
        self.0[0] = self.0[0].wrapping_add(1);
        self.0[1] = self.0[1].wrapping_add(u32::from(BYTES));
        self.0[5] = NOW.0;
    }
}

fn ends(net: &Network<u32>, client: u64) -> Ends<u32> {
    Ends { src: net.client(client), dst: net.service }
}

/// Bursts of keys of drawn clients.
fn bursts<K: Copy, const N: usize>(clients: &[u64], key: impl Fn(u64) -> K) -> Vec<[K; N]> {
    let (bursts, _) = clients.as_chunks::<N>();
    bursts.iter().map(|burst| burst.map(&key)).collect()
}

/// Three bursts in flight, as in the director: hash one, guess the one before, take the packets of the one
/// before that. Returns how many sessions were found.
#[inline(never)]
fn of_store(
    filled: &mut Filled<'_>,
    bursts: &[[KeyV4; BURST]],
    mut take: impl FnMut(Plain<'_, 12>) -> bool,
) -> usize {
    let store = &mut filled.store;
    let mut hashes = [[0; BURST]; 2];
    let mut hints = [[Hint::NOWHERE; BURST]; 2];
    let mut hits = 0;
    for turn in 0..bursts.len() + 2 {
        if let Some(keys) = bursts.get(turn) {
            store.hash_v4(keys, BURST, &mut hashes[turn % 2]);
        }
        if (1..=bursts.len()).contains(&turn) {
            for (hash, hint) in hashes[(turn - 1) % 2].iter().zip(&mut hints[(turn - 1) % 2]) {
                *hint = store.guess_v4(*hash);
            }
        }
        let Some(keys) = turn.checked_sub(2).and_then(|at| bursts.get(at)) else { continue };
        for (hint, key) in hints[turn % 2].iter().zip(keys) {
            if let Some(plain) = store.plain_v4(*hint, key) {
                black_box(take(plain));
                hits += 1;
                continue;
            }
            // The tag of another key: the slow way.
            let probe = Probe { tuple: WireTuple::V4(key.tuple(L4Proto::Tcp)), local: None };
            let hint = store.hint_of(&probe, None);
            if let Some(plain) = store.plain_v4(hint, key) {
                black_box(take(plain));
                hits += 1;
            }
        }
    }
    hits
}

/// One burst after the other, as `rte_hash_lookup_bulk` is used; then the lines, prefetched as well.
#[inline(never)]
fn of_cuckoo<H: Fn(&Key) -> u64>(
    cuckoo: &Cuckoo<H>,
    lines: &mut [Line],
    bursts: &[[Key; BATCH]],
) -> usize {
    let mut hits = 0;
    for keys in bursts {
        let mut found = [None; BATCH];
        cuckoo.lookup(keys, &mut found);
        found.iter().flatten().for_each(|at| prefetch(&lines[*at as usize]));
        hits += touch_all(lines, &found);
    }
    hits
}

/// The same table used as nobody can use `rte_hash`: four bursts in flight, one for each of its lines.
#[inline(never)]
fn of_cuckoo_in_flight<H: Fn(&Key) -> u64>(
    cuckoo: &Cuckoo<H>,
    lines: &mut [Line],
    bursts: &[[Key; BATCH]],
) -> usize {
    let mut homes = [[Homes::default(); BATCH]; 3];
    let mut found = [None; BATCH];
    let mut hits = 0;
    for turn in 0..bursts.len() + 3 {
        if let Some(keys) = bursts.get(turn) {
            cuckoo.begin(keys, &mut homes[turn % 3]);
        }
        if (1..=bursts.len()).contains(&turn) {
            cuckoo.fetch(&homes[(turn - 1) % 3]);
        }
        hits += touch_all(lines, &found);
        found = [None; BATCH];
        if let Some(keys) = turn.checked_sub(2).and_then(|at| bursts.get(at)) {
            cuckoo.finish(keys, &homes[(turn - 2) % 3], &mut found);
            found.iter().flatten().for_each(|at| prefetch(&lines[*at as usize]));
        }
    }
    hits
}

#[inline(always)]
fn touch_all(lines: &mut [Line], found: &[Option<u32>]) -> usize {
    found.iter().flatten().map(|at| lines[*at as usize].touch()).count()
}

/// As one uses a map: one key after the other.
#[inline(never)]
fn of_map<S: BuildHasher>(
    map: &HashMap<TupleV4, u32, S>,
    lines: &mut [Line],
    keys: &[TupleV4],
) -> usize {
    let mut hits = 0;
    for key in keys {
        if let Some(at) = map.get(key) {
            lines[*at as usize].touch();
            hits += 1;
        }
    }
    hits
}

/// Measures one number of sessions.
///
/// # Errors
/// A lookup that went wrong.
pub fn run(sessions: usize, effort: Effort, report: &mut Report) -> Result<(), String> {
    let size = Size::for_sessions(sessions);
    let mut memory = size.memory()?;
    let mut filled = Filled::new(size, &mut memory)?;
    filled.fill(0..sessions as u64)?;
    refresh(&mut filled, sessions, effort, report)?;
    let net = filled.net;
    let words = |n: u64| key(&ends(&net, n));
    let tuple_of = |n: u64| tuple(&ends(&net, n));
    // The same keyed hash as the store's.
    let hash = SipHash13::new(&SECRET);
    let mut cuckoo = Cuckoo::new(sessions, move |key: &Key| hash.words(key));
    let mut map = HashMap::with_capacity(sessions);
    let mut safe = HashMap::with_capacity_and_hasher(sessions, RandomState::new());
    let mut lines = vec![Line::default(); sessions];
    for n in 0..sessions as u32 {
        if !cuckoo.insert(&words(n.into()), n) {
            return Err("the cuckoo table is full".into());
        }
        map.insert(tuple_of(n.into()), n);
        safe.insert(tuple_of(n.into()), n);
    }
    let (mut rng, mut wrong) = (Rng::new(21), 0);
    let one = |mode: usize| {
        let clients = draw(&mut rng, sessions);
        let wire = bursts(&clients, |n| KeyV4::from(&tuple_of(n)));
        let keys = bursts(&clients, words);
        let tuples: Vec<TupleV4> = clients.iter().map(|n| tuple_of(*n)).collect();
        let start = thread_ns();
        let hits = match mode {
            0 => of_store(&mut filled, &wire, |plain| plain.count(NOW, BYTES)),
            1 => of_cuckoo(&cuckoo, &mut lines, &keys),
            2 => of_cuckoo_in_flight(&cuckoo, &mut lines, &keys),
            3 => of_map(&map, &mut lines, &tuples),
            _ => of_map(&safe, &mut lines, &tuples),
        };
        let spent = thread_ns() - start;
        wrong += LOOKUPS - hits;
        spent as f64 / LOOKUPS as f64
    };
    let figures = alternate(NAMES.len(), effort.rounds, one);
    if wrong > 0 {
        return Err(format!("{wrong} keys were not found"));
    }
    rows(&size_name(sessions), &figures, report);
    Ok(())
}

fn rows(size: &str, figures: &[Figures], report: &mut Report) {
    let own = figures[0].median();
    for (mode, (name, figures)) in NAMES.iter().zip(figures).enumerate() {
        let row = Row::ns(format!("{name}/{size}"), figures);
        let over = |row: Row| row.ratio(figures.median() / own, "store");
        report.add(match mode {
            0 => row,
            1 => over(row).at_least(1.6, 1.6),
            2 => over(row),
            _ => over(row).at_least(10.0, 10.0),
        });
    }
}

/// What the time-out costs: counting and stamping a session's line beside counting alone.
fn refresh(
    filled: &mut Filled<'_>,
    sessions: usize,
    effort: Effort,
    report: &mut Report,
) -> Result<(), String> {
    let (net, mut rng, mut wrong) = (filled.net, Rng::new(23), 0);
    let figures = alternate(2, effort.rounds, |mode| {
        let clients = draw(&mut rng, sessions);
        let keys = bursts(&clients, |n| KeyV4::from(&tuple(&ends(&net, n))));
        let start = thread_ns();
        let hits = match mode {
            0 => of_store(filled, &keys, |plain| plain.carry(BYTES)),
            _ => of_store(filled, &keys, |plain| plain.count(NOW, BYTES)),
        };
        let spent = thread_ns() - start;
        wrong += LOOKUPS - hits;
        spent as f64 / LOOKUPS as f64
    });
    if wrong > 0 {
        return Err(format!("{wrong} keys were not found"));
    }
    let pairs = figures[1].0.iter().zip(&figures[0].0);
    let more = Figures(pairs.map(|(with, without)| with - without).collect());
    let size = size_name(sessions);
    report.add(Row::ns(format!("touch64/store/{size}"), &figures[0]));
    let row = Row::value(format!("refresh64/store/{size}"), more.median(), "ns");
    report.add(row.with_min(figures[1].min() - figures[0].min()).at_most(0.5, 0.5));
    Ok(())
}
