//! The table of templates: single calls, and random scripts beside a list that is searched from front to back.

use super::*;
use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

fn key(client: u32) -> TemplateKey {
    TemplateKey::new(
        Scope::Service(ServiceId(1)),
        core::net::Ipv4Addr::from_bits(client).into(),
        32,
    )
}

#[test]
fn a_key_says_what_it_was_made_of() {
    let net = TemplateKey::new(Scope::Group(u32::MAX), "198.51.100.77".parse().unwrap(), 24);
    assert_eq!(net.client().to_string(), "198.51.100.0");
    assert_eq!(net.scope(), Scope::Group(u32::MAX));
    let v6 =
        TemplateKey::new(Scope::Service(ServiceId(65_535)), "2001:db8::7".parse().unwrap(), 64);
    assert_eq!(v6.client().to_string(), "2001:db8::");
    assert_eq!(v6.scope(), Scope::Service(ServiceId(65_535)));
    let same = |len| {
        let of = |text: &str| TemplateKey::new(Scope::Group(1), text.parse().unwrap(), len);
        of("10.1.2.3") == of("10.1.9.9")
    };
    assert!(same(16) && !same(24));
}

#[test]
fn a_service_and_a_group_of_the_same_number_are_apart() {
    let table = Templates::new(8, &[1, 2]);
    let of = |scope| TemplateKey::new(scope, [192, 0, 2, 1].into(), 32);
    let service = of(Scope::Service(ServiceId(5)));
    assert!(matches!(table.insert(&service, ServerId(1), Tick(0), Tick(9)), Inserted::New(_)));
    assert_eq!(table.find(&of(Scope::Group(5)), Tick(0), Tick(9)), None);
}

#[test]
fn a_full_bucket_gives_up_expired_ones_then_the_oldest_idle_one_and_then_refuses() {
    let table = Templates::new(6, &[1, 2]);
    assert_eq!(table.places(), 12);
    let insert = |client, now, end| table.insert(&key(client), ServerId(client as u16), now, end);
    let mut holds = Vec::new();
    for client in 0..12 {
        let Inserted::New(hold) = insert(client, Tick(0), Tick(0)) else { panic!("{client}") };
        holds.push(hold);
    }
    assert_eq!(insert(100, Tick(0), Tick(0)), Inserted::Full, "all are busy");
    table.release(holds[3].slot, Ending::Until(Tick(50)));
    table.release(holds[4].slot, Ending::Until(Tick(20)));
    assert!(matches!(insert(101, Tick(30), Tick(30)), Inserted::New(_)), "4 has expired");
    assert!(table.find(&key(4), Tick(10), Tick(10)).is_none());
    assert_eq!(table.stats(), TemplateStats { live: 12, evicted: 0, refused: 1 });
    assert!(matches!(insert(102, Tick(30), Tick(30)), Inserted::New(_)), "3 is idle");
    assert_eq!(table.stats(), TemplateStats { live: 12, evicted: 1, refused: 1 });
    assert_eq!(insert(103, Tick(30), Tick(30)), Inserted::Full);
    assert_eq!(table.find(&key(0), Tick(30), Tick(30)).unwrap().server, ServerId(0));
}

#[test]
fn a_table_for_nobody_refuses_everybody() {
    let table = Templates::new(0, &[1, 2]);
    assert_eq!(table.insert(&key(1), ServerId(1), Tick(0), Tick(9)), Inserted::Full);
    assert_eq!(table.find(&key(1), Tick(0), Tick(9)), None);
    assert_eq!(table.sweep(Tick(0), 100), 0);
}

#[test]
fn as_many_templates_fit_as_were_asked_for() {
    let table = Templates::new(10_000, &[7, 9]);
    let refused = (0..10_000)
        .filter(|client| {
            table.insert(&key(*client), ServerId(1), Tick(0), Tick(0)) == Inserted::Full
        })
        .count();
    // Buckets are filled by chance; half of the places are spare.
    assert!(refused < 50, "{refused} of 10000 busy templates found no place");
    assert_eq!(table.stats().live as usize, 10_000 - refused);
}

#[test]
fn sessions_beyond_what_is_counted_go_to_the_same_server_and_leave_the_count_alone() {
    let table = Templates::new(4, &[1, 2]);
    let Inserted::New(first) = table.insert(&key(1), ServerId(7), Tick(0), Tick(0)) else {
        panic!()
    };
    let mut held = 1u32;
    let beyond = loop {
        let hold = table.find(&key(1), Tick(0), Tick(0)).unwrap();
        if hold.slot != first.slot {
            break hold;
        }
        held += 1;
    };
    assert_eq!((beyond.server, held), (ServerId(7), (1 << 20) - 2));
    table.release(beyond.slot, Ending::Plain);
    assert_eq!(table.retarget(beyond, ServerId(8)), beyond);
    for _ in 0..held {
        table.release(first.slot, Ending::Plain);
    }
    assert_eq!(table.find(&key(1), Tick(0), Tick(0)), None);
}

#[test]
fn steps_put_a_deadline_off_until_it_is_not_before_now() {
    let table = Templates::new(4, &[1, 2]);
    let Inserted::New(hold) = table.insert(&key(1), ServerId(7), Tick(0), Tick(100)) else {
        panic!()
    };
    table.release(hold.slot, Ending::Steps { now: Tick(125), step: 10 });
    let left = |now| {
        let mut left = None;
        table.scan(0, 100, now, |template| left = Some(template.left));
        left
    };
    assert_eq!(left(Tick(125)), Some(5));
    assert_eq!(left(Tick(130)), None);
}

/// What is done to a table.
#[derive(Clone, Debug)]
enum Step {
    Open { client: u32, server: u16 },
    Close { which: usize, until: Option<u32> },
    Retarget { which: usize, server: u16 },
    Pass { ticks: u32 },
    Sweep { budget: u32 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u32..12, 0u16..5).prop_map(|(client, server)| Step::Open { client, server }),
        3 => (any::<usize>(), proptest::option::of(1u32..50))
            .prop_map(|(which, until)| Step::Close { which, until }),
        1 => (any::<usize>(), 0u16..5).prop_map(|(which, server)| Step::Retarget { which, server }),
        2 => (0u32..30).prop_map(|ticks| Step::Pass { ticks }),
        1 => (0u32..40).prop_map(|budget| Step::Sweep { budget }),
    ]
}

/// A template written down.
#[derive(Clone, Debug)]
struct Naive {
    client: u32,
    server: u16,
    sessions: u32,
    until: u64,
}

proptest! {
    /// INV-18: a template lives while it has a session and until its deadline, to the tick, and no longer.
    #[test]
    fn the_table_agrees_with_a_list(start in any::<u32>(), steps in prop::collection::vec(step(), 1..200)) {
        let table = Templates::new(64, &[3, 4]);
        let mut list: Vec<Naive> = Vec::new();
        let mut holds: Vec<(Hold, u32)> = Vec::new();
        let mut passed = 0u64;
        for step in steps {
            let now = Tick(start.wrapping_add(passed as u32));
            match step {
                Step::Open { client, server } => {
                    list.retain(|naive| naive.sessions > 0 || naive.until > passed);
                    let known = list.iter_mut().find(|naive| naive.client == client);
                    let expected = known.map(|naive| { naive.sessions += 1; naive.server });
                    let found = table.find(&key(client), now, now);
                    prop_assert_eq!(found.map(|hold| hold.server.0), expected);
                    let hold = found.unwrap_or_else(|| {
                        list.push(Naive { client, server, sessions: 1, until: passed });
                        match table.insert(&key(client), ServerId(server), now, now) {
                            Inserted::New(hold) => hold,
                            other => panic!("{other:?}"),
                        }
                    });
                    holds.push((hold, client));
                }
                Step::Close { which, until } if !holds.is_empty() => {
                    let (hold, client) = holds.swap_remove(which % holds.len());
                    let naive = list.iter_mut().find(|naive| naive.client == client).unwrap();
                    naive.sessions -= 1;
                    let ending = until.map_or(Ending::Plain, |ticks| {
                        naive.until = naive.until.max(passed + u64::from(ticks));
                        Ending::Until(Tick(now.0.wrapping_add(ticks)))
                    });
                    table.release(hold.slot, ending);
                }
                Step::Retarget { which, server } if !holds.is_empty() => {
                    let at = which % holds.len();
                    let (hold, client) = holds[at];
                    let naive = list.iter_mut().find(|naive| naive.client == client).unwrap();
                    let current = Hold { server: ServerId(naive.server), ..hold };
                    naive.server = server;
                    prop_assert_eq!(table.retarget(current, ServerId(server)).server.0, server);
                }
                Step::Pass { ticks } => passed += u64::from(ticks),
                Step::Sweep { budget } => { table.sweep(now, budget); }
                Step::Close { .. } | Step::Retarget { .. } => {}
            }
            let now = Tick(start.wrapping_add(passed as u32));
            let mut listed = Vec::new();
            table.scan(0, u32::MAX, now, |template| {
                let IpAddr::V4(client) = template.key.client() else { panic!() };
                listed.push((client.to_bits(), template.server.0, template.sessions, template.left));
            });
            listed.sort_unstable();
            let alive = list.iter().filter(|naive| naive.sessions > 0 || naive.until > passed);
            let mut expected: Vec<_> = alive
                .map(|n| (n.client, n.server, n.sessions, n.until.saturating_sub(passed) as u32))
                .collect();
            expected.sort_unstable();
            prop_assert_eq!(listed, expected);
        }
    }
}
