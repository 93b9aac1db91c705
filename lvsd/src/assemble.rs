//! From a configuration to a director at work, for the commands that run one inside their own process.

use crate::config::{BuildError, Config, Secrets, SelfOwner};
use core::fmt;
use lvs_core::id::WorkerId;
use lvs_core::sched::SchedulerArgs;
use lvs_core::session::{HeapMemory, SessionStore, StoreError};
use lvs_core::snapshot::SnapshotError;
use lvs_director::{Director, DirectorConfig, Generation};
use std::sync::Arc;

/// Why there is no director.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AssembleError {
    /// The configuration cannot be carried out.
    Build(BuildError),
    /// The session store cannot be made.
    Store(StoreError),
}

impl fmt::Display for AssembleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
        }
    }
}
impl core::error::Error for AssembleError {}

impl From<BuildError> for AssembleError {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}
impl From<SnapshotError> for AssembleError {
    fn from(error: SnapshotError) -> Self {
        Self::Build(error.into())
    }
}

/// Heap memory of the size that the sessions of a configuration need.
///
/// # Errors
/// [`BuildError::TooManySessions`].
pub fn session_memory(config: &Config) -> Result<HeapMemory, AssembleError> {
    Ok(HeapMemory::new(config.session_memory()?))
}

/// One director that owns all sessions. Everything that it chooses at random follows from `seed`; it
/// answers for the ports' own addresses, because no kernel shares them with it.
///
/// # Errors
/// [`AssembleError`]; never after `lvsd check` has accepted the file, unless memory is of another
/// configuration.
pub fn director<'m>(
    config: &Config,
    seed: u64,
    memory: &'m mut HeapMemory,
) -> Result<Director<'m>, AssembleError> {
    let spec = config.snapshot_spec(crate::config::schedulers(), SelfOwner::Director)?;
    let snapshot = spec.build(None)?;
    let mut secrets = Secrets::new(seed);
    let sizes = config.store_config(secrets.draw());
    let store = SessionStore::new(sizes, config.port_plan(), memory.bytes())
        .map_err(AssembleError::Store)?;
    let isn_key = [secrets.draw(), secrets.draw()];
    let shared = config.shared_config(secrets.draw());
    let settings = DirectorConfig { isn_key, shared, ..config.director_config() };
    let worker = SchedulerArgs { worker: WorkerId(0), workers: 1 };
    Ok(Director::new(settings, store, Generation::new(Arc::new(snapshot), worker)))
}
