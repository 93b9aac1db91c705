//! The status file: what `lvsd run` is doing, as JSON, replaced as a whole.

use super::message::{Counts, Memory};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Version of the shape of the file.
const SCHEMA: u32 = 1;

/// What the supervisor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// The data process has not said yet that it carries packets.
    Starting,
    /// Packets are carried.
    Running,
    /// The data process has died; nothing is carried.
    Restarting,
    /// Stopped as asked.
    Stopped,
}

/// What became of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// There was none yet.
    None,
    /// The new configuration is in effect.
    Applied,
    /// The file means what it meant before.
    Unchanged,
    /// The configuration of before is still in effect.
    Refused,
}

/// The last reload, for whoever asked for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Reload {
    /// How many there have been.
    pub(super) count: u64,
    /// How the last one went.
    pub(super) outcome: Outcome,
    /// The plan that was carried out, or why it was not.
    pub(super) message: String,
}

/// The content of the file.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Status {
    schema: u32,
    /// Name of the director.
    pub(super) name: String,
    /// What is going on.
    pub(super) state: State,
    /// The supervisor.
    pub(super) pid: u32,
    /// The data process, while there is one.
    pub(super) data_pid: Option<u32>,
    /// How often the data process had to be started again.
    pub(super) restarts: u64,
    /// The number of the configuration in effect; the first is 1.
    pub(super) configuration: u64,
    /// The last answer to SIGHUP.
    pub(super) reload: Reload,
    /// What the session memory of the present data process is made of; of the last one while there is none.
    pub(super) memory: Memory,
    /// Counters of the present data process; of the last one while there is none.
    #[serde(flatten)]
    pub(super) counts: Counts,
}

impl Status {
    /// Of a director that has just begun.
    pub(super) fn new(name: &str) -> Self {
        Self {
            schema: SCHEMA,
            name: name.to_owned(),
            state: State::Starting,
            pid: std::process::id(),
            data_pid: None,
            restarts: 0,
            configuration: 1,
            reload: Reload { count: 0, outcome: Outcome::None, message: String::new() },
            memory: Memory::default(),
            counts: Counts::default(),
        }
    }
}

/// Where the status goes.
#[derive(Debug)]
pub(super) struct StatusFile {
    path: PathBuf,
    next: PathBuf,
}

impl StatusFile {
    /// A file at this path; what is there is replaced at the first [`StatusFile::write`].
    pub(super) fn new(path: &Path) -> Self {
        let mut next = path.as_os_str().to_owned();
        next.push(format!(".{}.new", std::process::id()));
        Self { path: path.to_owned(), next: next.into() }
    }

    /// Replaces the file: a reader sees the old content or the new, never a part.
    pub(super) fn write(&self, status: &Status) -> io::Result<()> {
        let written = fs::File::create(&self.next).and_then(|mut file| {
            serde_json::to_writer(&mut file, status)?;
            file.write_all(b"\n")
        });
        let replaced = written.and_then(|()| fs::rename(&self.next, &self.path));
        if replaced.is_err() {
            let _ = fs::remove_file(&self.next);
        }
        replaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let directory = std::env::temp_dir().join(format!("lvsd-status-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        let path = directory.join("status.json");
        let file = StatusFile::new(&path);
        let mut status = Status::new("edge");
        status.counts.sessions = 7;
        status.counts.drops.insert("no_service".into(), 3);
        file.write(&status).unwrap();
        status.counts.sessions = 8;
        status.state = State::Running;
        file.write(&status).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!((&read["sessions"], &read["drops"]["no_service"]), (&8.into(), &3.into()));
        assert_eq!((&read["state"], &read["schema"]), (&"running".into(), &1.into()));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(&directory).unwrap();
        assert!(file.write(&status).is_err());
    }
}
