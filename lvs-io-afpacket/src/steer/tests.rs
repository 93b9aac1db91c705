//! The program against a plain description of what it should do, through an interpreter.

use super::*;
use core::net::{Ipv4Addr, Ipv6Addr};
use lvs_core::plan::LowBits;

/// Runs a program as the kernel does; a load beyond the packet ends it with 0.
fn run(ops: &[Op], ethertype: u16, packet: &[u8]) -> u32 {
    let (mut a, mut x, mut pc) = (0u32, 0u32, 0usize);
    let load = |at: u32, n: usize| -> Option<u32> {
        let at = at as usize;
        Some(packet.get(at..at + n)?.iter().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte)))
    };
    loop {
        let op = ops[pc];
        pc += 1;
        let loaded = match op.code {
            LD_H if op.k == PROTOCOL => Some(u32::from(ethertype)),
            LD_W => load(op.k, 4),
            LD_H => load(op.k, 2),
            LD_B => load(op.k, 1),
            LD_H_X => load(x + op.k, 2),
            LD_B_X => load(x + op.k, 1),
            LDX_MSH => load(op.k, 1).map(|byte| (byte & 15) * 4),
            _ => Some(a),
        };
        let Some(loaded) = loaded else { return 0 };
        match op.code {
            LDX_MSH => x = loaded,
            LD_W | LD_H | LD_B | LD_H_X | LD_B_X => a = loaded,
            AND => a &= op.k,
            XOR_X => a ^= x,
            MUL => a = a.wrapping_mul(op.k),
            RSH => a >>= op.k,
            TAX => x = a,
            JA => pc += op.k as usize,
            JEQ => pc += usize::from(if a == op.k { op.jt } else { op.jf }),
            JSET => pc += usize::from(if a & op.k != 0 { op.jt } else { op.jf }),
            RET_K => return op.k,
            RET_A => return a,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

fn v4(dst: [u8; 4], protocol: u8, options: usize, l4: &[u8]) -> Vec<u8> {
    let mut p = vec![0u8; 20 + options];
    p[0] = 0x40 | (5 + options / 4) as u8;
    p[9] = protocol;
    p[12..16].copy_from_slice(&[192, 0, 2, 7]);
    p[16..20].copy_from_slice(&dst);
    p.extend_from_slice(l4);
    p
}

fn v6(dst: Ipv6Addr, protocol: u8, l4: &[u8]) -> Vec<u8> {
    let mut p = vec![0u8; 40];
    p[0] = 0x60;
    p[6] = protocol;
    p[8..24].copy_from_slice(&"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
    p[24..40].copy_from_slice(&dst.octets());
    p.extend_from_slice(l4);
    p
}

fn ports(source: u16, destination: u16) -> Vec<u8> {
    let [a, b] = source.to_be_bytes();
    let [c, d] = destination.to_be_bytes();
    vec![a, b, c, d, 0, 0, 0, 0]
}

fn locals() -> Vec<LocalNet> {
    // Enough networks that a conditional jump could not reach over them.
    let mut nets: Vec<_> = (0..100)
        .map(|i| LocalNet { addr: IpAddr::V4(Ipv4Addr::new(10, 9, i, 0)), prefix: 24 })
        .collect();
    for i in 0..50 {
        let addr = Ipv6Addr::new(0xfd00, 0, 0, i, 0, 0, 0, 0);
        nets.push(LocalNet { addr: IpAddr::V6(addr), prefix: 64 });
    }
    nets
}

#[test]
fn a_reply_to_a_local_address_goes_by_its_destination_port() {
    for nets in [vec![], locals()] {
        let ops = program(&nets, &[]);
        for port in [0u16, 1, 80, 1024, 33333, 65535] {
            for protocol in [6, 17, 132] {
                for options in [0, 4, 40] {
                    let p = v4([10, 9, 77, 200], protocol, options, &ports(443, port));
                    assert_eq!(run(&ops, 0x0800, &p), u32::from(port), "options {options}");
                }
                let p = v6("fd00:0:0:31::5".parse().unwrap(), protocol, &ports(443, port));
                assert_eq!(run(&ops, 0x86dd, &p), u32::from(port));
            }
        }
    }
}

#[test]
fn an_icmp_error_goes_to_the_owner_of_the_quoted_source_port() {
    let ops = program(&locals(), &[]);
    for options in [0, 8] {
        let quoted = v4([198, 51, 100, 1], 6, options, &ports(40_001, 80));
        let error = [&[3, 4, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
        assert_eq!(run(&ops, 0x0800, &v4([10, 9, 3, 1], 1, 0, &error)), 40_001);
    }
    let quoted = v6("2001:db8::80".parse().unwrap(), 6, &ports(40_002, 80));
    let error = [&[2, 0, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    assert_eq!(run(&ops, 0x86dd, &v6("fd00:0:0:1::1".parse().unwrap(), 58, &error)), 40_002);
    // An echo reply goes by its identifier, which is the local port.
    for options in [0, 8] {
        let reply = v4([10, 9, 3, 1], 1, options, &[0, 0, 1, 2, 0x9c, 0x43, 0, 1]);
        assert_eq!(run(&ops, 0x0800, &reply), 40_003);
    }
    let reply = v6("fd00:0:0:1::1".parse().unwrap(), 58, &[129, 0, 1, 2, 0x9c, 0x44, 0, 1]);
    assert_eq!(run(&ops, 0x86dd, &reply), 40_004);
    // An echo request has no quoted header: by addresses, whatever its bytes look like.
    let echo = [&[8, 0, 0, 0, 0, 0, 0, 0][..], &v4([1, 2, 3, 4], 6, 0, &ports(9, 9))].concat();
    let one = run(&ops, 0x0800, &v4([10, 9, 3, 1], 1, 0, &echo));
    let other = run(&ops, 0x0800, &v4([10, 9, 3, 1], 1, 0, &[8, 0, 0, 0]));
    assert_eq!(one, other);
}

#[test]
fn traffic_to_other_addresses_spreads_by_source_and_stays_with_its_flow() {
    let ops = program(&locals(), &[]);
    let mut members = [[0u32; 4]; 2];
    for port in 1024..3072u16 {
        let four = v4([203, 0, 113, 1], 6, 0, &ports(port, 80));
        let six = v6("2001:db8::80".parse().unwrap(), 6, &ports(port, 80));
        let picks = [run(&ops, 0x0800, &four), run(&ops, 0x86dd, &six)];
        assert_eq!(picks[0], run(&ops, 0x0800, &v4([203, 0, 113, 1], 6, 8, &ports(port, 80))));
        for (counts, pick) in members.iter_mut().zip(picks) {
            counts[pick as usize % 4] += 1;
        }
    }
    assert!(members.iter().flatten().all(|n| (384..=640).contains(n)), "{members:?}");
}

#[test]
fn all_fragments_of_a_datagram_go_to_one_member() {
    for nets in [vec![], locals()] {
        let ops = program(&nets, &[]);
        let mut first = v4([10, 9, 1, 1], 17, 0, &ports(53, 1000));
        first[6] = 0x20;
        let mut later = v4([10, 9, 1, 1], 17, 0, &[0xab; 64]);
        later[7] = 0xb9;
        assert_eq!(run(&ops, 0x0800, &first), run(&ops, 0x0800, &later));
    }
}

#[test]
fn runts_and_other_protocols_go_to_the_first_member() {
    let ops = program(&locals(), &[]);
    assert_eq!(run(&ops, 0x0806, &[0xff; 28]), 0);
    assert_eq!(run(&ops, 0x0800, &[0x45; 10]), 0);
    assert_eq!(run(&ops, 0x86dd, &[0x60; 30]), 0);
    assert!(ops.len() <= 4096, "the kernel takes no more: {}", ops.len());
}

#[test]
fn a_prefix_that_ends_inside_a_word_matches_exactly() {
    let net = LocalNet { addr: "fd12:3456:7800::".parse().unwrap(), prefix: 41 };
    let ops = program(&[net, LocalNet { addr: "10.1.2.128".parse().unwrap(), prefix: 25 }], &[]);
    let port = |addr: &str| run(&ops, 0x86dd, &v6(addr.parse().unwrap(), 6, &ports(5, 777)));
    assert_eq!(port("fd12:3456:7801::1"), 777);
    assert_eq!(port("fd12:3456:787f:ffff::1"), 777);
    assert_ne!(port("fd12:3456:7880::1"), 777);
    assert_ne!(port("fd12:3457:7800::1"), 777);
    assert_eq!(run(&ops, 0x0800, &v4([10, 1, 2, 129], 6, 0, &ports(5, 777))), 777);
    assert_ne!(run(&ops, 0x0800, &v4([10, 1, 2, 127], 6, 0, &ports(5, 777))), 777);
}

fn host(addr: &str) -> LocalNet {
    LocalNet { addr: addr.parse().unwrap(), prefix: 128 }
}

/// What a server answers without a local address of ours (NAT) goes where its client's packets go, and to the
/// member that `lvs_core` computes.
#[test]
fn translated_answers_follow_their_clients_and_the_plan_knows_where() {
    let virtuals = [host("203.0.113.1"), host("2001:db8::80")];
    for nets in [vec![], locals()] {
        let ops = program(&nets, &virtuals);
        for port in (1024..4000u16).step_by(7) {
            let there = v4([203, 0, 113, 1], 6, 4, &ports(port, 80));
            // The client is 192.0.2.7; the answer comes from a server to it.
            let mut back = v4([192, 0, 2, 7], 6, 0, &ports(8080, port));
            back[12..16].copy_from_slice(&[10, 1, 0, 11]);
            let pick = run(&ops, 0x0800, &there);
            assert_eq!(pick, run(&ops, 0x0800, &back));
            let ip = Ipv4Addr::new(192, 0, 2, 7).into();
            assert_eq!(pick % 4, u32::from(LowBits::fanout_member(ip, port, 4)));

            let there = v6("2001:db8::80".parse().unwrap(), 6, &ports(port, 80));
            let client: Ipv6Addr = "2001:db8::9".parse().unwrap();
            let mut back = v6(client, 6, &ports(8080, port));
            back[8..24].copy_from_slice(&"fd01::11".parse::<Ipv6Addr>().unwrap().octets());
            let pick = run(&ops, 0x86dd, &there);
            assert_eq!(pick, run(&ops, 0x86dd, &back));
            assert_eq!(pick % 8, u32::from(LowBits::fanout_member(client.into(), port, 8)));
        }
        for id in [0u16, 7, 40_000] {
            let [a, b] = id.to_be_bytes();
            let there = v4([203, 0, 113, 1], 1, 4, &[8, 0, 1, 2, a, b, 0, 1]);
            let mut back = v4([192, 0, 2, 7], 1, 0, &[0, 0, 3, 4, a, b, 0, 1]);
            back[12..16].copy_from_slice(&[10, 1, 0, 11]);
            let pick = run(&ops, 0x0800, &there);
            assert_eq!(pick, run(&ops, 0x0800, &back), "echo, too");
            let ip = Ipv4Addr::new(192, 0, 2, 7).into();
            assert_eq!(pick % 4, u32::from(LowBits::fanout_member(ip, id, 4)));

            let there = v6("2001:db8::80".parse().unwrap(), 58, &[128, 0, 1, 2, a, b, 0, 1]);
            let client: Ipv6Addr = "2001:db8::9".parse().unwrap();
            let mut back = v6(client, 58, &[129, 0, 3, 4, a, b, 0, 1]);
            back[8..24].copy_from_slice(&"fd01::11".parse::<Ipv6Addr>().unwrap().octets());
            let pick = run(&ops, 0x86dd, &there);
            assert_eq!(pick, run(&ops, 0x86dd, &back));
            assert_eq!(pick % 8, u32::from(LowBits::fanout_member(client.into(), id, 8)));
        }
        if let Some(net) = nets.first() {
            let IpAddr::V4(local) = net.addr else { panic!() };
            let reply = v4(local.octets(), 6, 0, &ports(80, 4321));
            assert_eq!(run(&ops, 0x0800, &reply), 4321, "a local address still goes by port");
        }
    }
}
