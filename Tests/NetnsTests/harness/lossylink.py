"""A link of MTU 1500 between two namespaces that loses, doubles, reorders and delays packets, by a seed.

`lossylink.py NETNS NETNS SEED LOST DOUBLED REORDERED [DELAY]`: packets of a thousand, and milliseconds, each way. Each end is
a TUN device `link0` that the kernel takes for a plain one without offload; this process, one per link, carries packets
across. A packet that is reordered waits until some of its successors have passed, or until the link falls silent.
"""
import collections
import fcntl
import os
import random
import select
import struct
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import kernel  # noqa: E402

DEVICE = "link0"
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
BATCH = 64                  # packets of one direction before the other has its turn
HELD_MAX = 12               # successors that pass a reordered packet, at most
SILENCE = 2                 # milliseconds


def device(namespace):
    where = os.open("/run/netns/" + namespace, os.O_RDONLY)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    kernel.setns(where)
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    kernel.setns(home)
    os.close(where)
    os.close(home)
    return descriptor


class Sink:
    """The far end of a direction, which packets reach after `delay` seconds."""

    def __init__(self, descriptor, delay):
        self.descriptor, self.delay, self.underway = descriptor, delay, collections.deque()

    def put(self, packet):
        if self.delay:
            self.underway.append((time.monotonic() + self.delay, packet))
        else:
            self.write(packet)

    def write(self, packet):
        try:
            os.write(self.descriptor, packet)
        except OSError:         # that end is not up yet
            pass

    def deliver(self):
        """Writes what is due. Returns the seconds to what is due next, or None."""
        underway, now = self.underway, time.monotonic() if self.underway else 0
        while underway and underway[0][0] <= now:
            self.write(underway.popleft()[1])
        return underway[0][0] - now if underway else None


class Direction:
    def __init__(self, source, sink, seed, lost, doubled, reordered):
        self.source, self.sink, self.random = source, sink, random.Random(seed).random
        self.lost, self.doubled, self.reordered = lost, lost + doubled, lost + doubled + reordered
        self.held, self.figures = [], [0, 0, 0, 0]

    def carry(self):
        """Up to a batch of packets; false when there were fewer."""
        source, sink, chance, held = self.source, self.sink, self.random, self.held
        for _ in range(BATCH):
            try:
                packet = os.read(source, 2048)
            except BlockingIOError:
                return False
            self.figures[0] += 1
            number = chance() * 1000
            if number < self.lost:
                self.figures[1] += 1
                continue
            if number < self.reordered:
                if number >= self.doubled:
                    self.figures[3] += 1
                    held.append([1 + int(chance() * HELD_MAX), packet])
                    continue
                self.figures[2] += 1
                sink.put(packet)
            sink.put(packet)
            if held:
                for each in held:
                    each[0] -= 1
                while held and held[0][0] <= 0:
                    sink.put(held.pop(0)[1])
        return True

    def release(self):
        while self.held:
            self.sink.put(self.held.pop(0)[1])


def main(first, second, seed, lost, doubled, reordered, delay=0):
    ends = [device(first), device(second)]
    chances = [float(each) for each in (lost, doubled, reordered)]
    sinks = [Sink(end, float(delay) / 1000) for end in ends]
    ways = [Direction(ends[0], sinks[1], seed + ".0", *chances), Direction(ends[1], sinks[0], seed + ".1", *chances)]
    poll = select.poll()
    for end in ends:
        poll.register(end, select.POLLIN)
    print("ready", flush=True)
    while True:
        more = [way.carry() for way in ways]
        dues = [due for due in (sink.deliver() for sink in sinks) if due is not None]
        if not any(more):
            silence = SILENCE if any(way.held for way in ways) else 1000
            if not poll.poll(min([silence, *(due * 1000 for due in dues)])) and not dues:
                for way in ways:
                    way.release()


if __name__ == "__main__":
    main(*sys.argv[1:])
