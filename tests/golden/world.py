"""A director with two arms in a network namespace of its own, and the far ends of both arms.

    far end "clients" ──veth── clients │ IPVS │ servers ──veth── far end "servers"

The far ends have no addresses: what is sent there is what a host would send, and what arrives is
what a host would receive. This process lives in the director's namespace.
"""
import ctypes
import os
import select
import socket
import struct
import subprocess
import time

LIBC = ctypes.CDLL(None, use_errno=True)
ARMS = ("clients", "servers")
#: Ethernet addresses of the director's arms.
MACS = {"clients": bytes.fromhex("02000000aa01"), "servers": bytes.fromhex("02000000aa02")}
#: Who asks whether everything has come out; answers to it are no outputs.
PROBE = bytes.fromhex("02000000bb01")
CLONE_NEWNET = 0x40000000


class Failure(Exception):
    pass


def mac_of(address):
    """The Ethernet address of a host: follows from its IP address."""
    if ":" in address:
        return b"\x02\x06" + socket.inet_pton(socket.AF_INET6, address)[12:]
    return b"\x02\x04" + socket.inet_aton(address)


def text_of(mac):
    return mac.hex(":")


def shell(command, check=True, stdin=None):
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          input=stdin, stdin=None if stdin else subprocess.DEVNULL, text=True)
    if check and done.returncode:
        raise Failure(f"{command}\n{done.stdout}")
    return done.stdout


def enter(namespace):
    with open("/run/netns/" + namespace) as file:
        if LIBC.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class World:
    number = 0

    def __init__(self, addresses):
        """`addresses`: for each arm a list like ["10.1.0.1/24"]; the first is an IPv4 address."""
        World.number += 1
        self.director, self.far = f"d{World.number}", f"x{World.number}"
        d, x = self.director, self.far
        os.makedirs("/run/netns", exist_ok=True)
        quiet = "all.accept_ra=0 default.accept_ra=0 default.accept_dad=0 default.router_solicitations=0"
        shell(f"""set -e
            ip netns add {d}; ip netns add {x}
            sysctl() {{ ip netns exec {d} sysctl -qw "$@"; }}
            for key in {quiet}; do sysctl net.ipv6.conf.$key; done
            for key in all default; do
                sysctl net.ipv4.conf.$key.rp_filter=0 net.ipv4.conf.$key.send_redirects=0
                ip netns exec {x} sysctl -qw net.ipv6.conf.$key.disable_ipv6=1
            done
            sysctl net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.icmp_ratelimit=0
            ip -n {d} link set lo up""")
        for arm in ARMS:
            mac = text_of(MACS[arm])
            own = "".join(f"ip -n {d} addr add {a} dev {arm} {'nodad' if ':' in a else ''}\n" for a in addresses[arm])
            shell(f"""set -e
                ip -n {d} link add {arm} address {mac} type veth peer name far-{arm} netns {x}
                ip -n {x} link set far-{arm} arp off up; ip -n {d} link set {arm} addrgenmode none; ip -n {d} link set {arm} up
                for k in tx tso gso gro; do
                    ip netns exec {d} ethtool -K {arm} $k off; ip netns exec {x} ethtool -K far-{arm} $k off
                done >/dev/null 2>&1
                {own}""")
        self.own = {arm: socket.inet_aton(addresses[arm][0].split("/")[0]) for arm in ARMS}
        enter(self.far)
        self.sockets = {}
        for arm in ARMS:
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            s.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            s.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
            s.bind(("far-" + arm, 3))
            s.setblocking(False)
            self.sockets[arm] = s
        enter(self.director)
        # IPVS of a namespace exists from its first use on.
        shell("ipvsadm -Ln")
        self.settle()

    def close(self):
        for s in self.sockets.values():
            s.close()
        with open("/proc/1/ns/net"):
            pass
        subprocess.run(["ip", "netns", "del", self.director], check=True)
        subprocess.run(["ip", "netns", "del", self.far], check=True)

    def neighbours(self, arm, *addresses):
        """Hosts whose Ethernet address the director knows."""
        shell("set -e\n" + "".join(f"ip neigh replace {a} lladdr {text_of(mac_of(a))} nud permanent dev {arm}\n"
                                   for a in addresses))

    def put(self, arm, frame):
        self.sockets[arm].send(frame)

    def send(self, arm, frame):
        """A frame arrives at the director; what leaves because of it: [(arm, frame)]."""
        self.put(arm, frame)
        return self.settle()

    def settle(self):
        """What has left by now. The kernel works on one packet after the other, so the answers to a
        question on each arm come behind everything else."""
        for arm in ARMS:
            ask = struct.pack(">HHBBH", 1, 0x800, 6, 4, 1) + PROBE + bytes(4) + bytes(6) + self.own[arm]
            self.put(arm, MACS[arm] + PROBE + b"\x08\x06" + ask)
        out, silent, end = [], set(ARMS), time.monotonic() + 5
        while True:
            for arm, s in self.sockets.items():
                while True:
                    try:
                        frame = s.recv(1 << 16)
                    except BlockingIOError:
                        break
                    if frame[:6] == PROBE:
                        silent.discard(arm)
                    elif frame[12:14] == b"\x08\x06":
                        raise Failure(f"the director asks for a neighbour: {frame.hex()}")
                    elif frame[0] & 1:
                        pass  # multicast listener reports
                    else:
                        out.append((arm, frame))
            if not silent:
                return out
            if time.monotonic() > end:
                raise Failure("the director does not answer")
            select.select(list(self.sockets.values()), [], [], 1)
