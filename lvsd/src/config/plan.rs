//! What a new configuration changes of the one in effect: the plan that a reload prints before it
//! does anything, and that `lvsd diff` prints without doing it.
//!
//! The typed configurations decide *whether* a part differs, the texts say *what* of it does. A key
//! that this file has never heard of is therefore shown all the same.

mod parts;

use super::{BuildError, Config, Loaded, SelfOwner, schedulers};
use core::fmt;
use lvs_core::addr::Family;
use lvs_core::snapshot::{Snapshot, SnapshotSpec};
use parts::{Parts, port_order};
use serde_json::{Value, json};

/// What becomes of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is new.
    Add,
    /// It goes.
    Remove,
    /// It stays, with other values.
    Change,
}

/// One part that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What becomes of it.
    pub action: Action,
    /// Which part.
    pub what: String,
    /// What of it differs, one line each.
    pub details: Vec<String>,
    /// Why this cannot be done while `lvsd run` runs.
    pub restart: Option<String>,
}

impl Change {
    fn new(action: Action, what: impl Into<String>) -> Self {
        Self { action, what: what.into(), details: Vec::new(), restart: None }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.details.push(detail.into());
        self
    }

    fn restart(mut self, why: impl Into<String>) -> Self {
        self.restart = Some(why.into());
        self
    }
}

/// All differences between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the sections of the file.
    pub changes: Vec<Change>,
}

impl Plan {
    /// What leads from `old` to `new`.
    #[must_use]
    pub fn between(old: &Loaded, new: &Loaded) -> Self {
        let (a, b) = (Parts::of(old), Parts::of(new));
        let mut changes = Vec::new();
        changes.extend(a.single(&b, "director", |c| &c.director));
        changes.extend(a.single(&b, "timeouts", |c| &c.timeouts));
        changes.extend(a.repeated(&b, "port", |c| &c.ports, |p| format!("port {}", p.name.value)));
        changes.extend(port_order(&old.config.ports, &new.config.ports));
        changes.extend(a.repeated(&b, "route", |c| &c.routes, |r| format!("route {}", r.prefix())));
        changes.extend(a.repeated(
            &b,
            "neighbour",
            |c| &c.neighbours,
            |n| format!("neighbour {}", n.ip.value),
        ));
        changes.extend(a.repeated(
            &b,
            "local_pool",
            |c| &c.pools,
            |p| format!("local_pool {}", p.name.value),
        ));
        let marks = a.repeated(&b, "mark", |c| &c.marks, ToString::to_string);
        if marks.is_empty() && old.config.marks != new.config.marks {
            changes.push(Change::new(Action::Change, "order of marks"));
        }
        changes.extend(marks);
        changes.extend(a.services(&b));
        Self { changes }
    }

    /// Adds what the session memory has no room for, when it was laid out for `layout` and `next` is the
    /// generation that `new` leads to.
    pub fn judge_room(&mut self, layout: &Config, new: &Config, next: &Snapshot) {
        let several = layout.director.workers > 1;
        if several && layout.fanout().ok() != new.fanout().ok() {
            let what = "the spreading of packets over workers".to_owned();
            self.changes.push(Change::new(Action::Change, what).restart(
                "it goes by local and virtual addresses, and is fixed while there are several workers"
                    .to_owned(),
            ));
        }
        let (room, wanted) = (layout.store_config(0), new.store_config(0));
        for (family, name, room, wanted) in
            [(Family::V4, "IPv4", room.v4, wanted.v4), (Family::V6, "IPv6", room.v6, wanted.v6)]
        {
            let locals = next.locals(family).len();
            if locals > usize::from(room.local_addresses) {
                let gone = locals.saturating_sub(usize::from(wanted.local_addresses));
                self.changes
                    .push(Change::new(Action::Change, format!("session memory for {name}")).restart(
                    format!(
                        "it was made for {} local addresses; this needs {locals}, with {gone} that \
                             were removed and may still have sessions",
                        room.local_addresses
                    ),
                ));
            }
            if wanted.general > room.general {
                self.changes.push(
                    Change::new(Action::Change, format!("session memory for {name}")).restart(
                        format!(
                            "it was made for {} NAT sessions; this needs {}",
                            room.general, wanted.general
                        ),
                    ),
                );
            }
        }
    }

    /// Whether the two mean the same.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether a running `lvsd run` can take the new one.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.changes.iter().all(|change| change.restart.is_none())
    }

    /// For programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.changes
            .iter()
            .map(|change| {
                json!({
                    "action": match change.action {
                        Action::Add => "add",
                        Action::Remove => "remove",
                        Action::Change => "change",
                    },
                    "what": change.what,
                    "details": change.details,
                    "restart": change.restart,
                })
            })
            .collect()
    }
}

/// One line for each part and, indented, for each of its details.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let sign = match change.action {
                Action::Add => '+',
                Action::Remove => '-',
                Action::Change => '~',
            };
            writeln!(f, "{sign} {}", change.what)?;
            for detail in &change.details {
                writeln!(f, "    {detail}")?;
            }
            if let Some(why) = &change.restart {
                writeln!(f, "    needs a restart: {why}")?;
            }
        }
        Ok(())
    }
}

/// The generation that a configuration is for `lvsd run`, after `previous`.
///
/// # Errors
/// [`BuildError`]; never for a configuration that was read without a fault.
pub fn generation(config: &Config, previous: Option<&Snapshot>) -> Result<Snapshot, BuildError> {
    Ok(specification(config)?.build(previous)?)
}

/// What a configuration is for `lvsd run`, before it is a generation.
///
/// # Errors
/// As [`generation`].
pub fn specification(config: &Config) -> Result<SnapshotSpec, BuildError> {
    config.snapshot_spec(schedulers(), SelfOwner::Kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"
[[port]]
name = "a"
addresses = ["10.0.0.1/24"]
[[local_pool]]
name = "in"
addresses = ["10.0.0.100-10.0.0.101"]
[[service]]
name = "web"
address = "10.0.0.80:80"
local_pool = "in"
[[service.server]]
address = "10.0.0.11:80"
[[service.server]]
address = "10.0.0.12:80"
[[service]]
address = "10.0.0.81:53"
protocol = "udp"
forwarding = "nat"
"#;

    fn load(text: &str) -> Loaded {
        super::super::parse("test", text).unwrap_or_else(|r| panic!("{}", r.render(false)))
    }

    /// The plan from `BASE` to what replacing makes of it, judged with the memory of `BASE`.
    fn plan(replace: &[(&str, &str)]) -> Plan {
        let mut text = BASE.to_owned();
        for (from, to) in replace {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        let (old, new) = (load(BASE), load(&text));
        let mut plan = Plan::between(&old, &new);
        let first = generation(&old.config, None).unwrap();
        let next = generation(&new.config, Some(&first)).unwrap();
        plan.judge_room(&old.config, &new.config, &next);
        plan
    }

    #[test]
    fn what_is_written_differently_and_means_the_same_is_no_change() {
        assert!(plan(&[]).is_empty());
        assert!(
            plan(&[("name = \"web\"", "name = \"web\"\nscheduler = \"wrr\" # as without")])
                .is_empty()
        );
    }

    #[test]
    fn servers_and_services_come_and_go_without_a_restart() {
        let plan = plan(&[
            ("address = \"10.0.0.11:80\"", "address = \"10.0.0.13:80\"\nweight = 3"),
            ("address = \"10.0.0.12:80\"", "address = \"10.0.0.12:80\"\nweight = 5"),
            ("10.0.0.81:53", "10.0.0.82:53"),
        ]);
        assert!(plan.is_live());
        let expected = "\
- service udp 10.0.0.81:53
    no new sessions; the live ones go on until they end
- server 10.0.0.11:80 of service web (tcp 10.0.0.80:80)
    no new sessions; the live ones go on until they end
~ server 10.0.0.12:80 of service web (tcp 10.0.0.80:80)
    weight: (not set) -> 5
+ server 10.0.0.13:80 of service web (tcp 10.0.0.80:80)
    weight: 3
+ service udp 10.0.0.82:53
    servers: none
";
        assert_eq!(plan.to_string(), expected);
    }

    #[test]
    fn a_renamed_service_is_the_same_service() {
        let plan = plan(&[("name = \"web\"", "name = \"shop\"\nscheduler = \"rr\"")]);
        let expected = "\
~ service shop (tcp 10.0.0.80:80)
    name: \"web\" -> \"shop\"
    scheduler: (not set) -> \"rr\"
";
        assert_eq!(plan.to_string(), expected);
        assert_eq!(plan.to_json()[0]["action"], "change");
    }

    #[test]
    fn what_is_made_at_the_start_needs_a_restart_and_says_why() {
        for (from, to, part) in [
            ("name = \"a\"", "name = \"a\"\nmtu = 1400", "port a"),
            ("name = \"a\"", "name = \"b\"", "port b"),
            ("name = \"in\"", "name = \"in\"\nports = \"2000-3000\"", "local_pool in"),
            ("10.0.0.100-10.0.0.101", "10.0.0.100-10.0.0.102", "session memory for IPv4"),
            // As many as before, but the numbers of the old ones may still be in sessions.
            ("10.0.0.100-10.0.0.101", "10.0.0.101-10.0.0.102", "session memory for IPv4"),
            ("[[local_pool]]", "[director]\nsessions = 9\n[[local_pool]]", "director"),
        ] {
            let plan = plan(&[(from, to)]);
            let fixed: Vec<_> = plan.changes.iter().filter(|c| c.restart.is_some()).collect();
            assert!(!plan.is_live() && fixed.iter().any(|c| c.what == part), "{part}: {plan}");
        }
        assert!(plan(&[("10.0.0.1/24", "10.0.0.2/24")]).is_live());
        for key in ["icmp_errors = 7", "reset_on_miss = 7"] {
            let section = format!("[director]\n{key}\n[[local_pool]]");
            assert!(plan(&[("[[local_pool]]", &section)]).is_live(), "{key}");
        }
        assert!(plan(&[("10.0.0.100-10.0.0.101", "10.0.0.101")]).is_live());
    }

    #[test]
    fn the_first_nat_service_of_a_family_has_no_memory() {
        let only_fullnat = BASE.split("[[service]]\naddress = \"10.0.0.81").next().unwrap();
        let (old, new) = (load(only_fullnat), load(BASE));
        let mut plan = Plan::between(&old, &new);
        assert!(plan.is_live());
        let first = generation(&old.config, None).unwrap();
        let next = generation(&new.config, Some(&first)).unwrap();
        plan.judge_room(&old.config, &new.config, &next);
        assert!(!plan.is_live());
        assert!(plan.to_string().contains("made for 0 NAT sessions; this needs 65536"), "{plan}");
    }

    #[test]
    fn the_order_of_servers_counts() {
        let swapped = plan(&[
            ("10.0.0.11:80", "10.0.0.9:80"),
            ("10.0.0.12:80", "10.0.0.11:80"),
            ("10.0.0.9:80", "10.0.0.12:80"),
        ]);
        let expected = "~ order of the servers of service web (tcp 10.0.0.80:80)\n";
        assert_eq!(swapped.to_string(), expected);
    }
}
