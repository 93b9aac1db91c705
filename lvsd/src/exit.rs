//! How a command ends, and the exit code that says so.

use std::process::ExitCode;

/// How a command ended. The codes are stable: scripts may rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The command did what it was asked to do.
    Ok,
    /// It tried and failed.
    Failure,
    /// The command line or the configuration is wrong; nothing was started.
    Usage,
    /// This system cannot run the command (a lab where namespaces are forbidden, say).
    Impossible,
}

impl Exit {
    /// The number that the parent process sees.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Impossible => 77,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
