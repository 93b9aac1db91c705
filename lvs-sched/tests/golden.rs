//! Picks equal those that the IPVS of Linux was seen to make: `tests/golden/`, whose page tells the format
//! and how they were recorded.

mod common;

use common::built;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use lvs_core::flow::{L4Proto, WireTuple};
use lvs_core::id::ServerId;
use lvs_core::sched::{Scheduler, SchedulerDef, ServerLoad, Weight};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What one file holds, for the checks that it is worth replaying.
#[derive(Debug, Default)]
struct Seen {
    /// Sets of weights in which servers were added, removed and re-weighted between picks.
    sets: usize,
    picks: usize,
    /// By family: how many clients, each with an address of its own, of each set of a scheduler without options.
    clients: BTreeMap<String, Vec<usize>>,
    nobody: usize,
    loads: usize,
    servers: BTreeSet<char>,
}

/// The list as the kernel walks it, and a scheduler that is told what the kernel's was told.
struct Replay {
    scheduler: Box<dyn Scheduler>,
    list: Vec<ServerLoad>,
    addresses: BTreeMap<char, String>,
    /// Connections of the one client so far.
    connections: u16,
}

fn letter_of(id: ServerId) -> char {
    char::from(b'A' + u8::try_from(id.0).unwrap())
}

fn id_of(letter: char) -> ServerId {
    ServerId(letter as u16 - u16::from(b'A'))
}

fn mixed(number: u32, step: u32) -> u32 {
    number.wrapping_mul(step)
}

/// The words of an address behind its first 32 bits.
fn words_v6(number: u32) -> u128 {
    let steps = [2_246_822_519, 3_266_489_917, 668_265_263];
    steps.into_iter().fold(0, |bits, step| bits << 32 | u128::from(mixed(number, step)))
}

/// The `number`-th client, or `None` where the number gives no address that a client can have.
fn client(family: &str, number: u32) -> Option<IpAddr> {
    if family == "v6" {
        return Some(Ipv6Addr::from_bits(0x2001_0db8 << 96 | words_v6(number)).into());
    }
    let ip = Ipv4Addr::from_bits(mixed(number, 2_654_435_761));
    (!matches!(ip.octets()[0], 0 | 10 | 127 | 224..)).then_some(ip.into())
}

fn destination(family: &str, number: u32) -> IpAddr {
    if family == "v6" {
        return Ipv6Addr::from_bits(0xfd03_0000 << 96 | words_v6(number)).into();
    }
    let bits = mixed(number, 2_654_435_761);
    Ipv4Addr::from_bits(10 << 24 | 1 << 23 | bits >> 8 & 0x7f_ffff).into()
}

fn flow(src: IpAddr, sport: u16, dst: IpAddr) -> WireTuple {
    WireTuple::new(L4Proto::Tcp, src, sport, dst, 80).unwrap()
}

impl Replay {
    fn at(&self, letter: char) -> usize {
        self.list.iter().position(|s| s.id == id_of(letter)).unwrap()
    }

    fn pick(&mut self, flow: &WireTuple) -> char {
        let picked = self.scheduler.pick(flow, &self.list);
        picked.map_or('-', |at| letter_of(self.list[at].id))
    }

    fn connect(&mut self, dst: IpAddr) -> char {
        self.connections += 1;
        let from = if dst.is_ipv6() { "fd01::2" } else { "10.1.0.2" };
        self.pick(&flow(from.parse().unwrap(), 1024 + self.connections, dst))
    }

    /// Who is picked in a step, and who should be.
    fn step(&mut self, step: &str, seen: &mut Seen) -> Option<(String, String)> {
        let words: Vec<&str> = step.split(' ').collect();
        let number = |at: usize| words[at].parse::<u32>().unwrap();
        let letter = || words[1].chars().next().unwrap();
        match words[0] {
            "pick" => {
                let vip = "10.1.0.1".parse().unwrap();
                let picked = words[1].chars().map(|_| self.connect(vip)).collect();
                return Some((picked, words[1].to_owned()));
            }
            "clients" => {
                let numbers = (number(2)..).filter_map(|n| Some((client(words[1], n)?, n)));
                let dst = if words[1] == "v6" { "fd01::1" } else { "10.1.0.1" };
                let picked = words[3].chars().zip(numbers).map(|(_, (ip, n))| {
                    let sport = 1024 + u16::try_from(n % 60_000).unwrap();
                    self.pick(&flow(ip, sport, dst.parse().unwrap()))
                });
                return Some((picked.collect(), words[3].to_owned()));
            }
            "destinations" => {
                let to = words[2].chars().zip(1..).map(|(_, n)| destination(words[1], n));
                let picked = to.collect::<Vec<_>>().into_iter().map(|dst| self.connect(dst));
                return Some((picked.collect(), words[2].to_owned()));
            }
            "load" => {
                let at = self.at(letter());
                (self.list[at].active, self.list[at].inactive) = (number(2), number(3));
                self.scheduler.load_changed(at, &self.list);
                seen.loads += 1;
                return None;
            }
            "full" | "free" => {
                let at = self.at(letter());
                self.list[at].overloaded = words[0] == "full";
                self.scheduler.load_changed(at, &self.list);
                return None;
            }
            "add" => {
                let mut server =
                    common::server(id_of(letter()).0, u16::try_from(number(2)).unwrap());
                server.addr = lvs_core::addr::RealAddr(self.addresses[&letter()].parse().unwrap());
                self.list.insert(0, server);
            }
            "weigh" => {
                let at = self.at(letter());
                self.list[at].weight = Weight(u16::try_from(number(2)).unwrap());
            }
            "remove" => {
                self.list.remove(self.at(letter()));
            }
            other => panic!("what is {other}?"),
        }
        self.scheduler.rebuild(&self.list);
        None
    }
}

fn def_of(scheduler: &str, flags: &str) -> &'static SchedulerDef {
    let mut name = scheduler.to_owned();
    for option in ["port", "fallback"] {
        if flags.contains(option) {
            name = format!("{name}-{option}");
        }
    }
    lvs_sched::by_name(&name).unwrap()
}

fn replay(scheduler: &str) -> Seen {
    let path = format!("{}/tests/golden/{scheduler}.json", env!("CARGO_MANIFEST_DIR"));
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file["scheduler"], scheduler);
    let mut seen = Seen::default();
    let mut faults = Vec::new();
    for set in file["sets"].as_array().unwrap() {
        let flags = set["flags"].as_str().unwrap_or("");
        let servers = set["servers"].as_object().unwrap().iter();
        let address = |value: &Value| value.as_str().unwrap().to_owned();
        let mut replay = Replay {
            scheduler: built(def_of(scheduler, flags), &[]),
            list: Vec::new(),
            addresses: servers.map(|(k, v)| (k.chars().next().unwrap(), address(v))).collect(),
            connections: 0,
        };
        let (before, mut changes) = (seen.picks, BTreeSet::new());
        let mut clients: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
        for (number, step) in set["steps"].as_array().unwrap().iter().enumerate() {
            let step = step.as_str().unwrap();
            let Some((picked, expected)) = replay.step(step, &mut seen) else {
                if seen.picks > before {
                    changes.insert(step.split(' ').next().unwrap());
                }
                continue;
            };
            seen.picks += expected.len();
            seen.nobody += expected.matches('-').count();
            seen.servers.extend(expected.chars().filter(|c| *c != '-'));
            if let ["clients", family, first, picks] = step.split(' ').collect::<Vec<_>>()[..] {
                let numbers = first.parse::<u32>().unwrap()..;
                let all = numbers.filter_map(|number| client(family, number));
                clients.entry(family).or_default().extend(all.take(picks.len()));
            }
            if picked != expected {
                let short = |text: &str| text.chars().take(120).collect::<String>();
                let what = step.split(' ').next().unwrap();
                let set = format!("{} {flags} step {number} ({what})", set["name"]);
                let wrong = picked.chars().zip(expected.chars()).filter(|(a, b)| a != b).count();
                faults.push(format!(
                    "{set}: {wrong} of {} picks differ\n  kernel {}\n  ours   {}",
                    expected.len(),
                    short(&expected),
                    short(&picked)
                ));
                // What follows in this set starts from another state.
                break;
            }
        }
        seen.sets += usize::from(["add", "remove", "weigh"].iter().all(|k| changes.contains(k)));
        for (family, clients) in clients.into_iter().filter(|_| flags.is_empty()) {
            seen.clients.entry(family.to_owned()).or_default().push(clients.len());
        }
    }
    assert!(faults.is_empty(), "{scheduler}:\n{}", faults.join("\n"));
    println!("{scheduler}: {seen:?}");
    seen
}

/// Several sets of weights with changes between, each server met, and nobody.
fn replay_order(scheduler: &str) -> Seen {
    let seen = replay(scheduler);
    assert!(seen.sets >= 3 && seen.picks >= 300, "{seen:?}");
    assert!(seen.servers.len() >= 4 && seen.nobody > 0, "{seen:?}");
    seen
}

fn replay_load(scheduler: &str) {
    let seen = replay_order(scheduler);
    assert!(seen.loads >= 200, "{seen:?}");
}

fn replay_hash(scheduler: &str) {
    let seen = replay_order(scheduler);
    for family in ["v4", "v6"] {
        let clients = &seen.clients[family];
        assert!(clients.len() >= 3 && clients.iter().all(|count| *count >= 10_000), "{seen:?}");
    }
}

#[test]
fn rr_turns_as_the_kernel_does() {
    replay_order("rr");
}

#[test]
fn wrr_turns_as_the_kernel_does() {
    replay_order("wrr");
}

#[test]
fn fo_stands_by_as_the_kernel_does() {
    replay_order("fo");
}

#[test]
fn ovf_overflows_as_the_kernel_does() {
    replay_load("ovf");
}

#[test]
fn lc_picks_as_the_kernel_does() {
    replay_load("lc");
}

#[test]
fn wlc_picks_as_the_kernel_does() {
    replay_load("wlc");
}

#[test]
fn sed_picks_as_the_kernel_does() {
    replay_load("sed");
}

#[test]
fn nq_picks_as_the_kernel_does() {
    replay_load("nq");
}

#[test]
fn sh_gives_each_client_the_kernels_server() {
    replay_hash("sh");
}

#[test]
fn mh_gives_each_client_the_kernels_server() {
    replay_hash("mh");
}

#[test]
fn dh_gives_each_destination_the_kernels_server() {
    replay_order("dh");
}
