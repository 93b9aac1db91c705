//! From a changed file to the next configuration: read, checked, compared. Nothing is changed here.

use crate::check::colour;
use crate::config::{self, Config, LoadError, Loaded, Plan};
use lvs_core::snapshot::Snapshot;
use std::path::Path;
use std::sync::Arc;

/// A configuration in effect, or about to be.
pub(super) struct Current {
    /// The configuration and its text.
    pub(super) loaded: Loaded,
    /// How many there have been since the supervisor began, this one included.
    pub(super) number: u64,
    /// What the data process has made of it, or will.
    snapshot: Snapshot,
}

impl Current {
    /// The first one, or the same one again for a data process that begins anew.
    ///
    /// # Errors
    /// The parts contradict each other.
    pub(super) fn fresh(loaded: Loaded, number: u64) -> Result<Self, String> {
        let snapshot = config::generation(&loaded.config, None).map_err(|e| e.to_string())?;
        Ok(Self { loaded, number, snapshot })
    }

    /// Forgets what earlier configurations have left behind: a new data process has no sessions of
    /// theirs.
    pub(super) fn forget_past(&mut self) {
        if let Ok(snapshot) = config::generation(&self.loaded.config, None) {
            self.snapshot = snapshot;
        }
    }

    /// Its text.
    pub(super) fn text(&self) -> Arc<str> {
        self.loaded.report.text().into()
    }

    /// Reads the file again. `None`: it means the same as before.
    ///
    /// # Errors
    /// Why the file cannot take the place of this configuration.
    pub(super) fn next(&self, path: &Path, layout: &Config) -> Result<Option<Next>, String> {
        let loaded = config::load(path).map_err(|error| match error {
            LoadError::File { .. } => error.to_string(),
            LoadError::Faults(report) => report.render(colour()),
        })?;
        let mut plan = Plan::between(&self.loaded, &loaded);
        let snapshot = config::generation(&loaded.config, Some(&self.snapshot))
            .map_err(|error| error.to_string())?;
        plan.judge_room(layout, &loaded.config, &snapshot);
        if !plan.is_live() {
            return Err(format!("{plan}some of this needs a restart of lvsd"));
        }
        if plan.is_empty() {
            return Ok(None);
        }
        let next = Self { loaded, number: self.number + 1, snapshot };
        Ok(Some(Next { plan, current: next }))
    }
}

/// What comes next.
pub(super) struct Next {
    /// What it changes.
    pub(super) plan: Plan,
    /// The configuration.
    pub(super) current: Current,
}
