"""Echo for covered addresses, in both families and all sizes; silence or unreachable for the rest."""
import re
import subprocess

from harness.namespaces import TARGET, VIRTUAL, at, expect
from harness.runner import BOTH, case, tool_missing


def ping(world, address, *options):
    tool_missing("ping")
    done = subprocess.run(world.client.argv(["ping", "-6" if ":" in address else "-4", "-n", *options, address]),
                          capture_output=True, text=True, timeout=15)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
    expect(found, "ping said: %s", " ".join((done.stdout + done.stderr).split())[:200])
    return int(found[2]), done.stdout


def forward(family, port=80, **keys):
    return {"listen": at(VIRTUAL[family], port), "target": at(TARGET[family], 8080)} | keys


@case(families=BOTH)
def covered_address_answers(world, family):
    world.daemon([forward(family)])
    received, text = ping(world, VIRTUAL[family], "-c", "5", "-i", "0.05", "-W", "1")
    expect(received == 5, "%d of 5 echoes", received)
    expect("wrong data" not in text and "DUP" not in text, "%s", " ".join(text.split())[:200])


@case(families=BOTH)
def every_size_within_the_mtu_answers(world, family):
    world.daemon([forward(family)])
    for size in (0, 1, 7, 56, 1000, 1452 if family == 6 else 1472):
        received, text = ping(world, VIRTUAL[family], "-c", "1", "-W", "1", "-s", str(size), "-p", "a5")
        expect(received == 1 and "wrong data" not in text, "no answer, or a wrong one, with %d octets", size)


@case(families=BOTH)
def uncovered_address_does_not_answer(world, family):
    world.daemon([forward(family)])
    address = {4: "10.77.0.99", 6: "fd77::99"}[family]
    received, _ = ping(world, address, "-c", "2", "-i", "0.2", "-W", "1")
    expect(received == 0, "an address without a rule answered")


@case()
def every_address_of_a_covered_prefix_answers(world):
    world.daemon([{"listen": "10.77.4.0/24:80", "target": "198.18.9.0/24:*"}])
    for address in ("10.77.4.1", "10.77.4.200"):
        expect(ping(world, address, "-c", "1", "-W", "1")[0] == 1, "%s does not answer", address)


@case()
def udp_rule_covers_its_address_too(world):
    world.daemon([forward(4, protocol="udp")])
    expect(ping(world, VIRTUAL[4], "-c", "1", "-W", "1")[0] == 1, "no answer")


@case()
def echo_beyond_the_mtu_is_answered_or_counted(world):
    daemon = world.daemon([forward(4)])
    received, _ = ping(world, VIRTUAL[4], "-c", "1", "-W", "1", "-s", "4000")
    expect(received == 1 or daemon.drops("fragment") >= 2, "neither answered nor counted")


@case(families=BOTH)
def flood_of_echoes_is_answered(world, family):
    world.daemon([forward(family)])
    received, _ = ping(world, VIRTUAL[family], "-c", "2000", "-f", "-W", "1", "-q")
    expect(received >= 1900, "%d of 2000 echoes", received)
