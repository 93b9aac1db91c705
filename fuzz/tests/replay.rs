//! Every stored input again, on any compiler: the seeds, and what was found once.

use lvs_fuzz::{TARGETS, director, target};
use std::path::{Path, PathBuf};

fn stored(folder: &str, name: &str) -> Vec<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name);
    let entries = std::fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let files = entries.map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|file| file.extension().is_none_or(|ext| ext != "md")).collect();
    files.sort();
    files
}

#[test]
fn every_stored_input_passes() {
    for name in TARGETS {
        let run = target(name).unwrap();
        let seeds = stored("corpus", name);
        assert!(seeds.len() >= 20, "{name} has {} seeds", seeds.len());
        for file in seeds.into_iter().chain(stored("regressions", name)) {
            // Names the file of a panic, which would otherwise not say where it comes from.
            println!("{}", file.display());
            run(&std::fs::read(&file).unwrap());
        }
    }
}

#[test]
fn the_same_script_gives_the_same_verdicts_and_frames() {
    for file in stored("corpus", "director") {
        let bytes = std::fs::read(&file).unwrap();
        assert_eq!(director::run(&bytes), director::run(&bytes), "{} (INV-13)", file.display());
    }
}

#[test]
fn the_seeds_reach_every_verdict_and_fill_the_table() {
    let logs: Vec<director::Log> = stored("corpus", "director")
        .iter()
        .map(|file| director::run(&std::fs::read(file).unwrap()))
        .collect();
    let verdicts: std::collections::HashSet<String> = logs
        .iter()
        .flat_map(|log| &log.verdicts)
        .map(|verdict| format!("{verdict:?}").split('(').next().unwrap().to_owned())
        .collect();
    for kind in ["Forward", "Answer", "Release", "Absorb", "Drop"] {
        assert!(verdicts.contains(kind), "no seed ends in {kind}");
    }
    assert!(logs.iter().any(|log| log.sessions >= 6), "no seed fills the ports of an address");
    let short = logs.iter().map(|log| log.short_way).sum::<u64>();
    assert!(short >= 50, "{short} packets take the short way");
    assert!(logs.iter().map(|log| log.sent.len()).sum::<usize>() > 100);
}
