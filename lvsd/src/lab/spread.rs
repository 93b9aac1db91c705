//! What several workers made of the traffic: each had its part, and none got what another one owns.

use super::report::Check;
use serde_json::Value;

/// `None` when the director has one worker.
pub(crate) fn check(status: &Value) -> Option<Check> {
    let workers = status["workers"].as_array().filter(|workers| workers.len() > 1)?;
    let each = |key: &str| -> Vec<u64> {
        workers.iter().map(|worker| worker[key].as_u64().unwrap_or(u64::MAX)).collect()
    };
    let (rx, handed, taken) = (each("rx"), each("handed_over"), each("taken_over"));
    let shared = rx.iter().all(|rx| *rx > 0) && !rx.contains(&u64::MAX);
    // The kernel's program delivers every reply to its owner, so nothing needs to be handed over.
    let steered = handed.iter().chain(&taken).all(|count| *count == 0);
    let list = |counts: &[u64]| counts.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
    let what =
        format!("packets by worker: {}; handed to another one: {}", list(&rx), list(&handed));
    Some(Check::new("workers", shared && steered, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn passes(workers: &Value) -> Option<bool> {
        check(&json!({ "workers": workers })).map(|check| check.pass)
    }

    #[test]
    fn idle_workers_and_strayed_packets_fail() {
        let worker = |rx, handed| json!({ "rx": rx, "handed_over": handed, "taken_over": 0 });
        assert_eq!(passes(&json!([worker(9, 0)])), None);
        assert_eq!(passes(&json!([worker(9, 0), worker(1, 0)])), Some(true));
        assert_eq!(passes(&json!([worker(9, 0), worker(0, 0)])), Some(false));
        assert_eq!(passes(&json!([worker(9, 0), worker(3, 1)])), Some(false));
        assert_eq!(passes(&json!([worker(9, 0), {}])), Some(false));
    }
}
