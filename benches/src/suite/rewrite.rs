//! One header rewrite beside general packet crates.

use super::{Effort, Report};
use crate::cpu::thread_ns;
use crate::lane::{Buf, Pool};
use crate::rounds::{Figures, alternate};
use crate::standin::rewrites::{self, Edit};
use crate::table::Row;
use lvs_core::flow::{L4Proto, TupleV4};
use lvs_core::io::{BURST, L4Csum, PacketBuf};
use lvs_core::key::KeyV4;
use lvs_core::prefetch::prefetch;
use lvs_core::wire::{Headers, Ordinary, OwnMac, Parsed};
use lvs_nat::{End, Ends, PlainEdit, RewriteV4, SeqDeltas};
use lvs_testkit::oracle;
use lvs_testkit::traffic::{Flow, Kind, Network};

/// Packets of one group: small enough for the second-level cache, full frames included.
const GROUP: usize = 256;
const GROUPS: usize = 8;
const NAMES: [&str; 5] = ["quick", "headers", "smoltcp", "pnet_packet", "etherparse"];

/// What all of them do to a packet.
struct Job {
    net: Network<u32>,
    flow: Flow<u32>,
    rewrite: RewriteV4,
    plain: PlainEdit,
    key: KeyV4,
    own: OwnMac,
    edit: Edit,
}

impl Job {
    fn new() -> Self {
        let net = Network::<u32>::example();
        let flow = Flow {
            client: net.client(3),
            local: (0x0a01_0101, 2000),
            server: (0x0a01_000b, 8080),
            client_seq: 1000,
            client_seen: 0x1000_1000,
            server_seq: 77,
            ..Flow::default()
        };
        let end = |(addr, port)| End::new(addr, port);
        let ends = Ends {
            client: end(flow.client),
            virt: end(net.service),
            local: end(flow.local),
            server: end(flow.server),
        };
        let shift = flow.client_seen.wrapping_sub(flow.client_seq);
        let seq = SeqDeltas { seq: shift, ack: shift };
        let rewrite = RewriteV4::inbound(&ends, ends.deltas(), seq).decrement_ttl(true);
        let edit = Edit { src: flow.local, dst: flow.server, shift };
        let deltas = ends.deltas();
        let plain = PlainEdit {
            l4_delta: deltas.l4,
            ip_delta: deltas.ip,
            seq_add: shift,
            ack_add: shift.wrapping_neg(),
            partial: false,
        };
        let own = OwnMac::new(net.own[0]);
        let to = TupleV4 {
            src: flow.local.0,
            dst: flow.server.0,
            sport: flow.local.1,
            dport: flow.server.1,
            proto: L4Proto::Tcp,
        };
        Self { net, flow, rewrite, plain, key: KeyV4::from(&to), own, edit }
    }

    /// One packet; `MODE` is known when this is compiled, so that no way pays for the choice.
    #[inline(always)]
    fn one<const MODE: usize>(&self, frame: &mut [u8]) -> Option<()> {
        match MODE {
            0 => {
                // The short way: what the director does with ordinary segments.
                Ordinary::<12>::look(frame, frame.len(), self.own)?;
                self.plain.apply_v4(frame.first_chunk_mut()?, &self.key);
                Some(())
            }
            1 => {
                let Ok(Parsed::Ip(headers)) = Headers::parse(frame, frame.len()) else {
                    return None;
                };
                self.rewrite.apply(frame, &headers, L4Csum::Unknown).ok()
            }
            2 => rewrites::smoltcp(frame, &self.edit),
            3 => rewrites::pnet(frame, &self.edit),
            _ => rewrites::etherparse(frame, &self.edit),
        }
    }

    #[inline(never)]
    fn all<const MODE: usize>(&self, packets: &mut [Buf]) -> usize {
        let one = |packet: &mut Buf| usize::from(self.one::<MODE>(packet.data_mut()).is_some());
        let (mut done, mut rest) = (0, packets);
        while !rest.is_empty() {
            let (burst, behind) = rest.split_at_mut(rest.len().min(BURST));
            // For all ways alike: the headers of the next burst travel while this one is worked on.
            behind.iter().take(BURST).filter_map(|packet| packet.data().first()).for_each(prefetch);
            done += burst.iter_mut().map(one).sum::<usize>();
            rest = behind;
        }
        done
    }

    fn measure(&self, mode: usize, len: usize, packets: &mut [Buf]) -> Result<f64, String> {
        let mut spent = 0;
        for group in 0..GROUPS {
            for packet in packets.iter_mut() {
                packet.reset(len);
                let _ = self.flow.write(&self.net, Kind::Inbound, len, packet.data_mut());
            }
            let start = thread_ns();
            let done = match mode {
                0 => self.all::<0>(packets),
                1 => self.all::<1>(packets),
                2 => self.all::<2>(packets),
                3 => self.all::<3>(packets),
                _ => self.all::<4>(packets),
            };
            spent += thread_ns() - start;
            if done != packets.len() {
                return Err(format!("{done} of {} packets were rewritten", packets.len()));
            }
            if group == 0 {
                let frame = packets.last().map(PacketBuf::data).unwrap_or_default();
                oracle::checksums_ok(frame)?;
                let fields = oracle::fields(frame)?;
                if fields.ports != Some((2000, 8080)) || fields.ttl != 63 {
                    return Err(format!("came out wrong: {fields:?}"));
                }
            }
        }
        Ok(spent as f64 / (GROUP * GROUPS) as f64)
    }
}

/// Measures small and full frames.
///
/// # Errors
/// A packet that came out wrong.
pub fn run(effort: Effort, report: &mut Report) -> Result<(), String> {
    let job = Job::new();
    let mut pool = Pool::new(GROUP)?;
    let mut packets: Vec<Buf> = (0..GROUP).filter_map(|_| pool.take(60)).collect();
    for (size, len, bounds) in [("64", 60, (2.8, 3.3)), ("1500", 1514, (8.0, 9.0))] {
        let mut failed = None;
        let figures: Vec<Figures> = alternate(NAMES.len(), effort.rounds, |mode| {
            job.measure(mode, len, &mut packets).unwrap_or_else(|error| {
                failed.get_or_insert(format!("{}: {error}", NAMES[mode]));
                f64::NAN
            })
        });
        if let Some(error) = failed {
            return Err(error);
        }
        let own = figures[0].median();
        for (mode, name) in NAMES.iter().enumerate() {
            let row = Row::ns(format!("rewrite/{name}/{size}"), &figures[mode]);
            report.add(match mode {
                0 => row,
                1 => row.ratio(figures[1].median() / own, "quick"),
                2 | 3 => {
                    row.ratio(figures[mode].median() / own, "quick").at_least(bounds.0, bounds.1)
                }
                _ => row.ratio(figures[mode].median() / own, "quick"),
            });
        }
    }
    Ok(())
}
