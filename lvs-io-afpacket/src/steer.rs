//! The classic BPF program that sends each translated reply to the worker that owns its port.
//!
//! The kernel runs it once per frame of the fanout group and takes the result modulo the number of
//! members. Offsets count **from the network header** (`packet_rcv_fanout` runs before the Ethernet
//! header is pushed back), so a program with offsets from the Ethernet header steers everything to
//! one member without a word.

use core::net::IpAddr;

/// A network of local addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalNet {
    /// Any address of the network.
    pub addr: IpAddr,
    /// Bits of the prefix; more than the family has count as all.
    pub prefix: u8,
}

/// One instruction: the kernel's `struct sock_filter` without its C name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) code: u16,
    pub(crate) jt: u8,
    pub(crate) jf: u8,
    pub(crate) k: u32,
}

const LD_W: u16 = 0x20;
const LD_H: u16 = 0x28;
const LD_B: u16 = 0x30;
const LD_H_X: u16 = 0x48;
const LD_B_X: u16 = 0x50;
const LDX_MSH: u16 = 0xb1;
const AND: u16 = 0x54;
const XOR_X: u16 = 0xac;
const MUL: u16 = 0x24;
const RSH: u16 = 0x74;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JSET: u16 = 0x45;
const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;
const TAX: u16 = 0x07;

/// Ancillary load: the EtherType behind any VLAN tag that was taken out.
const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
/// IPv4: more fragments, or a fragment offset.
const FRAGMENT: u32 = 0x3fff;
/// Protocols with source and destination port in their first four bytes: TCP, UDP, DCCP, SCTP,
/// UDP-Lite.
const WITH_PORTS: [u32; 5] = [6, 17, 33, 132, 136];
/// The types of echo replies, and where the identifier is, counted from the ICMP header.
const ECHO_REPLY_V4: u32 = 0;
const ECHO_REPLY_V6: u32 = 129;
const IDENTIFIER: u32 = 4;
/// Spreads hash input over the high bits (the golden ratio), which are then used.
const MIX: u32 = 0x9e37_79b1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Label {
    V4,
    V6,
    Local4,
    Local6,
    Port4,
    Port6,
    Icmp4,
    Icmp6,
    Quoted4,
    QuotedPort4,
    Quoted6,
    Echo4,
    Echo6,
    Source4,
    Source6,
    Destination4,
    Destination6,
    Addresses4,
    Addresses6,
    Mix,
}

#[derive(Default)]
struct Program {
    ops: Vec<Op>,
    labels: Vec<(Label, usize)>,
    jumps: Vec<(usize, Label)>,
}

impl Program {
    fn op(&mut self, code: u16, k: u32) {
        self.ops.push(Op { code, jt: 0, jf: 0, k });
    }

    fn label(&mut self, label: Label) {
        self.labels.push((label, self.ops.len()));
    }

    fn jump(&mut self, to: Label) {
        self.jumps.push((self.ops.len(), to));
        self.op(JA, 0);
    }

    /// Jumps when the test holds. Conditional jumps reach 255 instructions only, `JA` everywhere:
    /// so the condition merely skips a `JA`.
    fn jump_if(&mut self, test: u16, k: u32, to: Label) {
        self.ops.push(Op { code: test, jt: 0, jf: 1, k });
        self.jump(to);
    }

    fn finish(mut self) -> Vec<Op> {
        for (at, to) in self.jumps {
            let target = self.labels.iter().find(|(label, _)| *label == to).map_or(at + 1, |l| l.1);
            debug_assert!(target > at, "classic BPF jumps forward only");
            self.ops[at].k = (target - at - 1) as u32;
        }
        self.ops
    }

    /// Jumps to `to` when the words of the destination address match the network.
    fn jump_if_in(&mut self, net: LocalNet, to: Label) {
        let (words, first): (Vec<u32>, u32) = match net.addr {
            IpAddr::V4(a) => (vec![u32::from(a)], 16),
            IpAddr::V6(a) => {
                (a.octets().as_chunks().0.iter().map(|w| u32::from_be_bytes(*w)).collect(), 24)
            }
        };
        let mut misses = Vec::new();
        let mut bits = u32::from(net.prefix);
        for (i, word) in (0u32..).zip(words) {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            bits = bits.saturating_sub(32);
            if mask == 0 {
                break;
            }
            self.op(LD_W, first + 4 * i);
            self.op(AND, mask);
            misses.push(self.ops.len());
            self.ops.push(Op { code: JEQ, jt: 0, jf: 0, k: word & mask });
        }
        self.jump(to);
        // At most 12 instructions lie between a miss and the end of this network.
        let end = self.ops.len();
        for at in misses {
            self.ops[at].jf = (end - at - 1) as u8;
        }
    }
}

/// The program for [`FanoutMode::LocalPort`](crate::FanoutMode::LocalPort).
pub(crate) fn program(locals: &[LocalNet], virtuals: &[LocalNet]) -> Vec<Op> {
    let mut p = Program::default();
    p.op(LD_H, PROTOCOL);
    p.jump_if(JEQ, 0x0800, Label::V4);
    p.jump_if(JEQ, 0x86dd, Label::V6);
    p.op(RET_K, 0);
    p.label(Label::V4);
    let v4 = [Label::Local4, Label::Source4, Label::Destination4];
    destination(&mut p, locals, virtuals, IpAddr::is_ipv4, v4);
    p.label(Label::V6);
    let v6 = [Label::Local6, Label::Source6, Label::Destination6];
    destination(&mut p, locals, virtuals, IpAddr::is_ipv6, v6);
    local4(&mut p);
    local6(&mut p);
    end4(&mut p, Label::Source4, 0, 12);
    end4(&mut p, Label::Destination4, 2, 16);
    end6(&mut p, Label::Source6, 40, 8);
    end6(&mut p, Label::Destination6, 42, 24);
    addresses(&mut p);
    p.finish()
}

/// Decides between "to a local address", "to a service" and "anything else".
fn destination(
    p: &mut Program,
    locals: &[LocalNet],
    virtuals: &[LocalNet],
    family: fn(&IpAddr) -> bool,
    [local, service, other]: [Label; 3],
) {
    for net in locals.iter().filter(|net| family(&net.addr)) {
        p.jump_if_in(*net, local);
    }
    for net in virtuals.iter().filter(|net| family(&net.addr)) {
        p.jump_if_in(*net, service);
    }
    p.jump(match (locals.is_empty(), virtuals.is_empty()) {
        (true, true) => local,
        (false, true) => service,
        (_, false) => other,
    });
}

fn local4(p: &mut Program) {
    p.label(Label::Local4);
    p.op(LD_H, 6);
    p.jump_if(JSET, FRAGMENT, Label::Addresses4);
    p.op(LD_B, 9);
    p.jump_if(JEQ, 1, Label::Icmp4);
    WITH_PORTS.iter().for_each(|protocol| p.jump_if(JEQ, *protocol, Label::Port4));
    p.jump(Label::Addresses4);
    p.label(Label::Port4);
    p.op(LDX_MSH, 0); // X = bytes of the IPv4 header, options included
    p.op(LD_H_X, 2);
    p.op(RET_A, 0);
    // Errors quote the header that this side sent: the own port is the source port there.
    p.label(Label::Icmp4);
    p.op(LDX_MSH, 0);
    p.op(LD_B_X, 0);
    [3, 11, 12].iter().for_each(|kind| p.jump_if(JEQ, *kind, Label::Quoted4));
    p.jump_if(JEQ, ECHO_REPLY_V4, Label::Echo4);
    p.jump(Label::Addresses4);
    p.label(Label::Echo4);
    p.op(LD_H_X, IDENTIFIER);
    p.op(RET_A, 0);
    p.label(Label::Quoted4);
    // X can be computed from a fixed place only, so the outer header must have no options.
    p.op(LD_B, 0);
    p.op(AND, 15);
    p.jump_if(JEQ, 5, Label::QuotedPort4);
    p.jump(Label::Addresses4);
    p.label(Label::QuotedPort4);
    p.op(LDX_MSH, 28);
    p.op(LD_H_X, 28);
    p.op(RET_A, 0);
}

fn local6(p: &mut Program) {
    p.label(Label::Local6);
    p.op(LD_B, 6);
    p.jump_if(JEQ, 58, Label::Icmp6);
    WITH_PORTS.iter().for_each(|protocol| p.jump_if(JEQ, *protocol, Label::Port6));
    p.jump(Label::Addresses6);
    p.label(Label::Port6);
    p.op(LD_H, 42);
    p.op(RET_A, 0);
    p.label(Label::Icmp6);
    p.op(LD_B, 40);
    [1, 2, 3, 4].iter().for_each(|kind| p.jump_if(JEQ, *kind, Label::Quoted6));
    p.jump_if(JEQ, ECHO_REPLY_V6, Label::Echo6);
    p.jump(Label::Addresses6);
    p.label(Label::Echo6);
    p.op(LD_H, 40 + IDENTIFIER);
    p.op(RET_A, 0);
    p.label(Label::Quoted6);
    p.op(LD_H, 88);
    p.op(RET_A, 0);
}

/// Protocols, and where each has the port of one end. Of echo messages that is the identifier, whichever end asks; other
/// ICMP messages are spread by what they have there.
fn with_ports(port: u32, icmp: (u32, u32)) -> impl Iterator<Item = (u32, u32)> {
    WITH_PORTS.into_iter().map(move |protocol| (protocol, port)).chain([icmp])
}

/// Hash of one end of an IPv4 packet, its port at `port` of the transport header and its address at
/// `address`; all fragments of a datagram go by addresses.
fn end4(p: &mut Program, label: Label, port: u32, address: u32) {
    p.label(label);
    p.op(LD_H, 6);
    p.jump_if(JSET, FRAGMENT, Label::Addresses4);
    p.op(LD_B, 9);
    for (protocol, port) in with_ports(port, (1, IDENTIFIER)) {
        p.ops.push(Op { code: JEQ, jt: 0, jf: 5, k: protocol });
        p.op(LDX_MSH, 0);
        p.op(LD_H_X, port);
        p.op(TAX, 0);
        p.op(LD_W, address);
        p.jump(Label::Mix);
    }
    p.jump(Label::Addresses4);
}

/// The same for IPv6, `port` and the four words from `address` on counted from the network header.
fn end6(p: &mut Program, label: Label, port: u32, address: u32) {
    p.label(label);
    p.op(LD_B, 6);
    for (protocol, port) in with_ports(port, (58, 40 + IDENTIFIER)) {
        p.ops.push(Op { code: JEQ, jt: 0, jf: 13, k: protocol });
        p.op(LD_H, port);
        for word in [0, 4, 8] {
            p.op(TAX, 0);
            p.op(LD_W, address + word);
            p.op(XOR_X, 0);
        }
        // `Mix` folds the last word in: X is what was gathered so far, A is that word.
        p.op(TAX, 0);
        p.op(LD_W, address + 12);
        p.jump(Label::Mix);
    }
    p.jump(Label::Addresses6);
}

fn addresses(p: &mut Program) {
    p.label(Label::Addresses6);
    p.op(LD_W, 8);
    for word in [12, 16, 20, 24, 28, 32, 36] {
        p.op(TAX, 0);
        p.op(LD_W, word);
        p.op(XOR_X, 0);
    }
    p.op(MUL, MIX);
    p.op(RSH, 16);
    p.op(RET_A, 0);
    p.label(Label::Addresses4);
    p.op(LD_W, 12);
    p.op(TAX, 0);
    p.op(LD_W, 16);
    p.label(Label::Mix);
    p.op(XOR_X, 0);
    p.op(MUL, MIX);
    p.op(RSH, 16);
    p.op(RET_A, 0);
}

#[cfg(test)]
mod tests;
