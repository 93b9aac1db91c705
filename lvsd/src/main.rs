//! The `lvsd` binary: everything is in the library of the same name, so that tests can reach it.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    lvsd::main()
}
