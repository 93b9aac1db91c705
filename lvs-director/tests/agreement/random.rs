//! Scripts at random: how often what happens, and with what.

use crate::config::{CLIENTS, HOSTS, SERVICES, change};
use crate::rig::OWN_MAC;
use crate::script::{Fresh, Opts, Script, Segment, Step, Talk, Twist};
use lvs_testkit::build::flag;
use lvs_testkit::strategies;
use proptest::prelude::*;
use proptest::sample::Index;

fn twist() -> impl Strategy<Value = Option<Twist>> {
    let sources = prop::sample::select(vec![
        "10.0.0.80",
        "10.1.0.100",
        "10.0.0.1",
        "127.0.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "198.51.100.1",
        "fd00::80",
        "::1",
        "::",
        "ff02::1",
        "2001:dead::1",
        "fd01::100",
    ]);
    prop_oneof![
        12 => Just(None),
        8 => prop_oneof![
            2 => Just(Twist::WrongSum),
            1 => Just(Twist::NoUdpSum),
            2 => Just(Twist::Partial),
            1 => Just(Twist::WrongPartial),
            2 => (1u16..1500).prop_map(Twist::Train),
            1 => Just(Twist::FoundBad),
            1 => Just(Twist::FoundGood),
            1 => (0u8..4).prop_map(Twist::Ttl),
            1 => Just(Twist::ForSomebodyElse),
            1 => Just(Twist::ToGroup),
            1 => Just(Twist::TagBeside),
            1 => Just(Twist::TagInside),
            1 => Just(Twist::IpOptions),
            1 => any::<bool>().prop_map(Twist::SourceRoute),
            3 => (prop_oneof![3 => Just(0u16), 1 => Just(64), 1 => Just(128), 1 => 0u16..40], any::<bool>(), 0u8..2)
                .prop_map(|(start, more, id)| Twist::Fragment(start * 8 % 1024, more, id)),
            1 => Just(Twist::WrongIpSum),
            1 => (0usize..40).prop_map(Twist::Padding),
            1 => (0usize..24).prop_map(Twist::NoHeadroom),
            1 => (0usize..80).prop_map(Twist::Cut),
            1 => any::<u8>().prop_map(Twist::Extension),
            1 => Just(Twist::Tos),
            2 => sources.prop_map(Twist::From),
        ].prop_map(Some),
    ]
}

fn opts() -> impl Strategy<Value = Opts> {
    prop_oneof![
        6 => Just(Opts::None),
        1 => prop_oneof![Just(536u16), Just(540), Just(1220), Just(1460), any::<u16>()].prop_map(Opts::Mss),
        3 => Just(Opts::Linux),
        2 => Just(Opts::Timestamps),
        2 => any::<u32>().prop_map(Opts::Sack),
        2 => prop::sample::select(vec![254u8, 253, 200, 28, 99, 31]).prop_map(Opts::Forged),
        1 => (0usize..20).prop_map(Opts::FastOpen),
        2 => Just(Opts::Full),
        1 => strategies::tcp_options().prop_map(Opts::Bytes).boxed(),
    ]
}

fn payload() -> impl Strategy<Value = u16> {
    prop_oneof![3 => Just(0u16), 3 => 1u16..200, 1 => 1300u16..1500, 1 => 1440u16..1462, 1 => 0u16..9000]
}

fn seq() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(1000u32), 1 => Just(u32::MAX), 1 => any::<u32>()]
}

fn fresh() -> impl Strategy<Value = Fresh> {
    (0..CLIENTS.len(), 0u8..6, 0..SERVICES.len(), seq(), payload(), opts(), twist()).prop_map(
        |(client, port, service, seq, payload, opts, twist)| Fresh {
            client,
            port,
            service,
            seq,
            payload,
            opts,
            twist,
        },
    )
}

fn flags() -> impl Strategy<Value = u8> {
    use flag::{ACK, FIN, PSH, RST, SYN, URG};
    prop_oneof![
        12 => prop::sample::select(vec![
            SYN, SYN | ACK, ACK, ACK, ACK | PSH, FIN | ACK, FIN | ACK, RST, RST | ACK,
        ]),
        1 => prop::sample::select(vec![0, PSH, SYN | FIN, SYN | RST, FIN, URG | ACK]),
        1 => any::<u8>(),
    ]
}

fn segments() -> impl Strategy<Value = Segment> {
    let numbers = || {
        prop_oneof![
            6 => prop::sample::select(vec![0u32, 1, 1, 2, 101, 701, 1461]),
            1 => any::<u32>(),
        ]
    };
    let what = (any::<Index>(), any::<bool>(), flags());
    (what, numbers(), numbers(), payload(), opts(), twist()).prop_map(
        |((at, inbound, flags), seq, ack, payload, opts, twist)| Segment {
            at,
            inbound,
            flags,
            seq,
            ack,
            payload,
            opts,
            twist,
        },
    )
}

fn neighbour() -> impl Strategy<Value = Step> {
    (0..HOSTS.len(), 0usize..12, any::<bool>(), prop_oneof![2 => Just(0u8), 1 => 0u8..10]).prop_map(
        |(from, target, request, odd)| Step::Neighbour(Talk { from, target, request, odd }),
    )
}

fn ping() -> impl Strategy<Value = Step> {
    let targets = prop::sample::select(vec![
        "10.0.0.1",
        "10.0.0.80",
        "10.1.0.100",
        "10.1.0.1",
        "10.0.0.77",
        "fd00::1",
        "fd00::80",
        "fd01::100",
        "fd00::77",
        "10.0.0.255",
        "255.255.255.255",
        "224.0.0.18",
        "ff02::5",
        "127.0.0.1",
    ]);
    (0..CLIENTS.len(), targets, prop_oneof![4 => Just(false), 1 => Just(true)], twist()).prop_map(
        |(client, to, reply, twist)| {
            // Trains and partial checksums of ICMP do not exist.
            let twist = twist.filter(|twist| {
                !matches!(
                    twist,
                    Twist::Train(_) | Twist::Partial | Twist::WrongPartial | Twist::NoUdpSum
                )
            });
            Step::Ping(client, to, reply, twist)
        },
    )
}

fn opening() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => fresh().prop_map(Step::Open),
        3 => (fresh(), 1u8..9).prop_map(|(fresh, most)| Step::Talk(fresh, most)),
    ]
}

/// Connections, opened and used.
pub(crate) fn connections(len: core::ops::Range<usize>) -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        4 => opening().boxed(),
        8 => segments().prop_map(Step::Segment).boxed(),
        1 => (1u64..12_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, len).prop_map(Script)
}

/// Clients that come again and again, while configurations change.
pub(crate) fn visits(len: core::ops::Range<usize>) -> impl Strategy<Value = Script> {
    let step = prop_oneof![
        8 => opening().boxed(),
        3 => segments().prop_map(Step::Segment).boxed(),
        2 => (1000u64..70_000).prop_map(Step::Wait),
        1 => (1000u64..700_000).prop_map(Step::Wait),
        1 => prop::collection::vec(change(), 1..4).prop_map(Step::Reload),
    ];
    prop::collection::vec(step, len).prop_map(Script)
}

/// All that there is.
pub(crate) fn everything(len: core::ops::Range<usize>) -> impl Strategy<Value = Script> {
    let silent = prop::sample::subsequence(HOSTS.to_vec(), 0..HOSTS.len());
    let step = prop_oneof![
        5 => opening().boxed(),
        8 => segments().prop_map(Step::Segment).boxed(),
        2 => neighbour().boxed(),
        1 => ping().boxed(),
        2 => (1u64..1500).prop_map(Step::Wait),
        2 => (1000u64..40_000).prop_map(Step::Wait),
        1 => (1000u64..400_000).prop_map(Step::Wait),
        2 => prop::collection::vec(change(), 1..4).prop_map(Step::Reload),
        1 => silent.prop_map(Step::Silent),
    ];
    prop::collection::vec(step, len).prop_map(Script)
}

/// Frames that nobody should send, between some that people do.
pub(crate) fn hostile(len: core::ops::Range<usize>) -> impl Strategy<Value = Script> {
    let odd = prop_oneof![
        strategies::hostile().boxed(),
        strategies::nearly_valid().prop_map(|broken| broken.built.frame).boxed(),
        strategies::valid().prop_map(|built| built.frame).boxed(),
    ];
    // Whatever it is, some of it is for us.
    let frame = (odd, any::<bool>(), 0u8..2).prop_map(|(mut frame, ours, port)| {
        if ours && frame.len() >= 6 {
            frame[..6].copy_from_slice(&OWN_MAC[usize::from(port)].0);
        }
        Step::Frame(frame, port)
    });
    let places = prop::sample::select(vec![
        "10.0.0.80",
        "10.1.0.100",
        "10.0.0.1",
        "10.0.0.99",
        "fd00::80",
        "fd00::1",
        "fd01::100",
    ]);
    let step = prop_oneof![
        8 => frame.boxed(),
        2 => neighbour().boxed(),
        2 => ping().boxed(),
        1 => (prop_oneof![4 => any::<u8>(), 1 => Just(132u8)], places)
            .prop_map(|(number, to)| Step::Protocol(number, to)),
        1 => opening().boxed(),
        1 => segments().prop_map(Step::Segment).boxed(),
    ];
    prop::collection::vec(step, len).prop_map(Script)
}
