//! What must hold in a lab: pure judgement of what the client, the director and the kernels said.

use super::report::Check;
use super::scenario::{SERVERS, Scenario};
use core::net::SocketAddr;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The balance may be off by so many connections: those that a retransmitted SYN or a client that
/// gave up has cost.
const BALANCE_SLACK: u64 = 2;

fn address(value: &Value) -> Option<SocketAddr> {
    value.as_str()?.parse().ok()
}

/// The first few examples of what went wrong.
fn examples(wrong: &[&Value]) -> String {
    let shown: Vec<_> = wrong.iter().take(3).map(ToString::to_string).collect();
    format!("{} wrong, for example {}", wrong.len(), shown.join(" "))
}

/// All that can be said about many requests.
pub(crate) fn requests(
    scenario: Scenario,
    seen: &[Value],
    expected: usize,
    at_once: usize,
) -> Vec<Check> {
    let mut checks = vec![answers(seen, expected, at_once), peers(scenario, seen)];
    if scenario.balances() {
        checks.push(client_addresses(scenario, seen));
        checks.push(balance(seen));
    }
    checks
}

fn connections(seen: &[Value]) -> BTreeMap<&str, &Value> {
    seen.iter().filter_map(|r| Some((r["connection"].as_str()?, r))).collect()
}

fn answers(seen: &[Value], expected: usize, at_once: usize) -> Check {
    let bad = |r: &&Value| r["status"] != "200" || r["right"] != true;
    let wrong: Vec<_> = seen.iter().filter(bad).collect();
    let connections = connections(seen).len();
    let pass = wrong.is_empty() && seen.len() == expected && expected > 0;
    let what = if wrong.is_empty() {
        format!(
            "{} of {expected} requests over {connections} connections, {at_once} at once: every \
             answer 200, every byte right",
            seen.len()
        )
    } else {
        format!("{} of {expected} requests answered, {}", seen.len(), examples(&wrong))
    };
    Check::new("requests", pass, what)
        .figure("requests", seen.len())
        .figure("connections", connections)
        .figure("wrong", wrong.len())
}

fn peers(scenario: Scenario, seen: &[Value]) -> Check {
    let right = |r: &Value| {
        let (Some(peer), Some(client)) = (address(&r["peer"]), address(&r["client"])) else {
            return false;
        };
        scenario.peer_is_right(peer, client)
    };
    let wrong: Vec<_> = seen.iter().filter(|r| !right(r)).collect();
    let who = if scenario.is_fullnat() { "a Local Address" } else { "the client itself" };
    let what = if wrong.is_empty() {
        format!("the servers see {who} as their peer")
    } else {
        format!("the servers should see {who} as their peer: {}", examples(&wrong))
    };
    Check::new("peer", wrong.is_empty() && !seen.is_empty(), what)
}

fn client_addresses(scenario: Scenario, seen: &[Value]) -> Check {
    let right = |r: &Value| match (address(&r["client_from_toa"]), address(&r["client"])) {
        (toa @ Some(_), client) => scenario.tells_client().is_some() && toa == client,
        (None, _) => scenario.tells_client().is_none() && r["client_from_toa"].is_null(),
    };
    let wrong: Vec<_> = seen.iter().filter(|r| !right(r)).collect();
    let what = match (scenario.tells_client(), wrong.is_empty()) {
        (Some(by), true) => {
            format!("the servers read the client's real address and port from {by}")
        }
        (None, true) => "no TOA option reaches the servers".to_owned(),
        (Some(by), false) => {
            format!("{by} should carry the client's address: {}", examples(&wrong))
        }
        (None, false) => format!("no TOA was to be sent: {}", examples(&wrong)),
    };
    let name = if scenario == Scenario::Proxy { "proxy" } else { "toa" };
    Check::new(name, wrong.is_empty() && !seen.is_empty(), what)
}

/// New connections are shared out by weight.
fn balance(seen: &[Value]) -> Check {
    let connections = connections(seen);
    let total = connections.len() as u64;
    let weights: u64 = SERVERS.iter().map(|s| u64::from(s.weight)).sum();
    let mut pass = total > 0;
    let mut parts = Vec::new();
    for server in &SERVERS {
        let got = connections.values().filter(|r| r["server"] == server.name).count() as u64;
        let fair = total * u64::from(server.weight) / weights.max(1);
        pass &= got.abs_diff(fair) <= BALANCE_SLACK;
        parts.push(format!("{} {got}", server.name));
    }
    Check::new("balance", pass, format!("connections by server: {}", parts.join(", ")))
}

/// All datagrams of a socket meet the same server.
pub(crate) fn one_server(seen: &[Value]) -> Check {
    let mut servers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (connection, server) in
        seen.iter().filter_map(|r| Some((r["connection"].as_str()?, r["server"].as_str()?)))
    {
        servers.entry(connection).or_default().insert(server);
    }
    let torn = servers.values().filter(|servers| servers.len() > 1).count();
    let what = format!("{} of {} sockets met more than one server", torn, servers.len());
    Check::new("one-server", torn == 0 && !servers.is_empty(), what)
}

/// The director has seen what clients sent to each server, and no answer.
pub(crate) fn past(status: &Value) -> Check {
    let sum = |side: usize| -> Vec<u64> {
        let servers = status["servers"].as_array().into_iter().flatten();
        servers.map(|server| server["packets"][side].as_u64().unwrap_or(u64::MAX)).collect()
    };
    let (requests, answers) = (sum(0), sum(1));
    let pass = !requests.is_empty()
        && requests.iter().all(|count| (1..u64::MAX).contains(count))
        && answers.iter().all(|count| *count == 0);
    let what =
        format!("packets to the servers {requests:?}, answers through the director {answers:?}");
    Check::new("past", pass, what)
}

/// One long transfer, with its speed in MB/s (10^6 bytes).
pub(crate) fn transfer(id: &'static str, seen: &Value, bytes: u64) -> Check {
    let right = seen["right"] == true && seen["status"] == "200" && seen["bytes"] == bytes;
    let seconds = seen["seconds"].as_f64().unwrap_or(0.0);
    if !right || seconds <= 0.0 {
        return Check::new(id, false, format!("{} MiB: {seen}", bytes >> 20));
    }
    let speed = bytes as f64 / seconds / 1e6;
    let what = format!("{} MiB in one connection, every byte right: {speed:.0} MB/s", bytes >> 20);
    Check::new(id, true, what).figure("mb_per_s", speed.round())
}

/// Counters of `/proc/net/snmp` by `Protocol.Name`.
pub(crate) fn kernel_counters(snmp: &str) -> BTreeMap<String, i64> {
    let mut counters = BTreeMap::new();
    let lines: Vec<_> = snmp.lines().collect();
    for pair in lines.chunks_exact(2) {
        let mut names = pair[0].split(' ');
        let protocol = names.next().unwrap_or_default().trim_end_matches(':');
        for (name, value) in names.zip(pair[1].split(' ').skip(1)) {
            counters.insert(format!("{protocol}.{name}"), value.parse().unwrap_or(0));
        }
    }
    counters
}

/// Counters of `/proc/net/snmp6`, named as there.
pub(crate) fn kernel_counters_v6(snmp6: &str) -> BTreeMap<String, i64> {
    let pair = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    snmp6.lines().filter_map(pair).collect()
}

/// The director's kernel must neither answer nor forward: between the two readings it has sent no
/// IPv4 packet of its own, and of IPv6 no more than what makes an interface known.
pub(crate) fn silence(before: &BTreeMap<String, i64>, after: &BTreeMap<String, i64>) -> Check {
    let names = ["Ip.OutRequests", "Ip.ForwDatagrams", "Tcp.OutRsts", "Icmp.OutMsgs"];
    let mut noise = Vec::new();
    for name in names {
        match (before.get(name), after.get(name)) {
            (Some(a), Some(b)) if a == b => {}
            (a, b) => noise.push(format!("{name} {a:?} -> {b:?}")),
        }
    }
    for name in ["Ip6OutForwDatagrams", "Icmp6OutDestUnreachs", "Icmp6OutPktTooBigs"] {
        if before.get(name) != after.get(name) {
            noise.push(name.to_owned());
        }
    }
    let what = if noise.is_empty() {
        "the director's kernel sent nothing itself".to_owned()
    } else {
        format!("the director's kernel sent packets of its own: {}", noise.join(", "))
    };
    Check::new("silence", noise.is_empty(), what)
}

/// No end host has seen a wrong checksum.
pub(crate) fn checksums(hosts: &[(&str, BTreeMap<String, i64>)]) -> Check {
    let mut bad = Vec::new();
    for (host, counters) in hosts {
        // Not Tcp.InErrs: that also counts a repeated SYN+ACK, which is no damage.
        for name in ["Ip.InHdrErrors", "Tcp.InCsumErrors"] {
            match counters.get(name) {
                Some(0) => {}
                other => bad.push(format!("{host} {name} {other:?}")),
            }
        }
        for name in ["Udp.InCsumErrors", "Ip6InHdrErrors", "Udp6InCsumErrors"] {
            if counters.get(name).is_some_and(|count| *count != 0) {
                bad.push(format!("{host} {name}"));
            }
        }
    }
    let what = if bad.is_empty() {
        "no kernel has dropped a segment as damaged".to_owned()
    } else {
        format!("damaged segments: {}", bad.join(", "))
    };
    Check::new("checksums", bad.is_empty() && !hosts.is_empty(), what)
}

/// Sessions and local ports that a status file counts, once the director has seen packets.
pub(crate) fn left_over(status: &Value) -> Option<(u64, u64)> {
    status["rx"].as_u64().filter(|rx| *rx > 0)?;
    Some((status["sessions"].as_u64()?, status["ports_in_use"].as_u64()?))
}

/// The drops that a status file counts, for a note.
pub(crate) fn drops(status: &Value) -> Option<String> {
    let drops = status["drops"].as_object()?;
    let counted: BTreeSet<_> = drops
        .iter()
        .filter(|(_, n)| n.as_u64() != Some(0))
        .map(|(id, n)| format!("{id} {n}"))
        .collect();
    Some(counted.into_iter().collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn request(connection: usize, server: &str, peer: &str, toa: Option<&str>) -> Value {
        json!({
            "connection": connection.to_string(), "status": "200", "right": true,
            "client": "10.0.0.2:40000", "server": server, "peer": peer, "client_from_toa": toa,
        })
    }

    fn good(scenario: Scenario) -> Vec<Value> {
        let peer = match (scenario, scenario.is_fullnat()) {
            (Scenario::FullnatV6, _) => "[fd01::100]:1025",
            (_, true) => "10.1.0.100:1025",
            (_, false) => "10.0.0.2:40000",
        };
        let toa = scenario.tells_client().map(|_| "10.0.0.2:40000");
        (0..20).map(|i| request(i, SERVERS[i % 2].name, peer, toa)).collect()
    }

    fn failing(scenario: Scenario, seen: &[Value]) -> Vec<&'static str> {
        requests(scenario, seen, 20, 16).iter().filter(|c| !c.pass).map(|c| c.id).collect()
    }

    #[test]
    fn a_good_run_passes_in_every_scenario() {
        for scenario in super::super::scenario::ALL {
            assert!(failing(scenario, &good(scenario)).is_empty());
        }
    }

    #[test]
    fn each_fault_fails_its_own_check() {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut seen = good(Scenario::Fullnat);
            change(&mut seen[7]);
            failing(Scenario::Fullnat, &seen)
        };
        assert_eq!(with(&|r| r["status"] = json!("404")), ["requests"]);
        assert_eq!(with(&|r| r["right"] = json!(false)), ["requests"]);
        assert_eq!(with(&|r| r["peer"] = json!("10.0.0.2:40000")), ["peer"]);
        assert_eq!(with(&|r| r["peer"] = json!("10.1.0.1:40000")), ["peer"]);
        assert_eq!(with(&|r| r["client_from_toa"] = json!("10.0.0.2:40001")), ["toa"]);
        assert_eq!(with(&|r| r["client_from_toa"] = Value::Null), ["toa"]);
        assert_eq!(
            with(&|r| *r = json!({"error": "reset", "connection": "7"})),
            ["requests", "peer", "toa"]
        );
    }

    #[test]
    fn toa_in_nat_mode_and_missing_requests_fail() {
        let mut seen = good(Scenario::Nat);
        seen[0]["client_from_toa"] = json!("10.0.0.2:40000");
        assert_eq!(failing(Scenario::Nat, &seen), ["toa"]);
        assert_eq!(failing(Scenario::Nat, &good(Scenario::Nat)[..19]), ["requests"]);
        assert_eq!(failing(Scenario::Nat, &[]), ["requests", "peer", "toa", "balance"]);
    }

    #[test]
    fn the_balance_counts_connections_and_allows_a_slip_of_two() {
        let share = |first: usize| -> Vec<Value> {
            (0..20).map(|i| request(i, SERVERS[usize::from(i >= first)].name, "", None)).collect()
        };
        assert!(balance(&share(10)).pass && balance(&share(8)).pass && balance(&share(12)).pass);
        assert!(!balance(&share(7)).pass && !balance(&share(13)).pass && !balance(&share(20)).pass);
        // Many requests over one connection are one decision of the scheduler.
        let kept = (0..100).map(|_| request(0, "server1", "", None)).collect::<Vec<_>>();
        assert!(balance(&[kept, share(10)].concat()).pass);
    }

    #[test]
    fn a_socket_that_met_two_servers_fails() {
        let seen = good(Scenario::Udp);
        assert!(one_server(&seen).pass && !one_server(&[]).pass);
        let again = request(3, SERVERS[0].name, "", None);
        assert!(!one_server(&[seen, vec![again]].concat()).pass);
    }

    #[test]
    fn an_answer_through_the_director_or_an_idle_server_fails() {
        let servers = |packets: [[u64; 2]; 2]| json!({ "servers": packets.map(|packets| json!({ "packets": packets })) });
        assert!(past(&servers([[7, 0], [9, 0]])).pass);
        assert!(!past(&servers([[7, 0], [9, 1]])).pass && !past(&servers([[7, 0], [0, 0]])).pass);
        assert!(!past(&json!({ "servers": [{}] })).pass && !past(&Value::Null).pass);
    }

    #[test]
    fn counters_of_ipv6_are_read_by_name() {
        let counters = kernel_counters_v6("Ip6InReceives   \t7\nIcmp6OutDestUnreachs\t 0\n\n");
        assert_eq!(counters["Ip6InReceives"], 7);
        assert_eq!(counters.len(), 2);
    }

    #[test]
    fn a_transfer_needs_its_bytes_and_its_time() {
        let seen = json!({"right": true, "status": "200", "bytes": 4_000_000, "seconds": 2.0});
        let check = transfer("download", &seen, 4_000_000);
        assert!(check.pass);
        assert_eq!(check.figures["mb_per_s"], 2.0);
        assert!(!transfer("download", &seen, 4_000_001).pass);
        assert!(!transfer("download", &json!({"error": "reset"}), 4_000_000).pass);
        assert!(!transfer("download", &Value::Null, 4_000_000).pass);
    }

    #[test]
    fn kernel_counters_are_read_by_name_and_any_packet_breaks_the_silence() {
        let text = |out: i64, rst: i64| {
            format!(
                "Ip: Forwarding OutRequests ForwDatagrams InHdrErrors\nIp: 2 {out} 0 0\nIcmp: OutMsgs\nIcmp: 0\n\
                 Tcp: MaxConn OutRsts InErrs InCsumErrors\nTcp: -1 {rst} 0 0\n"
            )
        };
        let before = kernel_counters(&text(5, 0));
        assert_eq!(before["Tcp.MaxConn"], -1);
        assert!(silence(&before, &before).pass);
        assert!(!silence(&before, &kernel_counters(&text(6, 0))).pass);
        assert!(!silence(&before, &kernel_counters(&text(5, 1))).pass);
        assert!(!silence(&BTreeMap::new(), &BTreeMap::new()).pass, "no counters, no statement");
        assert!(checksums(&[("client", before.clone())]).pass);
        let damaged = kernel_counters(&text(5, 0).replace("-1 0 0 0", "-1 0 0 3"));
        assert!(!checksums(&[("client", before), ("server1", damaged)]).pass);
    }

    #[test]
    fn a_status_without_its_numbers_is_not_an_empty_table() {
        assert_eq!(left_over(&json!({"sessions": 0, "ports_in_use": 2, "rx": 9})), Some((0, 2)));
        assert_eq!(left_over(&json!({"sessions": 0, "ports_in_use": 0, "rx": 0})), None);
        assert_eq!(left_over(&json!({"sessions": 0, "rx": 9})), None);
        assert_eq!(left_over(&Value::Null), None);
        assert_eq!(drops(&json!({"drops": {"b": 2, "a": 1, "z": 0}})).unwrap(), "a 1, b 2");
    }
}
