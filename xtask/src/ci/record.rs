//! Writes date, commit and result of a long run into `docs/testing.md`.

use std::fs::OpenOptions;
use std::io::{Error, Write};

use crate::sh::{Cmd, root};

/// Appends one row to the table at the end of the page. `result` is the last line of a run.
pub(super) fn append(result: &str) -> Result<(), Error> {
    let said = |cmd: Cmd| cmd.quiet().last().to_owned();
    let date = said(Cmd::new("date").args("-u +%Y-%m-%d"));
    let commit = said(Cmd::new("git").args("describe --always --dirty"));
    let mut page = OpenOptions::new().append(true).open(root().join("docs/testing.md"))?;
    page.write_all(row(&date, &commit, result).as_bytes())
}

fn row(date: &str, commit: &str, result: &str) -> String {
    format!("| {date} | {commit} | {} |\n", result.trim_start_matches("ci: ").replace('|', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_three_cells_whatever_the_result_says() {
        let row = row("2026-01-02", "abc1234", "ci: FAIL: a | b");
        assert_eq!(row, "| 2026-01-02 | abc1234 | FAIL: a / b |\n");
    }

    #[test]
    fn the_page_ends_with_the_table_that_rows_are_added_to() {
        let page = std::fs::read_to_string(root().join("docs/testing.md")).unwrap();
        let table = page.split("| date (UTC) | commit | result |\n").nth(1).unwrap();
        assert!(page.ends_with('\n') && table.lines().all(|line| line.starts_with('|')));
    }
}
