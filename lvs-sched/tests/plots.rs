//! The figures and plots of `docs/schedulers.md` are those that the program writes.

#[path = "../examples/plots/draw.rs"]
mod draw;
#[path = "../examples/plots/measure.rs"]
mod measure;
#[path = "../examples/plots/page.rs"]
mod page;

use std::path::Path;

fn docs(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_page_shows_what_the_program_measures() {
    for (name, text) in page::files(&docs("schedulers.md")) {
        let same = docs(name) == text;
        assert!(
            same,
            "docs/{name} is out of step: cargo run --release -p lvs-sched --example plots"
        );
    }
}

#[test]
fn every_scheduler_is_on_the_page() {
    let page = docs("schedulers.md");
    for def in lvs_sched::ALL {
        assert!(page.contains(&format!("`{}`", def.name)), "{} is not on the page", def.name);
    }
}
