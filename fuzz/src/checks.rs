//! What must hold whatever arrives, by the numbers of ARCHITECTURE.md.

use lvs_core::counters::Counters;
use lvs_core::io::mem::{MemBuf, MemLane};
use lvs_core::io::{L4Csum, Lane, PacketBuf, PortId};
use lvs_core::service::Forwarding;
use lvs_core::session::Cursor;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_core::wire::{Headers, Parsed};
use lvs_director::{Director, Outputs};
use lvs_testkit::{nic, oracle};

/// A packet before it is processed.
pub struct Arrival {
    /// Its checksums are right, as far as it has any.
    pub sound: bool,
    before: Counters,
}

/// A packet that left, as frames on the wire.
pub struct Departure {
    /// Where it left.
    pub port: PortId,
    /// What appeared there.
    pub frames: Vec<Vec<u8>>,
}

/// Verdicts other than drops.
fn kept(counters: &Counters) -> u64 {
    let Counters { forwarded, answered, released, learned, waiting, handed_over, .. } = counters;
    forwarded + answered + released + learned + waiting + handed_over + counters.fragments_held
}

impl Arrival {
    /// A packet, and the counters before it.
    #[must_use]
    pub fn of(packet: &MemBuf, counters: &Counters) -> Self {
        Self { sound: is_sound(&nic::on_wire(packet)), before: counters.clone() }
    }

    /// INV-2: one verdict, counted once.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_counters(&self, verdict: Verdict, after: &Counters) {
        let before = &self.before;
        assert_eq!(after.received.packets, before.received.packets + 1, "received (INV-2)");
        let rose = |what: fn(&Counters) -> u64| what(after) - what(before);
        // Fragments that waited for this one count now, each with its fate.
        let others_waited = before.fragments_held > 0;
        let expected = match verdict {
            Verdict::Forward(_) => rose(|c| c.forwarded),
            Verdict::Answer(_) => rose(|c| c.answered),
            Verdict::Release => rose(|c| c.released),
            Verdict::Absorb(Absorbed::NeighbourLearned) => rose(|c| c.learned),
            Verdict::Absorb(Absorbed::WaitsForNeighbour) => rose(|c| c.waiting),
            Verdict::Absorb(Absorbed::HandedOver) => rose(|c| c.handed_over),
            Verdict::Absorb(Absorbed::WaitsForFirst) => rose(|c| c.fragments_held),
            Verdict::Drop(reason) => {
                let count = after.dropped(reason) - before.dropped(reason);
                // A question of the director's own may have been refused for the same reason.
                assert!(count >= 1, "{reason} is not counted (INV-2)");
                if others_waited {
                    return;
                }
                assert_eq!(kept(after), kept(before), "counted twice (INV-2)");
                if !may_concern_others(reason) {
                    assert_eq!(count, 1, "{reason} is counted more than once (INV-2)");
                }
                return;
            }
        };
        if others_waited {
            assert!(expected >= 1, "{verdict:?} is not counted (INV-2)");
            return;
        }
        assert_eq!((expected, kept(after) - kept(before)), (1, 1), "{verdict:?} (INV-2)");
        for reason in DropReason::ALL.iter().filter(|reason| !may_concern_others(**reason)) {
            let same = after.dropped(*reason) == before.dropped(*reason);
            assert!(same, "{verdict:?}, and {reason} as well (INV-2)");
        }
    }

    /// INV-3 and the shape of what left: every frame can be read, right checksums stay right and wrong
    /// ones wrong, and a packet that was not forwarded did not leave.
    ///
    /// # Panics
    /// When it does not hold.
    pub fn check_frames(&self, verdict: Verdict, sent: &[Departure], may_be_corrupt: bool) {
        for departure in sent {
            departure.frames.iter().for_each(|frame| readable(frame));
        }
        let to = match verdict {
            Verdict::Forward(to) | Verdict::Answer(to) => Some(to),
            _ => None,
        };
        let there = |departure: &&Departure| Some(departure.port) == to;
        // Its own copy is the last one: a segment of the director's own goes ahead.
        let own = sent.iter().rfind(there);
        assert_eq!(own.is_some(), to.is_some(), "{verdict:?}, but nothing left");
        for departure in sent {
            let is_own = own.is_some_and(|own| core::ptr::eq(own, departure));
            let sound = is_sound(&departure.frames);
            if is_own && !self.sound {
                assert!(
                    !sound,
                    "a wrong checksum came out right (INV-3): {:02x?}",
                    departure.frames
                );
            } else if !may_be_corrupt {
                assert!(sound, "a checksum came out wrong (INV-3): {:02x?}", departure.frames);
            }
        }
    }
}

/// Reasons that are also counted for packets that waited or were made by the director.
fn may_concern_others(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::TxFull
            | DropReason::NoBuffer
            | DropReason::NoRoute
            | DropReason::NeighbourFailed
            | DropReason::NeighbourPending
    )
}

fn readable(frame: &[u8]) {
    let parsed = Headers::parse(frame, frame.len());
    assert!(!matches!(parsed, Err(_) | Ok(Parsed::Other { .. })), "{parsed:?}: {frame:02x?}");
    if let Ok(Parsed::Arp(_)) = parsed {
        assert_eq!(oracle::accepted(frame), Ok(()));
    }
}

/// No checksum is wrong; what is not IP has none.
fn is_sound(frames: &[Vec<u8>]) -> bool {
    frames.iter().all(|frame| {
        let ip = matches!(Headers::parse(frame, frame.len()), Ok(Parsed::Ip(_)));
        !ip || oracle::checksums_ok(frame).is_ok()
    })
}

/// What the director sends by itself is right.
///
/// # Panics
/// When it is not.
pub fn originals(sent: &[Departure]) {
    for departure in sent {
        departure.frames.iter().for_each(|frame| readable(frame));
        assert!(is_sound(&departure.frames), "{:02x?}", departure.frames);
    }
}

/// INV-9: a local port for each FullNAT session, and none otherwise.
///
/// # Panics
/// When it does not hold.
pub fn conserved(director: &Director<'_>, forwarding: Forwarding) {
    let store = director.store();
    let expected = match forwarding {
        Forwarding::FullNat => u64::from(store.len()),
        _ => 0,
    };
    assert_eq!(store.ports_in_use(), expected, "ports (INV-9)");
    let (mut seen, mut cursor) = (0, Some(Cursor::default()));
    while let Some(at) = cursor {
        cursor = store.scan(at, u32::MAX, |session| {
            seen += 1;
            assert!(store.session(session.id).is_some(), "a handle leads to its session (INV-6)");
        });
    }
    assert_eq!(seen, store.len(), "sessions (INV-9)");
}

/// No packet is kept, none was refused by the device, none went around the verdict.
///
/// # Panics
/// When it does not hold.
pub fn nothing_held(lane: &MemLane, out: &Outputs<MemBuf>) {
    assert!(out.is_empty(), "packets stay in the outputs");
    assert_eq!(lane.allocated(), 0, "packets of its own were not given back");
    for port in [PortId(0), PortId(1)] {
        assert_eq!(lane.held(port), 0, "received packets were not given back");
        assert_eq!(lane.stats(port).tx_rejected, 0, "a packet that the port cannot send");
    }
}

/// Whether the metadata of a packet fit its bytes, as those of a device do.
#[must_use]
pub fn is_believable(packet: &MemBuf) -> bool {
    let meta = packet.meta();
    let Ok(Parsed::Ip(headers)) = Headers::parse(packet.data(), packet.total_len()) else {
        return false;
    };
    let places = (headers.l3, headers.l4) == (meta.l3, meta.l4);
    let ends = headers.end as usize == packet.total_len();
    let train = meta.gso.is_none() || headers.payload == meta.gso_headers;
    meta.l4_csum == L4Csum::Partial && headers.tuple.is_some() && places && ends && train
}
