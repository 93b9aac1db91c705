//! Next hops: asked for, known, failed; and the packets that wait for them.

use super::Sent;
use core::net::IpAddr;
use lvs_core::addr::MacAddr;
use lvs_core::io::PortId;
use lvs_core::snapshot::NextHop;
use lvs_core::time::Time;
use std::collections::VecDeque;

const SECOND: u64 = 1_000_000_000;
/// An answer is believed for so long.
const TRUSTED: u64 = 30 * SECOND;
/// Questions that may stay without an answer.
const QUESTIONS: u32 = 3;
/// Packets that wait for one next hop.
const WAIT_PER_HOP: usize = 32;
/// Longest packet that may wait.
const WAIT_BYTES: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Asking,
    Known(MacAddr),
    Static(MacAddr),
    Failed,
}

#[derive(Clone, Debug)]
struct Hop {
    at: NextHop,
    state: State,
    confirmed: u64,
    asked: u64,
    questions: u32,
    waiting: VecDeque<Sent>,
}

/// What is to be done with a packet for a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Send(MacAddr),
    Wait,
    Failed,
}

/// A question to send; to this address alone when there is one.
pub(super) type Question = (NextHop, Option<MacAddr>);

#[derive(Clone, Debug, Default)]
pub(super) struct Hops {
    all: Vec<Hop>,
}

impl Hops {
    /// The number of a next hop, which from now on is one.
    pub(super) fn number(&mut self, at: NextHop) -> usize {
        if let Some(number) = self.all.iter().position(|hop| hop.at == at) {
            return number;
        }
        self.all.push(Hop {
            at,
            state: State::Asking,
            confirmed: 0,
            asked: 0,
            questions: 0,
            waiting: VecDeque::new(),
        });
        self.all.len() - 1
    }

    /// Whether a next hop has failed and is not to be asked again yet.
    pub(super) fn is_down(&self, number: usize, now: Time) -> bool {
        let hop = &self.all[number];
        hop.state == State::Failed && now.0 < hop.asked + SECOND
    }

    pub(super) fn place(&self, number: usize) -> NextHop {
        self.all[number].at
    }

    /// What to do with a packet, and the question that goes with it.
    pub(super) fn way(&mut self, number: usize, now: Time) -> (Way, Option<Question>) {
        let hop = &mut self.all[number];
        let never_asked = hop.questions == 0;
        let due = never_asked || now.0 >= hop.asked + SECOND;
        let ask = |hop: &mut Hop, mac| {
            hop.questions += 1;
            hop.asked = now.0;
            Some((hop.at, mac))
        };
        match hop.state {
            State::Static(mac) => (Way::Send(mac), None),
            State::Known(mac) if now.0 < hop.confirmed + TRUSTED || !due => (Way::Send(mac), None),
            State::Known(_) if hop.questions >= QUESTIONS => {
                (hop.state, hop.asked) = (State::Failed, now.0);
                (Way::Failed, None)
            }
            State::Known(mac) => (Way::Send(mac), ask(hop, Some(mac))),
            State::Asking if due && hop.questions < QUESTIONS => (Way::Wait, ask(hop, None)),
            State::Asking => (Way::Wait, None),
            State::Failed if !due => (Way::Failed, None),
            State::Failed => {
                (hop.state, hop.questions) = (State::Asking, 0);
                (Way::Wait, ask(hop, None))
            }
        }
    }

    /// Lets a packet wait, if there is room: `most` for all next hops together.
    pub(super) fn wait(&mut self, number: usize, packet: Sent, most: usize) -> bool {
        let all: usize = self.all.iter().map(|hop| hop.waiting.len()).sum();
        let hop = &mut self.all[number];
        let room = all < most.max(1) && hop.waiting.len() < WAIT_PER_HOP;
        let fits = room && packet.bytes.len() <= WAIT_BYTES;
        if fits {
            hop.waiting.push_back(packet);
        }
        fits
    }

    /// A neighbour has told its address. `None` when it is no next hop, else the packets that may go
    /// now and the address that they go to.
    pub(super) fn learn(
        &mut self,
        now: Time,
        port: PortId,
        ip: IpAddr,
        mac: MacAddr,
    ) -> Option<(MacAddr, Vec<Sent>)> {
        let hop = self.all.iter_mut().find(|hop| hop.at == NextHop { port, via: ip })?;
        let mac = match hop.state {
            // What is configured is believed, and nothing else.
            State::Static(mac) => mac,
            _ => {
                hop.state = State::Known(mac);
                (hop.confirmed, hop.questions) = (now.0, 0);
                mac
            }
        };
        Some((mac, hop.waiting.drain(..).collect()))
    }

    pub(super) fn forget_configured(&mut self) {
        for hop in &mut self.all {
            if let State::Static(mac) = hop.state {
                (hop.state, hop.confirmed) = (State::Known(mac), 0);
            }
        }
    }

    pub(super) fn configure(&mut self, at: NextHop, mac: MacAddr) {
        let number = self.number(at);
        self.all[number].state = State::Static(mac);
    }

    /// Repeats questions and gives up after three. Answers the questions to send, how many packets have
    /// waited in vain, and packets that can go because an address has been configured meanwhile.
    pub(super) fn tick(&mut self, now: Time) -> (Vec<Question>, usize, Vec<(MacAddr, Sent)>) {
        let (mut questions, mut in_vain, mut free) = (Vec::new(), 0, Vec::new());
        for hop in &mut self.all {
            if let State::Static(mac) = hop.state {
                free.extend(hop.waiting.drain(..).map(|packet| (mac, packet)));
            }
            let asked = hop.state == State::Asking && hop.questions > 0;
            if !asked || now.0 < hop.asked + SECOND {
                continue;
            }
            hop.asked = now.0;
            if hop.questions < QUESTIONS {
                hop.questions += 1;
                questions.push((hop.at, None));
            } else {
                hop.state = State::Failed;
                in_vain += hop.waiting.drain(..).len();
            }
        }
        (questions, in_vain, free)
    }

    /// Every next hop and whether its address is known.
    pub(super) fn known(&self) -> impl Iterator<Item = (NextHop, Option<MacAddr>)> {
        self.all.iter().map(|hop| match hop.state {
            State::Known(mac) | State::Static(mac) => (hop.at, Some(mac)),
            State::Asking | State::Failed => (hop.at, None),
        })
    }
}
