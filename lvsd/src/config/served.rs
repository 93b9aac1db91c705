//! What a service asks for besides address and servers: marks, all ports, datagrams for themselves, connection ids, the
//! host as its server.

use super::diag::{Diagnostic, Sink};
use super::model::{Config, Forwarding, Service};
use core::net::SocketAddr;
use lvs_core::flow::L4Proto;

/// Reports what of it does not go together.
pub(super) fn check(config: &Config, service: &Service, sink: &mut Sink) {
    ports(service, sink);
    echo(config, service, sink);
    marks(config, service, sink);
    local(config, service, sink);
    datagrams(service, sink);
    sctp(config, service, sink);
}

/// Ports of SCTP are translated, replies have to pass here, and its checksum stays in one IP version.
fn sctp(config: &Config, service: &Service, sink: &mut Sink) {
    if service.protocol != L4Proto::Sctp || service.mark.is_some() {
        return;
    }
    let span = &service.address.span;
    let name = service.forwarding.name();
    if !matches!(service.forwarding, Forwarding::Nat | Forwarding::FullNat) {
        let message = format!("protocol = \"sctp\" does not go with {name}");
        let help = "write forwarding = \"nat\" or \"fullnat\"";
        sink.push(Diagnostic::error(span, message).help(help));
    }
    within_one_family(config, service, sink);
}

fn within_one_family(config: &Config, service: &Service, sink: &mut Sink) {
    if service.is_nat64(&config.pools) {
        let message = format!("protocol = \"{}\" does not go from IPv6 to IPv4", service.protocol);
        let help = "name a local pool and servers of IPv6";
        sink.push(Diagnostic::error(&service.address.span, message).help(help));
    }
}

/// Port 0 of a server is the one that the client asked for, so the service must have many.
fn ports(service: &Service, sink: &mut Sink) {
    if service.address.port() == 0 {
        return;
    }
    for server in service.servers.iter().filter(|server| server.address.port() == 0) {
        let message = "has port 0, and the service has one port";
        let help = format!("write the server's port, for example {}", service.address.port());
        let zero = Diagnostic::error(&server.address.span, format!("`address` {message}"));
        sink.push(zero.related(&service.address.span, "the service").help(help));
    }
}

/// Echo has no ports, and is not translated to the other family.
fn echo(config: &Config, service: &Service, sink: &mut Sink) {
    if service.protocol != L4Proto::Icmp {
        return;
    }
    within_one_family(config, service, sink);
    let servers = service.servers.iter().map(|server| &server.address);
    for address in servers.chain([&service.address]).filter(|address| address.port() != 0) {
        let zero = SocketAddr::new(address.ip(), 0);
        let message = "`address` has a port, and icmp has none";
        sink.push(Diagnostic::error(&address.span, message).help(format!("write \"{zero}\"")));
    }
}

fn marks(config: &Config, service: &Service, sink: &mut Sink) {
    let Some(mark) = &service.mark else { return };
    if !config.marks.iter().any(|rule| rule.mark.value == mark.value) {
        let message = format!("no [[mark]] gives the mark {}", mark.value);
        let help = "add a section [[mark]] that says which packets have it";
        sink.push(Diagnostic::warning(&mark.span, message).help(help));
    }
    if service.forwarding == Forwarding::Local {
        let message = "a local service has an `address`, not a `mark`";
        sink.push(Diagnostic::error(&mark.span, message));
    }
}

/// The host's kernel sees every packet to an address that it has.
fn local(config: &Config, service: &Service, sink: &mut Sink) {
    if service.forwarding != Forwarding::Local {
        return;
    }
    let ip = service.address.ip();
    let shares = |other: &&Service| {
        other.mark.is_none() && other.address.ip() == ip && other.forwarding != Forwarding::Local
    };
    if let Some(other) = config.services.iter().find(shares) {
        let message = format!("{ip} is the host's own for one service and not for another");
        let help = "the kernel would refuse the connections of the other one; give each an address";
        let both = Diagnostic::error(&service.address.span, message).help(help);
        sink.push(both.related(&other.address.span, "the other service"));
    }
}

fn datagrams(service: &Service, sink: &mut Sink) {
    let udp = service.protocol == L4Proto::Udp || service.mark.is_some();
    let wanted = [
        ("one_packet", service.one_packet.value.then_some(&service.one_packet.span)),
        ("quic", service.quic.as_ref().map(|quic| &quic.span)),
    ];
    for (key, span) in wanted {
        let Some(span) = span else { continue };
        if !udp {
            let message = format!("`{key}` goes with protocol = \"udp\" only");
            sink.push(Diagnostic::error(span, message).help("leave it out"));
        }
        if service.persistence.enabled == Some(true) || service.persistence.timeout.is_some() {
            let message = format!("`{key}` does not go with persistence, which keeps a client");
            sink.push(Diagnostic::error(span, message).help("leave one of both out"));
        }
    }
    let one_packet = &service.one_packet;
    let by_mark = service.mark.is_some() && service.forwarding == Forwarding::Nat;
    if one_packet.value && (service.forwarding == Forwarding::FullNat || by_mark) {
        let message = "`one_packet` keeps no session to translate the replies by";
        let help = "write forwarding = \"dr\", \"tun\", or \"nat\" with an address";
        sink.push(Diagnostic::error(&one_packet.span, message).help(help));
    }
}
