"""Bulk transfers of real programs, byte-exact by checksum, both ways, both families, with and without offload."""
import hashlib
import json
import os
import subprocess
import sys

from harness.daemon import wait
from harness.namespaces import Failed, TARGET, VIRTUAL, at, expect
from harness.peers import GIB, MIB, digest
from harness.runner import BOTH, case, figure, tool_missing

WEBSERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "harness", "webserver.py")
SEED = 77


def start_web(world, family):
    server = world.spawn(world.servers, [sys.executable, WEBSERVER, TARGET[family], 8080, SEED], "web")
    wait(lambda: os.path.getsize(server.output_path), 10, "listening web server")


def forward(family, port=8080):
    return {"listen": at(VIRTUAL[family], 80 if port == 8080 else port), "target": at(TARGET[family], port)}


def curl_down(world, family, total):
    """Octets and checksum of what curl wrote."""
    tool_missing("curl")
    curl = subprocess.Popen(world.client.argv(["curl", "-sS", "--fail", "--max-time", 60, "http://%s/%d" % (
        at(VIRTUAL[family], 80), total)]), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    world.processes.append(curl)
    h, count, buffer = hashlib.sha256(), 0, memoryview(bytearray(MIB))
    while n := curl.stdout.readinto(buffer):
        h.update(buffer[:n])
        count += n
    expect(curl.wait(10) == 0, "curl exited with %s: %s", curl.returncode, curl.stderr.read().decode()[:200])
    return count, h.hexdigest()


def curl_up(world, family, total):
    """The checksum that the server answered with."""
    tool_missing("curl")
    source = subprocess.Popen([sys.executable, WEBSERVER, "--send", str(total), str(SEED)], stdout=subprocess.PIPE)
    world.processes.append(source)
    curl = subprocess.run(world.client.argv(["curl", "-sS", "--fail", "--max-time", 60, "-T", "-", "http://%s/up" % (
        at(VIRTUAL[family], 80))]), stdin=source.stdout, capture_output=True, text=True, timeout=70)
    expect(curl.returncode == 0, "curl exited with %d: %s", curl.returncode, curl.stderr[:200])
    return curl.stdout


def transfer(world, family, total, **device):
    start_web(world, family)
    daemon = world.daemon([forward(family)], device=device)
    want = digest(total, SEED)
    expect(curl_down(world, family, total) == (total, want), "the download is not what the server sent")
    expect(curl_up(world, family, total) == want, "the upload is not what curl sent")
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")


@case(limit=80, families=BOTH)
def curl_downloads_one_gibibyte(world, family):
    start_web(world, family)
    world.daemon([forward(family)])
    expect(curl_down(world, family, GIB) == (GIB, digest(GIB, SEED)), "the download is not what the server sent")


@case(limit=80, families=BOTH)
def curl_uploads_one_gibibyte(world, family):
    start_web(world, family)
    world.daemon([forward(family)])
    expect(curl_up(world, family, GIB) == digest(GIB, SEED), "the upload is not what curl sent")


@case(limit=60, families=BOTH)
def without_offload(world, family):
    transfer(world, family, 64 * MIB, offload=False)


@case(limit=60)
def with_a_large_mtu(world):
    transfer(world, 4, 128 * MIB, offload=False, mtu=65520)


@case(limit=60, families=BOTH)
def with_the_smallest_mtu(world, family):
    transfer(world, family, 64 * MIB, mtu=1280)


@case(limit=60)
def with_one_queue(world):
    transfer(world, 4, 128 * MIB, queues=1)


def iperf(world, *options):
    """Sum of octets received, after checking that no stream failed and none stood still."""
    def attempt():
        done = subprocess.run(world.client.argv(["iperf3", "-J", "-p", 5201, *options]), capture_output=True, text=True,
                              timeout=40)
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise Failed("iperf3 exited with %d: %s" % (done.returncode, (done.stderr or done.stdout)[:200]))
        # The server ends a run on its own, a moment after its client.
        return None if "server is busy" in result.get("error", "") else result

    result = wait(attempt, 5, "idle iperf3 server")
    expect("error" not in result, "iperf3: %s", result.get("error"))
    moved = [stream["receiver"]["bytes"] for stream in result["end"]["streams"]]
    expect(all(octets > 64 * 1024 for octets in moved), "a stream stood still: %s", moved)
    return sum(moved)


@case(limit=40, families=BOTH)
def iperf3_with_eight_streams_up_and_down(world, family):
    tool_missing("iperf3")
    world.spawn(world.servers, ["iperf3", "-s", "-B", TARGET[family], "-p", 5201])
    wait(lambda: ":5201" in world.servers.run(["ss", "-Hltn"]), 5, "listening iperf3")
    daemon = world.daemon([forward(family, 5201)])
    for way in ((), ("-R",)):
        moved = iperf(world, "-c", VIRTUAL[family], "-P", 8, "-t", 2, *way)
        print("%.1f Gbit/s" % (moved * 8 / 2e9))
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")


@case(limit=40)
def both_ways_at_once(world):
    """iperf3 --bidir: acknowledgements share the path with data."""
    tool_missing("iperf3")
    world.spawn(world.servers, ["iperf3", "-s", "-B", TARGET[4], "-p", 5201])
    wait(lambda: ":5201" in world.servers.run(["ss", "-Hltn"]), 5, "listening iperf3")
    world.daemon([forward(4, 5201)])
    iperf(world, "-c", VIRTUAL[4], "-P", 2, "-t", 2, "--bidir")


@case(limit=60)
def with_loss_at_the_target(world):
    """The kernel's TCP mends the target side; what the client sees must stay exact."""
    for end in (world.host, world.servers):
        end.nft("table inet lossy { chain input { type filter hook input priority 0; "
                "iifname pfs0 numgen random mod 200 < 1 drop\n }\n }")
    transfer(world, 4, 16 * MIB)


@case(limit=60, families=BOTH)
def a_download_that_is_alone_is_written_by_a_second_thread(world, family):
    start_web(world, family)
    daemon = world.daemon([forward(family)])
    total = 256 * MIB
    expect(curl_down(world, family, total) == (total, digest(total, SEED)), "the download is not what the server sent")
    waits = {}
    for text in daemon.threads("status").values():
        words = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        if words["Name"].startswith("ferry-writer-"):
            waits[words["Name"]] = int(words["voluntary_ctxt_switches"])
            expect(int(words["CapEff"], 16) == 0, "a writer holds capabilities")
    figure("times that a second thread waited: %s", sorted(waits.values()))
    if len(os.sched_getaffinity(0)) > 1:
        expect(max(waits.values()) > 20, "the worker wrote by itself")
    else:
        expect(not waits, "two threads on one processor")
