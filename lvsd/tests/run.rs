//! `lvsd run` as an operator meets it, in network namespaces of its own: started, stopped, killed.
//!
//! Each test runs as root in a new network namespace where it is root, and rootless in a new user
//! namespace where the system allows that. Where neither works it says SKIPPED and why.

mod run_support;

use lvs_os::process::PidFd;
use lvs_os::signal::{self, Signal};
use run_support::{CONFIG, DEADLINE, HOLES, Running, Scratch, Space, in_namespaces};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn run(space: &Space, config: &Path) -> Output {
    let arguments = [Path::new("run"), Path::new("--config"), config];
    let command = &mut space.command(env!("CARGO_BIN_EXE_lvsd"));
    command.args(arguments).output().expect("the binary starts")
}

fn ended(pid: u32) -> bool {
    PidFd::open(pid).map_or(true, |process| process.wait_exit(DEADLINE).expect("waiting works"))
}

#[test]
fn sigterm_and_sigint_exit_with_0_and_leave_no_route_and_no_process() {
    in_namespaces(|space| {
        for signal in [Signal::Terminate, Signal::Interrupt] {
            let scratch = Scratch::new("stop", space);
            let mut running = Running::start(space, &scratch);
            assert_eq!(space.blackholes(), HOLES);
            let data = running.data_pid();
            let (status, last) = running.stop(signal);
            assert_eq!(status.code(), Some(0));
            assert_eq!(last["state"], "stopped");
            assert_eq!(space.blackholes(), [""; 0]);
            assert!(ended(data));
        }
    });
}

#[test]
fn a_killed_data_process_is_started_again_and_the_kernel_stays_silent_meanwhile() {
    in_namespaces(|space| {
        let scratch = Scratch::new("kill", space);
        let mut running = Running::start(space, &scratch);
        for restarts in 1..=2 {
            let old = running.data_pid();
            signal::send(old, Signal::Kill).expect("it runs");
            let status = running.until("a new data process", |status| {
                status["restarts"] == restarts && status["state"] == "running"
            });
            assert_ne!(status["data_pid"], old);
            assert_eq!(space.blackholes(), HOLES);
        }
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
        assert_eq!(space.blackholes(), [""; 0]);
    });
}

#[test]
fn the_data_process_has_no_capability_and_no_way_to_get_one() {
    in_namespaces(|space| {
        let scratch = Scratch::new("caps", space);
        let mut running = Running::start(space, &scratch);
        let status = fs::read_to_string(format!("/proc/{}/status", running.data_pid()))
            .expect("the data process lives");
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.expect("the kernel shows it").trim().to_owned()
        };
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
            assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set} ({})", space.what);
        }
        assert_eq!(field("NoNewPrivs:"), "1");
        if space.what == "root" {
            assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
            assert_eq!(field("Groups:"), "");
        }
    });
}

#[test]
fn the_data_process_ends_with_its_supervisor_and_the_next_run_takes_its_routes_over() {
    in_namespaces(|space| {
        let scratch = Scratch::new("orphan", space);
        let mut running = Running::start(space, &scratch);
        let data = running.data_pid();
        running.child.kill().expect("it runs");
        running.child.wait().expect("ours");
        assert!(ended(data));
        assert_eq!(space.blackholes(), HOLES);
        drop(scratch);
        drop(running);
        let scratch = Scratch::new("orphan", space);
        let running = Running::start(space, &scratch);
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
        assert_eq!(space.blackholes(), [""; 0]);
    });
}

#[test]
fn a_route_of_somebody_else_is_left_alone_and_mentioned_where_it_is_no_blackhole() {
    in_namespaces(|space| {
        space.shell("ip route add blackhole 10.77.0.80").expect("root here");
        space.shell("ip route add 10.77.0.100/32 dev d0").expect("root here");
        let scratch = Scratch::new("foreign", space);
        let running = Running::start(space, &scratch);
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
        assert_eq!(space.blackholes(), ["10.77.0.80"]);
        let said = fs::read_to_string(scratch.path("stderr")).expect("kept");
        let mentioned: Vec<_> =
            said.lines().filter(|line| line.contains("no blackhole route")).collect();
        assert_eq!(mentioned.len(), 1, "{said}");
        assert!(mentioned[0].contains("route for 10.77.0.100: "), "{said}");
        let routes = space.shell("ip route show 10.77.0.100").expect("ip works");
        assert!(routes.contains("dev d0"), "{routes}");
    });
}

#[test]
fn the_status_counts_packets_and_the_reasons_of_drops() {
    in_namespaces(|space| {
        let scratch = Scratch::new("status", space);
        let mut running = Running::start(space, &scratch);
        // The other end of the cable asks for a neighbour that is not the director's.
        let ask = "ip address add 10.79.0.1/24 dev c0 && bash -c 'echo > /dev/udp/10.79.0.2/9'";
        space.shell(ask).expect("root here");
        signal::send(running.child.id(), Signal::User1).expect("it runs");
        let status = running.until("the reason of a drop", |status| {
            status["drops"]["arp_for_other"].as_u64() >= Some(1)
        });
        assert!(status["rx"].as_u64() >= Some(1), "{status}");
        for key in ["sessions", "ports_in_use", "rx", "tx"] {
            assert!(status[key].is_u64(), "{key} in {status}");
        }
        assert!(status["drops"].is_object());
        assert_eq!(status["ports"][0]["name"], "d0");
    });
}

/// Free huge pages of 2 MiB that were reserved.
fn reserved_pages() -> u64 {
    let path = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    fs::read_to_string(path).map_or(0, |text| text.trim().parse().unwrap_or(0))
}

#[test]
fn session_memory_is_all_there_before_the_first_packet_and_is_told_by_its_pages() {
    in_namespaces(|space| {
        let scratch = Scratch::new("memory", space);
        let mut running = Running::start(space, &scratch);
        let status = running.until("memory", |status| status["memory"].is_object());
        let part = |kind: &str| status["memory"][kind].as_u64().expect("bytes");
        let all = part("reserved") + part("transparent") + part("small");
        // 129 022 FullNAT sessions, and 65 536 NAT sessions.
        assert!(all > 8 << 20 && all % (2 << 20) == 0, "{status}");
        let said = fs::read_to_string(scratch.path("stderr")).expect("written");
        let kinds =
            [("reserved", "reserved"), ("transparent", "transparent"), ("small", "ordinary")];
        for (key, word) in kinds {
            let text = format!("{} MiB in {word}", part(key).div_ceil(1 << 20));
            assert_eq!(said.contains(&text), part(key) > 0, "{said}");
        }
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
    });
}

#[test]
fn without_the_reserved_huge_pages_that_it_insists_on_nothing_starts() {
    if reserved_pages() > 0 {
        eprintln!("SKIPPED: this machine has reserved huge pages");
        return;
    }
    in_namespaces(|space| {
        let scratch = Scratch::new("reserved", space);
        let text = format!("[director]\nhuge_pages = \"reserved\"\n{CONFIG}");
        let failed = run(space, &scratch.file("reserved.toml", &text));
        let said = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(1), "{said}");
        assert!(said.contains("too few reserved huge pages"), "{said}");
        assert!(said.contains("vm.nr_hugepages"), "{said}");
        assert_eq!(space.blackholes(), [""; 0]);
    });
}

#[test]
fn a_second_director_on_the_same_interface_is_refused() {
    in_namespaces(|space| {
        let scratch = Scratch::new("second", space);
        let running = Running::start(space, &scratch);
        let second = run(space, &scratch.path("lvsd.toml"));
        assert_eq!(second.status.code(), Some(1));
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert!(said.contains("another lvsd runs on d0"), "{said}");
        assert_eq!(space.blackholes(), HOLES);
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
    });
}

#[test]
fn what_cannot_start_says_why_and_leaves_nothing() {
    in_namespaces(|space| {
        let scratch = Scratch::new("fail", space);
        for (name, text, expected) in [
            (
                "gone.toml",
                CONFIG.replace("\"d0\"", "\"nosuch0\""),
                "nosuch0: could not find the interface",
            ),
            (
                "mtu.toml",
                CONFIG.replace("name = \"d0\"", "name = \"d0\"\nmtu = 9000"),
                "mtu 9000 is more than the 1500 of d0",
            ),
        ] {
            let failed = run(space, &scratch.file(name, &text));
            let said = String::from_utf8_lossy(&failed.stderr).into_owned();
            assert_eq!(failed.status.code(), Some(1), "{said}");
            assert!(said.contains(expected), "{said}");
            assert_eq!(space.blackholes(), [""; 0]);
        }
        let failed = run(space, &scratch.file("bad.toml", &CONFIG.replace("name", "nmae")));
        assert_eq!(failed.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&failed.stderr).contains("did you mean `name`?"));
    });
}

#[test]
fn the_data_process_is_not_started_by_hand() {
    let output = Command::new(env!("CARGO_BIN_EXE_lvsd"))
        .arg("data-process")
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    assert_ne!(output.status.code(), Some(0));
    let help = Command::new(env!("CARGO_BIN_EXE_lvsd")).arg("--help").output().expect("starts");
    assert!(!String::from_utf8_lossy(&help.stdout).contains("data-process"));
}
