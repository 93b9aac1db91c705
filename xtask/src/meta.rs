//! What `cargo metadata` says, reduced to what the tasks ask for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::sh::{Cmd, root};

/// Which table of a manifest a dependency stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Normal,
    Dev,
    Build,
}

/// One line of a dependency table.
#[derive(Debug)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// One package of the workspace, or of its whole dependency graph.
#[derive(Debug)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) manifest: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    pub(crate) features: Vec<String>,
    /// Root files of its library and binaries.
    pub(crate) roots: Vec<PathBuf>,
}

/// The parsed answer.
#[derive(Debug)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) target_dir: PathBuf,
    /// Package id to the ids it needs to run or to be built; empty when asked without dependencies.
    pub(crate) needs: BTreeMap<String, Vec<String>>,
}

impl Metadata {
    /// The members of this workspace alone.
    pub(crate) fn members() -> Result<Self, String> {
        Self::read("--no-deps")
    }

    /// Everything, with the resolved graph.
    pub(crate) fn graph() -> Result<Self, String> {
        Self::read("")
    }

    fn read(extra: &str) -> Result<Self, String> {
        let run = Cmd::cargo("metadata --quiet --format-version 1").args(extra).quiet();
        // The answer is the one long line; warnings may stand before it.
        let answer = run.lines.iter().find(|line| line.starts_with('{'));
        match answer {
            Some(json) if run.ok() => Self::parse(json),
            _ => Err(format!("cargo metadata in {}: {}", root().display(), run.why())),
        }
    }

    pub(crate) fn parse(json: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let packages = list(&value, "packages").iter().map(package).collect::<Option<_>>();
        let needs = list(value.get("resolve").unwrap_or(&Value::Null), "nodes")
            .iter()
            .filter_map(|node| Some((text(node, "id")?, needs_of(node))))
            .collect();
        Ok(Self {
            packages: packages.ok_or("cargo metadata: a package without a name")?,
            target_dir: text(&value, "target_directory").unwrap_or_default().into(),
            needs,
        })
    }

    pub(crate) fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }
}

fn text(value: &Value, key: &str) -> Option<String> {
    value.get(key)?.as_str().map(str::to_owned)
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn package(value: &Value) -> Option<Package> {
    let targets = list(value, "targets");
    let is = |target: &Value, kinds: &[&str]| {
        list(target, "kind").iter().filter_map(Value::as_str).any(|kind| kinds.contains(&kind))
    };
    Some(Package {
        id: text(value, "id")?,
        name: text(value, "name")?,
        version: text(value, "version").unwrap_or_default(),
        license: text(value, "license"),
        manifest: text(value, "manifest_path").unwrap_or_default().into(),
        dependencies: list(value, "dependencies").iter().filter_map(dependency).collect(),
        features: value
            .get("features")
            .and_then(Value::as_object)
            .map(|features| features.keys().cloned().collect())
            .unwrap_or_default(),
        roots: targets
            .iter()
            .filter(|target| is(target, &["lib", "rlib", "bin", "proc-macro"]))
            .filter_map(|target| text(target, "src_path").map(PathBuf::from))
            .collect(),
    })
}

fn kind(value: &Value) -> Kind {
    match value.get("kind").and_then(Value::as_str) {
        Some("dev") => Kind::Dev,
        Some("build") => Kind::Build,
        _ => Kind::Normal,
    }
}

fn dependency(value: &Value) -> Option<Dependency> {
    Some(Dependency { name: text(value, "name")?, kind: kind(value) })
}

/// The edges of a resolved node, without those that only its tests use.
fn needs_of(node: &Value) -> Vec<String> {
    list(node, "deps")
        .iter()
        .filter(|dep| list(dep, "dep_kinds").iter().any(|how| kind(how) != Kind::Dev))
        .filter_map(|dep| text(dep, "pkg"))
        .collect()
}
