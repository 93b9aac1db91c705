//! Test kit of the lvs crates.
#![forbid(unsafe_code)]

pub mod build;
pub mod net;
pub mod nic;
pub mod oracle;
pub mod pcap;
