#!/usr/bin/python3
"""The first process of the recording kernel: mounts what is needed, loads IPVS, runs the parts.

The root file system is the host's, read-only; the only place that can be written is the directory
GOLDEN_OUT of the host.
"""
import ctypes
import os
import subprocess
import sys
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
LIBC = ctypes.CDLL(None, use_errno=True)
SCHEDULERS = "rr wrr lc wlc sh mh dh sed nq fo ovf".split()


def mount(source, target, kind, options=""):
    if LIBC.mount(source.encode(), target.encode(), kind.encode(), 0, options.encode()):
        raise OSError(ctypes.get_errno(), f"mount {target}")


def prepare(out):
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    mount("proc", "/proc", "proc")
    mount("sysfs", "/sys", "sysfs")
    mount("tmpfs", "/run", "tmpfs")
    mount("none", "/mnt", "hostfs", out)
    modules = "/usr/lib/uml/modules/" + os.uname().release
    names = ["veth", "ipip", "ip_gre", "fou", "ip6_tunnel", "ip_vs"] + ["ip_vs_" + s for s in SCHEDULERS]
    # Modules lie where modprobe does not look.
    subprocess.run(["mkdir", "-p", "/run/lib/modules"], check=True)
    os.symlink(modules, "/run/lib/modules/" + os.uname().release)
    for name in names:
        extra = ["conn_tab_bits=14"] if name == "ip_vs" else []
        subprocess.run(["modprobe", "-d", "/run", name, *extra], check=True)


def main():
    # The kernel hands on what it does not know: settings on its command line as environment.
    out, parts = os.environ["GOLDEN_OUT"], os.environ["GOLDEN_PARTS"].split(",")
    prepare(out)
    log = open("/mnt/log", "w", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    print("kernel", os.uname().release)
    for part in parts:
        os.mkdir("/mnt/" + part)
        __import__(part).record("/mnt/" + part)
    return "ok"


result = "failed"
try:
    result = main()
except BaseException:
    traceback.print_exc()
    try:
        with open("/mnt/log", "a") as log:
            traceback.print_exc(file=log)
    except OSError:
        pass
sys.stdout.flush()
with open("/mnt/done.tmp", "w") as done:
    done.write(result)
os.rename("/mnt/done.tmp", "/mnt/done")
LIBC.sync()
LIBC.reboot(0x4321FEDC)  # power off
