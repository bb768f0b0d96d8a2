"""What is measured: a name, a unit, and a function of a namespace world and a forwarder.

Each client runs in C, each server in S, and the forwarder between them is the only difference. Rates are the receiver's.
"""
import contextlib
import json
import os
import signal
import subprocess
import time

from harness import kernel
from harness.daemon import wait
from harness.namespaces import S4, Failed, end

import forwarders


class Measure:
    """`better` is "more" or "less"; `places` are the decimals that are shown."""

    def __init__(self, key, title, unit, better, places, take):
        self.key, self.title, self.unit, self.better, self.places, self.take = key, title, unit, better, places, take

    def described(self):
        return {"key": self.key, "title": self.title, "unit": self.unit, "better": self.better, "places": self.places}


class Bench:
    """One forwarder in its namespaces, with the servers that it leads to."""

    def __init__(self, world, forwarder, load, seconds):
        self.world, self.forwarder, self.load, self.seconds = world, forwarder, load, seconds

    def serve(self, *argv):
        return subprocess.Popen(self.world.servers.argv(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True, preexec_fn=kernel.die_with_parent)

    @contextlib.contextmanager
    def servers(self):
        started = [self.serve("iperf3", "-s", "-B", S4, "-p", forwarders.BULK),
                   self.serve(self.load, "serve", S4, forwarders.ASKED)]
        try:
            self.wait_listening(forwarders.BULK, forwarders.ASKED)
            yield
        finally:
            for process in started:
                end(process)
                process.stdout.close()

    def wait_listening(self, *ports):
        def listening():
            with self.world.servers.entered(), open("/proc/thread-self/net/tcp") as f:
                rows = [line.split() for line in f.readlines()[1:]]
            open_ports = {int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A"}
            return open_ports.issuperset(ports)
        wait(listening, 5, "listening servers")

    def ask(self, *argv):
        """Runs a client to its end; its standard output is one JSON object."""
        done = subprocess.run(self.world.client.argv(argv), capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=self.seconds + 20, preexec_fn=kernel.die_with_parent)
        try:
            result = json.loads(done.stdout)
        except ValueError:
            raise Failed("%s: %s" % (os.path.basename(str(argv[0])), " ".join(done.stderr.split())[-120:] or "said nothing"))
        if "error" in result:
            raise Failed(result["error"])
        return result

    def client(self, mode, port):
        return self.ask(self.load, mode, self.forwarder.address, port, self.seconds)


def bulk(streams, download):
    def take(bench):
        options = ["-R"] if download else []
        result = bench.ask("iperf3", "-J", "-c", bench.forwarder.address, "-p", forwarders.BULK, "-t", bench.seconds,
                           "-P", streams, *options)
        return result["end"]["sum_received"]["bits_per_second"] / 1e9
    return take


def connections(bench):
    result = bench.client("connections", forwarders.ASKED)
    if result["failed"] > result["done"] / 100:
        raise Failed("%d of %d connections failed" % (result["failed"], result["failed"] + result["done"]))
    return result["done"] / result["seconds"] / 1e3


def latency(bench):
    return bench.client("requests", forwarders.ASKED)["median_us"]


def crowded(bench):
    """Asks while eight streams take all that there is."""
    streams = subprocess.Popen(bench.world.client.argv(["iperf3", "-c", bench.forwarder.address, "-p", forwarders.BULK, "-P", 8,
                                                        "-t", bench.seconds + 2]),
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=kernel.die_with_parent)
    try:
        time.sleep(0.7)
        asked = bench.client("requests", forwarders.ASKED)["p99_us"]
        if streams.poll() is not None:
            raise Failed("the streams ended early")
        return asked
    finally:
        end(streams)


def datagrams(bench):
    if not bench.forwarder.forwards_datagrams:
        raise Failed("forwards no UDP")
    counter = bench.serve(bench.load, "serve", S4, forwarders.COUNTED)
    try:
        bench.wait_listening(forwarders.COUNTED)
        sent = bench.client("datagrams", forwarders.COUNTED)
        counter.send_signal(signal.SIGTERM)
        got = json.loads(counter.communicate(timeout=5)[0])
    finally:
        end(counter)
    if not got["packets"]:
        raise Failed("nothing arrived")
    return got["packets"] / max(got["seconds"], sent["seconds"]) / 1e3


ALL = (
    Measure("up1", "1 TCP stream up", "Gbit/s", "more", 1, bulk(1, False)),
    Measure("down1", "1 TCP stream down", "Gbit/s", "more", 1, bulk(1, True)),
    Measure("up8", "8 TCP streams up", "Gbit/s", "more", 1, bulk(8, False)),
    Measure("down8", "8 TCP streams down", "Gbit/s", "more", 1, bulk(8, True)),
    Measure("connections", "connections, one exchange each", "1000/s", "more", 1, connections),
    Measure("latency", "request and response, median", "µs", "less", 0, latency),
    Measure("crowded", "the same beside 8 streams, 99 of 100", "µs", "less", 0, crowded),
    Measure("datagrams", "UDP, 64 octets", "1000/s", "more", 0, datagrams),
)
