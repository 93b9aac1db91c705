//! Measures balance and disruption of the schedulers and writes the plots and the tables of
//! `docs/schedulers.md`.
//!
//! `cargo run --release -p lvs-sched --example plots`. The figures are counts, not times, and the same on any
//! machine; a test compares them with what the page shows.

mod draw;
mod measure;
mod page;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    for (name, text) in page::files(&std::fs::read_to_string(docs.join("schedulers.md"))?) {
        std::fs::write(docs.join(name), text)?;
        println!("docs/{name}");
    }
    Ok(())
}
