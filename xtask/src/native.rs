//! The end of a full `cargo xtask bench`: the portable build beside one for this very processor.
//!
//! Two programs cannot take turns round by round, so whole short runs do: portable, native, native,
//! portable.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::meta::Metadata;
use crate::sh::Cmd;

/// Sizes of the row that is compared.
const SIZES: &[&str] = &["64k", "1m"];
const MUST: f64 = 1.3;
const GOAL: f64 = 1.15;

/// Builds both, compares them, prints a row for each size, and adds the rows to the JSON file if there is
/// one.
pub(crate) fn compare(record: Option<&Path>) -> Result<(), String> {
    let target = Metadata::members()?.target_dir;
    let portable = target.join("release/bench");
    let dir = target.join("native");
    let build = Cmd::cargo("build --release --package lvs-benches --bin bench --target-dir");
    let build = build.arg(&dir).env("RUSTFLAGS", "-Ctarget-cpu=native").run();
    if !build.ok() {
        return Err(build.why().to_owned());
    }
    let native = dir.join("release/bench");
    let mut rows = Vec::new();
    for size in SIZES {
        let mut figures = Vec::new();
        for program in [&portable, &native, &native, &portable] {
            figures.push(measure(program, size, &dir.join("row.json"))?);
        }
        let row = row(size, &figures);
        println!("{}", show(&row));
        rows.push(row);
    }
    record.map_or(Ok(()), |file| add(file, rows))
}

/// Nanoseconds a packet of the director.
fn measure(program: &PathBuf, size: &str, file: &Path) -> Result<f64, String> {
    let part = format!("established/{size}");
    let run = Cmd::new(program).args("--quick --only").arg(part).arg("--json").arg(file).quiet();
    if !run.ok() {
        return Err(run.why().to_owned());
    }
    let text = fs::read_to_string(file).map_err(|error| error.to_string())?;
    let report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    value_of(&report, &format!("fullnat-v4/{size}"))
}

fn value_of(report: &Value, id: &str) -> Result<f64, String> {
    let rows = report["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let row = rows.iter().find(|row| row["id"] == id);
    row.and_then(|row| row["value"].as_f64()).ok_or(format!("no row {id}"))
}

/// From portable, native, native, portable.
fn row(size: &str, figures: &[f64]) -> Value {
    let &[a, b, c, d] = figures else { return Value::Null };
    let (portable, native) = ((a + d) / 2.0, (b + c) / 2.0);
    let ratio = portable / native;
    let verdict = match ratio {
        ratio if ratio <= GOAL => "goal",
        ratio if ratio <= MUST => "must",
        _ => "MISSED",
    };
    json!({
        "id": format!("portable/{size}"), "value": portable, "unit": "ns", "ratio": ratio,
        "against": "native", "bounds": {"is": "<=", "must": MUST, "goal": GOAL}, "verdict": verdict,
    })
}

fn show(row: &Value) -> String {
    let number = |name: &str| row[name].as_f64().unwrap_or(f64::NAN);
    format!(
        "{:<34} {:>12} {:>8} {:>9} {:<22} {:>8} {:>6} {}",
        row["id"].as_str().unwrap_or_default(),
        format!("{:.1} ns", number("value")),
        "",
        format!("{:.2} x", number("ratio")),
        "native",
        format!("<= {MUST}"),
        GOAL,
        row["verdict"].as_str().unwrap_or_default()
    )
}

/// Adds rows to a report.
fn add(file: &Path, more: Vec<Value>) -> Result<(), String> {
    let name = |error: std::io::Error| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(name)?;
    let mut report: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if let Some(rows) = report["rows"].as_array_mut() {
        rows.extend(more);
    }
    fs::write(file, format!("{report:#}\n")).map_err(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_portable_over_native_whatever_the_drift() {
        let verdict = |figures: [f64; 4]| row("64k", &figures)["verdict"].clone();
        assert_eq!(verdict([100.0, 100.0, 110.0, 110.0]), "goal");
        assert_eq!(verdict([120.0, 100.0, 100.0, 130.0]), "must");
        assert_eq!(verdict([140.0, 100.0, 100.0, 130.0]), "MISSED");
        assert_eq!(verdict([f64::NAN, 100.0, 100.0, 130.0]), "MISSED");
    }

    #[test]
    fn a_row_is_found_by_its_name() {
        let report = json!({"rows": [{"id": "a", "value": 1.5}]});
        assert_eq!(value_of(&report, "a"), Ok(1.5));
        assert!(value_of(&report, "b").is_err());
    }
}
