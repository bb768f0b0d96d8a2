"""A client behind a link that loses, doubles and reorders packets: every octet arrives, and about as fast as from a kernel.

The comparison is with this kernel's own TCP at the same end of the same link, in turns, with CUBIC on both sides. What is
asserted is octets, and a factor between medians; the figures are printed. `PORTFERRY_LOSS_MIB` sets how much goes each way,
`PORTFERRY_LOSS_RUNS` how often and `PORTFERRY_LOSS_SECONDS` the bound: 1024, 1 and 1200 for a long run.
"""
import os
import random
import socket
import statistics
import time

from harness.daemon import wait
from harness.distant import R4, Distant, use_cubic
from harness.namespaces import S4, V4, at, expect
from harness.peers import MIB, digest, receive_all, send_pattern
from harness.runner import case, figure, tool_missing

TOTAL = int(os.environ.get("PORTFERRY_LOSS_MIB", "16")) * MIB
LIMIT = int(os.environ.get("PORTFERRY_LOSS_SECONDS", "150"))
RUNS = int(os.environ.get("PORTFERRY_LOSS_RUNS", "5"))
TURNS_MAX = 3               # a busy machine spoils medians: so many times RUNS are taken where they say too slow
FACTOR = 3.0                # ours may take so many times as long as the kernel's own
UP, DOWN = 11, 12           # seeds of the two patterns


def handler(connection):
    """Takes the upload, notes when it was whole, and sends the download."""
    got = receive_all(connection)
    arrived = time.monotonic()
    send_pattern(connection, TOTAL, DOWN)
    return got, arrived


def exchange(distant, server, address, port):
    """Seconds of the upload and of the download, both checked octet by octet."""
    with distant.connect(address, port, timeout=120) as s:
        began = time.monotonic()
        send_pattern(s, TOTAL, UP)
        s.shutdown(socket.SHUT_WR)
        down = receive_all(s)
        ended = time.monotonic()
    up, arrived = server.result(60)
    expect(up == (TOTAL, digest(TOTAL, UP)), "the upload is not what was sent")
    expect(down == (TOTAL, digest(TOTAL, DOWN)), "the download is not what was sent")
    return arrived - began, ended - arrived


def medians_of(ours, theirs):
    return [tuple(statistics.median(t[way] for t in times) for times in (ours, theirs)) for way in (0, 1)]


def compare(world, distant, **rule):
    """The medians of both sides by turns, as {direction: (ours, the kernel's)}."""
    target = world.serve(handler, S4, 8080)
    kernel = world.serve(handler, R4, 8080, namespace=world.client)
    use_cubic(kernel.socket)
    daemon = world.daemon([{"listen": at(V4, 80), "target": at(S4, 8080)} | rule])
    ours, theirs = [], []
    for number in range(RUNS * TURNS_MAX):
        sides = [(ours, target, V4, 80), (theirs, kernel, R4, 8080)]
        for times, server, address, port in sides if number % 2 == 0 else reversed(sides):
            times.append(exchange(distant, server, address, port))
        if (number + 1) % RUNS == 0 and all(own <= FACTOR * other for own, other in medians_of(ours, theirs)):
            break
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")
    medians = {}
    for which, (name, (own, other)) in enumerate(zip(("up", "down"), medians_of(ours, theirs))):
        medians[name] = own, other
        figure(
            "%s, %d MiB: %.2f s (%.0f Mbit/s), the kernel's %.2f s (%.0f Mbit/s), ratio %.2f; runs %s and %s",
            name, TOTAL // MIB, own, TOTAL * 8e-6 / own, other, TOTAL * 8e-6 / other, own / other,
            " ".join("%.2f" % t[which] for t in ours), " ".join("%.2f" % t[which] for t in theirs))
    return medians


def expect_comparable(medians):
    for way, (own, other) in medians.items():
        expect(own <= FACTOR * other, "%s took %.2f s, the kernel's TCP %.2f s over the same link", way, own, other)


@case(limit=LIMIT)
def exact_and_in_time_over_loss_doubling_and_reordering(world):
    seed = random.SystemRandom().getrandbits(32)
    print("seed", seed)
    os.nice(-20)                # a kernel's TCP waits for no processor; nor shall the link, the daemon and the clients
    expect_comparable(compare(world, Distant(world, (20, 10, 10), seed)))


@case(limit=LIMIT)
def exact_and_in_time_with_one_percent_lost(world):
    tool_missing("nft")
    os.nice(-20)
    expect_comparable(compare(world, Distant(world, (10,))))
