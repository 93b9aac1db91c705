//! Saved SYNs and the client address in them.

use core::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use core::time::Duration;
use lvs_os::tcp::{client_from_toa, connect_from, save_syn, saved_syn, set_backlog};
use std::net::{TcpListener, TcpStream};

/// IPv4 or IPv6 header and TCP header with these options, padded to whole words.
fn syn(version: u8, options: &[u8]) -> Vec<u8> {
    let mut tcp = vec![0u8; 20];
    tcp.extend_from_slice(options);
    tcp.resize(tcp.len().next_multiple_of(4), 0);
    tcp[12] = u8::try_from(tcp.len() / 4).unwrap() << 4;
    let mut packet = if version == 4 { vec![0u8; 20] } else { vec![0u8; 40] };
    packet[0] = if version == 4 { 0x45 } else { 0x60 };
    packet[if version == 4 { 9 } else { 6 }] = 6;
    packet.extend(tcp);
    packet
}

const MSS: [u8; 4] = [2, 4, 5, 180];
const TOA4: [u8; 8] = [254, 8, 0x9c, 0x40, 10, 0, 0, 2];

#[test]
fn the_kernel_gives_the_syn_of_an_accepted_connection_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    save_syn(&listener).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let syn = saved_syn(&accepted).unwrap();
    assert_eq!(syn[0] >> 4, 4);
    assert_eq!(syn[20..22], client.local_addr().unwrap().port().to_be_bytes());
    assert_eq!(syn[33] & 0x02, 0x02, "the SYN flag");
    assert_eq!(client_from_toa(&syn, 254), None);
    assert!(saved_syn(&accepted).unwrap().is_empty());
}

#[test]
fn toa_is_found_behind_other_options_and_padding() {
    let options = [&MSS[..], &[1, 1], &TOA4].concat();
    assert_eq!(client_from_toa(&syn(4, &options), 254), Some("10.0.0.2:40000".parse().unwrap()));
    assert_eq!(client_from_toa(&syn(4, &options), 253), None);
}

#[test]
fn toa_of_ipv6_holds_sixteen_address_bytes() {
    let mut options = vec![254, 20, 0x1f, 0x90];
    options.extend("2001:db8::7".parse::<core::net::Ipv6Addr>().unwrap().octets());
    let client = client_from_toa(&syn(6, &options), 254);
    assert_eq!(client, Some("[2001:db8::7]:8080".parse().unwrap()));
}

#[test]
fn truncated_and_broken_options_are_no_client() {
    let whole = syn(4, &[&MSS[..], &TOA4].concat());
    for len in 0..whole.len() {
        assert_eq!(client_from_toa(&whole[..len], 254), None, "cut to {len} bytes");
    }
    for len in [0u8, 1, 2, 7, 9, 200] {
        let mut options = TOA4;
        options[1] = len;
        assert_eq!(client_from_toa(&syn(4, &options), 254), None, "option length {len}");
    }
}

#[test]
fn a_connection_comes_from_the_address_that_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_backlog(&listener, 1000).unwrap();
    let SocketAddr::V4(target) = listener.local_addr().unwrap() else { panic!("IPv4") };
    let source = Ipv4Addr::new(127, 0, 0, 9);
    let client = connect_from(source, target, Duration::from_secs(5)).unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    assert_eq!(peer.ip(), source);
    // TEST-NET-1 (RFC 5737) is no address of this host.
    let foreign = connect_from(Ipv4Addr::new(192, 0, 2, 1), target, Duration::from_secs(5));
    assert_eq!(foreign.unwrap_err().kind(), std::io::ErrorKind::AddrNotAvailable);
    drop(listener);
    let nobody = connect_from(
        source,
        SocketAddrV4::new(*target.ip(), target.port()),
        Duration::from_secs(5),
    );
    assert_eq!(nobody.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
}
