//! Writes the seed corpora: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`.
//!
//! Scripts of whole connections for `director`, and a frame of each kind for `headers`. The files are
//! named by what is in them, so a changed seed replaces the old one.

use lvs_core::addr::MacAddr;
use lvs_fuzz::script::{Op, Segment, encode};
use lvs_fuzz::world::Settings;
use lvs_testkit::build::{
    Csum, Ext, IcmpError, arp_request, echo, flag, fragments, icmp_error, ndp_solicit, option, raw,
    tcp, udp,
};
use std::path::Path;

fn main() -> std::io::Result<()> {
    for (name, bytes) in scripts() {
        write("director", &name, &bytes)?;
    }
    for (name, bytes) in frames() {
        write("headers", &name, &bytes)?;
    }
    for (target, name, bytes) in modes() {
        write(target, &name, &bytes)?;
    }
    for (name, bytes) in streams() {
        write("proxy", &name, &bytes)?;
    }
    for (name, bytes) in option_lists() {
        write("tcp_options", &name, &bytes)?;
    }
    Ok(())
}

/// Frames behind sixteen bytes that choose how they are translated.
fn modes() -> Vec<(&'static str, String, Vec<u8>)> {
    let choices = |a: u8, b: u8, c: u8, d: u8| {
        let mut head = vec![a, b, c, d];
        head.extend([10, 9, 0, 1, 10, 9, 0, 8, 0, 20, 0x13, 0x88]);
        head
    };
    let sent_v4 = tcp().ack(1).sack(&[(5, 9)]).payload_len(90).build();
    let sent_v6 = udp().from("[fd00::2]:40000").to("[fd00::80]:53").payload_len(90).build();
    let asked = echo(7, 1).from("10.0.0.2").to("10.0.0.80").payload_len(9).build();
    let mut plain = frames();
    plain.push(("train".into(), tcp().ack(1).psh().payload_len(400).build()));
    plain.push(("train_udp".into(), udp().payload_len(400).dont_fragment(false).build()));
    let mut errors = Vec::new();
    for (name, error) in [
        ("too_big", IcmpError::TooBig(1400)),
        ("time", IcmpError::TimeExceeded),
        ("port", IcmpError::PortUnreachable),
        ("field", IcmpError::ParameterProblem(9)),
    ] {
        for (family, sent, from, to, quote) in [
            ("v4", &sent_v4, "10.9.9.9", "10.0.0.2", 28),
            ("v4_whole", &sent_v4, "10.9.9.9", "10.0.0.2", 500),
            ("v6", &sent_v6, "fd00::9", "fd00::2", 500),
            ("echo", &asked, "10.9.9.9", "10.0.0.2", 500),
        ] {
            let frame = icmp_error(error, sent, quote).from(from).to(to).build();
            errors.push((format!("{name}_{family}"), frame));
        }
    }
    let mut list = Vec::new();
    for (n, (name, frame)) in plain.iter().chain(&errors).enumerate() {
        let n = n as u8;
        let with = |head: Vec<u8>| [head, frame.clone()].concat();
        list.push(("rewrite", name.clone(), with(choices(0, n, 0, 0))));
        list.push(("tunnel", name.clone(), with(choices(n, n / 6, n, 0))));
        list.push(("icmp", name.clone(), with(choices(n, 8, n, 0))));
    }
    for how in 0..6u8 {
        for family in 0..2 {
            let name = format!("how{how}_family{family}");
            for (inside, frame) in [("v4", &sent_v4), ("v6", &sent_v6)] {
                let head = choices(how, family, 4, 0);
                list.push(("tunnel", format!("{name}_{inside}"), [head, frame.clone()].concat()));
            }
        }
    }
    list
}

fn write(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}

fn segment(flags: u8, ahead: i8, len: u8) -> Segment {
    Segment { flags, ahead, ttl: 64, options: Vec::new(), len }
}

fn client(client: u8, segment: Segment) -> Op {
    Op::Client { client, segment }
}

fn server(segment: Segment) -> Op {
    Op::Server { back: 0, segment }
}

/// A connection from its first to its last segment.
fn connection(who: u8, data: u8) -> Vec<Op> {
    use flag::{ACK, FIN, PSH, SYN};
    let syn = Segment { options: option::mss(1460), ..segment(SYN, 0, 0) };
    let answer = Segment { options: option::mss(1460), ..segment(SYN | ACK, 0, 0) };
    vec![
        client(who, syn),
        server(answer),
        client(who, segment(ACK, 1, 0)),
        client(who, segment(ACK | PSH, 1, data)),
        server(segment(ACK | PSH, 1, data)),
        client(who, segment(ACK, 9, 0)),
        server(segment(ACK | PSH, 9, data)),
        client(who, segment(ACK | FIN, 9, 0)),
        server(segment(ACK | FIN, 17, 0)),
        client(who, segment(ACK, 10, 0)),
    ]
}

/// The first six segments: an established session that is used on.
fn established(who: u8) -> Vec<Op> {
    connection(who, 1).into_iter().take(6).collect()
}

fn scripts() -> Vec<(String, Vec<u8>)> {
    use flag::{ACK, RST, SYN};
    let mut list: Vec<(String, u8, Vec<Op>)> = Vec::new();
    let all = [
        ("fullnat", 0),
        ("nat", Settings::NAT),
        ("plain_ports", Settings::PLAIN_PORTS),
        ("toa_or_drop", Settings::TOA_OR_DROP | Settings::SMALL_MTU),
        ("timestamps", Settings::TIMESTAMPS),
    ];
    for (name, settings) in all {
        for (family, who) in [("v4", 0u8), ("v6", 0x80)] {
            list.push((format!("{name}_{family}"), settings, connection(who, 20)));
            let full = Segment {
                options: [option::timestamps(1, 2), option::timestamps(3, 4), vec![1; 20]].concat(),
                ..segment(ACK, 1, 70)
            };
            let ops = connection(who, 1).into_iter().take(3).chain([client(who, full)]).collect();
            list.push((format!("{name}_{family}_no_room"), settings, ops));
            for shape in 1..4 {
                let ops = established(who)
                    .into_iter()
                    .chain([Op::Shape(shape), client(who, segment(ACK, 9, 3))])
                    .chain([Op::Shape(shape + 4), server(segment(ACK, 9, 3))]);
                list.push((format!("{name}_{family}_shape{shape}"), settings, ops.collect()));
            }
        }
    }
    let forged: std::net::SocketAddr = ([192, 0, 2, 1], 7).into();
    let forged = Segment { options: option::toa(forged), ..segment(SYN, 0, 0) };
    list.push(("forged_option".into(), 0, vec![client(0, forged)]));
    let ask = Settings::ASK;
    let heard = |hosts: &[u8]| {
        let hosts = hosts.iter().map(|host| Op::Neighbour { host: *host, asks: false });
        hosts.collect::<Vec<Op>>()
    };
    for (name, who, hosts) in [("v4", 0u8, [0u8, 4, 5]), ("v6", 0x80, [0x80, 0x84, 0x85])] {
        let syn = client(who, segment(SYN, 0, 0));
        let answered = [vec![syn.clone()], heard(&hosts), connection(who, 2)].concat();
        list.push((format!("asked_{name}"), ask, answered));
        let silent = vec![syn.clone(), syn, Op::Wait(100), Op::Wait(100), Op::Wait(500)];
        list.push((format!("silent_{name}"), ask, silent));
        let asks = (0..8).map(|host| Op::Neighbour { host: host | (who & 0x80), asks: true });
        list.push((format!("questions_{name}"), 0, asks.collect()));
    }
    let many = (0..20).map(|n| client(n * 4, segment(SYN, 0, 0)));
    list.push(("full".into(), 0, many.clone().collect()));
    list.push(("full_nat".into(), Settings::NAT, many.clone().collect()));
    let expire = many.clone().chain([Op::Wait(1000)]).chain(many);
    list.push(("full_twice".into(), 0, expire.collect()));
    let reset = established(0).into_iter().chain([client(0, segment(RST, 9, 0))]);
    list.push(("reset".into(), 0, reset.chain(established(0)).collect()));
    let reuse = connection(0, 1).into_iter().chain([Op::Wait(10)]).chain(connection(0, 1));
    list.push(("reused_port".into(), 0, reuse.collect()));
    for (name, settings) in [("burst", 0u8), ("burst_nat", Settings::NAT), ("burst3", 0x80)] {
        let flags = [ACK, ACK | flag::PSH, ACK, ACK | flag::FIN, ACK, RST, ACK, SYN];
        let mixed = flags.iter().zip(0u8..).flat_map(|(flags, n)| {
            let odd = Segment { options: option::NOP.to_vec(), ..segment(ACK, 9, n) };
            [client(0, segment(*flags, 9, n)), client(4, segment(ACK, 9, 2)), client(8, odd)]
        });
        let ops = [established(0), established(4), established(8)].concat();
        list.push((name.into(), settings, ops.into_iter().chain(mixed).collect()));
    }
    let datagrams = [Op::Datagram { client: 1, len: 30 }, server(segment(0, 0, 9))];
    list.push(("udp".into(), 0, datagrams.to_vec()));
    list.push(("udp_nat".into(), Settings::NAT, datagrams.to_vec()));
    list.push(("echo".into(), 0, vec![Op::Echo { client: 0 }, Op::Echo { client: 0x81 }]));
    for at in [12u16, 14, 16, 20, 23, 24, 26, 34, 36, 46, 47, 50] {
        let damaged = [Op::Damage { at, value: 0xff }, client(0, segment(ACK, 9, 1))];
        let cut = [Op::Cut(at), client(0, segment(ACK, 9, 1)), server(segment(ACK, 9, 1))];
        let ops = established(0).into_iter().chain(damaged).chain(cut);
        list.push((format!("damage{at}"), 0, ops.collect()));
    }
    for (name, bytes) in frames().into_iter().filter(|(_, bytes)| bytes.len() < 200) {
        list.push((format!("frame_{name}"), 0, vec![Op::Frame { port: 0, bytes }]));
    }
    let script = |settings: u8, more: u8, ops: &[Op]| [vec![settings, more], encode(ops)].concat();
    let mut all: Vec<_> = list
        .iter()
        .map(|(name, settings, ops)| (name.clone(), script(*settings, 0, ops)))
        .collect();
    let ping = [Op::Echo { client: 0x10 }, server(segment(0, 0, 9)), Op::Echo { client: 0x91 }];
    let ops = [connection(0, 20), connection(0x80, 3), datagrams.to_vec(), ping.to_vec()].concat();
    for mode in 0..8 {
        for more in [Settings::ECHO, Settings::PERSISTENT, Settings::ONE_PACKET, 0xf8] {
            all.push((format!("mode{mode}_{more:02x}"), script(Settings::NAT, mode | more, &ops)));
        }
        all.push((format!("mode{mode}_small"), script(Settings::SMALL_MTU, mode | 8, &ops)));
    }
    all
}

/// Starts of streams: headers of both versions, whole, cut, with values, and what only looks like one.
fn streams() -> Vec<(String, Vec<u8>)> {
    use lvs_core::flow::L4Proto::{Tcp, Udp};
    use lvs_nat::proxy::tlv::{AUTHORITY, CRC32C, NOOP, SSL, Tlv, UNIQUE_ID};
    use lvs_nat::proxy::{Header, Version, encode};
    let ends = [
        ("v4", "192.0.2.7:40000".parse().unwrap(), "203.0.113.1:80".parse().unwrap()),
        ("v6", "[2001:db8::7]:40000".parse().unwrap(), "[2001:db8::1]:80".parse().unwrap()),
    ];
    let mut list: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, client, virt) in &ends {
        for (version, text) in [(Version::V1, "1"), (Version::V2, "2")] {
            let header = Header::new(version, Tcp, client, virt).unwrap().as_bytes().to_vec();
            list.push((format!("{name}_{text}"), [&header[..], b"GET / HTTP/1.1\r\n"].concat()));
            list.push((format!("{name}_{text}_cut"), header[..header.len() - 1].to_vec()));
            list.push((format!("{name}_{text}_twice"), header.repeat(2)));
            let local = Header::local(version).as_bytes().to_vec();
            list.push((format!("local_{text}"), local));
        }
        let udp = Header::new(Version::V2, Udp, client, virt).unwrap();
        list.push((format!("{name}_udp"), udp.as_bytes().to_vec()));
        let values = [
            Tlv { kind: AUTHORITY, value: b"example.org" },
            Tlv { kind: CRC32C, value: &[0; 4] },
            Tlv { kind: SSL, value: &[1, 0, 0, 0, 0, 0x21, 0, 3, b'1', b'.', b'3'] },
            Tlv { kind: UNIQUE_ID, value: &[7; 16] },
            Tlv { kind: NOOP, value: &[0; 3] },
        ];
        let mut out = [0; 300];
        let len = encode(&mut out, Version::V2, Tcp, client, virt, &values).unwrap();
        list.push((format!("{name}_values"), out[..len].to_vec()));
        out[40] ^= 1;
        list.push((format!("{name}_values_damaged"), out[..len].to_vec()));
    }
    let mut unix = Header::local(Version::V2).as_bytes().to_vec();
    unix[12..16].copy_from_slice(&[0x21, 0x31, 0, 216]);
    unix.resize(232, b'/');
    list.push(("unix".into(), unix));
    for (name, bytes) in [
        ("data", &b"GET / HTTP/1.1\r\n"[..]),
        ("post", b"POST / HTTP/1.1\r\n"),
        ("word", b"PROXY "),
        ("unknown", b"PROXY UNKNOWN ffff::1 x 1 2\r\n"),
        ("no_port", b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n"),
        ("zeros", b"PROXY TCP4 1.2.3.04 5.6.7.8 1 02\r\n"),
        ("mapped", b"PROXY TCP6 ::ffff:1.2.3.4 1:2::8 1 2\r\n"),
        ("newline", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"),
    ] {
        list.push((name.into(), bytes.to_vec()));
    }
    list
}

/// Option lists of clients and of those who pretend.
fn option_lists() -> Vec<(String, Vec<u8>)> {
    use flag::{ACK, FIN, SYN};
    let forged: std::net::SocketAddr = ([192, 0, 2, 1], 7).into();
    let far: std::net::SocketAddr = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 7).into();
    let [mss, toa, toa6] = [option::mss(1460), option::toa(forged), option::toa(far)];
    let time = [&option::NOP.repeat(2)[..], &option::timestamps(1, 2)].concat();
    let sack = |blocks: &[(u32, u32)]| option::sack(blocks);
    let lists: Vec<(&str, Vec<u8>)> = vec![
        ("none", vec![]),
        ("mss", mss.clone()),
        ("linux", [&mss[..], &[4, 2], &option::timestamps(1, 0), &[1, 3, 3, 7]].concat()),
        ("time", time.clone()),
        ("toa", toa.clone()),
        ("toa6", toa6.clone()),
        ("toa_twice", toa.repeat(2)),
        ("toa_odd", [&[1][..], &toa, &[1, 1, 1]].concat()),
        ("kind28", vec![28, 7, 1, 10, 0, 0, 1, 1]),
        ("kind252", vec![252, 8, 0, 1, 10, 0, 0, 1]),
        ("virtual", vec![254, 16, 0, 1, 10, 0, 0, 1, 0, 0, 0, 80, 10, 0, 0, 2]),
        ("fast_open", vec![254, 10, 0xf9, 0x89, 1, 2, 3, 4, 5, 6, 1, 1]),
        ("fast_open_alike", vec![254, 8, 0xf9, 0x89, 1, 2, 3, 4]),
        ("cookie", vec![34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1]),
        ("mptcp", vec![30, 12, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8]),
        ("mptcp_full", [vec![30, 20], vec![0x20; 18], vec![30, 20], vec![0x30; 18]].concat()),
        ("sack", [&[1, 1][..], &sack(&[(900, 1100), (2000, 3000)])].concat()),
        ("sack_inside", [&[1, 1][..], &sack(&[(1001, 1010), (1028, 1029)])].concat()),
        ("sack_wrap", [&time[..], &[1, 1], &sack(&[(u32::MAX - 3, 7), (1, 1), (9, 3)])].concat()),
        ("end", [&[0, 0, 0, 0][..], &toa].concat()),
        ("padding", vec![1; 40]),
        ("broken", vec![254, 1, 0, 0]),
        ("long", vec![254, 60, 0, 0]),
    ];
    let flags = [("syn", SYN), ("ack", ACK), ("fin", ACK | FIN)];
    let all = flags.iter().flat_map(|(name, flags)| {
        lists.iter().map(move |(list, bytes)| {
            (format!("{list}_{name}"), [&[*flags, 77][..], bytes].concat())
        })
    });
    all.collect()
}

fn frames() -> Vec<(String, Vec<u8>)> {
    let v6 = ("[fd00::2]:5", "[fd00::80]:80");
    let long = [option::mss(1460), option::sack(&[(1, 2), (3, 4)]), option::NOP.to_vec()].concat();
    let extensions = udp()
        .from(v6.0)
        .to(v6.1)
        .ext(Ext::HopByHop(vec![5, 2, 0, 0]))
        .ext(Ext::Any(43, vec![0; 7]))
        .ext(Ext::Destination(vec![]));
    let inner = tcp().ack(1).build();
    let mut list = vec![
        ("syn".to_owned(), tcp().syn().linux_options(1460).build()),
        ("syn_v6".into(), tcp().syn().linux_options(1440).from(v6.0).to(v6.1).build()),
        ("options".into(), tcp().ack(1).options(&long).build()),
        ("bad_option".into(), tcp().ack(1).options(&[30, 0, 0, 0]).build()),
        ("bad_ihl".into(), tcp().ack(1).ihl(3).build()),
        ("bad_length".into(), tcp().ack(1).ip_len(3000).build()),
        ("bad_offset".into(), tcp().ack(1).data_offset(15).build()),
        ("bad_checksum".into(), tcp().ack(1).ip_csum(Csum::Wrong).build()),
        ("tagged".into(), tcp().ack(1).vlan(7).vlan(8).build()),
        ("three_tags".into(), tcp().ack(1).vlan(7).vlan(8).vlan(9).build()),
        ("ip_options".into(), udp().ip_options(&[7, 7, 4, 0, 0, 0, 0, 0]).payload_len(9).build()),
        ("udp_length".into(), udp().udp_len(3).build()),
        ("udp_v6".into(), udp().from(v6.0).to(v6.1).payload_len(20).build()),
        ("extensions".into(), extensions.build()),
        ("echo".into(), echo(1, 2).from("10.0.0.2").to("10.0.0.80").payload_len(30).build()),
        ("echo_v6".into(), echo(1, 2).from("fd00::2").to("fd00::80").build()),
        ("complaint".into(), icmp_error(IcmpError::PortUnreachable, &inner, 28).build()),
        (
            "arp".into(),
            arp_request(MacAddr([2; 6]), [10, 0, 0, 2].into(), [10, 0, 0, 80].into()).build(),
        ),
        (
            "solicitation".into(),
            ndp_solicit(MacAddr([2; 6]), "fd00::2".parse().unwrap(), "fd00::80".parse().unwrap())
                .build(),
        ),
        ("raw".into(), raw(132).payload_len(12).build()),
        ("other".into(), tcp().ethertype(0x88cc).build()),
    ];
    let parts = fragments(&udp().payload_len(100).dont_fragment(false).build(), 68, 7);
    list.extend(parts.into_iter().enumerate().map(|(n, frame)| (format!("fragment{n}"), frame)));
    list
}
