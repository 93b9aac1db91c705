//! Target `proxy`: the start of a client's stream, read and decided about by every policy.

use core::net::SocketAddr;
use lvs_core::flow::L4Proto;
use lvs_nat::edit::StreamEdit;
use lvs_nat::proxy::policy::{ClientHeader, Decision, Policy, Undecided, decide};
use lvs_nat::proxy::stored::Again;
use lvs_nat::proxy::{Recognised, Stored, Version, decode, tlv};

/// Nothing behind a header counts, every part of one may become one, and what is made of a client's
/// header is a header, made again alike.
///
/// # Panics
/// When that does not hold.
pub fn run(stream: &[u8]) {
    let found = decode(stream);
    if let Recognised::Header(header) = found {
        assert!(0 < header.len && header.len <= stream.len());
        assert!(tlv::is_sound(header.tlvs));
        assert_eq!(decode(&stream[..header.len]), found);
        for cut in 1..header.len {
            assert_eq!(decode(&stream[..cut]), Recognised::Partial, "{cut} bytes");
        }
    }
    let modes = [
        ClientHeader::Replace,
        ClientHeader::ReplaceKeepingValues,
        ClientHeader::Convert,
        ClientHeader::Keep,
    ];
    for client in modes {
        for version in [Version::V1, Version::V2] {
            for undecided in [Undecided::Data, Undecided::Drop] {
                judge(stream, &Policy { version, client, undecided });
            }
        }
    }
}

fn judge(stream: &[u8], policy: &Policy) {
    let client: SocketAddr = "192.0.2.7:40000".parse().expect("an address");
    let virt: SocketAddr = "203.0.113.1:80".parse().expect("an address");
    match decide(stream, policy) {
        Decision::Leave => assert!(matches!(decode(stream), Recognised::Header(_))),
        Decision::Drop => assert_eq!(decode(stream), Recognised::Partial),
        Decision::Replace(len) => assert!(0 < len && usize::from(len) <= stream.len()),
        Decision::Rebuild(rebuild) => {
            let (mut out, mut again) = ([0; 5000], [0; 5000]);
            let len = rebuild.write(&mut out, L4Proto::Tcp, &client, &virt).expect("room for it");
            let Recognised::Header(made) = decode(&out[..len]) else {
                panic!("no header was made")
            };
            assert_eq!((made.len, made.version), (len, policy.version));
            let removed = rebuild.sent.len as u16;
            let edit = StreamEdit { at: 8, removed, inserted: len as u16 };
            let stored = Stored { edit, form: rebuild.form() };
            let packed = stored.pack(7).expect("at the first byte");
            assert_eq!(Stored::unpack(7, packed), Some(stored));
            let result = stored.again(&mut again, (8, stream), L4Proto::Tcp, &client, &virt);
            assert_eq!((result, again), (Ok(Again::Written(len)), out));
        }
        Decision::Insert => {}
    }
}
