//! Where a lab keeps its files, and which labs there are.
//!
//! ```text
//!   $XDG_RUNTIME_DIR/lvsd-lab  or  /tmp/lvsd-lab-UID      mode 0700
//!     fullnat/        a lab that is up            run-4711/   one that `lab run` holds
//!       owner         "PID START" of the process whose end is the lab's end
//!       state.json    how to enter its namespaces; there when the lab is ready
//!       director.toml status.json director.log server1.log server2.log init.log
//! ```

use super::Problem;
use super::scenario::Scenario;
use lvs_os::process;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{env, process as std_process};

/// Descriptor numbers in the lab's first process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostFds {
    pub(crate) mount: u32,
    pub(crate) uts: u32,
    pub(crate) net: u32,
}

/// How to enter a lab.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct State {
    pub(crate) scenario: Scenario,
    /// Its first process.
    pub(crate) pid: u32,
    pub(crate) user_namespace: bool,
    pub(crate) hosts: BTreeMap<String, HostFds>,
}

impl State {
    fn to_json(&self) -> Value {
        let hosts: BTreeMap<_, _> = self
            .hosts
            .iter()
            .map(|(name, h)| (name, json!({"mount": h.mount, "uts": h.uts, "net": h.net})))
            .collect();
        json!({
            "scenario": self.scenario.name(),
            "pid": self.pid,
            "user_namespace": self.user_namespace,
            "hosts": hosts,
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let number = |v: &Value| u32::try_from(v.as_u64()?).ok();
        let host = |(name, v): (&String, &Value)| {
            let fds = HostFds {
                mount: number(&v["mount"])?,
                uts: number(&v["uts"])?,
                net: number(&v["net"])?,
            };
            Some((name.clone(), fds))
        };
        Some(Self {
            scenario: Scenario::by_name(value["scenario"].as_str()?)?,
            pid: number(&value["pid"])?,
            user_namespace: value["user_namespace"].as_bool()?,
            hosts: value["hosts"].as_object()?.iter().map(host).collect::<Option<_>>()?,
        })
    }
}

/// The directory of one lab.
#[derive(Clone, Debug)]
pub(crate) struct LabDir {
    pub(crate) path: PathBuf,
}

impl LabDir {
    /// Makes the directory `name`, owned by this process until [`LabDir::set_owner`] says another.
    pub(crate) fn create(name: &str) -> Result<Self, Problem> {
        let base = base()?;
        sweep(&base);
        let lab = Self { path: base.join(name) };
        // Made under another name and moved: nobody sees it without its owner.
        let fresh = Self { path: base.join(format!(".new-{}", std_process::id())) };
        let made = DirBuilder::new()
            .mode(0o700)
            .create(&fresh.path)
            .and_then(|()| fresh.set_owner(std_process::id()))
            .and_then(|()| fs::rename(&fresh.path, &lab.path));
        match made {
            Ok(()) => Ok(lab),
            Err(error) => {
                fresh.remove();
                Err(if lab.path.exists() {
                    Problem::Failed(format!(
                        "the lab `{name}` is already up: `lvsd lab down` first"
                    ))
                } else {
                    Problem::failed(lab.path.display(), error)
                })
            }
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Says whose end is the lab's end; `pid` as the mounted `/proc` counts.
    pub(crate) fn set_owner(&self, pid: u32) -> io::Result<()> {
        self.write("owner", &format!("{pid} {}\n", process::start_time(pid)?))
    }

    pub(crate) fn set_state(&self, state: &State) -> io::Result<()> {
        self.write("state.json", &format!("{}\n", state.to_json()))
    }

    pub(crate) fn state(&self) -> Option<State> {
        let text = fs::read_to_string(self.file("state.json")).ok()?;
        State::from_json(&serde_json::from_str(&text).ok()?)
    }

    /// Writes a file so that readers see the old or the new content, nothing between.
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let fresh = self.file(&format!(".{name}"));
        fs::write(&fresh, text)?;
        fs::rename(fresh, self.file(name))
    }

    fn is_alive(&self) -> bool {
        let alive = || {
            let text = fs::read_to_string(self.file("owner")).ok()?;
            let (pid, start) = text.trim().split_once(' ')?;
            Some(process::start_time(pid.parse().ok()?).ok()? == start.parse::<u64>().ok()?)
        };
        alive().unwrap_or(false)
    }

    /// Removes it, and the directory above when no other lab is in it.
    pub(crate) fn remove(&self) {
        // What cannot be removed now is swept by the next lab command.
        let _ = fs::remove_dir_all(&self.path);
        if let Some(base) = self.path.parent() {
            let _ = fs::remove_dir(base);
        }
    }
}

/// The directory of all labs of this user. Call it before a user namespace changes who that is.
fn base() -> Result<PathBuf, Problem> {
    let uid = process::effective_uid();
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(|d| PathBuf::from(d).join("lvsd-lab"));
    let shared = env::temp_dir().join(format!("lvsd-lab-{uid}"));
    let mut why = String::new();
    for path in runtime.into_iter().chain([shared]) {
        match make_private(&path, uid) {
            Ok(()) => return Ok(path),
            Err(error) => why = format!("{}: {error}", path.display()),
        }
    }
    Err(Problem::Failed(why))
}

/// Makes a directory that nobody else can write to, or accepts one.
fn make_private(path: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    // The name in /tmp can be guessed: somebody else may have put a directory or a link there.
    let found = fs::symlink_metadata(path)?;
    if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
        return Err(io::Error::other("belongs to somebody else or is open to others"));
    }
    Ok(())
}

/// Removes what labs have left that ended without a chance to clean up.
fn sweep(base: &Path) {
    for lab in all_in(base) {
        if !lab.is_alive() {
            let _ = fs::remove_dir_all(&lab.path);
        }
    }
}

fn all_in(base: &Path) -> Vec<LabDir> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    let mut labs: Vec<_> = entries.map(|e| LabDir { path: e.path() }).collect();
    labs.sort_by(|a, b| a.path.cmp(&b.path));
    labs
}

/// The labs that are ready, those that `lab run` holds included.
pub(crate) fn alive() -> Result<Vec<(LabDir, State)>, Problem> {
    let base = base()?;
    sweep(&base);
    let labs = all_in(&base).into_iter().filter_map(|d| d.state().map(|s| (d, s))).collect();
    // Removed only when it is empty.
    let _ = fs::remove_dir(base);
    Ok(labs)
}

/// The one lab that is up, or the one of this scenario.
pub(crate) fn find(scenario: Option<Scenario>) -> Result<(LabDir, State), Problem> {
    let mut labs = alive()?;
    labs.retain(|(dir, state)| {
        dir.path.ends_with(state.scenario.name()) && scenario.is_none_or(|s| s == state.scenario)
    });
    if labs.len() > 1 {
        let names: Vec<_> = labs.iter().map(|(_, s)| s.scenario.name()).collect();
        let names = names.join(", ");
        return Err(Problem::Failed(format!("more than one lab is up: say which of {names}")));
    }
    labs.pop().ok_or_else(|| {
        let name = scenario.map_or("SCENARIO", Scenario::name);
        Problem::Failed(format!("no such lab is up: start one with `lvsd lab up {name}`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_survives_writing_and_reading() {
        let fds = HostFds { mount: 5, uts: 6, net: 7 };
        let state = State {
            scenario: Scenario::Nat,
            pid: 4711,
            user_namespace: true,
            hosts: [("client".to_owned(), fds)].into(),
        };
        assert_eq!(State::from_json(&state.to_json()), Some(state.clone()));
        let mut broken = state.to_json();
        broken["hosts"]["client"]["net"] = json!("seven");
        assert_eq!(State::from_json(&broken), None);
    }

    #[test]
    fn a_directory_open_to_others_or_behind_a_link_is_refused() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let uid = process::effective_uid();
        let base = env::temp_dir().join(format!("lvsd-state-test-{}", std_process::id()));
        make_private(&base, uid).unwrap();
        make_private(&base, uid).unwrap();
        let link = base.join("link");
        symlink(&base, &link).unwrap();
        assert!(make_private(&link, uid).is_err());
        assert!(make_private(&base, uid + 1).is_err());
        fs::set_permissions(&base, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(make_private(&base, uid).is_err());
        fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_lab_whose_owner_has_ended_is_swept_and_a_living_one_stays() {
        let base = env::temp_dir().join(format!("lvsd-sweep-test-{}", std_process::id()));
        for name in ["living", "dead", "reused", "without"] {
            fs::create_dir_all(base.join(name)).unwrap();
        }
        let lab = |name: &str| LabDir { path: base.join(name) };
        lab("living").set_owner(std_process::id()).unwrap();
        // No process number is that high, and no process started at tick 1 with our number.
        lab("dead").write("owner", "4194999 5\n").unwrap();
        lab("reused").write("owner", &format!("{} 1\n", std_process::id())).unwrap();
        sweep(&base);
        let left: Vec<_> = all_in(&base).into_iter().map(|l| l.path).collect();
        assert_eq!(left, [base.join("living")]);
        fs::remove_dir_all(&base).unwrap();
    }
}
