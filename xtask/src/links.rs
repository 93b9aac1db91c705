//! `cargo xtask links`: every relative link in a Markdown page leads to a file.

use std::path::{Path, PathBuf};

use crate::sh::{Cmd, Outcome, root};

/// The task.
pub(crate) fn run() -> Outcome {
    // Pages that git knows or would add; not those of build directories.
    let args = "ls-files --cached --others --exclude-standard -- *.md";
    let list = Cmd::new("git").args(args).quiet();
    if !list.ok() {
        return Outcome::Skipped(format!("git cannot list the pages: {}", list.why()));
    }
    let pages: Vec<PathBuf> = list.lines.iter().map(|line| root().join(line)).collect();
    let mut broken = Vec::new();
    for page in &pages {
        let text = std::fs::read_to_string(page).unwrap_or_default();
        for target in targets(&text) {
            let dir = page.parent().unwrap_or(Path::new("."));
            if !dir.join(target).exists() {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    match broken.is_empty() {
        true => Outcome::Passed(format!("{} pages", pages.len())),
        false => Outcome::Failed(format!("links that lead nowhere:\n  {}", broken.join("\n  "))),
    }
}

/// The files that `](...)` links name, without those that lead to other sites or within the page.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = links.filter(|link| !link.contains("://") && !link.starts_with("mailto:"));
    files.filter_map(|link| link.split(['#', ' ']).next()).filter(|file| !file.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_files_are_followed() {
        let text =
            "[a](docs/a.md) [b](https://x.example/b.md) [c](#part) ![d](e.png \"t\") [f](g.md#h)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["docs/a.md", "e.png", "g.md"]);
    }
}
