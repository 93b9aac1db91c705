//! The few Linux calls that `lvsd` needs and `std` does not offer, each behind a safe function.
//!
//! | module | job |
//! |---|---|
//! | [`clock`] | monotonic time in nanoseconds |
//! | [`memory`] | memory for session tables: huge pages, shareable by file descriptor |
//! | [`namespace`] | create and join namespaces, with or without root |
//! | [`process`] | children that join namespaces and die with their parent; race-free signals by pidfd |
//! | [`channel`] | messages with file descriptors between two processes |
//! | [`privilege`] | look at capabilities, drop all of them |
//! | [`raw`] | raw IPv4 sockets |
//! | [`signal`] | SIGTERM and friends as a file descriptor |
//! | [`tcp`] | the SYN that opened a connection, and the client address (TOA) in it |
//!
//! Of use to a server as well: who is behind a balancer that sends TOA, without a patched kernel.
//!
//! ```no_run
//! use lvs_os::tcp::{client_from_toa, save_syn, saved_syn};
//!
//! let listener = std::net::TcpListener::bind("0.0.0.0:8080")?;
//! save_syn(&listener)?;
//! let (stream, peer) = listener.accept()?;
//! let client = client_from_toa(&saved_syn(&stream)?, 254).unwrap_or(peer);
//! println!("{client} by way of {peer}");
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! Everything returns [`std::io::Error`] with the kernel's own code; nothing panics. `lvsd` itself
//! forbids unsafe code: what needs it lies here, block by block, with the reason why it is sound.

#[cfg(not(target_os = "linux"))]
compile_error!("lvs-os wraps Linux system calls: it builds on Linux only");

pub mod channel;
pub mod clock;
pub mod cpu;
pub mod memory;
pub mod namespace;
pub mod privilege;
pub mod process;
pub mod raw;
pub mod signal;
mod sys;
pub mod tcp;
