//! The table of `docs/performance.md`: the packet path beside floors and stand-ins, in memory.
//!
//! `bench [--quick] [--json FILE] [--only PART]`. It ends with 0 however fast it was; a packet that comes
//! out wrong ends it with an error.

use lvs_benches::suite::{
    Effort, Report, established, half_out, opening, picks, rewrite, store, strain, variants,
    workers,
};
use lvs_benches::{cpu, huge::HugeAlloc, table};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: HugeAlloc = HugeAlloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let after = |name: &str| {
        args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned()
    };
    let only = after("--only").unwrap_or_default();
    let wanted = |part: &str| only.is_empty() || part.contains(&only);
    let mut conditions = cpu::conditions();
    // Asked before this thread is pinned: afterwards it may use one.
    let cores = cpu::cores();
    let core = after("--core").and_then(|core| core.parse().ok()).unwrap_or(0);
    let pinned = if cpu::pin(core) { format!("core {core}") } else { "no".to_owned() };
    conditions.push(("pinned", pinned));
    table::show_head(&conditions);
    let effort = Effort { rounds: if quick { 15 } else { 41 }, full: !quick };
    let mut report = Report::new(false);
    for (name, sessions) in
        [("1", 1), ("1k", 1 << 10), ("64k", 1 << 16), ("1m", 1 << 20), ("10m", 10_000_000)]
    {
        let part = format!("established/{name}");
        if wanted(&part) && (sessions <= 1 << 20 || effort.full) {
            established::run(sessions, sessions <= 1 << 20, effort, &mut report)?;
        }
    }
    for (name, sessions) in [("64k", 1 << 16), ("1m", 1 << 20)] {
        if wanted(&format!("variants/{name}")) && (sessions == 1 << 16 || effort.full) {
            variants::run(sessions, effort, &mut report)?;
        }
        if wanted(&format!("new/{name}")) && (sessions == 1 << 16 || effort.full) {
            opening::run(sessions, effort, &mut report)?;
        }
    }
    if wanted("half-out") {
        half_out::run(effort, &mut report)?;
    }
    if wanted("rewrite") {
        rewrite::run(effort, &mut report)?;
    }
    if wanted("store") {
        store::run(effort, &mut report)?;
    }
    if wanted("picks") {
        picks::run(effort, &mut report)?;
    }
    if wanted("strain") {
        strain::run(effort, &mut report)?;
    }
    if wanted("workers") && cores > 1 {
        workers::run(if effort.full { 1 << 20 } else { 1 << 16 }, effort, &mut report)?;
    }
    if only.is_empty() {
        table::show_elsewhere();
    }
    if let Some(file) = after("--json") {
        let mode = if quick { "quick" } else { "full" };
        let all = table::json(&conditions, &report.rows, mode);
        std::fs::write(&file, format!("{all:#}\n")).map_err(|e| format!("{file}: {e}"))?;
    }
    Ok(())
}
