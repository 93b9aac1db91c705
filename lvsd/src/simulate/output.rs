//! The files of a simulation: one capture for each port and the log.

use super::input::Input;
use super::machine::Sent;
use super::pcap::Writer;
use crate::config::Config;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file that could not be written, and why.
#[derive(Debug)]
pub struct OutputError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub why: io::Error,
}

impl core::fmt::Display for OutputError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "cannot write {}: {}", self.path.display(), self.why)
    }
}
impl core::error::Error for OutputError {}

/// Where the log is.
pub(super) fn log_path(directory: &Path) -> PathBuf {
    directory.join("log.jsonl")
}

/// Where the packets of a port go. Names are text of any kind: what would leave the directory is
/// replaced.
pub(super) fn port_path(directory: &Path, name: &str) -> PathBuf {
    let name = name.replace(['/', '\\', '\0'], "_");
    directory.join(format!("{name}.pcap"))
}

/// An input that an output would overwrite.
pub(super) fn clash<'a>(
    directory: &Path,
    config: &Config,
    inputs: &'a [Input],
) -> Option<&'a Path> {
    let taken: Vec<PathBuf> = config
        .ports
        .iter()
        .filter_map(|port| fs::canonicalize(port_path(directory, &port.name.value)).ok())
        .collect();
    let paths = inputs.iter().map(|input| input.path.as_path());
    paths.into_iter().find(|path| fs::canonicalize(path).is_ok_and(|path| taken.contains(&path)))
}

/// All open files.
pub(super) struct Files {
    ports: Vec<(PathBuf, Writer<BufWriter<File>>)>,
    log: (PathBuf, BufWriter<File>),
}

impl Files {
    /// Makes the directory where it is missing, and the files anew.
    pub(super) fn create(directory: &Path, config: &Config) -> Result<Self, OutputError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |why| OutputError { path, why }
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let create = |path: &Path| File::create(path).map(BufWriter::new).map_err(failed(path));
        let mut ports = Vec::new();
        for port in &config.ports {
            let path = port_path(directory, &port.name.value);
            let writer = Writer::new(create(&path)?).map_err(failed(&path))?;
            ports.push((path, writer));
        }
        let path = log_path(directory);
        let log = create(&path)?;
        Ok(Self { ports, log: (path, log) })
    }

    pub(super) fn sent(&mut self, time_ns: u64, sent: &[Sent]) -> Result<(), OutputError> {
        for Sent { port, frame } in sent {
            let Some((path, writer)) = self.ports.get_mut(port.index()) else { continue };
            writer.write(time_ns, frame).map_err(|why| OutputError { path: path.clone(), why })?;
        }
        Ok(())
    }

    pub(super) fn line(&mut self, line: &str) -> Result<(), OutputError> {
        let (path, log) = &mut self.log;
        log.write_all(line.as_bytes()).map_err(|why| OutputError { path: path.clone(), why })
    }

    pub(super) fn finish(self) -> Result<(), OutputError> {
        for (path, writer) in self.ports {
            writer.finish().map_err(|why| OutputError { path, why })?;
        }
        let (path, mut log) = self.log;
        log.flush().map_err(|why| OutputError { path, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_port_leaves_the_directory() {
        for (name, file) in
            [("outside", "outside.pcap"), ("../x", ".._x.pcap"), ("/a/b", "_a_b.pcap")]
        {
            assert_eq!(port_path(Path::new("out"), name), Path::new("out").join(file));
        }
    }
}
