"""What a client hears when there is nothing to talk to: the truth, and in time.

"Connect first, answer then": no client may see an established connection before the target has answered.
"""
import errno
import json
import socket
import threading
import time

from harness.daemon import wait
from harness.namespaces import (DARK4, NOWHERE4, TARGET, VIRTUAL, at, expect)
from harness.peers import ask, named, receive
from harness.runner import BOTH, case


def forward(family, port=80, target=None, **keys):
    return {"listen": at(VIRTUAL[family], port), "target": target or at(TARGET[family], 8080)} | keys


def connect_error(world, address, port, timeout=8.0):
    """(errno name, seconds) of a connect that must fail; ETIMEDOUT of our own bound is called 'silence'."""
    began = time.monotonic()
    try:
        world.client.connect(address, port, timeout).close()
    except TimeoutError as error:
        return ("ETIMEDOUT" if error.errno else "silence"), time.monotonic() - began
    except OSError as error:
        return errno.errorcode.get(error.errno, str(error)), time.monotonic() - began
    return "connected", time.monotonic() - began


def hold_back(world, family, port=8080):
    """S drops SYNs for `port` and keeps the set of source ports they came from."""
    world.servers.nft("""table inet held {
        set sources { type inet_service; flags dynamic; size 4096; }
        chain input { type filter hook input priority 0; tcp dport %d tcp flags syn / syn,ack add @sources { tcp sport } drop; }
    }""" % port)


def attempts(world):
    """Source ports of the SYNs that were held back: one per connection attempt of the daemon."""
    listing = json.loads(world.servers.run(["nft", "-j", "list", "set", "inet", "held", "sources"]))
    return next(x["set"].get("elem", []) for x in listing["nftables"] if "set" in x)


@case(families=BOTH)
def refused_target_refuses_the_client(world, family):
    world.daemon([forward(family)])
    for _ in range(5):
        name, seconds = connect_error(world, VIRTUAL[family], 80)
        expect(name == "ECONNREFUSED", "connect gave %s", name)
        expect(seconds < 0.5, "refused only after %.1f s", seconds)


@case(families=BOTH)
def refused_target_leaves_no_flow_behind(world, family):
    daemon = world.daemon([forward(family)])
    before = daemon.descriptors()
    for _ in range(200):
        expect(connect_error(world, VIRTUAL[family], 80)[0] == "ECONNREFUSED", "not refused")
    wait(lambda: daemon.flows() == 0, 3, "end of the refused flows")
    wait(lambda: daemon.descriptors() <= before + 2, 3, "closing of the refused sockets")


@case(families=BOTH)
def no_rule_for_the_port_is_refused(world, family):
    world.daemon([forward(family)])
    name, seconds = connect_error(world, VIRTUAL[family], 81)
    expect(name == "ECONNREFUSED" and seconds < 0.5, "connect gave %s after %.1f s", name, seconds)


@case(families=BOTH)
def no_rule_is_silence_when_unmatched_is_drop(world, family):
    daemon = world.daemon([forward(family)], daemon={"unmatched": "drop"})
    name, _ = connect_error(world, VIRTUAL[family], 81, timeout=1.5)
    expect(name == "silence", "connect gave %s", name)
    expect(daemon.drops("no-rule") >= 1, "the dropped SYN was not counted as no-rule")
    world.serve(named("here"), TARGET[family], 8080)
    with world.client.connect(VIRTUAL[family], 80) as s:
        expect(ask(s) == "here", "the rule beside it does not work")


@case()
def other_protocol_of_a_port_is_no_rule(world):
    world.daemon([forward(4, protocol="udp")])
    expect(connect_error(world, VIRTUAL[4], 80)[0] == "ECONNREFUSED", "a UDP rule took a TCP client")


@case(families=BOTH)
def silent_target_ends_with_connect_timeout_in_one_attempt(world, family):
    hold_back(world, family)
    daemon = world.daemon([forward(family, connect_timeout="2500ms")])
    name, seconds = connect_error(world, VIRTUAL[family], 80, timeout=10)
    expect(name in ("EHOSTUNREACH", "ETIMEDOUT"), "connect gave %s after %.1f s", name, seconds)
    expect(2.2 < seconds < 5, "connect failed after %.1f s with connect_timeout = 2.5 s", seconds)
    # The client's kernel has sent its SYN again after 1 s; the daemon's may too, from the same port.
    expect(len(attempts(world)) == 1, "%d connections were tried for one client", len(attempts(world)))
    wait(lambda: daemon.flows() == 0, 3, "end of the flow")


@case(families=BOTH)
def slow_target_is_waited_for_without_a_second_connection(world, family):
    server = world.serve(named("late"), TARGET[family], 8080)
    hold_back(world, family)
    world.daemon([forward(family)])
    threading.Timer(2.5, lambda: world.servers.nft("flush chain inet held input")).start()
    began = time.monotonic()
    with world.client.connect(VIRTUAL[family], 80, timeout=10) as s:
        seconds = time.monotonic() - began
        expect(seconds > 2.4, "the client was answered after %.1f s, before the target was", seconds)
        expect(seconds < 6.5, "the client was answered only after %.1f s", seconds)
        expect(ask(s) == "late", "no exchange")
    expect(server.accepted == 1, "the target saw %d connections", server.accepted)
    expect(len(attempts(world)) == 1, "%d connections were tried for one client", len(attempts(world)))


@case()
def client_that_gives_up_during_the_dial_frees_everything(world):
    hold_back(world, 4)
    daemon = world.daemon([forward(4, connect_timeout="3s")])
    before = daemon.descriptors()
    pending = []
    for _ in range(50):
        s = world.client.socket(VIRTUAL[4])
        s.setblocking(False)
        s.connect_ex((VIRTUAL[4], 80))
        pending.append(s)
    wait(lambda: daemon.flows() == 50, 3, "50 flows that are being connected")
    for s in pending:
        s.close()
    wait(lambda: daemon.flows() == 0, 8, "end of the abandoned flows")
    wait(lambda: daemon.descriptors() <= before + 2, 3, "closing of the abandoned sockets")


@case()
def silent_targets_do_not_hold_up_others(world):
    hold_back(world, 4)
    world.serve(named("here"), TARGET[4], 8081)
    world.daemon([forward(4, connect_timeout="5s"), forward(4, port=81, target=at(TARGET[4], 8081))])
    pending = []
    for _ in range(100):
        s = world.client.socket(VIRTUAL[4])
        s.setblocking(False)
        s.connect_ex((VIRTUAL[4], 80))
        pending.append(s)
    began = time.monotonic()
    with world.client.connect(VIRTUAL[4], 81) as s:
        expect(ask(s) == "here", "no exchange")
    expect(time.monotonic() - began < 0.5, "a flow beside 100 dials took %.1f s", time.monotonic() - began)
    for s in pending:
        s.close()


@case()
def no_route_to_the_target_is_unreachable(world):
    world.daemon([forward(4, target=at(NOWHERE4, 80))])
    name, seconds = connect_error(world, VIRTUAL[4], 80)
    expect(name in ("ENETUNREACH", "EHOSTUNREACH"), "connect gave %s", name)
    expect(seconds < 0.5, "unreachable only after %.1f s", seconds)


@case()
def no_route_to_the_target_is_unreachable_ipv6(world):
    world.daemon([forward(6, target="[2001:2:0:ffff::1]:80")])
    name, seconds = connect_error(world, VIRTUAL[6], 80)
    expect(name in ("ENETUNREACH", "EHOSTUNREACH"), "connect gave %s", name)
    expect(seconds < 0.5, "unreachable only after %.1f s", seconds)


@case()
def host_that_is_down_is_unreachable(world):
    world.daemon([forward(4, target=at(DARK4, 80))])
    name, seconds = connect_error(world, VIRTUAL[4], 80, timeout=8)
    expect(name == "EHOSTUNREACH", "connect gave %s after %.1f s", name, seconds)


@case()
def prohibited_target_is_unreachable(world):
    world.servers.nft("table ip shut { chain input { type filter hook input priority 0; "
                      "tcp dport 8080 reject with icmp type admin-prohibited\n }\n }")
    world.daemon([forward(4)])
    name, seconds = connect_error(world, VIRTUAL[4], 80)
    expect(name in ("EHOSTUNREACH", "ENETUNREACH"), "connect gave %s", name)
    expect(seconds < 0.5, "unreachable only after %.1f s", seconds)


@case()
def full_rule_takes_the_next_client_when_one_leaves(world):
    world.serve(named("here"), TARGET[4], 8080)
    daemon = world.daemon([forward(4, max_connections=2)])
    first, second = (world.client.connect(VIRTUAL[4], 80) for _ in range(2))
    expect(ask(first) == ask(second) == "here", "no exchange")
    third = world.client.socket(VIRTUAL[4])
    third.settimeout(6)
    done = threading.Thread(target=third.connect, args=((VIRTUAL[4], 80),), daemon=True)
    done.start()
    wait(lambda: daemon.drops("rule-full") >= 1, 2, "counted rule-full")
    expect(done.is_alive(), "a third client got in with max_connections = 2")
    first.close()
    done.join(6)
    expect(not done.is_alive() and ask(third) == "here", "the third client was not served after the first had left")
    second.close()
    third.close()


@case(families=BOTH)
def banner_of_the_target_comes_unasked(world, family):
    world.serve(lambda c: (c.sendall(b"220 ready\r\n"), c.recv(1)), TARGET[family], 8080)
    world.daemon([forward(family)])
    with world.client.connect(VIRTUAL[family], 80) as s:
        expect(receive(s, 11) == b"220 ready\r\n", "another banner")
        expect(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) >= 1220, "a small MSS was negotiated")
