//! The table that `cargo xtask bench` prints, and its JSON.

use crate::rounds::Figures;
use serde_json::{Value, json};

/// A line of the table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// Stable name, `group/what/size`.
    pub id: String,
    /// What was measured.
    pub value: f64,
    /// The smallest figure of all rounds, where the value is a median.
    pub min: Option<f64>,
    /// Unit of the value.
    pub unit: &'static str,
    /// Beside what it was compared with.
    pub ratio: Option<f64>,
    /// With what.
    pub against: String,
    /// Bounds of the ratio, or of the value where there is none.
    pub bounds: Option<Bounds>,
}

/// What a figure must reach and what it should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bounds {
    /// Smaller is better: must, goal.
    AtMost(f64, f64),
    /// Larger is better: must, goal.
    AtLeast(f64, f64),
}

impl Bounds {
    /// In one word.
    #[must_use]
    pub fn judge(self, figure: f64) -> &'static str {
        let (must, goal) = match self {
            Self::AtMost(must, goal) => (figure <= must, figure <= goal),
            Self::AtLeast(must, goal) => (figure >= must, figure >= goal),
        };
        match (must, goal) {
            (_, true) => "goal",
            (true, false) => "must",
            (false, false) => "MISSED",
        }
    }

    const fn numbers(self) -> (f64, f64) {
        match self {
            Self::AtMost(must, goal) | Self::AtLeast(must, goal) => (must, goal),
        }
    }

    const fn sign(self) -> &'static str {
        match self {
            Self::AtMost(..) => "<=",
            Self::AtLeast(..) => ">=",
        }
    }
}

impl Row {
    /// Nanoseconds, median and minimum.
    #[must_use]
    pub fn ns(id: impl Into<String>, figures: &Figures) -> Self {
        Self::value(id, figures.median(), "ns").with_min(figures.min())
    }

    /// One number.
    #[must_use]
    pub fn value(id: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { id: id.into(), value, unit, ..Self::default() }
    }

    /// With the smallest figure.
    #[must_use]
    pub fn with_min(mut self, min: f64) -> Self {
        self.min = Some(min);
        self
    }

    /// Compared with something.
    #[must_use]
    pub fn ratio(mut self, ratio: f64, against: impl Into<String>) -> Self {
        (self.ratio, self.against) = (Some(ratio), against.into());
        self
    }

    /// Smaller is better.
    #[must_use]
    pub const fn at_most(mut self, must: f64, goal: f64) -> Self {
        self.bounds = Some(Bounds::AtMost(must, goal));
        self
    }

    /// Larger is better.
    #[must_use]
    pub const fn at_least(mut self, must: f64, goal: f64) -> Self {
        self.bounds = Some(Bounds::AtLeast(must, goal));
        self
    }

    /// `goal`, `must`, `MISSED`, or nothing where nothing is asked for.
    #[must_use]
    pub fn verdict(&self) -> &'static str {
        self.bounds.map_or("", |bounds| bounds.judge(self.ratio.unwrap_or(self.value)))
    }

    fn json(&self) -> Value {
        let bounds = self.bounds.map(|bounds| {
            let (must, goal) = bounds.numbers();
            json!({"is": bounds.sign(), "must": must, "goal": goal})
        });
        json!({
            "id": self.id, "value": self.value, "min": self.min, "unit": self.unit,
            "ratio": self.ratio, "against": self.against, "bounds": bounds,
            "verdict": self.verdict(),
        })
    }
}

/// Figures of the real peers, measured on this class of machine at other times; never a part of a ratio.
/// What, and nanoseconds of one core for each packet.
const ELSEWHERE: &[(&str, &str)] = &[
    ("DPVS 1.10.2 + DPDK 24.11, FullNAT, 1 flow", "99 (best 90)"),
    ("the same, 1000 flows", "135 (best 100)"),
    ("the same, 100 000 flows at random", "800"),
    ("the same, 1 000 000 flows at random", "1286"),
    ("the same, NAT, 1000 / 1 000 000 flows", "106 / 1397"),
    ("the same, a new connection, SYN only", "2500-4800"),
    ("its share for generator and sink", "8-9"),
    ("DPDK testpmd io / macswap / csum, same generator", "8.4 / 13.3 / 43"),
    ("Linux IPVS 6.1 (user-mode Linux), NAT request, 1000 / 50 000 flows", "640 / 794"),
    ("the same, NAT reply", "571 / 778"),
    ("the same, over plain forwarding, request / reply", "278 / 209"),
    ("nft DNAT, host kernel 6.18, request / reply", "1804 / 2052"),
];

/// Prints what was measured elsewhere.
pub fn show_elsewhere() {
    println!(
        "\nreal peers, ns a packet with their own I/O -- *not this run*, not the same load of the machine"
    );
    for (what, figure) in ELSEWHERE {
        println!("  {what:<68} {figure}");
    }
}

/// Prints one row as soon as it is known.
pub fn show(row: &Row) {
    let value = format!("{:.1} {}", row.value, row.unit);
    let min = row.min.map_or(String::new(), |min| format!("{min:.1}"));
    let ratio = row.ratio.map_or(String::new(), |ratio| format!("{ratio:.2} x"));
    let bounds = row.bounds.map_or([String::new(), String::new()], |bounds| {
        let (must, goal) = bounds.numbers();
        [format!("{} {must}", bounds.sign()), goal.to_string()]
    });
    let [must, goal] = bounds;
    let line = format!(
        "{:<34} {value:>12} {min:>8} {ratio:>9} {:<22} {must:>8} {goal:>6} {}",
        row.id,
        row.against,
        row.verdict()
    );
    println!("{}", line.trim_end());
}

/// The head of the table.
pub fn show_head(conditions: &[(&'static str, String)]) {
    for (name, value) in conditions {
        println!("{name:>10}  {value}");
    }
    println!(
        "\n{:<34} {:>12} {:>8} {:>9} {:<22} {:>8} {:>6} verdict",
        "name", "median", "min", "ratio", "to", "must", "goal"
    );
}

/// Everything as one JSON value.
#[must_use]
pub fn json(conditions: &[(&'static str, String)], rows: &[Row], mode: &str) -> Value {
    let conditions: serde_json::Map<String, Value> = conditions
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
        .collect();
    json!({
        "schema": 1, "bench": "all", "mode": mode, "conditions": conditions,
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_in_the_direction_of_its_bounds() {
        let small = Row::value("a", 1.5, "x").at_most(2.0, 1.0);
        assert_eq!(small.verdict(), "must");
        assert_eq!(small.clone().ratio(0.9, "b").verdict(), "goal");
        assert_eq!(small.ratio(2.1, "b").verdict(), "MISSED");
        let large = Row::value("a", 9.0, "x").at_least(8.0, 12.0);
        assert_eq!(large.verdict(), "must");
        assert_eq!(large.clone().ratio(12.0, "b").verdict(), "goal");
        assert_eq!(large.ratio(f64::NAN, "b").verdict(), "MISSED");
        assert_eq!(Row::value("a", 1.0, "x").verdict(), "");
    }

    #[test]
    fn the_json_keeps_all_of_a_row() {
        let row = Row::value("a/b", 2.0, "ns").with_min(1.5).ratio(1.2, "F").at_most(2.1, 1.5);
        let all = json(&[("load", "1".into())], &[row], "quick");
        let first = &all["rows"][0];
        assert_eq!(first["verdict"], "goal");
        assert_eq!(first["bounds"]["must"], 2.1);
        assert_eq!((&all["mode"], &all["conditions"]["load"]), (&"quick".into(), &"1".into()));
    }
}
