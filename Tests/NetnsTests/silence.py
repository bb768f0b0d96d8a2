"""Peers that say nothing, or something urgent: keep-alive towards both sides, and urgent octets in their place."""
import socket
import threading
import time

from harness.daemon import wait
from harness.namespaces import S4, TARGET, V4, VIRTUAL, at, expect
from harness.peers import ask, named, receive
from harness.runner import BOTH, case, tool_missing

DROP = """table inet silence {
  chain arriving { type filter hook input priority 0; iifname pf0 drop
  }
}
"""


def forward(family, **keys):
    return {"listen": at(VIRTUAL[family], 80), "target": at(TARGET[family], 8080)} | keys


@case(families=BOTH)
def silent_client_that_answers_keeps_its_flow(world, family):
    world.serve(named("here"), TARGET[family], 8080)
    daemon = world.daemon([forward(family, keepalive="1s")])
    with world.client.connect(VIRTUAL[family], 80) as s:
        expect(ask(s) == "here", "no exchange")
        time.sleep(12)                  # longer than ten questions without an answer would take
        expect(daemon.flows() == 1, "the flow is gone")
        expect(ask(s) == "here", "no exchange after the silence")


@case(limit=30)
def client_that_is_gone_is_cut_and_its_target_hears_of_it(world):
    gone = threading.Event()

    def handler(connection):
        try:
            while connection.recv(100):
                connection.sendall(b"here")
        except ConnectionResetError:
            gone.set()

    world.serve(handler, S4, 8080)
    daemon = world.daemon([forward(4, keepalive="1s")])
    with world.client.connect(V4, 80) as s:
        s.sendall(b"?")
        expect(receive(s, 4) == b"here", "no exchange")
        world.client.nft(DROP)
        time.sleep(5)
        expect(daemon.flows() == 1, "the flow was cut too soon")
        wait(lambda: daemon.flows() == 0, 10, "end of the flow")
        expect(gone.wait(3), "the target heard nothing")
        expect(int(daemon.status()["counters"]["flows_gone"]) == 1, "not counted")
        world.client.nft("delete table inet silence")


@case()
def target_is_asked_by_the_kernel_if_the_rule_says_so(world):
    tool_missing("ss")
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([forward(4, keepalive="2h"), {"listen": at(V4, 81), "target": at(S4, 8080)}])
    for port, asked in ((80, True), (81, False)):
        with world.client.connect(V4, port) as s:
            expect(ask(s) == "here", "no exchange")
            sockets = world.host.run(["ss", "-Htno", "state", "established", "dport", "=", ":8080"])
            expect(("keepalive" in sockets) == asked, "port %d: %s", port, sockets)
        wait(lambda: daemon.flows() == 0, 3, "end of the flow")


@case(families=BOTH)
def urgent_octets_stay_in_the_stream_both_ways(world, family):
    def handler(connection):
        got = receive(connection, 7)
        for part, flags in ((b"ab", 0), (b"c", socket.MSG_OOB), (b"de", 0), (b"fg", socket.MSG_OOB), (b"h", 0)):
            connection.send(part, flags)
            time.sleep(0.05)
        return got

    server = world.serve(handler, TARGET[family], 8080)
    world.daemon([forward(family)])
    with world.client.connect(VIRTUAL[family], 80) as s:
        for part, flags in ((b"12", 0), (b"3", socket.MSG_OOB), (b"45", 0), (b"67", socket.MSG_OOB)):
            s.send(part, flags)
            time.sleep(0.05)
        expect(server.result() == b"1234567", "the target got something else")
        expect(receive(s, 8) == b"abcdefgh", "the client got something else")
