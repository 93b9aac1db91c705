"""Which servers the schedulers of IPVS pick, while servers come, go and change.

Writes one file for each scheduler: see lvs-sched/tests/golden/README.md for the format.
"""
import json
import os
import random
import time

from packet import destination, frame, source, tcp
from world import MACS, World, mac_of, shell

V4 = {"vip": "10.1.0.1", "server": "10.2.0.{}", "client": "10.1.0.2"}
V6 = {"vip": "fd01::1", "server": "fd02::{}", "client": "fd01::2"}
ARMS = {"clients": ["10.1.0.1/24", "fd01::1/64"], "servers": ["10.2.0.1/24", "fd02::1/64"]}
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PORT = 8080


def mixed(number, step):
    """A number of 32 bits that looks random, the same in the program that replays."""
    return number * step & 0xFFFFFFFF


def client_v4(number):
    """The `number`-th client, or None where the number gives no address that a client can have."""
    value = mixed(number, 2654435761)
    if value >> 24 in (0, 10, 127) or value >> 24 >= 224:
        return None
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0))


def client_v6(number):
    words = [0x20010DB8] + [mixed(number, step) for step in (2246822519, 3266489917, 668265263)]
    return ":".join(f"{w >> 16:x}:{w & 0xFFFF:x}" for w in words)


def client_port(number):
    return 1024 + number % 60000


def destination_v4(number):
    value = mixed(number, 2654435761)
    return f"10.{128 | value >> 24 & 127}.{value >> 16 & 255}.{value >> 8 & 255}"


def destination_v6(number):
    words = [mixed(number, step) for step in (2246822519, 3266489917, 668265263)]
    return "fd03:0:" + ":".join(f"{w >> 16:x}:{w & 0xFFFF:x}" for w in words)


class Service:
    """One service of IPVS, or with `destinations` many that always have the same servers; and the steps that it
    takes."""

    def __init__(self, scheduler, flags="", family=V4, destinations=None):
        self.world = World(ARMS)
        self.family, self.loads = family, {}
        self.steps, self.names, self.weights, self.list = [], {}, {}, []
        self.connections = []
        self.clients = 0
        vips = destinations or [family["vip"]]
        self.where = [f"[{v}]:80" if ":" in v else f"{v}:80" for v in vips]
        if destinations:
            shell("ip route add local 10.128.0.0/9 dev lo; ip -6 route add local fd03::/32 dev lo")
        flags = f" -b {flags}" if flags else ""
        self.tell([f"-A -t {w} -s {scheduler}{flags}" for w in self.where])
        self.world.neighbours("clients", family["client"])

    def tell(self, lines):
        shell("ipvsadm -R", stdin="".join(line + "\n" for line in lines))

    def say(self, step):
        self.steps.append(step)

    # What happens to servers.

    def add(self, weight, upper=0):
        letter = LETTERS[len(self.names)]
        address = self.family["server"].format(11 + len(self.names))
        self.world.neighbours("servers", address)
        self.names[address], self.weights[letter] = letter, weight
        # The kernel's list has the newest server first.
        self.list.insert(0, letter)
        self.loads[letter] = (0, 0)
        self.tell([f"-a -t {w} -r {self.real(letter)} -m -w {weight} -x {upper}" for w in self.where])
        self.say(f"add {letter} {weight}")
        return letter

    def real(self, letter):
        address = next(a for a, n in self.names.items() if n == letter)
        return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"

    def weigh(self, letter, weight, upper=0):
        self.weights[letter] = weight
        self.tell([f"-e -t {w} -r {self.real(letter)} -m -w {weight} -x {upper}" for w in self.where])
        self.say(f"weigh {letter} {weight}")

    def remove(self, letter):
        self.tell([f"-d -t {w} -r {self.real(letter)}" for w in self.where])
        self.list.remove(letter)
        del self.weights[letter]
        self.say(f"remove {letter}")

    # What clients do.

    def syn(self, client, vip=None):
        server = (vip or self.family["vip"], 80)
        packet = tcp(client, server, "S", seq=1000)
        return frame(MACS["clients"], mac_of(self.family["client"]), packet)

    def answer(self, frames):
        """The letter of the server that a client's packet has reached, or '-'."""
        reached = [self.names[destination(f)[0]] for arm, f in frames if arm == "servers"]
        assert len(reached) <= 1, reached
        return reached[0] if reached else "-"

    def pick(self, count=1):
        """New clients, one after the other."""
        picks = ""
        for _ in range(count):
            self.clients += 1
            client = (self.family["client"], 1024 + self.clients)
            letter = self.answer(self.world.send("clients", self.syn(client)))
            picks += letter
            if letter != "-":
                self.connections.append([client, letter, "half"])
        if picks:
            self.say("pick " + picks)
        return picks

    def hashed(self, count, start=1):
        """So many clients, each with its own address."""
        make = client_v6 if self.family is V6 else client_v4
        numbers, number = [], start
        while len(numbers) < count:
            if make(number):
                numbers.append(number)
            number += 1
        picks = {}
        for at in range(0, count, 64):
            for number in numbers[at:at + 64]:
                self.world.put("clients", self.syn((make(number), client_port(number))))
            for arm, f in self.world.settle():
                if arm == "servers":
                    address, port = source(f)
                    picks[address, port] = self.names[destination(f)[0]]
        import ipaddress
        plain = lambda n: (str(ipaddress.ip_address(make(n))), client_port(n))
        letters = "".join(picks.pop(plain(n), "-") for n in numbers)
        assert not picks, picks
        self.say(f"clients {'v6' if self.family is V6 else 'v4'} {start} {letters}")

    def destinations(self, vips):
        self.clients += 1
        client = (self.family["client"], 1024 + self.clients)
        letters = "".join(self.answer(self.world.send("clients", self.syn(client, vip))) for vip in vips)
        self.say(f"destinations {'v6' if self.family is V6 else 'v4'} {letters}")

    # Sessions as least-connection schedulers count them.

    def read_loads(self):
        """Steps for what has changed since the last time."""
        now = {}
        for line in open("/proc/net/ip_vs"):
            words = line.split()
            if words[0] == "->" and words[1] != "RemoteAddress:Port":
                host = bytes.fromhex(words[1].split(":")[0])
                letter = self.names[".".join(map(str, host))]
                now[letter] = (int(words[4]), int(words[5]))
        for letter in self.list:
            if self.loads[letter] != now[letter]:
                self.loads[letter] = now[letter]
                self.say(f"load {letter} {now[letter][0]} {now[letter][1]}")

    def loaded_pick(self, count=1):
        for _ in range(count):
            self.read_loads()
            self.pick()

    def establish(self, connection):
        client, letter, _ = connection
        server = (self.real(letter).split(":")[0], PORT)
        back = frame(MACS["servers"], mac_of(server[0]), tcp(server, client, "SA", seq=5000, ack=1001))
        self.world.send("servers", back)
        forth = tcp(client, (self.family["vip"], 80), "A", seq=1001, ack=5001)
        self.world.send("clients", frame(MACS["clients"], mac_of(self.family["client"]), forth))
        connection[2] = "established"

    def reset(self, connection):
        client = connection[0]
        packet = tcp(client, (self.family["vip"], 80), "R", seq=1001)
        self.world.send("clients", frame(MACS["clients"], mac_of(self.family["client"]), packet))
        self.connections.remove(connection)

    def done(self, name):
        self.world.close()
        servers = {letter: (f"[{a}]:{PORT}" if ":" in a else f"{a}:{PORT}") for a, letter in self.names.items()}
        return {"name": name, "servers": servers, "steps": self.steps}


def change(service, rng, weights):
    """Something happens to the servers."""
    kinds = ["weigh"] * 3 + ["add"] * (len(service.names) < 12) + ["remove"] * (len(service.list) > 1)
    kind = rng.choice(kinds)
    if kind == "add":
        service.add(rng.choice(weights))
    elif kind == "remove":
        service.remove(rng.choice(service.list))
    else:
        letter = rng.choice(service.list)
        # An edit that changes nothing is another question: see the page.
        others = [w for w in weights if w != service.weights[letter]]
        service.weigh(letter, rng.choice(others))


TURN_SETS = [[1, 1, 1], [4, 3, 2], [5, 0, 10, 5], [3, 7, 1, 2, 2, 100]]


def turns(scheduler):
    """rr, wrr, fo: who is picked depends on the servers and on the picks before."""
    sets = []
    for seed, weights in enumerate(TURN_SETS):
        rng = random.Random(seed)
        service = Service(scheduler)
        service.pick(2)
        for weight in weights:
            service.add(weight)
        service.pick(60)
        for _ in range(25):
            change(service, rng, sorted(set(weights + [0, 1, 6])))
            service.pick(rng.randint(0, 14))
        for letter in list(service.list):
            service.weigh(letter, 0) if service.weights[letter] else None
        service.pick(2)
        service.weigh(service.list[0], 3)
        service.pick(5)
        sets.append(service.done("weights " + " ".join(map(str, weights))))
    return sets + [overload(scheduler)]


def overload(scheduler):
    """A server with an upper threshold gets no more sessions when it has reached it."""
    service = Service(scheduler)
    weights = [2, 5, 3]
    letters = [service.add(weight, upper) for weight, upper in zip(weights, (0, 4, 6))]
    upper, count = dict(zip(letters, (0, 4, 6))), dict.fromkeys(letters, 0)
    for _ in range(20):
        service.read_loads()
        picked = service.pick()
        if picked in count:
            count[picked] += 1
        if picked in count and count[picked] == upper[picked]:
            service.say(f"full {picked}")
    # A threshold that is taken away; the weight changes with it, so that it is no idle edit.
    for letter in letters[1:]:
        service.weigh(letter, service.weights[letter] + 1)
        if count[letter] >= upper[letter]:
            service.say(f"free {letter}")
        for _ in range(12):
            service.read_loads()
            service.pick()
    return service.done("thresholds")


def loads(scheduler):
    """lc, wlc, sed, nq, ovf: who is picked depends on the sessions that there are."""
    sets = []
    for seed, weights in enumerate([[1, 1, 1], [1, 2, 4], [3, 0, 5, 5, 1], [2, 2, 40, 7]]):
        rng = random.Random(seed)
        service = Service(scheduler)
        # Established sessions end a second after their last packet.
        shell("ipvsadm --set 1 1 1" if seed == 1 else "true")
        for weight in weights:
            service.add(weight)
        service.loaded_pick(12)
        for turn in range(60):
            what = rng.choice(["open", "open", "establish", "establish", "reset", "change"])
            if what == "open":
                service.loaded_pick(rng.randint(1, 4))
            elif what == "change" and turn % 2:
                change(service, rng, sorted(set(weights + [0, 1, 6])))
                service.loaded_pick()
            elif what == "establish":
                half = [c for c in service.connections if c[2] == "half" and c[1] in service.list]
                for connection in rng.sample(half, min(len(half), 4)):
                    service.establish(connection)
            elif what == "reset":
                established = [c for c in service.connections if c[2] == "established" and c[1] in service.list]
                for connection in rng.sample(established, min(len(established), 2)):
                    service.reset(connection)
            if seed == 1 and turn in (20, 40):
                time.sleep(2.5)
                service.connections = [c for c in service.connections if c[2] == "half"]
        # Each kind of change in each set, whatever the die has left out.
        service.add(weights[0] + 1)
        service.loaded_pick(12)
        service.remove(service.list[-1])
        service.loaded_pick(4)
        service.weigh(service.list[-1], service.weights[service.list[-1]] + 2)
        service.loaded_pick(8)
        for letter in list(service.list):
            service.weigh(letter, 0) if service.weights[letter] else None
        service.loaded_pick(2)
        service.weigh(service.list[0], 3)
        service.loaded_pick(3)
        sets.append(service.done("weights " + " ".join(map(str, weights))))
    return sets + [overload(scheduler)]


def hashes(scheduler):
    """sh and mh: who is picked depends on the client."""
    sets = []
    for flags in ("", f"{scheduler}-port", f"{scheduler}-fallback", f"{scheduler}-fallback,{scheduler}-port"):
        for family in (V4, V6):
            for weights in ([1, 1, 1], [3, 0, 5, 1], [100, 7, 120, 60, 2]):
                service = Service(scheduler, flags, family)
                for weight in weights:
                    service.add(weight)
                service.hashed(1500 if flags else 10000)
                few = 1000 if flags else 400
                service.weigh(service.list[0], 0)
                service.hashed(few, 20000)
                service.remove(service.list[1])
                service.hashed(few, 30000)
                service.weigh(service.list[0], 9)
                service.hashed(few, 40000)
                service.add(4)
                service.hashed(few, 50000)
                service.add(0)
                service.hashed(few, 60000)
                for letter in list(service.list):
                    service.weigh(letter, 0) if service.weights[letter] else None
                service.hashed(20, 70000)
                name = f"{'v6' if family is V6 else 'v4'} weights " + " ".join(map(str, weights))
                sets.append({"flags": flags, **service.done(name)})
    return sets


def by_destination(scheduler):
    sets = []
    for family, make in ((V4, destination_v4), (V6, destination_v6)):
        for weights in ([1, 1, 1], [3, 0, 5, 1], [100, 7, 120, 60, 2]):
            vips = [make(n) for n in range(1, 301)]
            service = Service(scheduler, family=family, destinations=vips)
            for weight in weights:
                service.add(weight)
            service.destinations(vips)
            service.weigh(service.list[0], 0)
            service.destinations(vips)
            service.remove(service.list[1])
            service.destinations(vips)
            service.weigh(service.list[0], 9)
            service.add(4)
            service.destinations(vips)
            name = f"{'v6' if family is V6 else 'v4'} weights " + " ".join(map(str, weights))
            sets.append(service.done(name))
    return sets


def written(scheduler, sets):
    """JSON with one step a line."""
    text = f'{{"kernel": "{os.uname().release}", "scheduler": "{scheduler}", "sets": ['
    for comma, one in zip(["\n"] + [",\n"] * len(sets), sets):
        steps = one.pop("steps")
        text += comma + json.dumps(one)[:-1] + ', "steps": [\n' + ",\n".join(map(json.dumps, steps)) + "]}"
    return text + "]}\n"


PARTS = {"rr": turns, "wrr": turns, "fo": turns, "lc": loads, "wlc": loads, "sed": loads, "nq": loads, "ovf": loads,
         "sh": hashes, "mh": hashes, "dh": by_destination}


def record(out):
    wanted = os.environ.get("GOLDEN_ONLY")
    for scheduler, make in PARTS.items():
        if wanted and scheduler not in wanted.split(","):
            continue
        start = time.monotonic()
        sets = make(scheduler)
        with open(f"{out}/{scheduler}.json", "w") as file:
            file.write(written(scheduler, sets))
        print(f"{scheduler}: {len(sets)} sets, {time.monotonic() - start:.0f} s", flush=True)
