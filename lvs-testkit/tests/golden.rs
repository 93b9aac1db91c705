//! The judge of recorded packets finds what differs, and what is listed as different and is not.

use lvs_testkit::build::udp;
use lvs_testkit::golden::{self, Case, Differences, Observed};
use std::path::Path;

fn pcap() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/pcap")
}

fn case(name: &str) -> Case {
    let cases = golden::load(pcap()).expect("readable");
    cases.into_iter().find(|case| case.name == name).expect("it is there")
}

/// A balancer that does as recorded.
fn faithful(case: &Case) -> Vec<Observed> {
    let out = |step: &golden::Step| step.out.iter().map(|o| (o.arm, o.frame.clone())).collect();
    let seen = |step| Observed { verdict: "forward".into(), out: out(step) };
    case.steps.iter().map(seen).collect()
}

fn differences(packets: &str) -> Differences {
    use core::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ours-{number}.json"));
    let entry = format!(r#"{{"id": "a", "kind": "todo", "reason": "b", "packets": {packets}}}"#);
    std::fs::write(&path, format!(r#"{{"pending": [], "differs": [{entry}]}}"#)).expect("writable");
    Differences::read(path).expect("sound")
}

#[test]
fn who_does_as_recorded_has_no_faults() {
    for case in golden::load(pcap()).expect("readable") {
        assert_eq!(case.judge(&Differences::default(), &faithful(&case)), Vec::<String>::new());
    }
}

#[test]
fn one_byte_a_missing_and_an_unexpected_packet_are_faults() {
    let case = case("nat/udp");
    let mut seen = faithful(&case);
    let last = seen[0].out[0].1.len() - 1;
    seen[0].out[0].1[last] ^= 1;
    seen[1].out.clear();
    seen[2].out.push((0, udp().build()));
    let faults = case.judge(&Differences::default(), &seen);
    assert_eq!(faults.len(), 3, "{faults:#?}");
    assert!(faults[0].contains(&format!("from byte {last} on")), "{}", faults[0]);
}

#[test]
fn a_listed_difference_must_be_there_and_be_what_it_says() {
    let case = case("nat/udp");
    let listed = differences(
        r#"{"nat/udp": {"1": "drop fragment", "2": "except ip.id", "3": "except ip.id"}}"#,
    );
    let mut seen = faithful(&case);
    seen[0] = Observed { verdict: "drop fragment".into(), out: Vec::new() };
    seen[1].out[0].1[18] ^= 1;
    let faults = case.judge(&listed, &seen);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].contains("packet 3") && faults[0].contains("same as recorded"));

    seen[0].verdict = "drop no_session".into();
    seen[1].out[0].1[30] ^= 1;
    seen[2].out[0].1[18] ^= 1;
    assert_eq!(case.judge(&listed, &seen).len(), 2);
    assert_eq!(listed.strays(&[]).len(), 3);
    assert!(listed.strays(&[case]).is_empty());
}
