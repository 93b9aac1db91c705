//! `lvsd simulate` as a user meets it: files in, files and a summary out, and the exit code.
//!
//! The example of `docs/simulate.md` lies in `tests/data/simulate` and is built here, packet by packet.
//! `LVSD_BLESS=1 cargo test -p lvsd --test simulate` writes its captures and the outputs on the page
//! anew, for review.

mod simulate_support;

use lvs_testkit::build::{Csum, arp_reply, tcp};
use lvs_testkit::pcap::{self, Capture};
use lvs_testkit::{net, oracle};
use lvsd::simulate::pcap::{LONGEST, Writer};
use serde_json::Value;
use simulate_support::*;
use std::fs;
use std::path::Path;

#[test]
fn the_example_of_the_page_gives_the_output_that_the_page_shows() {
    let bless = std::env::var_os("LVSD_BLESS").is_some();
    let (outside, inside) = example();
    for (name, captures) in [("outside", &outside), ("inside", &inside)] {
        let path = data().join(format!("{name}.pcap"));
        if bless {
            pcap::write_file(&path, captures).expect("writable");
        }
        assert_eq!(&pcap::read_file(&path).expect("a capture"), captures, "{name}.pcap");
    }
    let directory = scratch("page");
    let run = lvsd(&directory, PAGE_COMMAND);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let page_path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/simulate.md");
    let mut page = fs::read_to_string(&page_path).expect("the page is there");
    let config = fs::read_to_string(data().join("lvsd.toml")).expect("the file is there");
    let log = directory.log_text();
    for (mark, text) in [("config", config), ("summary", run.stdout), ("log", shown(&log))] {
        if bless {
            page = replace_block(&page, mark, &text);
        }
        assert_eq!(block(&page, mark), text, "the block `{mark}` of docs/simulate.md");
    }
    if bless {
        fs::write(&page_path, &page).expect("writable");
    }
    assert!(page.contains(&format!("lvsd simulate {}", PAGE_COMMAND.join(" "))));
}

#[test]
fn a_connection_goes_through_both_ways_and_the_client_is_told_to_the_server() {
    let directory = scratch("connection");
    directory.example();
    let (to_client, to_server) = (directory.sent("outside"), directory.sent("inside"));
    let syn = oracle::fields(&to_server[1].data).expect("behind the ARP request");
    assert_eq!(syn.dst.to_string(), "10.1.0.11");
    assert_eq!(syn.src.to_string(), "10.1.0.100");
    assert_eq!(net::toa_of(&to_server[1].data), Some("10.0.0.2:40000".parse().unwrap()));
    let answer = oracle::fields(&to_client[0].data).expect("an answer");
    assert_eq!((answer.src.to_string(), answer.ports), ("10.0.0.80".to_owned(), Some((80, 40000))));
    let synack = answer.tcp.expect("TCP");
    assert_eq!((synack.flags, synack.ack), (0x12, 1001), "it acknowledges what the client sent");
    let data = |captures: &[Capture]| {
        let payloads = captures.iter().filter_map(|c| oracle::fields(&c.data).ok());
        payloads.flat_map(|fields| fields.payload).collect::<Vec<u8>>()
    };
    assert_eq!(data(&to_server), REQUEST);
    assert_eq!(data(&to_client), RESPONSE);
    for capture in to_client.iter().chain(&to_server).filter(|c| c.data[12..14] == [8, 0]) {
        assert_eq!(oracle::checksums_ok(&capture.data), Ok(()));
    }
}

#[test]
fn every_input_has_one_line_and_every_output_is_named_in_one() {
    let directory = scratch("lines");
    let (outside, inside) = example();
    directory.example();
    let log = directory.log();
    let of = |port: &str| log.iter().filter(|line| line["input"] == port).collect::<Vec<_>>();
    for (port, captures) in [("outside", outside), ("inside", inside)] {
        let lines = of(port);
        let indices: Vec<_> = lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
        assert_eq!(indices, (1..=captures.len() as u64).collect::<Vec<_>>(), "{port}");
        for (line, capture) in lines.iter().zip(&captures) {
            assert_eq!(line["time"], time(capture.time_ns));
            let before = lvs_core::wire::Pretty(&capture.data).to_string();
            assert_eq!(line["before"], before);
        }
    }
    for port in ["outside", "inside"] {
        let after: Vec<(&Value, &Value)> = log
            .iter()
            .flat_map(|line| {
                let after = line["after"].as_array().into_iter().flatten();
                let here = after.filter(|after| after["port"] == port);
                here.map(|after| (&line["time"], &after["text"]))
            })
            .collect();
        let sent = directory.sent(port);
        assert_eq!(after.len(), sent.len());
        for ((when, text), capture) in after.into_iter().zip(&sent) {
            assert_eq!(when, &time(capture.time_ns), "the time of the input that caused it");
            assert_eq!(text, &lvs_core::wire::Pretty(&capture.data).to_string());
        }
    }
}

#[test]
fn a_drop_has_its_reason_and_a_packet_of_a_session_its_session() {
    let directory = scratch("reasons");
    directory.example();
    let log = directory.log();
    let of = |port: &str, index: u64| {
        let wanted = |line: &&Value| line["input"] == port && line["index"] == index;
        log.iter().find(wanted).expect("each packet has a line")
    };
    let syn = of("outside", 1);
    assert_eq!(
        (&syn["verdict"], &syn["service"], &syn["server"]),
        (&Value::from("waiting"), &Value::from("web"), &Value::from("10.1.0.11:8080")),
    );
    assert_eq!(of("inside", 1)["verdict"], "learned");
    let synack = of("inside", 2);
    assert_eq!(
        (&synack["verdict"], &synack["session"]),
        (&Value::from("forward"), &syn["session"])
    );
    let stray = of("outside", 4);
    assert_eq!((&stray["verdict"], &stray["session"]), (&Value::from("drop"), &Value::Null));
    assert_eq!(stray["drop"]["reason"], "no_session");
    assert_eq!(stray["drop"]["sentence"], lvs_core::verdict::DropReason::NoSession.sentence());
    assert_eq!(of("outside", 5)["drop"]["reason"], "no_service");
    let events: Vec<_> = log.iter().filter_map(|line| line["event"].as_str()).collect();
    // A quiet connection is asked before it ends.
    assert_eq!(events, ["session_opened", "timer", "session_closed"]);
    let closed = log.iter().find(|line| line["event"] == "session_closed").expect("it ends");
    assert_eq!(closed["told"], serde_json::json!(["option"]), "how the server knows its client");
}

#[test]
fn a_session_expires_on_time_and_not_before() {
    // Established sessions live 90 seconds; packets come at 1.0 s, the last of the session at 1.006.
    for (settle, left) in [(0, 1), (89, 1), (96, 0)] {
        let directory = scratch("settle");
        let summary = directory.run_example(&["--settle", &settle.to_string()]);
        assert_eq!(summary["sessions_left"], left, "after {settle} s");
        assert_eq!(summary["ports_in_use"], left);
        let log = directory.log();
        let closed = log.iter().find(|line| line["event"] == "session_closed");
        assert_eq!(closed.is_some(), left == 0);
        assert_eq!(summary["client_address"], serde_json::json!({ "toa_inserted": 3 }));
        let open: Vec<_> = log.iter().filter(|line| line["event"] == "session_left").collect();
        assert_eq!(open.len() as u64, left);
        for line in open {
            assert_eq!(line["told"], serde_json::json!(["option"]));
            assert!(line["inbound"].as_str().unwrap().starts_with("tcp 10.0.0.2:40000"));
        }
        if let Some(closed) = closed {
            let at: f64 = closed["time"].as_str().unwrap().parse().unwrap();
            let idle = at - (START_NS as f64 / 1e9) - 0.006;
            assert!((90.0..=94.3).contains(&idle), "{idle} s after the last packet");
            assert_eq!(closed["why"], "expired");
        }
    }
}

#[test]
fn the_same_input_gives_the_same_files_byte_for_byte_and_another_seed_others() {
    let (a, b, other) = (scratch("same-a"), scratch("same-b"), scratch("same-other"));
    a.example();
    b.example();
    let config = fs::read_to_string(data().join("lvsd.toml")).unwrap();
    other.write("lvsd.toml", config.replace("seed = 1", "seed = 2"));
    let run = lvsd(
        &other,
        &[
            "--config",
            "lvsd.toml",
            "--in",
            &format!("outside={}", data().join("outside.pcap").display()),
            "--out",
            "out",
        ],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    for file in ["outside.pcap", "inside.pcap", "log.jsonl"] {
        assert_eq!(a.output(file), b.output(file), "{file}");
    }
    let isn = |d: &Scratch| {
        let sent = d.sent("inside");
        sent.iter()
            .find_map(|c| oracle::fields(&c.data).ok())
            .and_then(|f| f.tcp)
            .map(|tcp| tcp.seq)
    };
    // Nobody answered ARP in the other run, so its SYN did not leave: only the question did.
    assert!(isn(&a).is_some() && isn(&other).is_none());
    assert_ne!(a.output("inside.pcap"), other.output("inside.pcap"));
}

#[test]
fn the_day_of_a_capture_changes_nothing_but_the_time_stamps() {
    let (now, later) = (scratch("day-now"), scratch("day-later"));
    now.example();
    let shift = 123 * 86_400_000_000_000 + 77;
    let (outside, inside) = example();
    for (name, captures) in [("outside", outside), ("inside", inside)] {
        let moved = captures.into_iter().map(|c| Capture { time_ns: c.time_ns + shift, ..c });
        later.capture(&format!("{name}.pcap"), &moved.collect::<Vec<_>>());
    }
    let run = lvsd(
        &later,
        &[
            "--config",
            &data().join("lvsd.toml").display().to_string(),
            "--in",
            "outside=outside.pcap",
            "--in",
            "inside=inside.pcap",
            "--out",
            "out",
            "--settle",
            "100",
        ],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    for port in ["outside", "inside"] {
        let moved: Vec<_> = now
            .sent(port)
            .into_iter()
            .map(|c| Capture { time_ns: c.time_ns + shift, ..c })
            .collect();
        assert_eq!(later.sent(port), moved);
    }
}

#[test]
fn packets_of_one_moment_go_in_the_order_of_the_command_line_then_of_the_file() {
    let directory = scratch("order");
    let frame = |port: u16| Capture {
        time_ns: START_NS,
        data: tcp().ack(1).from(&*format!("10.0.0.2:{port}")).dst_mac(OUTSIDE).build(),
    };
    directory.capture("a.pcap", &[frame(1), frame(2)]);
    // Out of order inside the file: the second is the earlier one.
    let early = Capture { time_ns: START_NS - 1, ..frame(4) };
    directory.capture("b.pcap", &[frame(3), early]);
    let config = data().join("lvsd.toml").display().to_string();
    let run = lvsd(
        &directory,
        &["--config", &config, "--in", "inside=b.pcap", "--in", "outside=a.pcap", "--out", "out"],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    let order: Vec<_> = directory
        .log()
        .iter()
        .map(|line| (line["input"].as_str().unwrap().to_owned(), line["index"].as_u64().unwrap()))
        .collect();
    let expected = [("inside", 2), ("inside", 1), ("outside", 1), ("outside", 2)];
    assert_eq!(order, expected.map(|(port, index)| (port.to_owned(), index)));
}

#[test]
fn a_neighbour_that_does_not_answer_is_asked_three_times_and_given_up_while_time_passes() {
    let directory = scratch("no-answer");
    let (outside, _) = example();
    directory.capture("outside.pcap", &outside[..1]);
    let config = data().join("lvsd.toml").display().to_string();
    let run = lvsd(
        &directory,
        &[
            "--config",
            &config,
            "--in",
            "outside=outside.pcap",
            "--out",
            "out",
            "--settle",
            "60",
            "--json",
        ],
    );
    let summary: Value = serde_json::from_str(&run.stdout).expect("JSON");
    let asked = directory.sent("inside");
    assert_eq!(asked.len(), 3, "{}", directory.log_text());
    let times: Vec<_> = asked.iter().map(|c| (c.time_ns - START_NS) / 1_000_000).collect();
    assert!(times[0] == 0 && (1000..1200).contains(&times[1]) && (2000..2400).contains(&times[2]));
    let log = directory.log();
    let timers = log.iter().filter(|line| line["event"] == "timer").count();
    assert_eq!(timers, 2, "the first question belongs to the SYN");
    let failed = log.iter().find(|line| line["event"] == "neighbour_failed").expect("an event");
    assert_eq!((&failed["address"], &failed["port"]), (&"10.1.0.11".into(), &"inside".into()));
    assert_eq!(summary["drops"][0]["reason"], "neighbour_failed");
    assert_eq!((&summary["sessions_opened"], &summary["sessions_left"]), (&1.into(), &0.into()));
}

#[test]
fn partial_checksums_are_dropped_by_the_server_unless_they_are_fixed() {
    let (outside, inside) = example();
    let config = data().join("lvsd.toml").display().to_string();
    for fix in [false, true] {
        let directory = scratch("checksums");
        let mut captures = outside.clone();
        captures[0].data = syn().l4_csum(Csum::Value(0x1234)).build();
        directory.capture("outside.pcap", &captures[..1]);
        directory.capture("inside.pcap", &inside[..1]);
        let mut arguments = vec![
            "--config",
            &config,
            "--in",
            "outside=outside.pcap",
            "--in",
            "inside=inside.pcap",
            "--out",
            "out",
            "--json",
        ];
        if fix {
            arguments.push("--fix-checksums");
        }
        let run = lvsd(&directory, &arguments);
        let summary: Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!(summary["checksums_fixed"], u64::from(fix));
        let sent = directory.sent("inside");
        // A wrong checksum in is a wrong checksum out.
        assert_eq!(oracle::checksums_ok(&sent[1].data).is_ok(), fix);
        let marked = directory.log()[0]["checksum_fixed"].as_bool();
        assert_eq!(marked, fix.then_some(true));
    }
}

#[test]
fn a_packet_that_the_capture_cut_is_dropped_and_noted() {
    let directory = scratch("cut");
    let mut file = Vec::new();
    let frame = tcp().syn().dst_mac(OUTSIDE).payload_len(100).build();
    Writer::new(&mut file).unwrap().write(START_NS, &frame[..60]).unwrap();
    // The length on the wire is the last field of the record header.
    file[24 + 12..24 + 16].copy_from_slice(&u32::try_from(frame.len()).unwrap().to_le_bytes());
    directory.write("a.pcap", file);
    let config = data().join("lvsd.toml").display().to_string();
    let run = lvsd(&directory, &["--config", &config, "--in", "outside=a.pcap", "--out", "out"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout.contains("shorter in the capture than on the wire (`tcpdump -s`): 1"),
        "{}",
        run.stdout
    );
    let log = directory.log();
    assert_eq!((&log[0]["cut_from"], &log[0]["verdict"]), (&frame.len().into(), &"drop".into()));
}

#[test]
fn vlan_tags_go_through_in_the_bytes() {
    let directory = scratch("vlan");
    let arp = lvs_testkit::build::arp_request(CLIENT, [10, 0, 0, 2].into(), [10, 0, 0, 80].into());
    let arp = lvs_testkit::build::Arp { vlan: Some(7), ..arp };
    directory.capture("a.pcap", &[Capture { time_ns: START_NS, data: arp.build() }]);
    let config = data().join("lvsd.toml").display().to_string();
    let run = lvsd(&directory, &["--config", &config, "--in", "outside=a.pcap", "--out", "out"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(directory.log()[0]["verdict"], "answer");
    let answer = directory.sent("outside");
    assert_eq!(answer[0].data[12..18], [0x81, 0, 0, 7, 8, 6]);
}

#[test]
fn a_year_between_two_packets_is_skipped() {
    // Through 315 million steps this test would run for hours.
    let directory = scratch("year");
    let year = 365 * 86_400_000_000_000;
    let (mut outside, _) = example();
    outside.truncate(1);
    outside.push(Capture { time_ns: START_NS + year, data: outside[0].data.clone() });
    directory.capture("outside.pcap", &outside);
    let config = data().join("lvsd.toml").display().to_string();
    let run =
        lvsd(&directory, &["--config", &config, "--in", "outside=outside.pcap", "--out", "out"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(directory.log().iter().filter(|line| line["event"] == "session_opened").count(), 2);
}

#[test]
fn what_cannot_be_used_is_named_with_its_place_and_ends_with_two() {
    let directory = scratch("errors");
    let (outside, _) = example();
    directory.capture("good.pcap", &outside);
    let good = directory.read("good.pcap");
    directory.write("short.pcap", &good[..good.len() - 1]);
    let mut cooked = good.clone();
    cooked[20] = 113;
    directory.write("cooked.pcap", cooked);
    directory.write("next.pcap", [&[0x0a, 0x0d, 0x0d, 0x0a][..], &[0; 60]].concat());
    directory.write("text.pcap", "hello, world");
    let mut absurd = good.clone();
    absurd[32..36].copy_from_slice(&(LONGEST + 1).to_le_bytes());
    directory.write("absurd.pcap", absurd);
    let config = fs::read_to_string(data().join("lvsd.toml")).unwrap();
    directory.write("lvsd.toml", &config);
    directory.write("bare.toml", config.replace("mac = \"02:00:00:00:00:01\"\n", ""));
    directory.write("typo.toml", config.replace("scheduler", "schedular"));
    let last = outside.last().unwrap().data.len();
    let cut = format!(
        "record 5 at byte {} is cut off: it takes {} bytes and the file has {} more",
        good.len() - last - 16,
        last + 16,
        last + 15
    );
    for (config, inputs, message) in [
        ("lvsd.toml", &["autside=good.pcap"][..], "no port `autside`; it has `outside`, `inside`"),
        ("lvsd.toml", &["outside=good.pcap", "outside=good.pcap"], "has two files"),
        ("lvsd.toml", &["outside=none.pcap"], "cannot read none.pcap"),
        ("lvsd.toml", &["outside=short.pcap"], &cut),
        (
            "lvsd.toml",
            &["outside=cooked.pcap"],
            "cooked.pcap: byte 20: link type 113 (Linux cooked",
        ),
        ("lvsd.toml", &["outside=next.pcap"], "next.pcap: a pcapng file; convert it"),
        ("lvsd.toml", &["outside=text.pcap"], "text.pcap: not a pcap file: it begins with 68 65"),
        ("lvsd.toml", &["outside=absurd.pcap"], "record 1 at byte 24 states 262145 bytes"),
        ("lvsd.toml", &["good.pcap"], "write it as PORT=FILE"),
        ("none.toml", &["outside=good.pcap"], "cannot read none.toml"),
        ("typo.toml", &["outside=good.pcap"], "did you mean `scheduler`?"),
        ("bare.toml", &["outside=good.pcap"], "bare.toml:6:8"),
        ("bare.toml", &["outside=good.pcap"], "most frames in good.pcap are for 02:00:00:00:00:01"),
    ] {
        let mut arguments = vec!["--config", config, "--out", "out"];
        inputs.iter().for_each(|input| arguments.extend(["--in", input]));
        let run = lvsd(&directory, &arguments);
        assert_eq!(run.code, 2, "{arguments:?}: {}", run.stderr);
        assert!(run.stderr.contains(message), "{arguments:?} lacks {message:?}:\n{}", run.stderr);
        assert_eq!(run.stdout, "");
        assert!(!directory.path().join("out").exists(), "nothing is written");
    }
}

#[test]
fn an_input_is_never_overwritten() {
    let directory = scratch("overwrite");
    let (outside, _) = example();
    fs::create_dir_all(directory.path().join("out")).unwrap();
    directory.capture("out/inside.pcap", &outside);
    let before = directory.read("out/inside.pcap");
    let config = data().join("lvsd.toml").display().to_string();
    let run = lvsd(
        &directory,
        &["--config", &config, "--in", "outside=./out/inside.pcap", "--out", "out"],
    );
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("choose another --out"), "{}", run.stderr);
    assert_eq!(directory.read("out/inside.pcap"), before);
}

#[test]
fn an_output_that_cannot_be_written_ends_with_one() {
    let directory = scratch("unwritable");
    directory.write("out", "a file, not a directory");
    let config = data().join("lvsd.toml").display().to_string();
    let input = format!("outside={}", data().join("outside.pcap").display());
    let run = lvsd(&directory, &["--config", &config, "--in", &input, "--out", "out"]);
    assert_eq!((run.code, run.stderr.contains("cannot write out")), (1, true), "{}", run.stderr);
}

#[test]
fn an_empty_capture_gives_empty_captures() {
    let directory = scratch("empty");
    directory.capture("a.pcap", &[]);
    let config = data().join("lvsd.toml").display().to_string();
    let run = lvsd(
        &directory,
        &["--config", &config, "--in", "outside=a.pcap", "--out", "out", "--settle", "5", "--json"],
    );
    let summary: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((run.code, &summary["packets"]), (0, &0.into()));
    assert_eq!((directory.sent("outside"), directory.sent("inside")), (vec![], vec![]));
    assert_eq!(directory.log_text(), "");
}

#[test]
fn a_reply_to_arp_teaches_only_the_port_it_came_in_by() {
    let directory = scratch("wrong-port");
    let (outside, _) = example();
    let reply = arp_reply(SERVER, [10, 1, 0, 11].into(), OUTSIDE, [10, 1, 0, 1].into());
    let wrong = Capture { time_ns: START_NS + 100_000, data: reply.build() };
    directory.capture("outside.pcap", &[outside[0].clone(), wrong]);
    let config = data().join("lvsd.toml").display().to_string();
    let run =
        lvsd(&directory, &["--config", &config, "--in", "outside=outside.pcap", "--out", "out"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    let log = directory.log();
    let line = log.iter().find(|line| line["index"] == 2).unwrap();
    assert_eq!(line["verdict"], "drop", "{line}");
    assert_eq!(directory.sent("inside").len(), 1, "the question alone");
}
