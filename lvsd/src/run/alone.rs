//! One `lvsd run` per interface: two directors on one port would both answer every client.

use crate::config::Config;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Claims the interfaces of all ports for as long as the result lives.
///
/// A claim is a socket with a name of the abstract kind, which belongs to the network namespace as
/// the interface does, and which the kernel frees however the process ends.
///
/// # Errors
/// Which interface another process has claimed.
pub(super) fn claim(config: &Config) -> Result<Vec<UnixDatagram>, String> {
    config.ports.iter().map(|port| claim_one(&port.interface)).collect()
}

fn claim_one(interface: &str) -> Result<UnixDatagram, String> {
    let name = SocketAddr::from_abstract_name(format!("lvsd/{interface}"));
    name.and_then(|name| UnixDatagram::bind_addr(&name)).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("another lvsd runs on {interface} in this network namespace; stop it first")
        }
        _ => format!("cannot claim {interface}: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_claimed_once_until_the_claim_is_dropped() {
        let name = format!("t{}", std::process::id());
        let first = claim_one(&name).unwrap();
        assert!(claim_one(&name).unwrap_err().contains(&name));
        drop(first);
        assert!(claim_one(&name).is_ok());
    }
}
