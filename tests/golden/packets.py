"""What IPVS makes of packets: every situation of cases.py in every forwarding mode.

Writes MODE/SITUATION/ with case.json and four captures; tests/pcap/README.md tells the format.
"""
import json
import os
import time

from cases import ONLY_V4, SITUATIONS, SMALL, UDP_TIMEOUT
from packet import frame, write_pcap
from world import ARMS, MACS, World, mac_of, shell, text_of

START = 1_700_000_000 * 10**9
STEP = 10**6


class Mode:
    def __init__(self, name, forwarding, flag, tunnel=None, v6=False):
        self.name, self.forwarding, self.flag, self.tunnel = name, forwarding, flag, tunnel
        self.replies = forwarding == "nat"
        self.tcp_port, self.udp_port = (8080, 5353) if self.replies else (80, 53)
        client, server = ("fd01::", "fd02::") if v6 else ("10.1.0.", "10.2.0.")
        self.v6, self.vip = v6, client + "80"
        #: The director's address on the servers' arm: where tunnels begin.
        self.own = server + "1"
        self.clients = [client + "2", client + "3"]
        self.servers = [server + "11", server + "12"]
        self.routers = {"clients": client + ("fe" if v6 else "254"), "servers": server + ("fe" if v6 else "254")}
        self.addresses = {"clients": ["10.1.0.1/24"], "servers": ["10.2.0.1/24"]}
        if v6:
            self.addresses["clients"].append("fd01::1/64")
            self.addresses["servers"].append("fd02::1/64")


MODES = [
    Mode("nat", "nat", "-m"),
    Mode("nat-v6", "nat", "-m", v6=True),
    Mode("dr", "dr", "-g"),
    Mode("tun-ipip", "tun", "-i", {"type": "ipip"}),
    Mode("tun-gre", "tun", "-i --tun-type gre", {"type": "gre"}),
    Mode("tun-gue", "tun", "-i --tun-type gue --tun-port 6080", {"type": "gue", "port": 6080}),
]


class Case:
    """One recording: what arrived, what left because of it, and when."""

    def __init__(self, mode, situation):
        self.mode, self.situation = mode, situation
        #: MTU of the servers' arm.
        self.mtu = SMALL.get(situation, (1500, 1500))[mode.v6]
        self.now, self.number = START, 0
        self.packets = []
        self.ins = {arm: [] for arm in ARMS}
        self.outs = {arm: [] for arm in ARMS}
        #: The newest packet that left each arm, without its Ethernet header.
        self.last = {}
        own = {arm: list(list_) for arm, list_ in mode.addresses.items()}
        own["clients"].append(mode.vip + ("/128" if mode.v6 else "/32"))
        self.world = World(own)
        hosts = {"clients": mode.clients, "servers": mode.servers}
        self.neighbours = []
        for arm in ARMS:
            known = hosts[arm] + [mode.routers[arm]]
            self.world.neighbours(arm, *known)
            self.neighbours += [{"ip": a, "mac": text_of(mac_of(a))} for a in known]
        vip = f"[{mode.vip}]" if mode.v6 else mode.vip
        lines = []
        self.services = []
        for kind, name, port, to in (("-t", "tcp", 80, mode.tcp_port), ("-u", "udp", 53, mode.udp_port)):
            lines.append(f"-A {kind} {vip}:{port} -s rr")
            real = [f"[{s}]:{to}" if mode.v6 else f"{s}:{to}" for s in mode.servers]
            # The kernel's list has the newest server first.
            lines += [f"-a {kind} {vip}:{port} -r {r} {mode.flag} -w 1" for r in reversed(real)]
            self.services.append({"protocol": name, "address": f"{vip}:{port}", "scheduler": "rr",
                                  "forwarding": mode.forwarding, "servers": [{"address": r, "weight": 1} for r in real]})
            if mode.tunnel:
                self.services[-1]["tunnel"] = mode.tunnel
        shell("ipvsadm -R", stdin="".join(line + "\n" for line in lines))
        if situation in SMALL:
            shell(f"ip link set servers mtu {self.mtu}")
        if situation in UDP_TIMEOUT:
            shell(f"ipvsadm --set 0 0 {UDP_TIMEOUT[situation]}")

    def ident(self):
        self.number += 1
        return self.number

    def wait(self, seconds):
        time.sleep(seconds)
        self.now += seconds * 10**9

    def arrives(self, arm, sender, packet, note):
        self.now += STEP
        sent = frame(MACS[arm], mac_of(sender), packet)
        self.ins[arm].append((self.now, sent))
        record = {"arm": arm, "number": len(self.ins[arm]), "what": note, "out": []}
        for to, data in self.world.send(arm, sent):
            self.outs[to].append((self.now, data))
            self.last[to] = data[14:]
            out = {"arm": to, "number": len(self.outs[to])}
            if free := self.free(packet, data[14:]):
                out["free"] = free
            record["out"].append(out)
        self.packets.append(record)

    def free(self, came, left):
        """Fields that are the director's own choice, where another director may choose otherwise."""
        free = []
        if left[0] >> 4 == 4:
            outer = self.mode.tunnel and left[12:16] == bytes(map(int, self.mode.own.split(".")))
            # An error that the director makes, or its answer to an echo request.
            made = left[9] == 1 and (came[9] != 1 or came[20] == 8)
            if (outer or made) and not (outer and left[6] & 0x40):
                free.append("ip.id")
            if outer and left[9] == 17:
                free.append("udp.source_port")
        return free

    def write(self, out):
        directory = f"{out}/{self.mode.name}/{self.situation}"
        os.makedirs(directory)
        for arm in ARMS:
            write_pcap(f"{directory}/{arm}.in.pcap", self.ins[arm])
            write_pcap(f"{directory}/{arm}.out.pcap", self.outs[arm])
        mtu = {"clients": 1500, "servers": self.mtu}
        arms = [{"name": arm, "mac": text_of(MACS[arm]), "mtu": mtu[arm], "addresses": self.mode.addresses[arm]}
                for arm in ARMS]
        config = {"arms": arms, "neighbours": self.neighbours, "services": self.services}
        if self.situation in UDP_TIMEOUT:
            config["timeouts"] = {"udp": UDP_TIMEOUT[self.situation]}
        text = " ".join(SITUATIONS[self.situation].__doc__.split())
        data = {"mode": self.mode.name, "situation": self.situation, "what": text, "kernel": os.uname().release,
                "config": config, "packets": self.packets}
        with open(directory + "/case.json", "w") as file:
            file.write(written(data) + "\n")


def written(data):
    """JSON with one line for each thing in a list."""
    parts = [f'"{key}": ' + (listed(value) if isinstance(value, (list, dict)) else json.dumps(value))
             for key, value in data.items()]
    return "{" + ",\n".join(parts) + "}"


def listed(value):
    if isinstance(value, list):
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "]"
    return written(value)


def record(out):
    wanted = os.environ.get("GOLDEN_ONLY")
    for mode in MODES:
        start = time.monotonic()
        count = 0
        for situation, tell in SITUATIONS.items():
            if mode.v6 and situation in ONLY_V4 or wanted and f"{mode.name}/{situation}" not in wanted.split(","):
                continue
            case = Case(mode, situation)
            tell(case)
            case.world.close()
            if case.packets:
                case.write(out)
                count += 1
        print(f"{mode.name}: {count} cases, {time.monotonic() - start:.0f} s", flush=True)
