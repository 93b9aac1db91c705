//! The shared tables under every order in which two or three workers can take their steps, tried out by loom:
//! `RUSTFLAGS="--cfg loom" cargo test -p lvs-core --lib shared`.

use super::{Ending, Hold, Inserted, Scope, ServerCounts, TemplateKey, Templates, Thresholds};
use crate::id::{ServerId, ServiceId};
use crate::time::Tick;
use loom::sync::Arc;
use loom::thread;

const NOW: Tick = Tick(1000);
const LATER: Tick = Tick(2000);

fn key(client: u8) -> TemplateKey {
    TemplateKey::new(Scope::Service(ServiceId(0)), [192, 0, 2, client].into(), 32)
}

/// As many steps as fit a few minutes: more switches between workers than this find nothing that fewer do not.
fn explore(f: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(f);
}

/// What a worker does for the first packet of a client: find, else insert.
fn belongs(table: &Templates, client: u8, mine: u16) -> Hold {
    if let Some(hold) = table.find(&key(client), NOW, NOW) {
        return hold;
    }
    match table.insert(&key(client), ServerId(mine), NOW, NOW) {
        Inserted::New(hold) | Inserted::Other(hold) => hold,
        Inserted::Full => panic!("two clients fit one bucket"),
    }
}

#[test]
fn workers_that_race_for_one_client_get_one_answer() {
    explore(|| {
        let table = Arc::new(Templates::new(1, &[1, 2]));
        let other = Arc::clone(&table);
        let there = thread::spawn(move || belongs(&other, 1, 2).server);
        let here = belongs(&table, 1, 1).server;
        assert_eq!(there.join().unwrap(), here);
        assert_eq!(table.stats().live, 1);
    });
}

#[test]
fn a_template_that_is_taken_out_meanwhile_never_leaves_two() {
    explore(|| {
        let table = Arc::new(Templates::new(1, &[1, 2]));
        // Its time has passed, and a sweep is on its way.
        table.release(belongs(&table, 1, 9).slot, Ending::Plain);
        let [one, two] = [Arc::clone(&table), Arc::clone(&table)];
        let sweep = thread::spawn(move || one.sweep(NOW, 24));
        let there = thread::spawn(move || belongs(&two, 1, 2).server);
        let here = belongs(&table, 1, 1).server;
        assert_eq!(there.join().unwrap(), here);
        assert!(here.0 < 9, "the old answer is over");
        sweep.join().unwrap();
        assert_eq!(table.stats().live, 1);
        let mut seen = 0;
        table.scan(0, 100, NOW, |template| {
            assert_eq!((template.server, template.sessions), (here, 2));
            seen += 1;
        });
        assert_eq!(seen, 1);
    });
}

#[test]
fn nobody_gets_the_template_of_the_next_client_in_a_place() {
    explore(|| {
        let table = Arc::new(Templates::new(1, &[1, 2]));
        table.release(belongs(&table, 1, 1).slot, Ending::Until(Tick(1100)));
        let other = Arc::clone(&table);
        // The other worker is late: for it the template of client 1 is over and goes to client 2.
        let there = thread::spawn(move || {
            other.sweep(Tick(1200), 24);
            match other.insert(&key(2), ServerId(2), Tick(1200), LATER) {
                Inserted::New(hold) => hold.server,
                Inserted::Other(_) | Inserted::Full => panic!("client 2 is new"),
            }
        });
        let here = table.find(&key(1), NOW, NOW);
        assert!(here.is_none_or(|hold| hold.server == ServerId(1)));
        if let Some(hold) = here {
            table.release(hold.slot, Ending::Plain);
        }
        assert_eq!(there.join().unwrap(), ServerId(2));
        let two = table.find(&key(2), NOW, NOW).unwrap();
        assert_eq!(two.server, ServerId(2));
    });
}

#[test]
fn a_server_is_replaced_once_for_all_workers() {
    explore(|| {
        let table = Arc::new(Templates::new(1, &[1, 2]));
        let _held = belongs(&table, 1, 9);
        let other = Arc::clone(&table);
        let there = thread::spawn(move || {
            let hold = other.find(&key(1), NOW, NOW).unwrap();
            if hold.server == ServerId(9) {
                other.retarget(hold, ServerId(2)).server
            } else {
                hold.server
            }
        });
        let hold = table.find(&key(1), NOW, NOW).unwrap();
        let here = if hold.server == ServerId(9) {
            table.retarget(hold, ServerId(1)).server
        } else {
            hold.server
        };
        assert_eq!(there.join().unwrap(), here);
    });
}

#[test]
fn an_upper_threshold_holds_against_all_workers_at_once() {
    explore(|| {
        let limits = Thresholds { upper: 2, lower: 0 };
        let counts = Arc::new(ServerCounts::new(1));
        assert!(counts.reserve(ServerId(0), &limits, false));
        let other = Arc::clone(&counts);
        let there = thread::spawn(move || other.reserve(ServerId(0), &limits, false));
        let here = counts.reserve(ServerId(0), &limits, false);
        let there = there.join().unwrap();
        assert!(here != there, "one of them, and not both");
        let after = counts.get(ServerId(0)).unwrap();
        assert_eq!((after.total(), after.overloaded), (2, true));
    });
}

#[test]
fn overload_ends_whoever_closes_the_last_session_too_many() {
    explore(|| {
        let limits = Thresholds { upper: 4, lower: 3 };
        let counts = Arc::new(ServerCounts::new(1));
        for _ in 0..4 {
            assert!(counts.reserve(ServerId(0), &limits, false));
        }
        let other = Arc::clone(&counts);
        let there = thread::spawn(move || other.moved(ServerId(0), Some(false), None, &limits));
        counts.moved(ServerId(0), Some(false), None, &limits);
        there.join().unwrap();
        let after = counts.get(ServerId(0)).unwrap();
        assert_eq!((after.total(), after.overloaded), (2, false));
    });
}
