//! Running other programs: the command is shown, its output passes through and its end is kept.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How a task or a step of one ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It ran and all is well; the text says what was seen, in a few words.
    Passed(String),
    /// It could not run here, and why.
    Skipped(String),
    /// It ran and found a fault, or could not run though it must.
    Failed(String),
}

/// The exit code by which a test program says that it cannot run on this machine.
pub(crate) const EXIT_SKIP: i32 = 77;

/// How many lines of output [`Run`] keeps.
const KEPT_LINES: usize = 400;

/// A finished program.
pub(crate) struct Run {
    /// Exit code; `None` when a signal ended it or it could not be started.
    pub(crate) code: Option<i32>,
    /// The last lines it wrote, standard output and error as they came.
    pub(crate) lines: VecDeque<String>,
}

impl Run {
    pub(crate) fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// The last line that contains `needle`, trimmed.
    pub(crate) fn last_with(&self, needle: &str) -> Option<&str> {
        self.lines.iter().rev().map(|line| line.trim()).find(|line| line.contains(needle))
    }

    /// The last line that says anything.
    pub(crate) fn last(&self) -> &str {
        let mut lines = self.lines.iter().rev().map(|line| line.trim());
        lines.find(|line| !line.is_empty()).unwrap_or("no output")
    }

    /// The line that tells best why it failed: the first error, else the last line.
    pub(crate) fn why(&self) -> &str {
        let mut lines = self.lines.iter().map(|line| line.trim());
        lines.find(|line| line.starts_with("error")).unwrap_or_else(|| self.last())
    }
}

/// A program to run at the root of the workspace.
pub(crate) struct Cmd {
    inner: Command,
    shown: String,
}

impl Cmd {
    pub(crate) fn new(program: impl AsRef<OsStr>) -> Self {
        let shown = program.as_ref().to_string_lossy().into_owned();
        let mut inner = Command::new(program);
        inner.current_dir(root()).stdin(Stdio::null());
        Self { inner, shown }
    }

    /// `cargo`, the one that runs this program, with space separated arguments.
    pub(crate) fn cargo(args: &str) -> Self {
        let mut cmd = Self::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cmd.shown = "cargo".into();
        cmd.args(args)
    }

    /// Adds space separated arguments.
    pub(crate) fn args(mut self, args: &str) -> Self {
        for arg in args.split_whitespace() {
            self = self.arg(arg);
        }
        self
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.shown.push(' ');
        self.shown.push_str(&arg.as_ref().to_string_lossy());
        self.inner.arg(arg);
        self
    }

    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.shown = format!("{key}={:?} {}", value.as_ref(), self.shown);
        self.inner.env(key, value);
        self
    }

    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.inner.current_dir(dir);
        self
    }

    /// Runs it and lets the user watch.
    pub(crate) fn run(self) -> Run {
        println!("$ {}", self.shown);
        self.tee(true)
    }

    /// Runs it and shows nothing.
    pub(crate) fn quiet(self) -> Run {
        self.tee(false)
    }

    /// Whether the program is there and ends with 0; nothing is shown.
    pub(crate) fn works(self) -> bool {
        self.quiet().ok()
    }

    fn tee(mut self, show: bool) -> Run {
        let mut lines = VecDeque::new();
        let mut keep = |line: String| {
            if lines.len() == KEPT_LINES {
                lines.pop_front();
            }
            lines.push_back(line);
        };
        let started = std::io::pipe().and_then(|(reader, writer)| {
            self.inner.stdout(writer.try_clone()?).stderr(writer);
            let child = self.inner.spawn()?;
            Ok((child, reader))
        });
        // The command holds the writing ends: without this the reader would never see the end.
        drop(self.inner);
        let (mut child, reader) = match started {
            Ok(started) => started,
            Err(error) => {
                keep(format!("{}: {error}", self.shown));
                return Run { code: None, lines };
            }
        };
        for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if show {
                // A closed pipe behind us is no reason to stop checking.
                let _ = writeln!(std::io::stdout(), "{line}");
            }
            keep(line);
        }
        let code = child.wait().ok().and_then(|status| status.code());
        Run { code, lines }
    }
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_code_and_both_streams_are_kept() {
        let run = Cmd::new("sh").arg("-c").arg("echo one; echo two >&2; exit 77").quiet();
        assert_eq!(run.code, Some(EXIT_SKIP));
        assert_eq!(run.lines, ["one", "two"]);
        assert_eq!(run.last_with("on"), Some("one"));
    }

    #[test]
    fn the_reason_is_the_first_error_line_or_else_the_last_line() {
        let say = |text: &str| Cmd::new("printf").arg(text).quiet();
        assert_eq!(say("x\\nerror[E1]: a\\nerror: could not compile\\n\\n").why(), "error[E1]: a");
        assert_eq!(say("x\\ny\\n\\n").why(), "y");
        assert_eq!(say("").why(), "no output");
    }

    #[test]
    fn only_the_last_lines_are_kept() {
        let run = Cmd::new("sh").arg("-c").arg("seq 1 1000").quiet();
        assert_eq!(run.lines.len(), KEPT_LINES);
        assert_eq!(run.last(), "1000");
    }

    #[test]
    fn a_program_that_is_not_there_is_a_failed_run() {
        let run = Cmd::new("no-such-program-here").quiet();
        assert!(!run.ok() && run.last().contains("no-such-program-here"));
    }
}
