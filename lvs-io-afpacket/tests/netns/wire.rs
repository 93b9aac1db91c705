//! What is sent: tags, checksums, refusals, and what must not come back.

use crate::frames::host_sends_and_port_sees;
use crate::frames::{
    P0, P1, fresh, numbered, numbers, partial_udp, receive, send, small, udp_is_right,
};
use crate::host::{ip, namespace_test, veth};
use lvs_core::addr::MacAddr;
use lvs_core::io::{
    Burst, Gso, GsoKind, IoError, L4Csum, Lane, PacketBuf, PortId, Vlan, WaitReady,
};
use lvs_io_afpacket::{Cures, Rings};

namespace_test! {
    // The kernel takes tags out of the bytes even without any VLAN driver. A packet sent on without
    // putting it in again has lost it: that is the second half.
    fn a_vlan_tag_survives_the_way_through() {
        veth("a0", "a1");
        veth("b0", "b1");
        let ports = ["a0", "a1", "b0", "b1"].map(small);
        let mut rings = Rings::open(&ports).unwrap();
        let mut lane = rings.lane();
        let (b0, b1) = (PortId(2), PortId(3));
        for (n, tpid) in [(1, 0x8100), (2, 0x88a8)] {
            let tag = Vlan { tpid, tci: 0x6123 };
            // A frame with the tag in its bytes, as a switch sends it.
            let mut bytes = numbered(n, 200);
            let [a, b] = tpid.to_be_bytes();
            bytes.splice(12..12, [a, b, 0x61, 0x23]);
            for lose in [false, true] {
                let packet = fresh(&mut lane, &bytes);
                send(&mut lane, P0, vec![packet]);
                let mut got = receive(&mut lane, P1);
                assert_eq!(numbers(&got), [n], "the kernel has taken the tag out of the bytes");
                assert_eq!(got[0].vlan(), Some(tag));
                if lose {
                    got[0].set_vlan(None);
                }
                send(&mut lane, b0, got);
                let got = receive(&mut lane, b1);
                assert_eq!(got[0].data(), numbered(n, 200));
                assert_eq!(got[0].vlan(), (!lose).then_some(tag));
            }
        }
    }
}

namespace_test! {
    fn a_tagged_frame_of_full_mtu_passes_and_stays_unchanged_in_the_burst() {
        veth("a0", "a1");
        let mut rings = Rings::open(&[small("a0"), small("a1")]).unwrap();
        let mut lane = rings.lane();
        assert_eq!(lane.caps(P0).max_frame, 1514);
        let mut packet = fresh(&mut lane, &numbered(9, 1514));
        packet.set_vlan(Some(Vlan { tpid: 0x8100, tci: 7 }));
        ip("link set a0 down");
        let mut burst = Burst::new();
        burst.push(packet).unwrap();
        assert_eq!(lane.tx_burst(P0, &mut burst), Err(IoError::LinkDown));
        assert_eq!(burst[0].data(), numbered(9, 1514), "what stays in the burst is as it was");
        ip("link set a0 up");
        while !(lane.port_info(P0).link_up && lane.port_info(P1).link_up) {
            lane.wait(1000).unwrap();
        }
        assert_eq!(lane.tx_burst(P0, &mut burst), Ok(1));
        let got = receive(&mut lane, P1);
        assert_eq!(got[0].data(), numbered(9, 1514));
        assert_eq!(got[0].vlan().map(Vlan::id), Some(7));
    }
}

namespace_test! {
    // With the cure off the port receives what its own host sends: a director would send it again.
    fn frames_of_the_host_itself_do_not_come_back() {
        veth("a0", "a1");
        for ignore_outgoing in [true, false] {
            let mut port = small("a0");
            port.cures = Cures { ignore_outgoing, ..Cures::default() };
            let mut rings = Rings::open(&[port, small("a1")]).unwrap();
            assert_eq!(host_sends_and_port_sees(&mut rings), (true, !ignore_outgoing));
        }
    }
}

namespace_test! {
    fn what_the_kernel_refuses_for_good_is_counted_and_blocks_nobody() {
        veth("a0", "a1");
        let mut rings = Rings::open(&[small("a0"), small("a1")]).unwrap();
        let mut lane = rings.lane();
        let mut burst = Burst::new();
        for (n, len) in [(0, 1515), (1, 60), (2, 1516), (3, 1514), (4, 1520)] {
            burst.push(fresh(&mut lane, &numbered(n, len))).unwrap();
        }
        // A checksum beyond the end of the frame makes no sense, nor does a header of 5 bytes.
        let mut senseless = fresh(&mut lane, &numbered(5, 60));
        senseless.set_l4_csum(L4Csum::Partial, 14, 5000);
        burst.push(senseless).unwrap();
        // The kernel allows four bytes more for tags of type 0x8100 only.
        let mut outer = fresh(&mut lane, &numbered(8, 1514));
        outer.set_vlan(Some(Vlan { tpid: 0x88a8, tci: 1 }));
        burst.push(outer).unwrap();
        // Nobody knows where this protocol has its checksum.
        let mut unknown = fresh(&mut lane, &numbered(7, 60));
        unknown.set_l4_csum(L4Csum::Partial, 14, 34);
        burst.push(unknown).unwrap();
        burst.push(fresh(&mut lane, &numbered(0, 60)[..5])).ok().unwrap();
        burst.push(fresh(&mut lane, &numbered(6, 60))).unwrap();
        assert_eq!(lane.tx_burst(P0, &mut burst), Ok(10));
        let stats = lane.stats(P0);
        assert_eq!((stats.tx, stats.tx_rejected, burst.len()), (3, 7, 0));
        assert_eq!(numbers(&receive(&mut lane, P1)), [1, 3, 6]);
    }
}

namespace_test! {
    // INV-3.
    // The sender's checksum offload is switched off, so that the kernel must complete the checksum
    // from what the lane says: a wrong start or field would show as a wrong sum.
    fn a_partial_checksum_is_completed_in_the_right_place() {
        veth("a0", "a1");
        tx_checksum_off("a0");
        let mut rings = Rings::open(&[small("a0"), small("a1")]).unwrap();
        let mut lane = rings.lane();
        for (options, tag) in [(0, None), (8, None), (0, Some(Vlan { tpid: 0x8100, tci: 5 }))] {
            let bytes = partial_udp(1000, 2000, options, b"twenty-one odd bytes.");
            assert!(!udp_is_right(&bytes));
            let l4 = 34 + options as u16;
            let mut packet = fresh(&mut lane, &bytes);
            packet.set_l4_csum(L4Csum::Partial, 14, l4);
            packet.set_vlan(tag);
            // The same, with the Ethernet header put in front afterwards.
            let mut grown = fresh(&mut lane, &bytes[14..]);
            grown.set_l4_csum(L4Csum::Partial, 0, l4 - 14);
            grown.push_front(14).unwrap()[..14].copy_from_slice(&bytes[..14]);
            // And with something in front that is taken off again.
            let mut shrunk = fresh(&mut lane, &[&[0xee; 22][..], &bytes].concat());
            shrunk.set_l4_csum(L4Csum::Partial, 36, l4 + 22);
            shrunk.pull_front(22).unwrap();
            send(&mut lane, P0, vec![packet, grown, shrunk]);
            let got = receive(&mut lane, P1);
            assert_eq!(got.len(), 3);
            for packet in &got {
                assert!(udp_is_right(packet.data()), "{:02x?}", packet.data());
                assert_eq!(packet.data().len(), bytes.len());
            }
            assert_eq!(got[0].vlan(), tag);
        }
        // Unknown state: the bytes go out as they are.
        let bytes = partial_udp(1, 2, 0, b"as it is");
        let packet = fresh(&mut lane, &bytes);
        send(&mut lane, P0, vec![packet]);
        assert_eq!(receive(&mut lane, P1)[0].data(), bytes);
    }
}

/// Switches transmit checksum offload off (`ethtool -K .. tx off`), so that checksums show.
fn tx_checksum_off(interface: &str) {
    const ETHTOOL_STXCSUM: u32 = 0x17;
    let mut value: [u32; 2] = [ETHTOOL_STXCSUM, 0];
    // SAFETY: all zero bytes are an `ifreq`.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket);
    // SAFETY: the request names an interface and points to an `ethtool_value`, both alive.
    let outcome = unsafe { libc::ioctl(fd, 0x8946, &raw mut request) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

namespace_test! {
    // Around the queueing discipline a device that cannot cut a train drops it with ENOBUFS, and it
    // would stay at the head of the burst for ever: so it is with the cure off.
    fn a_train_that_the_device_cannot_cut_is_cut_by_the_kernel() {
        veth("a0", "a1");
        ip("link set a0 gso_max_size 1000");
        for qdisc_for_trains in [true, false] {
            let mut port = small("a0");
            port.cures = Cures { qdisc_for_trains, ..Cures::default() };
            let mut rings = Rings::open(&[port, small("a1")]).unwrap();
            let mut lane = rings.lane();
            let bytes = partial_udp(7, 9, 0, &[0x5a; 1400]);
            let mut train = fresh(&mut lane, &bytes);
            train.set_l4_csum(L4Csum::Partial, 14, 34);
            train.set_gso(Some(Gso { kind: GsoKind::Udp, size: 500 }), 42);
            let mut burst = Burst::new();
            burst.push(train).unwrap();
            let sent = lane.tx_burst(P0, &mut burst);
            assert_eq!(sent, Ok(usize::from(qdisc_for_trains)));
            let lengths: Vec<_> = receive(&mut lane, P1).iter().map(|p| p.data().len()).collect();
            let want: &[usize] = if qdisc_for_trains { &[542, 542, 442] } else { &[] };
            assert_eq!(lengths, want);
        }
    }
}

namespace_test! {
    fn trains_keep_their_kind_size_and_tag() {
        veth("a0", "a1");
        let mut rings = Rings::open(&[small("a0"), small("a1")]).unwrap();
        let mut lane = rings.lane();
        let bytes = partial_udp(7, 9, 0, &[0x5a; 1400]);
        for tag in [None, Some(Vlan { tpid: 0x8100, tci: 77 })] {
            let gso = Some(Gso { kind: GsoKind::Udp, size: 500 });
            let mut train = fresh(&mut lane, &bytes);
            train.set_l4_csum(L4Csum::Partial, 14, 34);
            train.set_gso(gso, 42);
            train.set_vlan(tag);
            let mut single = fresh(&mut lane, &bytes);
            single.set_gso(gso, 42);
            single.set_gso(None, 0);
            send(&mut lane, P0, vec![train, single]);
            let got = receive(&mut lane, P1);
            assert_eq!(got.len(), 2);
            assert_eq!((got[0].gso(), got[0].vlan(), got[0].l4_csum()), (gso, tag, L4Csum::Partial));
            assert_eq!((got[1].gso(), got[1].vlan(), got[1].l4_csum()), (None, None, L4Csum::Unknown));
            assert_eq!(got[0].data(), bytes);
        }
    }
}

namespace_test! {
    fn a_dead_link_is_reported_once_known_and_waiting_does_not_spin() {
        veth("a0", "a1");
        let mut rings = Rings::open(&[small("a0"), small("a1")]).unwrap();
        let mut lane = rings.lane();
        let up = |lane: &lvs_io_afpacket::PacketLane<'_>| lane.port_info(P1).link_up;
        while !(up(&lane) && lane.port_info(P0).link_up) {
            lane.wait(1000).unwrap(); // the kernel tells of a new link with some delay
        }
        ip("link set a0 down"); // a1 loses its carrier, a0 gets an error
        let mut rounds = 0;
        while up(&lane) {
            lane.wait(1000).unwrap();
            rounds += 1;
            assert!(rounds < 1000, "the link is down and nobody notices");
        }
        let mut burst = Burst::new();
        assert_eq!(lane.rx_burst(P1, &mut burst), Ok(0));
        burst.push(fresh(&mut lane, &numbered(0, 60))).unwrap();
        assert_eq!(lane.tx_burst(P1, &mut burst), Err(IoError::LinkDown), "no carrier");
        assert_eq!(burst.len(), 1, "the packet stays");
        burst.clear();
        // The error of a0's socket is consumed, so that waiting waits: 20 rounds of 5 ms.
        let start = std::time::Instant::now();
        (0..20).for_each(|_| lane.wait(5000).unwrap());
        assert!(start.elapsed().as_millis() >= 60, "{:?}", start.elapsed());

        ip("link set a0 up");
        while !(up(&lane) && lane.port_info(P0).link_up) {
            lane.wait(1000).unwrap();
        }
        let packet = fresh(&mut lane, &numbered(1, 60));
        send(&mut lane, P0, vec![packet]);
        assert_eq!(numbers(&receive(&mut lane, P1)), [1]);

        ip("link del a0");
        let packet = fresh(&mut lane, &numbered(2, 60));
        burst.push(packet).unwrap();
        assert_eq!(lane.tx_burst(P0, &mut burst), Err(IoError::LinkDown));
        assert_eq!(burst.len(), 1, "the packet stays");
        assert_eq!(lane.tx_burst(PortId(7), &mut burst), Err(IoError::NoPort));
    }
}

namespace_test! {
    fn a_port_tells_its_address_and_mtu_and_follows_changes() {
        veth("a0", "a1");
        ip("link set a0 address 02:aa:bb:cc:dd:ee mtu 1400");
        let mut rings = Rings::open(&[small("a0")]).unwrap();
        let mut lane = rings.lane();
        let info = lane.port_info(P0);
        assert_eq!((info.mac, info.mtu), (MacAddr([2, 0xaa, 0xbb, 0xcc, 0xdd, 0xee]), 1400));
        ip("link set a0 name renamed mtu 1450");
        lane.refresh_links();
        assert_eq!((lane.port_info(P0).mtu, lane.caps(P0).max_frame), (1450, 1464));
    }
}
