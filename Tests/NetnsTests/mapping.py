"""Which target a port leads to: the forms of `listen` and `target`, and the most specific rule."""
import json

from harness.daemon import wait
from harness.namespaces import C4, C6, S4, TARGET, V4, V6, VIRTUAL, at, expect
from harness.peers import ask, echo_datagram, named
from harness.runner import BOTH, case


def reached(world, address, port):
    with world.client.connect(address, port) as s:
        return ask(s)


@case(families=BOTH)
def ranges_shift_and_gather(world, family):
    for port in (37000, 37005, 37010, 8080):
        world.serve(named(str(port)), TARGET[family], port)
    world.daemon([
        {"listen": at(VIRTUAL[family], "27000-27010"), "target": at(TARGET[family], "37000-37010")},
        {"listen": at(VIRTUAL[family], "100-199"), "target": at(TARGET[family], 8080)},
        {"listen": at(VIRTUAL[family], "37000-37004"), "target": at(TARGET[family], "*")}])
    for port, want in ((27000, "37000"), (27005, "37005"), (27010, "37010"), (100, "8080"), (199, "8080"), (37000, "37000")):
        have = reached(world, VIRTUAL[family], port)
        expect(have == want, "port %d led to %s, not %s", port, have, want)


@case(families=BOTH)
def prefix_is_translated_with_host_bits_and_port(world, family):
    listen, target, pairs = {
        4: ("10.77.4.0/24:*", "198.18.9.0/24:*", (("10.77.4.1", "198.18.9.1"), ("10.77.4.254", "198.18.9.254"))),
        6: ("[fd77:4::/64]:*", "[2001:2:0:9::/64]:*",
            (("fd77:4::1", "2001:2:0:9::1"), ("fd77:4::abcd:1", "2001:2:0:9::abcd:1"))),
    }[family]
    for _, there in pairs:
        for port in (80, 8443):
            world.serve(named("%s %d" % (there, port)), there, port)
    world.daemon([{"listen": listen, "target": target}])
    for here, there in pairs:
        for port in (80, 8443):
            have = reached(world, here, port)
            expect(have == "%s %d" % (there, port), "%s port %d led to %s", here, port, have)


@case()
def original_target_is_what_the_client_named(world):
    for address in ("198.18.20.7", "198.18.20.8", "2001:2:0:20::7"):
        world.serve(named(address), address, 443)
    world.daemon([{"listen": "*:443", "target": "original"}],
                 device={"routes": ["198.18.20.0/24", "2001:2:0:20::/64"]})
    for address in ("198.18.20.7", "198.18.20.8", "2001:2:0:20::7"):
        have = reached(world, address, 443)
        expect(have == address, "%s led to %s", address, have)


@case()
def most_specific_rule_wins(world):
    for port in range(9001, 9006):
        world.serve(named(str(port)), S4, port)
    world.daemon([
        {"listen": "*:80", "target": at(S4, 9001)},
        {"listen": "10.77.0.0/24:80", "target": at(S4, 9002)},
        {"listen": "10.77.0.10:1-1000", "target": at(S4, 9003)},
        {"listen": "10.77.0.10:80-90", "target": at(S4, 9004)},
        {"listen": "10.77.0.10:80", "target": at(S4, 9005)}],
        device={"routes": ["198.18.20.0/24"]})
    for address, port, want in ((V4, 80, 9005), (V4, 81, 9004), (V4, 443, 9003), ("10.77.0.11", 80, 9002),
                                ("198.18.20.1", 80, 9001)):
        have = reached(world, address, port)
        expect(have == str(want), "%s led to %s, not %d", at(address, port), have, want)


@case()
def list_of_addresses_and_families_leads_to_one_target(world):
    world.serve(named("one"), S4, 8080)
    world.daemon([{"listen": [at(V4, 80), at(V6, 80), "10.77.0.11:8000-8010"], "target": at(S4, 8080)}])
    for address, port in ((V4, 80), (V6, 80), ("10.77.0.11", 8010)):
        expect(reached(world, address, port) == "one", "%s did not lead there", at(address, port))


@case(families=BOTH)
def tcp_and_udp_share_a_port(world, family):
    world.serve(named("stream"), TARGET[family], 53)
    world.serve_datagrams(echo_datagram, TARGET[family], 53)
    world.daemon([{"protocol": "tcp+udp", "listen": at(VIRTUAL[family], 5353), "target": at(TARGET[family], 53)}])
    expect(reached(world, VIRTUAL[family], 5353) == "stream", "no TCP")
    with world.client.datagrams(VIRTUAL[family], 5353) as s:
        s.send(b"datagram")
        expect(s.recv(100) == b"datagram", "no UDP")


@case()
def host_name_is_resolved(world):
    world.serve(named("by name"), "127.0.0.1", 8080, namespace=world.host)
    world.daemon([{"listen": at(V4, 80), "target": "localhost:8080"}])

    def answer():       # the name is resolved off the data path: the rule is up and refuses until then
        try:
            return reached(world, V4, 80)
        except ConnectionRefusedError:
            return None
    have = wait(answer, 3, "target by name", every=0.1)
    expect(have == "by name", "led to %s", have)


@case()
def name_that_does_not_resolve_refuses_and_harms_no_other(world):
    world.serve(named("here"), S4, 8080)
    world.daemon([{"listen": at(V4, 80), "target": "nowhere.invalid:80"}, {"listen": at(V4, 81), "target": at(S4, 8080)}])
    expect(reached(world, V4, 81) == "here", "the rule beside it does not work")
    try:
        world.client.connect(V4, 80, timeout=3).close()
        expect(False, "a rule without a target accepted")
    except TimeoutError:
        expect(False, "silence instead of a refusal")
    except OSError:
        pass


@case()
def device_in_the_daemons_own_namespace(world):
    """No `netns`: client, device and sockets share one namespace, as on an ordinary host."""
    world.serve(named("own"), "127.0.0.1", 8080, namespace=world.client)
    world.serve(named("own six"), "::1", 8080, namespace=world.client)
    daemon = world.daemon([{"listen": "10.77.5.1:80", "target": "127.0.0.1:8080"},
                           {"listen": "[fd77:5::1]:80", "target": "[::1]:8080"}],
                          where=world.client, device_in=None)
    expect(world.client.has_device("pf0"), "no device")
    expect(reached(world, "10.77.5.1", 80) == "own", "no IPv4")
    expect(reached(world, "fd77:5::1", 80) == "own six", "no IPv6")
    daemon.stop()
    expect(not world.client.has_device("pf0"), "the device is still there")


@case()
def device_gets_the_addresses_mtu_and_queue_length(world):
    world.daemon([{"listen": "10.77.4.0/24:80", "target": at(S4, 8080)}], device={"mtu": 1400, "routes": ["198.18.30.0/24"]})
    row = json.loads(world.client.run(["ip", "-j", "addr", "show", "dev", "pf0"]))[0]
    have = {(a["local"], a["prefixlen"]) for a in row["addr_info"]}
    expect({(C4, 24), (C6, 64)} <= have, "addresses are %s", have)
    expect(row["mtu"] == 1400, "MTU is %d", row["mtu"])
    expect(row["txqlen"] >= 1000, "queue length is %d", row["txqlen"])
    expect("UP" in row["flags"], "the device is not up")
    routes = {r["dst"] for r in json.loads(world.client.run(["ip", "-j", "route", "show", "dev", "pf0"]))}
    expect({"198.18.30.0/24", "10.77.4.0/24"} <= routes, "routes are %s", sorted(routes))
