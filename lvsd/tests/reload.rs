//! A running `lvsd run` takes a new configuration (INV-14), or refuses it and goes on as before; in network
//! namespaces as in `run.rs`.

mod run_support;

use lvs_os::signal::{self, Signal};
use run_support::{CONFIG, HOLES, Running, Scratch, Space, in_namespaces};
use std::process::{Command, Output};

/// A second service on an address of its own.
const MORE: &str = "\n[[service]]\nname = \"more\"\naddress = \"10.77.0.81:80\"\n\
    local_pool = \"local\"\n[[service.server]]\naddress = \"10.77.0.12:80\"\n";

/// Writes the file and asks for the reload as an operator would.
fn reload(running: &Running, scratch: &Scratch, text: &str) -> (Option<i32>, String) {
    scratch.file("lvsd.toml", text);
    let output: Output = Command::new(env!("CARGO_BIN_EXE_lvsd"))
        .args(["reload", "--status"])
        .arg(&running.status)
        .output()
        .expect("the binary starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

/// Waits until the director answers ARP for an address. The question is asked on the other end of the
/// cable, past the routes, because the blackhole of the director is in the same namespace.
fn until_answered(space: &Space, running: &mut Running, ip: &str) {
    let ask = format!("ip neigh replace {ip} dev c0 use; ip neigh show {ip} dev c0");
    running.until(&format!("an answer for {ip}"), |_| {
        space.shell(&ask).expect("ip works").contains("lladdr")
    });
}

#[test]
fn a_service_comes_and_goes_with_its_route_and_the_process_stays() {
    in_namespaces(|space| {
        let scratch = Scratch::new("reload", space);
        let mut running = Running::start(space, &scratch);
        let data = running.data_pid();
        let (code, said) = reload(&running, &scratch, &format!("{CONFIG}{MORE}"));
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(
            said,
            "+ service more (tcp 10.77.0.81:80)\n    servers: 10.77.0.12:80\n\
             configuration 2 is in effect\n"
        );
        assert!(space.blackholes().contains(&"10.77.0.81".to_owned()));
        space.shell("ip address add 10.77.0.2/24 dev c0").expect("root here");
        until_answered(space, &mut running, "10.77.0.81");
        let (code, said) = reload(&running, &scratch, &CONFIG.replace("0.11:80", "0.12:80"));
        assert_eq!(code, Some(0), "{said}");
        for line in [
            "- service more (tcp 10.77.0.81:80)\n",
            "- server 10.77.0.11:80 of service tcp 10.77.0.80:80\n",
            "+ server 10.77.0.12:80 of service tcp 10.77.0.80:80\n",
        ] {
            assert!(said.contains(line), "{line} in {said}");
        }
        running.until("the route has gone", |_| space.blackholes() == HOLES);
        let status = running.until("the third", |status| {
            status["configuration"] == 3 && status["servers"][0]["address"] == "10.77.0.12:80"
        });
        assert_eq!(status["servers"].as_array().map(Vec::len), Some(1), "{status}");
        assert_eq!(status["servers"][0]["service"], "tcp 10.77.0.80:80");
        assert_eq!((&status["restarts"], &status["data_pid"]), (&0.into(), &data.into()));
        assert_eq!(running.stop(Signal::Terminate).0.code(), Some(0));
        assert_eq!(space.blackholes(), [""; 0]);
    });
}

#[test]
fn a_data_process_that_is_started_again_gets_the_newest_configuration() {
    in_namespaces(|space| {
        let scratch = Scratch::new("newest", space);
        let mut running = Running::start(space, &scratch);
        // A local address goes too: its route stays until no session can use it.
        let text = format!("{CONFIG}{MORE}").replace("0.100-10.77.0.101", "0.101");
        let (code, said) = reload(&running, &scratch, &text);
        assert_eq!(code, Some(0), "{said}");
        assert!(space.blackholes().contains(&"10.77.0.100".to_owned()));
        signal::send(running.data_pid(), Signal::Kill).expect("it runs");
        let status = running.until("a new data process", |status| {
            status["restarts"] == 1 && status["state"] == "running"
        });
        assert_eq!(status["configuration"], 2);
        space.shell("ip address add 10.77.0.2/24 dev c0").expect("root here");
        until_answered(space, &mut running, "10.77.0.81");
        assert!(!space.blackholes().contains(&"10.77.0.100".to_owned()));
        // Its memory is as large as at the start: the address fits again.
        let (code, said) = reload(&running, &scratch, CONFIG);
        assert_eq!(code, Some(0), "{said}");
        running.until("the routes of the file", |_| space.blackholes() == HOLES);
    });
}

#[test]
fn a_wrong_file_says_where_and_nothing_changes() {
    in_namespaces(|space| {
        let scratch = Scratch::new("broken", space);
        let mut running = Running::start(space, &scratch);
        let data = running.data_pid();
        let text = format!("{CONFIG}{MORE}");
        for (broken, expected) in [
            (text.replace("name = \"more\"", "scheduler = \"rrr\""), "lvsd.toml:18:13"),
            (text.replace("10.77.0.81:80", "10.77.0.81"), "lvsd.toml:19:11"),
            (text.replace("name = \"more\"", "name = "), "lvsd.toml:18:8"),
            (text.replace("name = \"d0\"", "name = \"d0\"\nmtu = 1400"), "needs a restart"),
            (text.replace("0.100-10.77.0.101", "0.101-10.77.0.102"), "made for 2 local addresses"),
        ] {
            let (code, said) = reload(&running, &scratch, &broken);
            assert_eq!(code, Some(2), "{said}");
            assert!(said.contains(expected), "{expected} in {said}");
            assert!(said.ends_with("reload refused: nothing has changed\n"), "{said}");
            assert_eq!(space.blackholes(), HOLES);
        }
        let (code, said) = reload(&running, &scratch, &format!("# as before\n{CONFIG}"));
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("means what it meant before"), "{said}");
        let status = running.until("six answers", |status| status["reload"]["count"] == 6);
        assert_eq!(
            (&status["configuration"], &status["data_pid"], &status["restarts"]),
            (&1.into(), &data.into(), &0.into())
        );
    });
}

#[test]
fn reload_finds_out_that_nobody_runs() {
    in_namespaces(|space| {
        let scratch = Scratch::new("nobody", space);
        let mut running = Running::start(space, &scratch);
        running.child.kill().expect("it runs");
        running.child.wait().expect("ours");
        let (code, said) = reload(&running, &scratch, CONFIG);
        assert_eq!(code, Some(1));
        assert!(said.contains("is no `lvsd run` any more"), "{said}");
    });
}

#[test]
fn diff_prints_the_plan_and_tells_by_its_exit_code_whether_a_reload_is_enough() {
    let directory = std::env::temp_dir().join(format!("lvsd-diff-{}", std::process::id()));
    std::fs::create_dir(&directory).expect("new");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.join(name), text).expect("writable");
    };
    write("old.toml", CONFIG);
    write("more.toml", &format!("{CONFIG}{MORE}"));
    write("port.toml", &CONFIG.replace("name = \"d0\"", "name = \"d1\""));
    write("wrong.toml", &CONFIG.replace("name", "nmae"));
    let diff = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lvsd"));
        let output = command.arg("diff").args(words).current_dir(&directory).output();
        let output = output.expect("the binary starts");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let added = "+ service more (tcp 10.77.0.81:80)\n    servers: 10.77.0.12:80\n";
    assert_eq!(diff(&["old.toml", "more.toml"]), (Some(0), added.to_owned()));
    assert_eq!(diff(&["old.toml", "old.toml"]), (Some(0), "no difference\n".to_owned()));
    assert_eq!(diff(&["old.toml", "port.toml"]).0, Some(1));
    assert_eq!(diff(&["old.toml", "wrong.toml"]), (Some(2), String::new()));
    let json: serde_json::Value =
        serde_json::from_str(&diff(&["--json", "old.toml", "port.toml"]).1).expect("JSON");
    assert_eq!((&json["schema"], &json["reload"]), (&1.into(), &false.into()));
    assert_eq!(json["changes"][0]["what"], "port d0");
    assert!(json["changes"][0]["restart"].is_string());
    std::fs::remove_dir_all(&directory).expect("ours");
}
