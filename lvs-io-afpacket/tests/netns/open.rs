//! Opening: privileges, two processes, refusals, memberships.

use crate::frames::{P0, P1, fresh, numbered, numbers, receive, send, small};
use crate::host::{ip, namespace_test, veth};
use lvs_io_afpacket::{Interface, OpenError, PortConfig, PortMeta, PortSockets, Rings, Step};

/// Takes all capabilities from the calling thread.
fn drop_capabilities() {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let none = [0u32; 6];
    // SAFETY: `capset` reads a header of two words and, in version 3, data of six.
    let outcome = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

namespace_test! {
    fn opening_needs_a_capability_and_mapping_needs_none() {
        veth("a0", "a1");
        let sockets: Vec<_> =
            ["a0", "a1"].iter().map(|name| PortSockets::open(&small(name)).unwrap()).collect();
        drop_capabilities();
        let refused = PortSockets::open(&small("a0")).unwrap_err();
        let errno = libc::EPERM;
        assert_eq!(
            refused,
            OpenError::Refused { interface: "a0".into(), step: Step::CreateSocket, errno }
        );
        assert!(refused.to_string().contains("CAP_NET_RAW"), "{refused}");

        // Through descriptors and plain data, as between two processes.
        let sockets = sockets
            .into_iter()
            .map(|port| {
                let (rx, tx, meta) = port.into_parts();
                let meta = PortMeta::from_bytes(&meta.to_bytes()).unwrap();
                PortSockets::from_parts(rx, tx, meta)
            })
            .collect();
        let mut rings = Rings::map(sockets).unwrap();
        let mut lane = rings.lane();
        let packet = fresh(&mut lane, &numbered(3, 60));
        send(&mut lane, P0, vec![packet]);
        assert_eq!(numbers(&receive(&mut lane, P1)), [3]);
    }
}

namespace_test! {
    // Two mappings of one ring would hand out the same memory twice.
    fn a_ring_can_be_mapped_only_once() {
        veth("a0", "a1");
        let (rx, tx, meta) = PortSockets::open(&small("a0")).unwrap().into_parts();
        let again =
            PortSockets::from_parts(rx.try_clone().unwrap(), tx.try_clone().unwrap(), meta.clone());
        let first = Rings::map(vec![PortSockets::from_parts(rx, tx, meta)]).unwrap();
        let refused = Rings::map(vec![again]).unwrap_err();
        assert!(matches!(refused, OpenError::Refused { errno: libc::EBUSY, .. }), "{refused}");
        assert!(refused.to_string().contains("new sockets"), "{refused}");
        drop(first);
    }
}

namespace_test! {
    fn foreign_descriptors_are_refused() {
        veth("a0", "a1");
        let (_rx, tx, meta) = PortSockets::open(&small("a0")).unwrap().into_parts();
        let file = std::fs::File::open("/dev/null").unwrap().into();
        let refused = Rings::map(vec![PortSockets::from_parts(file, tx, meta)]).unwrap_err();
        assert!(matches!(refused, OpenError::Refused { errno: libc::ENOTSOCK, .. }), "{refused}");
    }
}

namespace_test! {
    fn interfaces_are_found_by_name_and_by_index() {
        veth("a0", "a1");
        let by_name = PortSockets::open(&PortConfig::new("a1")).unwrap();
        let index = by_name.meta().index;
        let by_index = PortSockets::open(&PortConfig::new(Interface::Index(index))).unwrap();
        assert_eq!(by_name.meta(), by_index.meta());
        for missing in [Interface::from("a7"), Interface::from("a-very-long-name"), Interface::Index(999)] {
            let refused = PortSockets::open(&PortConfig::new(missing.clone())).unwrap_err();
            let text = refused.to_string();
            assert!(text.contains(&missing.to_string()) && text.contains("ip link"), "{text}");
        }
    }
}

namespace_test! {
    // A veth delivers foreign frames anyway, so what is checked is what a NIC would act on.
    fn promiscuous_mode_lasts_as_long_as_the_rings() {
        veth("a0", "a1");
        let promiscuity = || {
            let text = ip("-d link show a0");
            text.split("promiscuity ").nth(1).and_then(|t| t.split(' ').next()).unwrap().to_owned()
        };
        let plain = Rings::open(&[small("a0")]).unwrap();
        assert_eq!(promiscuity(), "0");
        let mut port = small("a0");
        port.promiscuous = true;
        let rings = Rings::open(&[port]).unwrap();
        assert_eq!(promiscuity(), "1");
        drop(rings);
        assert_eq!(promiscuity(), "0");
        drop(plain);
    }
}
