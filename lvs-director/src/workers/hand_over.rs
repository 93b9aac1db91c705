//! Handing packets over to the worker that owns them, and taking over what others hand here.

use super::Peers;
use super::peers::{Arrived, News, Parcel};
use super::quoted::quoted_tuple;
use crate::admit::Packet;
use crate::director::{Director, Report};
use crate::fragments::Ports;
use crate::outputs::Outputs;
use crate::tunnel_error::tunnelled_tuple;
use lvs_core::addr::MacAddr;
use lvs_core::id::WorkerId;
use lvs_core::io::{Lane, PacketBuf};
use lvs_core::plan::{PortPlan, fragment_owner};
use lvs_core::snapshot::{NextHop, Role};
use lvs_core::time::Time;
use lvs_core::verdict::{Absorbed, DropReason, Verdict};
use lvs_core::wire::{Fragment, Transport};
use lvs_nat::fragment::FragmentKey;

/// How often a packet may be handed over: to who keeps its datagram together, and to who owns its session.
const MOST_PASSES: u8 = 2;

impl<P: PortPlan> Director<'_, P> {
    /// Makes this director one of several. Its port plan must be that of the same worker.
    pub fn connect(&mut self, peers: Peers) {
        self.peers = Some(peers);
    }

    /// The rings to and from the other workers, when there are any.
    #[must_use]
    pub const fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    /// The same, to ask which workers have been written to.
    pub const fn peers_mut(&mut self) -> Option<&mut Peers> {
        self.peers.as_mut()
    }

    /// Takes packets and news of neighbours from other workers, at most `budget` of them, and returns how
    /// many. To be called once per round.
    pub fn take_over<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        budget: usize,
        out: &mut Outputs<L::Buf>,
    ) -> usize {
        for taken in 0..budget {
            match self.peers.as_mut().and_then(Peers::next) {
                None => return taken,
                Some(Arrived::News(News { hop, mac })) => {
                    self.learn_quietly(now, lane, hop, mac, out);
                }
                Some(Arrived::Packet(parcel, len)) => self.take_one(now, lane, parcel, len, out),
            }
        }
        budget
    }

    fn take_one<L: Lane>(
        &mut self,
        now: Time,
        lane: &mut L,
        parcel: Parcel,
        len: usize,
        out: &mut Outputs<L::Buf>,
    ) {
        let Some(peers) = self.peers.as_mut() else { return };
        let count = &mut self.counters.taken_over;
        *count = count.wrapping_add(1);
        let Some(mut buf) = lane.alloc(len) else {
            peers.fetch(len, &mut []);
            self.counters.received.add(len as u64);
            self.counters.count(Verdict::Drop(DropReason::NoBuffer));
            return;
        };
        peers.fetch(len, buf.data_mut());
        parcel.apply(&mut buf);
        (self.passes, self.ports_told) = (parcel.passes, parcel.ports);
        self.process_one(now, lane, parcel.port, buf, out);
        (self.passes, self.ports_told) = (0, None);
    }

    /// The fate of a packet that another worker owns; `None` when it is this one's, nobody's, or there is
    /// no other.
    pub(crate) fn elsewhere<B: PacketBuf>(
        &mut self,
        packet: &Packet<B>,
        role: Role,
    ) -> Option<Report> {
        let me = self.peers.as_ref()?.me();
        let owner = self.owner(packet, role).filter(|owner| *owner != me)?;
        Some(self.hand_over(owner, packet, None))
    }

    /// The same for a fragment between known ports, which another worker's session may own.
    pub(crate) fn elsewhere_with<B: PacketBuf>(
        &mut self,
        packet: &Packet<B>,
        ports: Ports,
        role: Role,
    ) -> Option<Report> {
        let me = self.peers.as_ref()?.me();
        let owner = self.owner_of_piece(packet, ports, role).filter(|owner| *owner != me)?;
        Some(self.hand_over(owner, packet, Some(ports)))
    }

    /// Who owns the session of a fragment: a reply's by its local port, else whoever gets whole packets of its
    /// client. Where the plan does not know, all datagrams in pieces between two addresses belong together.
    fn owner_of_piece<B: PacketBuf>(
        &self,
        packet: &Packet<B>,
        ports: Ports,
        role: Role,
    ) -> Option<WorkerId> {
        let (tuple, plan) = (ports.tuple(packet)?, self.store.plan());
        if role.local.is_some() {
            return plan.owner_of(&tuple);
        }
        if !role.virt {
            // Of a NAT server to its client.
            return plan.arrival_of(&tuple.reverse());
        }
        plan.arrival_of(&tuple).or_else(|| {
            let workers = self.peers.as_ref()?.workers();
            Some(fragment_owner(tuple.src(), tuple.dst(), 0, 0, workers))
        })
    }

    /// Who owns a packet without a session here. Only replies, errors and fragments can be on a wrong
    /// worker: every other packet is the receiver's.
    fn owner<B: PacketBuf>(&self, packet: &Packet<B>, role: Role) -> Option<WorkerId> {
        let headers = &packet.headers;
        let plan = self.store.plan();
        if headers.fragment != Fragment::No {
            return self.keeper(packet);
        }
        if let Transport::Icmp { .. } = headers.transport {
            if role.own.is_some() {
                // About a tunnel packet, perhaps: the session is whose the packet inside was.
                return tunnelled_tuple(packet).and_then(|(_, inside)| plan.arrival_of(&inside));
            }
            let Some(quoted) = quoted_tuple(packet.buf.data(), headers) else {
                return self.owner_of_reply(packet, role);
            };
            return if role.local.is_some() {
                plan.owner_of_quoted(&quoted)
            } else if role.virt {
                plan.arrival_of(&quoted.reverse())
            } else {
                None
            };
        }
        self.owner_of_reply(packet, role)
    }

    fn owner_of_reply<B: PacketBuf>(&self, packet: &Packet<B>, role: Role) -> Option<WorkerId> {
        let tuple = packet.headers.tuple.filter(|_| role.local.is_some())?;
        self.store.plan().owner_of(&tuple)
    }

    /// The worker that keeps the fragments of a datagram together.
    fn keeper<B: PacketBuf>(&self, packet: &Packet<B>) -> Option<WorkerId> {
        let (key, _) = FragmentKey::of(packet.buf.data(), &packet.headers)?;
        let workers = self.peers.as_ref()?.workers();
        Some(fragment_owner(key.src, key.dst, key.protocol, key.id, workers))
    }

    #[cold]
    fn hand_over<B: PacketBuf>(
        &mut self,
        to: WorkerId,
        packet: &Packet<B>,
        ports: Option<Ports>,
    ) -> Report {
        let data = packet.buf.data();
        if self.passes >= MOST_PASSES {
            return DropReason::HandOverLoop.into();
        }
        let passes = self.passes.wrapping_add(1);
        let parcel = Parcel::of(packet.port, passes, &packet.buf, &packet.headers).with(ports);
        let whole = packet.buf.total_len() == data.len();
        let sent = whole && self.peers.as_mut().is_some_and(|peers| peers.send(to, &parcel, data));
        if sent {
            Verdict::Absorb(Absorbed::HandedOver).into()
        } else {
            DropReason::HandOverFull.into()
        }
    }

    /// Tells the other workers what a neighbour has told this one.
    pub(crate) fn tell_peers(&mut self, hop: NextHop, mac: MacAddr) {
        if let Some(peers) = &mut self.peers {
            peers.tell(&News { hop, mac });
        }
    }
}
