//! What a simulation amounts to: counted on the way, shown at the end.

use super::log;
use core::fmt::Write;
use lvs_core::verdict::{DropReason, Verdict};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the shape of the JSON output.
const JSON_SCHEMA: u32 = 1;
/// The verdicts in the order in which they are shown.
const WORDS: [&str; 6] = ["forward", "answer", "release", "learned", "waiting", "drop"];

/// One port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCount {
    /// Its name in the configuration.
    pub name: String,
    /// Packets that came in.
    pub packets_in: usize,
    /// Packets that left.
    pub packets_out: usize,
    /// Where the ones that left are.
    pub file: PathBuf,
}

/// The outcome of a simulation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The ports in the order of the configuration.
    pub ports: Vec<PortCount>,
    /// Packets by verdict, in the words of the log.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Drops by reason. Packets that waited for a neighbour in vain are here and in `waiting`.
    pub drops: BTreeMap<DropReason, u64>,
    /// Packets that were shorter in the file than on the wire.
    pub cut: u64,
    /// Packets whose checksums were mended.
    pub fixed: u64,
    /// Packets that a port could not send.
    pub refused: u64,
    /// Sessions opened.
    pub sessions_opened: u64,
    /// Sessions open at the end.
    pub sessions_left: u32,
    /// Local ports in use at the end.
    pub ports_in_use: u64,
    /// How servers were told their clients' addresses: counters that are not zero.
    pub client_address: Vec<(&'static str, u64)>,
    /// Nanoseconds from the first packet to the last, and those of `--settle`.
    pub span_ns: [u64; 2],
    /// The log.
    pub log: PathBuf,
}

impl Summary {
    pub(super) fn count(&mut self, verdict: Verdict) {
        *self.verdicts.entry(log::word(verdict)).or_insert(0) += 1;
    }

    /// All packets that came in.
    #[must_use]
    pub fn packets_in(&self) -> usize {
        self.ports.iter().map(|port| port.packets_in).sum()
    }

    fn verdict(&self, word: &str) -> u64 {
        self.verdicts.get(word).copied().unwrap_or(0)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let seconds = |ns: u64| format!("{}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000);
        let [packets, settled] = self.span_ns.map(seconds);
        // Writing into a string cannot fail.
        let _ = writeln!(
            text,
            "{} packets over {packets}, and {settled} afterwards\n",
            self.packets_in()
        );
        let width = self.ports.iter().map(|port| port.name.chars().count()).max().unwrap_or(0);
        for port in &self.ports {
            let PortCount { name, packets_in, packets_out, file } = port;
            let file = file.display();
            let _ = writeln!(
                text,
                "port {name:<width$}  {packets_in} in, {packets_out} out  ->  {file}"
            );
        }
        text += "\nverdicts\n";
        for word in WORDS.into_iter().filter(|word| self.verdict(word) > 0) {
            let _ = writeln!(text, "  {word:<8} {}", self.verdict(word));
        }
        self.drops_text(&mut text);
        let _ = writeln!(
            text,
            "\nsessions\n  {} opened, {} open at the end with {} local ports",
            self.sessions_opened, self.sessions_left, self.ports_in_use
        );
        if !self.client_address.is_empty() {
            text.push_str("\nclient addresses\n");
        }
        for (name, count) in &self.client_address {
            let _ = writeln!(text, "  {name} {count}");
        }
        let _ = writeln!(text, "\nlog  {}", self.log.display());
        text
    }

    fn drops_text(&self, text: &mut String) {
        if !self.drops.is_empty() {
            text.push_str("\ndrops\n");
        }
        for (reason, count) in &self.drops {
            let (id, sentence, advice) = (reason.id(), reason.sentence(), reason.advice());
            let _ = writeln!(text, "  {id}: {count}\n    {sentence} {advice}");
        }
        for (count, note) in [
            (self.cut, "shorter in the capture than on the wire (`tcpdump -s`)"),
            (self.fixed, "given the right checksums"),
            (self.refused, "refused by the port that should send them, a fault of lvsd"),
        ] {
            if count > 0 {
                let _ = writeln!(text, "\nnote: packets {note}: {count}");
            }
        }
    }

    /// For programs.
    #[must_use]
    pub fn json(&self) -> Value {
        let path = |path: &Path| path.display().to_string();
        let ports = self.ports.iter().map(|port| {
            json!({
                "name": port.name, "in": port.packets_in, "out": port.packets_out,
                "file": path(&port.file),
            })
        });
        let verdicts: Map<_, _> =
            WORDS.iter().map(|word| ((*word).to_owned(), json!(self.verdict(word)))).collect();
        let drops = self.drops.iter().map(|(reason, count)| {
            json!({
                "reason": reason.id(), "count": count,
                "sentence": reason.sentence(), "advice": reason.advice(),
            })
        });
        json!({
            "schema": JSON_SCHEMA,
            "packets": self.packets_in(),
            "ports": ports.collect::<Vec<_>>(),
            "verdicts": verdicts,
            "drops": drops.collect::<Vec<_>>(),
            "cut": self.cut,
            "checksums_fixed": self.fixed,
            "refused": self.refused,
            "sessions_opened": self.sessions_opened,
            "sessions_left": self.sessions_left,
            "client_address": self.client_address.iter().copied().collect::<BTreeMap<_, _>>(),
            "ports_in_use": self.ports_in_use,
            "span_ns": self.span_ns[0],
            "settled_ns": self.span_ns[1],
            "log": path(&self.log),
        })
    }
}
