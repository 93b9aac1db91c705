//! `lvsd demo` as a newcomer meets it: what it prints, and the exit code.

use core::net::SocketAddr;
use serde_json::Value;
use std::process::{Command, Output};

fn demo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lvsd"))
        .arg("demo")
        .args(arguments)
        .output()
        .expect("the binary starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(arguments: &[&str]) -> Value {
    let output = demo(arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}

fn address(value: &Value) -> SocketAddr {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value}"))
}

#[test]
fn every_connection_carries_its_bytes_and_every_server_gets_its_share() {
    for mode in ["fullnat", "nat"] {
        let said = json(&[mode, "--json", "--bytes", "70000"]);
        assert_eq!((&said["pass"], &said["mode"]), (&Value::Bool(true), &Value::from(mode)));
        let connections = said["connections"].as_array().expect("a list");
        assert_eq!(connections.len(), 6);
        let v6 = connections.iter().filter(|c| address(&c["client"]).is_ipv6()).count();
        assert_eq!(v6, 3, "half of them in each family");
        for connection in connections {
            for bytes in ["bytes_sent", "bytes_received", "bytes_at_server"] {
                assert_eq!(connection[bytes], 70_000, "{connection:#}");
            }
        }
        let served: Vec<_> = said["served"].as_object().expect("by name").values().collect();
        assert_eq!(served, [2, 2, 2]);
        assert_eq!(said["counters"]["sessions_opened"], 6);
        assert_eq!(said["counters"]["sessions_expired"], 6);
    }
}

#[test]
fn fullnat_shows_servers_a_local_address_and_tells_the_client_in_an_option() {
    for connection in
        json(&["--json", "--bytes", "3000"])["connections"].as_array().expect("a list")
    {
        let (client, peer) = (address(&connection["client"]), address(&connection["peer_seen"]));
        assert_eq!(address(&connection["client_from_toa"]), client);
        assert_ne!(peer.ip(), client.ip());
        let local = ["10.1.0.100", "10.1.0.101", "fd01::100"];
        assert!(local.contains(&peer.ip().to_string().as_str()), "{peer}");
    }
}

#[test]
fn nat_shows_servers_the_client() {
    for connection in
        json(&["nat", "--json", "--bytes", "3000"])["connections"].as_array().expect("a list")
    {
        assert_eq!(connection["peer_seen"], connection["client"]);
        assert_eq!(connection["client_from_toa"], Value::Null);
    }
}

#[test]
fn the_text_names_every_connection_and_what_to_do_next() {
    let output = demo(&["--bytes", "3000"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("PASS  client")).count(), 6, "{text}");
    assert_eq!(text.matches("from TOA").count(), 6, "{text}");
    assert!(text.contains("0 sessions and 0 local ports are left"), "{text}");
    assert!(
        text.trim_end().lines().last().is_some_and(|line| line.contains("lvsd lab run fullnat"))
    );
}

#[test]
fn the_same_seed_gives_the_same_text_and_another_seed_another() {
    let run = |seed| stdout(&demo(&["--bytes", "3000", "--loss", "20000", "--seed", seed]));
    assert_eq!(run("7"), run("7"));
    assert_ne!(run("7"), run("8"));
}

#[test]
fn lost_frames_cost_time_and_no_byte() {
    for seed in ["1", "2", "3"] {
        for mode in ["fullnat", "nat"] {
            let arguments = [mode, "--json", "--bytes", "50000", "--loss", "30000", "--seed", seed];
            let said = json(&arguments);
            assert_eq!(said["pass"], true, "{said:#}");
            assert!(said["virtual_seconds"].as_f64().expect("a number") > 1.0);
        }
    }
}

#[test]
fn a_network_that_carries_nothing_fails_and_says_which_connection() {
    // One frame in five is lost on each of four hops, and nobody waits for ever.
    let output = demo(&["--bytes", "100000000", "--loss", "200000", "--json"]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!((output.status.code(), &said["pass"]), (Some(1), &Value::Bool(false)));
    assert!(said["stuck"].as_str().is_some_and(|why| why.contains("bulk to 10.0.0.80:80")));
    let faults = said["connections"][0]["faults"].as_array().expect("a list");
    assert!(!faults.is_empty());
}

#[test]
fn the_configuration_that_is_printed_can_be_used() {
    for mode in ["fullnat", "nat"] {
        let text = stdout(&demo(&[mode, "--print-config"]));
        let loaded = lvsd::config::parse("demo", &text).expect("valid");
        assert_eq!(loaded.config.services.len(), 2);
    }
}
