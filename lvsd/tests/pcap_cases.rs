//! The recorded packets of Linux IPVS (`tests/pcap`) through `lvsd simulate`: configuration, captures, log.

#[expect(dead_code, reason = "other tests use the rest")]
mod simulate_support;

use core::fmt::Write as _;
use lvs_testkit::golden::{self, Case, Differences, Observed};
use serde_json::Value;
use simulate_support::{Scratch, lvsd, scratch};
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/pcap")
}

/// Lines of keys with the values of JSON, which TOML reads alike.
fn keys(text: &mut String, value: &Value, keys: &[&str]) {
    for key in keys {
        writeln!(text, "{key} = {}", value[*key]).unwrap();
    }
}

fn entries<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().expect("a list")
}

/// The configuration of a case as a user would write it.
fn toml(config: &Value) -> String {
    let mut text = "[director]\nseed = 1\n[timeouts]\nprofile = \"kernel\"\n".to_owned();
    if let Some(udp) = config["timeouts"]["udp"].as_u64() {
        writeln!(text, "udp = \"{udp}s\"").unwrap();
    }
    for arm in entries(config, "arms") {
        text += "[[port]]\n";
        keys(&mut text, arm, &["name", "mac", "mtu", "addresses"]);
    }
    for neighbour in entries(config, "neighbours") {
        text += "[[neighbour]]\n";
        keys(&mut text, neighbour, &["ip", "mac"]);
    }
    for service in entries(config, "services") {
        text += "[[service]]\n";
        keys(&mut text, service, &["address", "protocol", "forwarding", "scheduler"]);
        if (&service["protocol"], &service["forwarding"]) == (&"tcp".into(), &"nat".into()) {
            // Linux leaves the options of clients alone.
            text += "trust_toa = true\n";
        }
        for server in entries(service, "servers") {
            text += "[[service.server]]\n";
            keys(&mut text, server, &["address", "weight"]);
            if let Some(kind) = service["tunnel"].get("type") {
                writeln!(text, "tunnel = {kind}").unwrap();
            }
            if let Some(port) = service["tunnel"].get("port") {
                writeln!(text, "tunnel_port = {port}").unwrap();
            }
        }
    }
    text
}

fn simulate(case: &Case, scratch: &Scratch) -> Vec<Observed> {
    scratch.write("lvsd.toml", toml(&case.config));
    let mut arguments =
        vec!["--config".to_owned(), "lvsd.toml".into(), "--out".into(), "out".into()];
    for arm in &case.arms {
        let file = case.path.join(format!("{arm}.in.pcap"));
        arguments.extend(["--in".to_owned(), format!("{arm}={}", file.display())]);
    }
    let run = lvsd(scratch, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run.code, 0, "{}: {}", case.name, run.stderr);
    let sent: Vec<_> = case.arms.iter().map(|arm| scratch.sent(arm)).collect();
    let log = scratch.log();
    let packets: Vec<&Value> = log.iter().filter(|line| line.get("input").is_some()).collect();
    assert_eq!(packets.len(), case.steps.len(), "{}", case.name);
    let observed = case.steps.iter().zip(packets).map(|(step, line)| {
        assert_eq!(line["input"], case.arms[step.arm].as_str(), "the order of arrival");
        let out = sent.iter().enumerate().flat_map(|(arm, captures)| {
            let now = captures.iter().filter(|c| c.time_ns == step.packet.time_ns);
            now.map(move |capture| (arm, capture.data.clone()))
        });
        let verdict = match line["verdict"].as_str().unwrap() {
            // The list knows one word for all that stays here.
            "learned" | "waiting" | "waiting_for_first" => "absorb",
            verdict => verdict,
        };
        let reason = line["drop"]["reason"].as_str();
        let verdict = reason.map_or(verdict.to_owned(), |reason| format!("{verdict} {reason}"));
        Observed { verdict, out: out.collect() }
    });
    let observed: Vec<Observed> = observed.collect();
    let out: usize = observed.iter().map(|seen| seen.out.len()).sum();
    assert_eq!(
        out,
        sent.iter().map(Vec::len).sum::<usize>(),
        "{}: timers sent something",
        case.name
    );
    observed
}

#[test]
fn simulations_give_what_the_kernel_made_of_the_packets() {
    let all = golden::load(root()).expect("readable cases");
    let differences = Differences::read(root().join("ours.json")).expect("a readable list");
    let (pending, now): (Vec<&Case>, Vec<&Case>) =
        all.iter().partition(|case| differences.pending.contains(&case.mode));
    // Past the harness, which keeps to itself what a passing test prints.
    let (waiting, all) = (pending.len(), all.len());
    let _ = writeln!(std::io::stderr(), "PENDING: {waiting} of {all} cases wait for their mode");
    assert!(now.len() >= 30, "cases are missing: {}", now.len());
    let scratch = scratch("pcap-cases");
    let faults: Vec<String> = now
        .into_iter()
        .flat_map(|case| case.judge(&differences, &simulate(case, &scratch)))
        .collect();
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
