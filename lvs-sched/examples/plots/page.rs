//! What the page shows: two pictures, and the tables between its marks.

use crate::draw::{Row, bars};
use crate::measure::{chance, moved, overload, unevenness};
use lvs_core::sched::SchedulerDef;
use lvs_sched::{
    conhash, dh, lblc, lblcr, lc, maglev, mh, nq, rr, sed, sh, smooth, twos, wlc, wrr,
};

const BALANCE: &[&SchedulerDef] = &[
    &wlc::DEF,
    &sed::DEF,
    &nq::DEF,
    &lblc::DEF,
    &lblcr::DEF,
    &twos::DEF,
    &smooth::DEF,
    &wrr::DEF,
    &maglev::DEF,
    &mh::DEF,
    &conhash::DEF,
    &sh::DEF,
    &lc::DEF,
    &rr::DEF,
    &dh::DEF,
];

const HASHES: &[&SchedulerDef] =
    &[&conhash::DEF, &maglev::LARGE, &maglev::DEF, &mh::DEF, &sh::DEF, &dh::DEF];

const START: &str = "<!-- figures: written by lvs-sched/examples/plots -->\n";
const END: &str = "<!-- end of figures -->\n";

/// Names below `docs` and texts of all that is written, from the page as it is.
pub(crate) fn files(page: &str) -> Vec<(&'static str, String)> {
    let (before, rest) = page.split_once(START).expect("the page marks where figures start");
    let (_, after) = rest.split_once(END).expect("the page marks where figures end");
    let disruption: Vec<_> =
        HASHES.iter().map(|def| (def.name, [10, 100].map(|count| moved(def, count)))).collect();
    let tables = hash_table(&disruption);
    vec![
        ("img/schedulers-balance.svg", balance()),
        ("img/schedulers-disruption.svg", picture_of(&disruption)),
        ("schedulers.md", format!("{before}{START}{tables}{END}{after}")),
    ]
}

/// Tenths of a percent.
fn percent(permille: u64) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// Hundredths of a percent.
fn fine_percent(of_10_000: u64) -> String {
    format!("{}.{:02} %", of_10_000 / 100, of_10_000 % 100)
}

fn balance() -> String {
    let row = |def: &&SchedulerDef| {
        let value = overload(def);
        Row { name: def.name, value, text: percent(value) }
    };
    let rows: Vec<Row> = BALANCE.iter().map(row).collect();
    // rr, lc and dh do not look at weights; their bars would hide the others.
    let title = "Sessions of the busiest server above its share (20 servers, weights 1 to 4)";
    bars(title, &rows, 500)
}

fn picture_of(disruption: &[(&'static str, [u64; 2])]) -> String {
    let row = |(name, [_, moved]): &(&'static str, [u64; 2])| Row {
        name,
        value: *moved,
        text: fine_percent(*moved),
    };
    let rows: Vec<Row> = disruption.iter().map(row).collect();
    bars("Clients of the others that move when 1 of 100 servers goes", &rows, 10_000)
}

fn hash_table(disruption: &[(&'static str, [u64; 2])]) -> String {
    let mut table = String::from(
        "| | moved, 1 of 10 goes | moved, 1 of 100 goes | busiest of 10 | busiest of 100 |\n\
         |---|---|---|---|---|\n",
    );
    for (def, (name, [ten, hundred])) in HASHES.iter().zip(disruption) {
        let (ten, hundred) = (fine_percent(*ten), fine_percent(*hundred));
        let [a, b] = [10, 100].map(|count| percent(unevenness(def, count)));
        table += &format!("| `{name}` | {ten} | {hundred} | +{a} | +{b} |\n");
    }
    let [a, b] = [10, 100].map(|count| percent(chance(count)));
    table + &format!("| a die | | | +{a} | +{b} |\n")
}
