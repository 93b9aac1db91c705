//! The recorded packets of Linux IPVS (`tests/pcap`) through the director, one at a time and in bursts.

mod stage;

use lvs_testkit::golden::{self, Case, Differences};
use std::io::Write as _;
use std::path::Path;

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/pcap")
}

/// The cases of modes that there are, and the differences. Says how many are left out.
fn cases() -> (Vec<Case>, Differences) {
    let all = golden::load(root()).expect("readable cases");
    let differences = Differences::read(root().join("ours.json")).expect("a readable list");
    assert!(all.len() >= 102, "cases are missing: {}", all.len());
    assert_eq!(differences.strays(&all), Vec::<String>::new(), "differences of no packet");
    let known = |mode: &String| all.iter().any(|case| case.mode == *mode);
    assert!(differences.pending.iter().all(known), "pending modes that no case has");
    let (pending, now): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|case| differences.pending.contains(&case.mode));
    // Past the harness, which keeps to itself what a passing test prints.
    let _ = writeln!(
        std::io::stderr(),
        "PENDING: {} of {} cases wait for the modes {}",
        pending.len(),
        pending.len() + now.len(),
        differences.pending.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    );
    (now, differences)
}

/// What every mode has to be put into.
const SITUATIONS: [&str; 16] = [
    "tcp-life",
    "client-reset",
    "server-reset",
    "half-open",
    "udp",
    "zero-checksum",
    "icmp-from-client",
    "icmp-from-server",
    "icmp-from-router",
    "mtu-df",
    "mtu-no-df",
    "fragments",
    "ttl-1",
    "odd-options",
    "port-reuse",
    "no-syn",
];

#[test]
fn every_mode_has_been_recorded_in_every_situation() {
    let (cases, _) = cases();
    for mode in ["nat", "dr", "tun-ipip", "tun-gre", "tun-gue"] {
        for situation in SITUATIONS {
            let name = format!("{mode}/{situation}");
            let case = cases.iter().find(|case| case.name == name);
            let case = case.unwrap_or_else(|| panic!("{name} is missing or pending"));
            assert!(!case.steps.is_empty(), "{name}");
        }
    }
}

#[test]
fn each_packet_gives_what_the_kernel_made_of_it() {
    let (cases, differences) = cases();
    let faults: Vec<String> = cases
        .iter()
        .flat_map(|case| case.judge(&differences, &stage::one_by_one(case).observed))
        .collect();
    let packets: usize = cases.iter().map(|case| case.steps.len()).sum();
    println!("{} cases, {packets} packets", cases.len());
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
    assert!(packets >= 200, "{packets}");
}

/// An ICMP error is no packet of the session that it is about: segments on the short way may overtake it.
fn is_error(frame: &&Vec<u8>) -> bool {
    let kinds: &[u8] = &[3, 4, 11, 12];
    match frame[12..14] {
        [0x08, 0x00] => frame[23] == 1 && kinds.contains(&frame[34]),
        _ => frame[20] == 58 && frame[54] < 128,
    }
}

#[test]
fn bursts_give_the_same_frames_in_the_same_order() {
    let (cases, _) = cases();
    for case in &cases {
        let (single, burst) = (stage::one_by_one(case), stage::in_bursts(case));
        for arm in 0..case.arms.len() {
            let [single, burst] = [&single, &burst].map(|run| {
                let sent = run.sent(arm).into_iter();
                sent.partition::<Vec<_>, _>(is_error)
            });
            assert_eq!(single, burst, "{} on {}", case.name, case.arms[arm]);
        }
        assert_eq!(single.counters, burst.counters, "{}", case.name);
    }
}

/// The kernel sends fragments when their datagram is whole, the director when it has the first one. Of each datagram
/// that leaves the kernel the same frames leave, once. In tunnels the kernel fragments the outer packet instead.
#[test]
fn fragments_of_whole_datagrams_leave_as_the_kernel_sends_them() {
    let (cases, _) = cases();
    for name in ["nat/fragments", "dr/fragments"] {
        let case = cases.iter().find(|case| case.name == name).expect("a case");
        let run = stage::one_by_one(case);
        let tiny = |step: &&golden::Step| !step.what.contains("the first of 8 bytes");
        let recorded = case.steps.iter().filter(tiny).flat_map(|step| &step.out);
        let mut count = 0;
        for output in recorded {
            let sent = run.sent(output.arm).into_iter();
            assert_eq!(
                sent.filter(|frame| **frame == output.frame).count(),
                1,
                "{}: {:02x?}",
                case.name,
                output.frame
            );
            count += 1;
        }
        assert!(count >= 9, "{}: {count}", case.name);
    }
}
