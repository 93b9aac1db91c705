//! What the tests of `lvsd simulate` share: the example, directories of their own, the binary.
//!
//! ```text
//!   client 10.0.0.2 ── outside │ director │ inside ── server 10.1.0.11
//!                  10.0.0.80:80            10.1.0.100
//! ```

use lvs_core::addr::MacAddr;
use lvs_testkit::build::{Packet, Tcp, arp_reply, tcp};
use lvs_testkit::oracle;
use lvs_testkit::pcap::{self, Capture};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const OUTSIDE: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const INSIDE: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const CLIENT: MacAddr = MacAddr([2, 0, 0, 0, 0x0c, 2]);
pub(crate) const SERVER: MacAddr = MacAddr([2, 0, 0, 0, 0x0d, 11]);
pub(crate) const START_NS: u64 = 1_700_000_000_000_000_000;
pub(crate) const REQUEST: &[u8] = b"GET / HTTP/1.0\r\n\r\n";
pub(crate) const RESPONSE: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nhello\n";

/// As `docs/simulate.md` gives it; it runs where the captures of the example are.
pub(crate) const PAGE_COMMAND: &[&str] = &[
    "--config",
    "lvsd.toml",
    "--in",
    "outside=outside.pcap",
    "--in",
    "inside=inside.pcap",
    "--out",
    "out",
    "--settle",
    "100",
];

pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/simulate")
}

/// The client's SYN.
pub(crate) fn syn() -> Packet<Tcp> {
    tcp().syn().linux_options(1460).src_mac(CLIENT).dst_mac(OUTSIDE)
}

/// What arrives at both ports in the example. The server answers what the director sends it, so its
/// packets follow from a first simulation with the client's SYN alone.
pub(crate) fn example() -> (Vec<Capture>, Vec<Capture>) {
    let at = |us: u64, data: Vec<u8>| Capture { time_ns: START_NS + us * 1000, data };
    let outside = vec![
        at(0, syn().build()),
        at(3000, tcp().seq(1001).ack(5001).src_mac(CLIENT).dst_mac(OUTSIDE).build()),
        at(
            4000,
            tcp()
                .psh()
                .seq(1001)
                .ack(5001)
                .payload(REQUEST)
                .src_mac(CLIENT)
                .dst_mac(OUTSIDE)
                .build(),
        ),
        at(
            7000,
            tcp().from("10.0.0.3:50000").seq(7).ack(9).src_mac(CLIENT).dst_mac(OUTSIDE).build(),
        ),
        at(8000, tcp().to("10.0.0.80:81").syn().src_mac(CLIENT).dst_mac(OUTSIDE).build()),
    ];
    let arp = arp_reply(SERVER, [10, 1, 0, 11].into(), INSIDE, [10, 1, 0, 1].into());
    let arp = at(1000, arp.build());
    let (local, isn) = server_sees(&outside[0], &arp);
    let reply = || tcp().from("10.1.0.11:8080").to(local.as_str()).src_mac(SERVER).dst_mac(INSIDE);
    let after_request = isn.wrapping_add(1).wrapping_add(REQUEST.len() as u32);
    let inside = vec![
        arp,
        at(2000, reply().syn().seq(5000).ack(isn.wrapping_add(1)).mss(1460).build()),
        at(6000, reply().psh().seq(5001).ack(after_request).payload(RESPONSE).build()),
    ];
    (outside, inside)
}

/// The local address and the sequence number that the SYN has when it reaches the server.
fn server_sees(syn: &Capture, arp: &Capture) -> (String, u32) {
    let directory = scratch("server-sees");
    directory.capture("outside.pcap", core::slice::from_ref(syn));
    directory.capture("inside.pcap", core::slice::from_ref(arp));
    let config = data().join("lvsd.toml").display().to_string();
    let run = lvsd(
        &directory,
        &[
            "--config",
            &config,
            "--in",
            "outside=outside.pcap",
            "--in",
            "inside=inside.pcap",
            "--out",
            "out",
        ],
    );
    assert_eq!(run.code, 0, "{}", run.stderr);
    let sent = directory.sent("inside");
    let fields = oracle::fields(&sent[1].data).expect("the SYN, behind the ARP request");
    let (port, _) = fields.ports.expect("ports");
    (format!("{}:{port}", fields.src), fields.tcp.expect("TCP").seq)
}

/// A directory of one test, removed when it is over.
pub(crate) struct Scratch(PathBuf);

pub(crate) fn scratch(name: &str) -> Scratch {
    use core::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("simulate-{name}-{}-{number}", std::process::id()));
    fs::create_dir_all(&path).expect("writable");
    for file in ["lvsd.toml", "outside.pcap", "inside.pcap"] {
        if name == "page" {
            fs::copy(data().join(file), path.join(file)).expect("the example is there");
        }
    }
    Scratch(path)
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A test that failed leaves its files to be looked at.
        if !std::thread::panicking() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), bytes).expect("writable");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).expect("readable")
    }

    pub(crate) fn capture(&self, name: &str, captures: &[Capture]) {
        pcap::write_file(self.0.join(name), captures).expect("writable");
    }

    pub(crate) fn output(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join("out").join(name)).expect("written")
    }

    pub(crate) fn sent(&self, port: &str) -> Vec<Capture> {
        pcap::read(&self.output(&format!("{port}.pcap"))[..]).expect("a capture")
    }

    pub(crate) fn log_text(&self) -> String {
        String::from_utf8(self.output("log.jsonl")).expect("text")
    }

    pub(crate) fn log(&self) -> Vec<Value> {
        self.log_text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Runs the example with what lies in the repository, and these arguments more; the summary.
    pub(crate) fn run_example(&self, more: &[&str]) -> Value {
        let file = |name: &str| data().join(name).display().to_string();
        let (config, outside) = (file("lvsd.toml"), format!("outside={}", file("outside.pcap")));
        let inside = format!("inside={}", file("inside.pcap"));
        let arguments = ["--config", &config, "--in", &outside, "--in", &inside, "--out", "out"];
        let run = lvsd(self, &[&arguments[..], &["--json"], more].concat());
        assert_eq!(run.code, 0, "{}", run.stderr);
        serde_json::from_str(&run.stdout).expect("JSON")
    }

    pub(crate) fn example(&self) -> Value {
        self.run_example(&["--settle", "100"])
    }
}

pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) fn lvsd(directory: &Scratch, arguments: &[&str]) -> Run {
    let output = Command::new(env!("CARGO_BIN_EXE_lvsd"))
        .arg("simulate")
        .args(arguments)
        .current_dir(directory.path())
        .output()
        .expect("the binary starts");
    Run {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

pub(crate) fn time(ns: u64) -> String {
    format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000)
}

/// The lines of the log that the page shows: the SYN, its session, and a drop.
pub(crate) fn shown(log: &str) -> String {
    let wanted = |line: &&str| {
        line.contains("\"index\":1,") && line.contains("\"outside\"")
            || line.contains("session_opened")
            || line.contains("no_session")
    };
    log.lines().filter(wanted).map(|line| format!("{line}\n")).collect()
}

/// The fenced block behind `<!-- mark -->` on a page.
pub(crate) fn block(page: &str, mark: &str) -> String {
    let (start, end) = place(page, mark);
    page[start..end].to_owned()
}

pub(crate) fn replace_block(page: &str, mark: &str, text: &str) -> String {
    let (start, end) = place(page, mark);
    format!("{}{text}{}", &page[..start], &page[end..])
}

fn place(page: &str, mark: &str) -> (usize, usize) {
    let marker = format!("<!-- {mark} -->");
    let at = page.find(&marker).unwrap_or_else(|| panic!("the page has no {marker}"));
    let fence = at + page[at..].find("```").expect("a block");
    let start = fence + page[fence..].find('\n').expect("a line") + 1;
    (start, start + page[start..].find("```").expect("its end"))
}
