//! Recorded packets of another balancer, and what one of ours may do otherwise.
//!
//! Reads the cases of `tests/pcap`, whose page tells the format, and judges what a balancer did with their packets:
//! each must give what the recording has, unless the list of differences names it. A difference that
//! is listed and not there is a fault too, so the list cannot outlive what it says.

mod fields;

use crate::pcap::{self, Capture};
use core::fmt::Write as _;
use lvs_core::wire::Pretty;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

/// What left because of one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Place of the arm in [`Case::arms`](field@Case::arms).
    pub arm: usize,
    /// The frame.
    pub frame: Vec<u8>,
    /// Fields that the director chooses as it likes.
    pub free: Vec<String>,
}

/// One packet that arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Place of the arm in [`Case::arms`](field@Case::arms).
    pub arm: usize,
    /// When, in nanoseconds, and the frame.
    pub packet: Capture,
    /// What it is, in words.
    pub what: String,
    /// What leaves because of it.
    pub out: Vec<Output>,
}

/// One recording.
#[derive(Clone, Debug)]
pub struct Case {
    /// `MODE/SITUATION`.
    pub name: String,
    /// How packets reach servers: a name of the recording.
    pub mode: String,
    /// Its directory.
    pub path: PathBuf,
    /// Names of the arms.
    pub arms: Vec<String>,
    /// Addresses, neighbours, services.
    pub config: Value,
    /// What arrives, in order.
    pub steps: Vec<Step>,
}

/// What a balancer did with one packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Its verdict: `forward`, `drop no_session`, ...
    pub verdict: String,
    /// Arm and frame of everything that left.
    pub out: Vec<(usize, Vec<u8>)>,
}

/// What a balancer does otherwise than the recordings, by `ours.json`.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// Modes that it does not have yet.
    pub pending: BTreeSet<String>,
    /// What it does instead, by case and number of the packet from 1 on.
    instead: BTreeMap<(String, usize), String>,
}

fn bad(path: &Path, what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{}: {what}", path.display()))
}

fn json(path: &Path) -> Result<Value> {
    serde_json::from_slice(&std::fs::read(path)?).map_err(|error| bad(path, &error.to_string()))
}

fn list<'a>(value: &'a Value, key: &str, path: &Path) -> Result<&'a Vec<Value>> {
    value[key].as_array().ok_or_else(|| bad(path, &format!("no list `{key}`")))
}

fn text(value: &Value, key: &str, path: &Path) -> Result<String> {
    Ok(value[key].as_str().ok_or_else(|| bad(path, &format!("no text `{key}`")))?.to_owned())
}

/// Every case below a directory, by name.
///
/// # Errors
/// A directory or file that cannot be read, or is not as `tests/pcap/README.md` says.
pub fn load(root: impl AsRef<Path>) -> Result<Vec<Case>> {
    let mut found = Vec::new();
    for mode in directories(root.as_ref())? {
        for case in directories(&mode)? {
            found.push(Case::read(&case)?);
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(path)?.collect::<Result<Vec<_>>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

impl Case {
    fn read(path: &Path) -> Result<Self> {
        let file = path.join("case.json");
        let mut value = json(&file)?;
        let config = value["config"].take();
        let arms = list(&config, "arms", &file)?.iter();
        let arms = arms.map(|arm| text(arm, "name", &file)).collect::<Result<Vec<_>>>()?;
        let captures = |kind: &str| {
            let files =
                arms.iter().map(|arm| pcap::read_file(path.join(format!("{arm}.{kind}.pcap"))));
            files.collect::<Result<Vec<_>>>()
        };
        let (ins, outs) = (captures("in")?, captures("out")?);
        let pick = |of: &[Vec<Capture>], value: &Value| {
            let arm = arms.iter().position(|arm| value["arm"] == arm.as_str());
            let number =
                value["number"].as_u64().and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
            let found =
                arm.zip(number).and_then(|(arm, n)| Some((arm, of.get(arm)?.get(n)?.clone())));
            found.ok_or_else(|| bad(&file, &format!("no packet for {value}")))
        };
        let mut steps = Vec::new();
        for step in list(&value, "packets", &file)? {
            let (arm, packet) = pick(&ins, step)?;
            let mut out = Vec::new();
            for output in list(step, "out", &file)? {
                let (arm, left) = pick(&outs, output)?;
                let free = output["free"].as_array().into_iter().flatten();
                let free = free.filter_map(Value::as_str).map(str::to_owned).collect();
                out.push(Output { arm, frame: left.data, free });
            }
            steps.push(Step { arm, packet, what: text(step, "what", &file)?, out });
        }
        let mode = text(&value, "mode", &file)?;
        let name = format!("{mode}/{}", text(&value, "situation", &file)?);
        Ok(Self { name, mode, path: path.to_owned(), arms, config, steps })
    }

    /// Where the balancer did otherwise than the recording and the differences say; empty when nowhere.
    ///
    /// # Panics
    /// When there is not one observation for each packet.
    #[must_use]
    pub fn judge(&self, differences: &Differences, observed: &[Observed]) -> Vec<String> {
        assert_eq!(self.steps.len(), observed.len(), "{}: one observation a packet", self.name);
        let numbered = self.steps.iter().zip(observed).zip(1..);
        let faults = numbered.filter_map(|((step, seen), number)| {
            let instead = differences.instead.get(&(self.name.clone(), number));
            let fault = step.fault(instead.map(String::as_str), seen)?;
            let mut text = format!("{} packet {number} ({}): {fault}", self.name, step.what);
            let lines =
                |text: &mut String, title, frames: &mut dyn Iterator<Item = (usize, &[u8])>| {
                    for (arm, frame) in frames {
                        let arm = self.arms.get(arm).map_or("?", String::as_str);
                        let _ = write!(text, "\n    {title} {arm}: {}", Pretty(frame));
                    }
                };
            lines(&mut text, "recorded", &mut step.out.iter().map(|o| (o.arm, &o.frame[..])));
            lines(&mut text, "seen    ", &mut seen.out.iter().map(|(arm, f)| (*arm, &f[..])));
            let _ = write!(text, "\n    verdict: {}", seen.verdict);
            Some(text)
        });
        faults.collect()
    }
}

impl Step {
    /// What is wrong with what was seen.
    fn fault(&self, instead: Option<&str>, seen: &Observed) -> Option<String> {
        let same = self.fault_except(&[], seen);
        let Some(instead) = instead else { return same };
        if same.is_none() {
            return Some(format!("listed as `{instead}`, and is the same as recorded"));
        }
        match instead.split_once(' ').unwrap_or((instead, "")) {
            ("except", fields) => {
                let fields: Vec<&str> = fields.split(' ').collect();
                self.fault_except(&fields, seen)
            }
            _ if seen.verdict != instead => Some(format!("listed as `{instead}`")),
            ("drop" | "release", _) if !seen.out.is_empty() => {
                Some("dropped, and something left".into())
            }
            _ => None,
        }
    }

    /// Whether what left is what was recorded, but for these fields.
    fn fault_except(&self, fields: &[&str], seen: &Observed) -> Option<String> {
        let arms = self.out.iter().map(|o| o.arm).chain(seen.out.iter().map(|(arm, _)| *arm));
        for arm in arms.collect::<BTreeSet<_>>() {
            let recorded: Vec<&Output> = self.out.iter().filter(|o| o.arm == arm).collect();
            let left: Vec<&Vec<u8>> =
                seen.out.iter().filter(|(a, _)| *a == arm).map(|(_, f)| f).collect();
            if recorded.len() != left.len() {
                return Some(format!("{} left where {} were recorded", left.len(), recorded.len()));
            }
            for (recorded, left) in recorded.into_iter().zip(left) {
                let all = || recorded.free.iter().map(String::as_str).chain(fields.iter().copied());
                let (mut a, mut b) = (recorded.frame.clone(), left.clone());
                all().for_each(|field| fields::blank(&mut a, field));
                all().for_each(|field| fields::blank(&mut b, field));
                if a != b {
                    let at =
                        a.iter().zip(&b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
                    return Some(format!("frames differ from byte {at} on"));
                }
            }
        }
        None
    }
}

impl Differences {
    /// Reads `ours.json`.
    ///
    /// # Errors
    /// A file that cannot be read or is not as `tests/pcap/README.md` says, and a packet listed twice.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let value = json(path)?;
        let mut differences = Self::default();
        for mode in list(&value, "pending", path)? {
            differences.pending.insert(mode.as_str().unwrap_or_default().to_owned());
        }
        for entry in list(&value, "differs", path)? {
            for key in ["id", "kind", "reason"] {
                text(entry, key, path)?;
            }
            let cases = entry["packets"].as_object();
            for (case, packets) in cases.ok_or_else(|| bad(path, "no `packets`"))? {
                for (number, instead) in packets.as_object().into_iter().flatten() {
                    let number = number.parse().map_err(|_| bad(path, "a number that is none"))?;
                    let instead = instead.as_str().unwrap_or_default().to_owned();
                    if differences.instead.insert((case.clone(), number), instead).is_some() {
                        return Err(bad(path, &format!("{case} packet {number} twice")));
                    }
                }
            }
        }
        Ok(differences)
    }

    /// Entries that name a packet which no case has.
    #[must_use]
    pub fn strays(&self, cases: &[Case]) -> Vec<String> {
        let known = |case: &str, number: usize| {
            cases.iter().any(|c| c.name == case && (1..=c.steps.len()).contains(&number))
        };
        let strays = self.instead.keys().filter(|(case, number)| !known(case, *number));
        strays.map(|(case, number)| format!("{case} packet {number}")).collect()
    }
}
