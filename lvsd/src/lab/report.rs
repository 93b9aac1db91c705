//! What a check found, printed as it comes or collected as JSON.

use serde_json::{Map, Value, json};

/// One point that passed or failed.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// Stable: scripts may look for it.
    pub(crate) id: &'static str,
    pub(crate) pass: bool,
    /// What was seen, as a sentence.
    pub(crate) what: String,
    /// Figures, by name.
    pub(crate) figures: Map<String, Value>,
}

impl Check {
    pub(crate) fn new(id: &'static str, pass: bool, what: impl Into<String>) -> Self {
        Self { id, pass, what: what.into(), figures: Map::new() }
    }

    pub(crate) fn figure(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(name.to_owned(), value.into());
        self
    }
}

/// All checks of one run.
pub(crate) struct Report {
    json: bool,
    checks: Vec<Check>,
}

impl Report {
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, checks: Vec::new() }
    }

    /// A line for people; nothing with `--json`.
    pub(crate) fn note(&self, text: &str) {
        if !self.json {
            println!("{text}");
        }
    }

    pub(crate) fn add(&mut self, check: Check) {
        let word = if check.pass { "PASS" } else { "FAIL" };
        self.note(&format!("{word}  {:<12} {}", check.id, check.what));
        self.checks.push(check);
    }

    pub(crate) fn extend(&mut self, checks: impl IntoIterator<Item = Check>) {
        for check in checks {
            self.add(check);
        }
    }

    /// Whether there was something to check and all of it passed.
    pub(crate) fn passed(&self) -> bool {
        !self.checks.is_empty() && self.checks.iter().all(|c| c.pass)
    }

    /// The last line, or the one JSON object.
    pub(crate) fn finish(&self, scenario: &str) {
        let failed = self.checks.iter().filter(|c| !c.pass).count();
        let all = self.checks.len();
        if self.json {
            let checks: Vec<Value> = self.checks.iter().map(to_json).collect();
            println!(
                "{}",
                json!({ "schema": 1, "scenario": scenario, "pass": self.passed(), "checks": checks })
            );
        } else if failed == 0 {
            println!("lab {scenario}: all {all} checks passed");
        } else {
            println!("lab {scenario}: {failed} of {all} checks failed");
        }
    }
}

fn to_json(check: &Check) -> Value {
    json!({ "id": check.id, "pass": check.pass, "what": check.what, "figures": check.figures })
}
