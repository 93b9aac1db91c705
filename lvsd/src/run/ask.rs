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
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(b"run")
}
