//! Plain segments of established FullNAT v4 sessions: the director beside the floor and the stand-ins.

use super::{Effort, Report, size_name};
use crate::cpu::thread_ns;
use crate::floor::memory::Memory;
use crate::floor::translate::{self, Own, Session};
use crate::rounds::{Figures, alternate};
use crate::standin::{Hops, dpvs::Dpvs, naive::Naive, session_of};
use crate::table::Row;
use crate::world::{Direction, PACKETS, Packets, Plan, World, server_mac};
use lvs_testkit::traffic::{Flow, Mix, Network, Rng};

/// Bounds of one size: ratio to F, to naive, to the DPVS shape; each must and goal.
struct Bounds {
    floor: (f64, f64),
    naive: Option<(f64, f64)>,
    dpvs: Option<(f64, f64)>,
}

const fn bounds(sessions: usize) -> Option<Bounds> {
    match sessions {
        65_536 => {
            Some(Bounds { floor: (1.9, 1.4), naive: Some((9.0, 12.0)), dpvs: Some((14.0, 18.0)) })
        }
        1_048_576 => {
            Some(Bounds { floor: (2.1, 1.5), naive: Some((12.0, 16.0)), dpvs: Some((24.0, 30.0)) })
        }
        10_000_000 => Some(Bounds { floor: (2.1, 1.5), naive: None, dpvs: None }),
        _ => None,
    }
}

/// Everything that is compared at one number of sessions.
struct Bench<'w, 'm> {
    world: &'w mut World<'m, u32>,
    packets: Packets,
    naive: Option<Naive>,
    dpvs: Option<Dpvs>,
    memory: Memory,
    hot: (Session, Flow<u32>),
    rng: Rng,
    passes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Translate,
    Memory,
    MemoryReplies,
    Lane,
    Director,
    DirectorInbound,
    DirectorReplies,
    OneAtATime,
    Naive,
    Dpvs,
}

/// Measures one number of sessions.
///
/// # Errors
/// A packet that did not come out, or came out wrong.
pub fn run(
    sessions: usize,
    stand_ins: bool,
    effort: Effort,
    report: &mut Report,
) -> Result<(), String> {
    use Mode::{
        Director, DirectorInbound, DirectorReplies, Dpvs as DpvsMode, Lane, Memory as MemoryMode,
        MemoryReplies, Naive as NaiveMode, OneAtATime, Translate,
    };
    let plan = Plan::full_nat(sessions);
    let mut lent = plan.memory(false)?;
    let mut world = World::new(&plan, Network::<u32>::example(), &mut lent)?;
    let hops = Hops::new(&world.net, server_mac);
    let (net, flows) = (world.net, &world.flows);
    let hot = *flows.first().ok_or("no session")?;
    let naive = stand_ins.then(|| Naive::new(&net, flows, hops.clone(), 0));
    let dpvs = stand_ins.then(|| Dpvs::new(&net, flows, hops));
    let mut bench = Bench {
        hot: (session_of(&hot, &net), hot),
        memory: Memory::new(sessions)?,
        packets: Packets::new()?,
        world: &mut world,
        naive,
        dpvs,
        rng: Rng::new(sessions as u64),
        passes: 0,
    };
    let mut modes = vec![
        Translate,
        MemoryMode,
        MemoryReplies,
        Lane,
        Director,
        DirectorInbound,
        DirectorReplies,
        OneAtATime,
    ];
    if stand_ins {
        modes.extend([NaiveMode, DpvsMode]);
    }
    let mut failed = None;
    let figures = alternate(modes.len(), effort.rounds, |at| {
        bench.measure(modes[at]).unwrap_or_else(|error| {
            failed.get_or_insert(format!("{:?}: {error}", modes[at]));
            f64::NAN
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let of = |mode| modes.iter().position(|m| *m == mode).map(|at| &figures[at]);
    rows(sessions, &of, report);
    Ok(())
}

fn rows<'f>(sessions: usize, of: &impl Fn(Mode) -> Option<&'f Figures>, report: &mut Report) {
    let size = size_name(sessions);
    let median = |mode| of(mode).map_or(f64::NAN, Figures::median);
    let min = |mode| of(mode).map_or(f64::NAN, Figures::min);
    let floor = median(Mode::Translate) + median(Mode::Memory);
    let bounds = bounds(sessions);
    for (name, mode) in [("floor/translate", Mode::Translate), ("floor/memory", Mode::Memory)] {
        if let Some(figures) = of(mode) {
            report.add(Row::ns(format!("{name}/{size}"), figures));
        }
    }
    let least = min(Mode::Translate) + min(Mode::Memory);
    report.add(Row::value(format!("floor/F/{size}"), floor, "ns").with_min(least));
    if let Some(figures) = of(Mode::Lane) {
        report.add(Row::ns(format!("lane-alone/{size}"), figures));
    }
    // What the director costs itself: with the lane, less the lane alone in the same round. Floors and stand-ins
    // have no lane either.
    let lane = of(Mode::Lane).cloned().unwrap_or_default();
    let own_of = |figures: &Figures| {
        Figures(figures.0.iter().zip(&lane.0).map(|(with, alone)| with - alone).collect())
    };
    let own = of(Mode::Director).map_or(f64::NAN, |figures| own_of(figures).median());
    if let Some(figures) = of(Mode::Director) {
        report.add(Row::ns(format!("fullnat-v4-with-lane/{size}"), figures));
        let mut row =
            Row::ns(format!("fullnat-v4/{size}"), &own_of(figures)).ratio(own / floor, "F");
        if let Some(bounds) = &bounds {
            row = row.at_most(bounds.floor.0, bounds.floor.1);
        }
        if sessions <= 1024 {
            row = Row { ratio: None, against: String::new(), ..row }.at_most(25.0, 15.0);
        }
        report.add(row);
    }
    let replies = median(Mode::Translate) + median(Mode::MemoryReplies);
    for (name, mode, floor) in [
        ("fullnat-v4-inbound", Mode::DirectorInbound, None),
        ("fullnat-v4-replies", Mode::DirectorReplies, Some(replies)),
        ("fullnat-v4-one-at-a-time", Mode::OneAtATime, None),
    ] {
        let Some(figures) = of(mode) else { continue };
        let figures = own_of(figures);
        let row = Row::ns(format!("{name}/{size}"), &figures);
        report.add(match floor {
            Some(floor) => row.ratio(figures.median() / floor, "F of replies"),
            None => row,
        });
    }
    let against = |report: &mut Report, mode, id: &str, name: &str, must: Option<(f64, f64)>| {
        let Some(figures) = of(mode) else { return };
        report.add(Row::ns(format!("{id}/{size}"), figures));
        // What the machine allows: nobody can be further from the stand-in than the floor is.
        let most = figures.median() / floor;
        report.add(Row::value(format!("floor-over-{name}/{size}"), most, "x"));
        let ratio = figures.median() / own;
        let row = Row::value(format!("fullnat-v4-over-{name}/{size}"), ratio, "x");
        report.add(match must {
            Some((must, goal)) => row.at_least(must, goal),
            None => row,
        });
    };
    let naive = bounds.as_ref().and_then(|bounds| bounds.naive);
    let dpvs = bounds.as_ref().and_then(|bounds| bounds.dpvs);
    against(report, Mode::Naive, "stand-in/naive", "naive", naive);
    against(report, Mode::Dpvs, "stand-in/dpvs-shape", "dpvs-shape", dpvs);
}

impl Bench<'_, '_> {
    /// One figure: nanoseconds of CPU a packet, over fresh packets.
    fn measure(&mut self, mode: Mode) -> Result<f64, String> {
        let direction = match mode {
            Mode::DirectorInbound => Direction::Inbound,
            Mode::DirectorReplies => Direction::Reply,
            _ => Direction::Both,
        };
        let flows = match mode {
            Mode::Translate => core::slice::from_ref(&self.hot.1),
            _ => &self.world.flows,
        };
        self.packets.fill(&self.world.net, flows, (direction, Mix::SMALL), &mut self.rng);
        self.passes += 1;
        let (spent, done) = match mode {
            Mode::Translate => self.translate(),
            Mode::Memory | Mode::MemoryReplies => self.memory(mode == Mode::MemoryReplies),
            Mode::Lane
            | Mode::Director
            | Mode::DirectorInbound
            | Mode::DirectorReplies
            | Mode::OneAtATime => self.director(mode)?,
            Mode::Naive => self.naive(),
            Mode::Dpvs => self.dpvs(),
        };
        if done != PACKETS {
            return Err(format!("{done} of {PACKETS} packets were translated"));
        }
        let translated = !matches!(mode, Mode::Memory | Mode::MemoryReplies | Mode::Lane);
        // The first passes are judged packet by packet, by others.
        if translated && self.passes <= 32 {
            self.packets.check()?;
        }
        Ok(spent as f64 / PACKETS as f64)
    }

    fn translate(&mut self) -> (u64, usize) {
        let own = self.world.net.own.map(|mac| Own::new(mac.0));
        let servers = self.world.net.own[1].0[5];
        let macs = [[2u8; 12]; 2];
        // One direction after the other: first all inbound packets, then all replies.
        self.packets.bufs.sort_by_key(|buf| {
            use lvs_core::io::PacketBuf;
            (buf.data().get(5) == Some(&servers), buf.data().as_ptr().addr())
        });
        let (inbound, replies) = self.packets.bufs.split_at_mut(PACKETS / 2);
        let (now, session) = (self.passes, &mut self.hot.0);
        let start = thread_ns();
        let mut done = translate::run::<true, _>(inbound, session, own[0], &macs[0], now);
        done += translate::run::<false, _>(replies, session, own[1], &macs[1], now);
        let spent = thread_ns() - start;
        (spent, done)
    }

    fn memory(&mut self, replies: bool) -> (u64, usize) {
        let seed = self.rng.next_u64();
        let start = thread_ns();
        core::hint::black_box(self.memory.run(PACKETS, seed, replies));
        (thread_ns() - start, PACKETS)
    }

    fn director(&mut self, mode: Mode) -> Result<(u64, usize), String> {
        self.world.load(&mut self.packets);
        let before = self.world.director.short_way();
        let start = thread_ns();
        match mode {
            Mode::Lane => self.world.run_lane_only(),
            _ => self.world.run(mode == Mode::OneAtATime),
        }
        let spent = thread_ns() - start;
        self.world.unload(&mut self.packets)?;
        let short = self.world.director.short_way() - before;
        // A tag that two keys share in one bucket sends a packet the long way: some in ten thousand.
        if !matches!(mode, Mode::Lane | Mode::OneAtATime) && short < PACKETS as u64 * 99 / 100 {
            return Err(format!("only {short} of {PACKETS} packets took the short way"));
        }
        Ok((spent, PACKETS))
    }

    fn naive(&mut self) -> (u64, usize) {
        let Some(naive) = &mut self.naive else { return (0, 0) };
        let start = thread_ns();
        let done = naive.run(&mut self.packets.bufs, self.passes);
        (thread_ns() - start, done)
    }

    fn dpvs(&mut self) -> (u64, usize) {
        let Some(dpvs) = &mut self.dpvs else { return (0, 0) };
        let start = thread_ns();
        let done = dpvs.run(&mut self.packets.bufs, self.passes);
        (thread_ns() - start, done)
    }
}
