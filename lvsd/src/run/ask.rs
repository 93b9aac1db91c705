//! `lvsd reload`: asks a running supervisor to read its configuration again and waits for the answer,
//! which stands in its status file.

use super::status::{Outcome, Reload};
use crate::Exit;
use core::time::Duration;
use lvs_os::signal::{self, Signal};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

/// A data process that is being started again takes the configuration when it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Arguments of `lvsd reload`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Sends SIGHUP to the `lvsd run` that writes FILE, and waits until it says what came of it.
Exit codes: 0 the configuration is in effect, 1 no answer, 2 refused: nothing has changed.
Next: lvsd diff OLD NEW tells beforehand what a reload changes.")]
pub struct ReloadArgs {
    /// The file that `lvsd run --status FILE` writes
    #[arg(long, value_name = "FILE")]
    pub status: PathBuf,
}

/// What of the status matters here.
#[derive(Debug, Deserialize)]
struct Seen {
    pid: u32,
    configuration: u64,
    reload: Reload,
}

/// Runs the command.
pub(super) fn main(args: &ReloadArgs) -> Exit {
    match ask(&args.status) {
        Ok(Seen { reload: Reload { outcome: Outcome::Refused, message, .. }, .. }) => {
            eprintln!("{}\nlvsd: reload refused: nothing has changed", message.trim_end());
            Exit::Usage
        }
        Ok(Seen { configuration, reload, .. }) => {
            println!("{}", reload.message.trim_end());
            println!("configuration {configuration} is in effect");
            Exit::Ok
        }
        Err(why) => {
            eprintln!("lvsd: {why}");
            Exit::Failure
        }
    }
}

fn ask(path: &Path) -> Result<Seen, String> {
    let before = read(path)?;
    if !is_supervisor(before.pid) {
        return Err(format!(
            "process {} of {} is no `lvsd run` any more; start one",
            before.pid,
            path.display()
        ));
    }
    signal::send(before.pid, Signal::Hangup)
        .map_err(|error| format!("cannot signal process {}: {error}", before.pid))?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let now = read(path)?;
        if now.pid != before.pid || !is_supervisor(now.pid) {
            return Err(format!("process {} has ended", before.pid));
        }
        if now.reload.count > before.reload.count {
            return Ok(now);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Err(format!(
        "no answer within {} s; what it says on standard error tells more",
        PATIENCE.as_secs()
    ))
}

fn read(path: &Path) -> Result<Seen, String> {
    let wrong = |error: &dyn core::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(path).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&text).map_err(|error| wrong(&error))
}

/// Whether the number still belongs to a process that was started as `lvsd run`: a status outlives a
/// killed supervisor, and the kernel gives numbers again.
fn is_supervisor(pid: u32) -> bool {
    let Some(directory) = directory_of(pid) else { return false };
    let line = fs::read(directory.join("cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"run")
}

/// Where `/proc` describes the process that has this number here. In a PID namespace without a `/proc`
/// of its own (`ip netns`, `nsenter --pid`, the lab) that is found by what each process says of itself.
fn directory_of(pid: u32) -> Option<PathBuf> {
    let proc = Path::new("/proc");
    let own = fs::read_link(proc.join("self")).ok()?;
    if own == Path::new(&std::process::id().to_string()) {
        return Some(proc.join(pid.to_string()));
    }
    let here = fs::read_link("/proc/self/ns/pid").ok()?;
    let is_it = |directory: &PathBuf| {
        let status = fs::read_to_string(directory.join("status")).unwrap_or_default();
        innermost_pid(&status) == Some(pid)
            && fs::read_link(directory.join("ns/pid")).is_ok_and(|namespace| namespace == here)
    };
    fs::read_dir(proc).ok()?.flatten().map(|entry| entry.path()).find(is_it)
}

/// The number of a process in its own PID namespace, from `/proc/PID/status`.
fn innermost_pid(status: &str) -> Option<u32> {
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_whitespace().next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_number_is_the_last_of_its_line() {
        assert_eq!(innermost_pid("Name:\tlvsd\nNSpid:\t4711\t12\nVmPeak: 1 kB\n"), Some(12));
        assert_eq!(innermost_pid("NSpid:\t4711\n"), Some(4711));
        assert_eq!(innermost_pid("Name:\tlvsd\n"), None);
    }

    #[test]
    fn this_process_is_found_and_is_no_supervisor() {
        let directory = directory_of(std::process::id()).unwrap();
        assert!(fs::read(directory.join("cmdline")).is_ok());
        assert!(!is_supervisor(std::process::id()));
    }
}
