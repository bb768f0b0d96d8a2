"""What others do to the device: addresses and routes come back, by themselves and by a reload, and nobody fights over it."""
import contextlib
import json
import os
import re
import signal
import time

from harness import packets as p
from harness.daemon import DEVICE, wait
from harness.namespaces import C4, C6, S4, S6, V4, V6, at, expect
from harness.peers import MIB, ask, named
from harness.runner import case

RULES = [{"name": "web", "listen": at(V4, 80), "target": at(S4, 8080)},
         {"name": "web6", "listen": at(V6, 80), "target": at(S6, 8080)},
         {"name": "far", "listen": ["198.18.40.0/24:80", "[2001:2:0:40::]:80"], "target": at(S4, 8080)}]
BACK = "the device had lost addresses or routes"
DOWN = "the device is down"


def state(world):
    """Addresses and routes of the device, as far as they are of somebody's making."""
    seen = world.client.snapshot()
    return [row for part in ("address", "route4", "route6") for row in seen[part] if DEVICE in row]


def link(world):
    row = json.loads(world.client.run(["ip", "-j", "link", "show", DEVICE]))[0]
    return "UP" in row["flags"], row["mtu"], row["txqlen"]


def reaches(world):
    world.serve(named("four"), S4, 8080)
    world.serve(named("six"), S6, 8080)

    def check():
        for address, name in ((V4, "four"), ("198.18.40.7", "four"), (V6, "six")):
            with world.client.connect(address, 80) as s:
                expect(ask(s) == name, "no exchange with %s", address)
    return check


def lines(daemon, words):
    return [line for line in daemon.log().splitlines() if words in line]


def restored(world, before, within=6):
    wait(lambda: state(world) == before, within, "restoration of %s, there is %s" % (before, state(world)))


@case()
def flushed_addresses_and_routes_come_back(world):
    daemon, check = world.daemon(RULES), reaches(world)
    check()
    before = state(world)
    world.client.ip("addr flush dev %s" % DEVICE)
    for family in "-4", "-6":
        world.client.run(["ip", family, "route", "flush", "dev", DEVICE])
    restored(world, before)
    check()
    told = lines(daemon, BACK)
    expect(told and all(word in " ".join(told) for word in (C4, C6, "198.18.40.0/24")),
           "the log does not say what was missing: %s", daemon.last())


@case()
def single_route_comes_back(world):
    daemon, check = world.daemon(RULES), reaches(world)
    before = state(world)
    world.client.ip("route del 198.18.40.0/24 dev %s" % DEVICE)
    restored(world, before)
    check()
    expect(len(lines(daemon, BACK)) == 1, "%d lines for one loss: %s", len(lines(daemon, BACK)), daemon.last())
    expect(C4 not in lines(daemon, BACK)[0], "more is told than was missing: %s", daemon.last())


@case()
def on_link_route_comes_back(world):
    _, check = world.daemon(RULES), reaches(world)
    world.client.ip("route del 10.77.0.0/24 dev %s" % DEVICE)
    wait(lambda: "10.77.0.0/24" in world.client.run(["ip", "route"]), 5, "return of the on-link route")
    check()


@case()
def link_that_went_down_and_up_is_complete_again(world):
    daemon, check = world.daemon(RULES), reaches(world)
    before = state(world)
    for _ in range(2):
        world.client.ip("link set %s down" % DEVICE, "link set %s up" % DEVICE)
        restored(world, before)
    check()
    expect(lines(daemon, BACK), "the log does not tell: %s", daemon.last())


@case()
def link_that_is_set_down_stays_down_until_somebody_sets_it_up(world):
    daemon, check = world.daemon(RULES), reaches(world)
    before = state(world)
    world.client.ip("link set %s down" % DEVICE)
    daemon.wait_log(DOWN)
    world.client.ip("addr add 10.99.0.1/24 dev %s" % DEVICE, "addr del 10.99.0.1/24 dev %s" % DEVICE)
    time.sleep(1.5)
    expect(not link(world)[0], "the daemon set the link up")
    expect(len(lines(daemon, DOWN)) == 1, "%d lines say that it is down", len(lines(daemon, DOWN)))
    world.client.ip("link set %s up" % DEVICE)
    daemon.wait_log("the device is up again")
    restored(world, before)
    check()


@case()
def reload_makes_the_device_as_the_file_says(world):
    daemon, check = world.daemon(RULES), reaches(world)
    before, was = state(world), link(world)
    world.client.ip("link set %s mtu 1300" % DEVICE, "link set %s txqueuelen 10" % DEVICE, "link set %s down" % DEVICE)
    daemon.wait_log(DOWN)
    daemon.reload(RULES)
    expect(link(world) == was, "up, MTU and queue are %s and were %s", link(world), was)
    expect(state(world) == before, "after a reload there is %s", state(world))
    check()
    expect("reloaded" in daemon.log(), "the reload is not told: %s", daemon.last())


@case()
def reload_puts_back_at_once_what_was_flushed(world):
    daemon, check = world.daemon(RULES), reaches(world)
    before = state(world)
    world.client.ip("addr flush dev %s" % DEVICE, "route add 198.18.41.0/24 dev %s" % DEVICE)
    daemon.reload(RULES)
    expect("198.18.41.0/24" in world.client.run(["ip", "route"]), "somebody else's route was removed")
    world.client.ip("route del 198.18.41.0/24 dev %s" % DEVICE)
    expect(state(world) == before, "after a reload there is %s", state(world))
    check()


@case(limit=40)
def somebody_who_fights_makes_no_busy_loop(world):
    daemon = world.daemon(RULES)
    spent, end = cpu_seconds(daemon), time.monotonic() + 10
    while time.monotonic() < end:
        world.client.run(["ip", "addr", "flush", "dev", DEVICE], check=False)
        time.sleep(0.02)
    spent = cpu_seconds(daemon) - spent
    told = len(lines(daemon, BACK))
    expect(1 <= told <= 6, "%d repairs in ten seconds", told)
    expect(spent < 1.5, "%.1f s of processor time in ten seconds", spent)


@case()
def repairs_end_and_leave_silence(world):
    daemon = world.daemon(RULES)
    before = state(world)
    world.client.ip("addr flush dev %s" % DEVICE)
    restored(world, before)
    time.sleep(2.5)         # the look at what the repair itself changed
    counted = switches(daemon)
    time.sleep(4)
    expect(switches(daemon) == counted, "threads woke up after the repair: %s, then %s", counted, switches(daemon))


@case()
def repairs_work_after_root_was_given_up(world):
    os.chmod(world.scratch, 0o755)
    daemon, check = world.daemon(RULES, daemon={"user": "nobody"}), reaches(world)
    before = state(world)
    world.client.ip("link set %s down" % DEVICE, "addr flush dev %s" % DEVICE, "link set %s up" % DEVICE)
    restored(world, before)
    check()
    with open("/proc/%d/status" % daemon.process.pid) as f:
        expect(re.search(r"^Uid:\s+65534\s", f.read(), re.M), "the daemon is still root")


@case(limit=30)
def prefix_that_leads_elsewhere_comes_back_when_it_is_free(world):
    daemon = world.daemon(RULES)
    before = state(world)
    world.client.ip("link add other0 type veth peer name other1", "link set other1 up", "link set other0 up",
                    "route replace 198.18.40.0/24 dev other0", "route del 2001:2:0:40:: dev %s" % DEVICE)
    daemon.wait_log("cannot be put back.*198.18.40.0/24 is routed to other0")
    wait(lambda: "2001:2:0:40::" in world.client.run(["ip", "-6", "route"]), 6, "return of the other route")
    world.client.ip("route del 198.18.40.0/24 dev other0", "link del other0")
    restored(world, before, 15)
    expect(len(lines(daemon, "cannot be put back")) == 1, "the failure is told again and again: %s", daemon.last(6))


@case()
def ipv6_switched_off_leaves_ipv4_in_repair(world):
    daemon = world.daemon(RULES)
    world.serve(named("four"), S4, 8080)
    world.client.sysctl(**{"ipv6__conf__%s__disable_ipv6" % DEVICE: 1})
    world.client.ip("route del 198.18.40.0/24 dev %s" % DEVICE)
    daemon.wait_log("IPv6 is switched off")
    wait(lambda: "198.18.40.0/24" in world.client.run(["ip", "route"]), 5, "return of the IPv4 route")
    with world.client.connect("198.18.40.7", 80) as s:
        expect(ask(s) == "four", "no exchange")
    world.client.sysctl(**{"ipv6__conf__%s__disable_ipv6" % DEVICE: 0})
    wait(lambda: C6 in world.client.run(["ip", "-6", "addr", "show", "dev", DEVICE]), 12, "return of %s" % C6)


def cpu_seconds(daemon):
    with open("/proc/%d/stat" % daemon.process.pid) as f:
        text = f.read()
    fields = text[text.rindex(")") + 2:].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def switches(daemon):
    """How often each thread has gone to sleep: one that does not change did not wake up."""
    found, folder = {}, "/proc/%d/task" % daemon.process.pid
    for thread in os.listdir(folder):
        with open("%s/%s/status" % (folder, thread)) as f:
            text = f.read()
        found[re.search(r"^Name:\s+(.*)$", text, re.M)[1] + thread] = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", text, re.M)[1]
    return found


@case()
def a_queue_that_overflows_is_told_and_answered_by_smaller_windows(world):
    queue, workers, beyond = 4000, os.cpu_count(), 500
    world.serve(swallow, S4, 8080)
    daemon = world.daemon(RULES)
    datagram = p.ipv4(C4, V4, p.UDP, p.udp(C4, V4, 4000, 9, b"nobody is there"))
    with world.client.connect(V4, 80) as s, contextlib.closing(p.Injector(world)) as injector:
        s.sendall(bytes(MIB))
        usual = wait(lambda: offered(world), 3, "a window")

        def narrowed():
            """The window is narrow for a second or so: on a busy machine it may take more than one look."""
            daemon.process.send_signal(signal.SIGSTOP)
            for _ in range(queue * workers + beyond):
                injector.socket.sendto(datagram, (DEVICE, p.ETH_P_IP))
            daemon.process.send_signal(signal.SIGCONT)
            s.sendall(bytes(MIB))
            return any(0 < offered(world) <= usual // 2 for _ in range(20))

        wait(narrowed, 20, "a window of half of %d" % usual)
        wait(lambda: daemon.drops("device-queue-full") >= beyond, 5, "drops of the kernel on the status page")
        daemon.wait_log("the device's queue overflows.*packets=")
        wait(lambda: offered_after(s, world) == usual, 8, "the usual window again")
    expect(len(lines(daemon, "queue overflows")) == 1, "told more than once: %s", daemon.last(4))


def swallow(connection):
    while connection.recv(MIB):
        pass


def offered(world):
    """The window that the client's kernel was offered last, octets."""
    return int(re.search(r"snd_wnd:(\d+)", world.client.run(["ss", "-tinH", "dst", V4]))[1])


def offered_after(connection, world):
    connection.sendall(bytes(4096))
    time.sleep(0.1)
    return offered(world)
