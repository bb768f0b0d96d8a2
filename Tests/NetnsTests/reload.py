"""SIGHUP: rules change at once or not at all, and no flow is lost by it."""
import os
import re
import signal
import threading
import time

from harness.daemon import document, wait
from harness.namespaces import S4, V4, at, expect
from harness.peers import MIB, ask, blocks, digest, echo_datagram, named, receive_all
from harness.runner import case, figure


def rule(name="web", port=80, target=8080, address=V4, **keys):
    return {"name": name, "listen": at(address, port), "target": at(S4, target)} | keys


def refused(world, address, port):
    try:
        world.client.connect(address, port, timeout=3).close()
        return False
    except ConnectionRefusedError:
        return True


@case(limit=60)
def twenty_reloads_under_load_lose_no_flow(world):
    total = 24 * MIB

    def paced(connection):
        """About three seconds of load, whatever the speed of the path."""
        for block in blocks(total):
            for start in range(0, len(block), MIB // 4):
                connection.sendall(block[start:start + MIB // 4])
                time.sleep(0.03)

    up, _ = world.serve(receive_all, S4, 8080), world.serve(paced, S4, 8081)
    world.serve_datagrams(echo_datagram, S4, 8082)
    steady = [rule("up"), rule("down", 81, 8081), rule("session", 82, 8082, protocol="udp")]
    daemon = world.daemon(steady)
    failures, want = [], digest(total)

    def client_up():
        with world.client.connect(V4, 80, timeout=40) as s:
            paced(s)

    def client_down():
        with world.client.connect(V4, 81, timeout=40) as s:
            expect(receive_all(s) == (total, want), "the download is not what was sent")

    def guarded(work):
        try:
            work()
        except Exception as error:
            failures.append("%s: %s" % (work.__name__, error))

    threads = [threading.Thread(target=guarded, args=(w,), daemon=True) for w in [client_up] * 3 + [client_down] * 3]
    for t in threads:
        t.start()
    wait(lambda: daemon.flows() == 6, 5, "six flows under load")
    session = world.client.datagrams(V4, 82)
    for number in range(20):
        others = [rule("other%d" % n, 1000 + n, 9000 + number) for n in range(number % 5)]
        daemon.reload(steady + others)
        session.send(b"%d" % number)
        expect(session.recv(100) == b"%d" % number, "the UDP session was lost by reload %d", number)
        expect(not failures, "%s", "; ".join(failures))
        time.sleep(0.08)
    for t in threads:
        t.join(40)
    expect(not failures and not any(t.is_alive() for t in threads), "a flow stalled or failed: %s", "; ".join(failures))
    for _ in range(3):
        expect(up.result() == (total, want), "an upload is not what was sent")
    session.close()


@case()
def broken_file_keeps_the_old_rules_and_says_where(world):
    world.serve(named("old"), S4, 8080)
    daemon = world.daemon([rule()])
    with world.client.connect(V4, 80) as flow:
        expect(ask(flow) == "old", "no exchange")
        good = document([rule()], device=daemon.device, daemon=daemon.daemon)
        line = good.count("\n") + 3
        broken = good + '\n[[forward]]\nnmae = "x"\nlisten = "10.77.0.10:99999"\ntarget = "198.18.2.2:80"\n'
        daemon.reload(text=broken)
        log = daemon.log()
        place = re.search(r"%s:%d:(\d+)" % (re.escape(daemon.config), line), log)
        expect(place, "the log has no %s:%d:column: %s", daemon.config, line, daemon.last(8))
        expect(re.search(r":%d:\d+" % (line + 1), log), "the second error of the file is not told: %s", daemon.last(8))
        expect("listen = \\\"10.77.0.10:99999" in log, "the line itself is not shown: %s", daemon.last(8))
        expect("name" in log[place.start():], "the nearest key is not named")
        expect(ask(flow) == "old", "the flow was lost")
        with world.client.connect(V4, 80) as another:
            expect(ask(another) == "old", "the old rule is gone")
    daemon.reload([rule("web", 81)])
    with world.client.connect(V4, 81) as s:
        expect(ask(s) == "old", "a good file after the broken one is not taken")


@case()
def file_that_is_gone_keeps_the_old_rules(world):
    world.serve(named("old"), S4, 8080)
    daemon = world.daemon([rule()])
    os.unlink(daemon.config)
    before = daemon.gather()
    daemon.process.send_signal(signal.SIGHUP)
    daemon.wait_for("READY=1", 5, before)
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "old", "the old rule is gone")
    told = [line for line in daemon.log().splitlines() if "reload refused" in line]
    expect(len(told) == 1 and daemon.config in told[0] and "there is no such file" in told[0],
           "the log does not say that the file is gone: %s", daemon.last())
    expect(":0:0" not in daemon.log(), "the file as a whole has a place: %s", daemon.last())


@case()
def file_that_cannot_be_read_keeps_the_old_rules_and_says_why(world):
    world.serve(named("old"), S4, 8080)
    os.chmod(world.scratch, 0o755)
    daemon = world.daemon([rule()], daemon={"user": "nobody"})
    for mode, text, words in ((0o600, None, "cannot be read: Permission denied"), (0o644, "", "the file is empty"),
                              (0o644, "\0\0", "no text file")):
        daemon.write([rule()], text)
        os.chmod(daemon.config, mode)
        before = daemon.gather()
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait_for("READY=1", 5, before)
        last = daemon.log().splitlines()[-1]
        expect("reload refused" in last and words in last and daemon.config in last and "nobody" in last,
               "it is not told that %s: %s", words, daemon.last())
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "old", "the old rule is gone")


@case()
def changed_target_keeps_old_flows_and_takes_new_ones(world):
    world.serve(named("first"), S4, 8080)
    world.serve(named("second"), S4, 8081)
    daemon = world.daemon([rule(target=8080)])
    with world.client.connect(V4, 80) as old:
        expect(ask(old) == "first", "no exchange")
        daemon.reload([rule(target=8081)])
        with world.client.connect(V4, 80) as new:
            expect(ask(new) == "second", "a new flow went to the old target")
            expect(ask(old) == "first", "the old flow changed its target")


@case()
def removed_rule_refuses_new_flows_and_keeps_old_ones(world):
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([rule(), rule("other", 81)])
    with world.client.connect(V4, 80) as old:
        expect(ask(old) == "here", "no exchange")
        daemon.reload([rule("other", 81)])
        expect(refused(world, V4, 80), "the removed rule still takes clients")
        expect(ask(old) == "here", "the old flow was lost")


@case()
def new_rule_on_a_new_prefix_is_reachable_at_once(world):
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([rule()])
    daemon.reload([rule(), rule("far", 80, address="198.18.40.1")])
    with world.client.connect("198.18.40.1", 80) as s:
        expect(ask(s) == "here", "no exchange")
    daemon.reload([rule()])
    wait(lambda: "198.18.40.1" not in world.client.run(["ip", "route"]), 3, "withdrawal of the route")


@case()
def route_of_a_removed_rule_stays_while_it_has_flows(world):
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([rule(), rule("far", 80, address="198.18.40.1")])
    with world.client.connect("198.18.40.1", 80) as s:
        expect(ask(s) == "here", "no exchange")
        daemon.reload([rule()])
        expect("198.18.40.1" in world.client.run(["ip", "route"]), "the route went away under a flow")
        expect(ask(s) == "here", "the flow was lost")
    wait(lambda: "198.18.40.1" not in world.client.run(["ip", "route"]), 8, "withdrawal of the route")


@case()
def rule_removed_with_reset_cuts_its_flows(world):
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([rule(on_reload="reset"), rule("other", 81)])
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "here", "no exchange")
        daemon.reload([rule("other", 81)])
        try:
            data = s.recv(1)
            expect(False, "the flow %s", "goes on" if data else "ended cleanly")
        except ConnectionResetError:
            pass


@case()
def change_that_needs_a_restart_is_refused_by_name(world):
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([rule()])
    daemon.reload([rule("web", 81)], device=daemon.device | {"name": "pf9"})
    expect(re.search(r"device\.name|\bname\b.*restart|restart.*\bname\b", daemon.log()),
           "the log does not name device.name: %s", daemon.last(4))
    expect(world.client.has_device("pf0") and not world.client.has_device("pf9"), "the device changed")
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "here", "the old rule is gone")


@case()
def systemd_is_told(world):
    daemon = world.daemon([rule()])
    before = daemon.gather()
    daemon.reload([rule(), rule("other", 81)])
    message = next(m for m in daemon.messages[before:] if "RELOADING=1" in m)
    stamp = next((line for line in message if line.startswith("MONOTONIC_USEC=")), None)
    expect(stamp, "RELOADING came without MONOTONIC_USEC: %s", message)
    age = time.clock_gettime(time.CLOCK_MONOTONIC) - int(stamp.partition("=")[2]) / 1e6
    expect(0 <= age < 5, "MONOTONIC_USEC is %.1f s off", age)
    daemon.stop()
    expect(any("STOPPING=1" in m for m in daemon.messages), "no STOPPING=1")


@case()
def hundred_reloads_in_a_row_leak_nothing(world):
    daemon = world.daemon([rule()])
    for number in range(10):
        daemon.reload([rule("r%d" % number, 80 + number)])
    descriptors, memory = daemon.descriptors(), daemon.resident()
    for number in range(90):
        daemon.reload([rule("r%d" % number, 80 + number)])
    expect(daemon.descriptors() <= descriptors + 2, "%d descriptors, were %d", daemon.descriptors(), descriptors)
    expect(daemon.resident() - memory < 8 * MIB, "memory grew by %d KiB", (daemon.resident() - memory) // 1024)


@case(limit=60)
def reloads_of_twenty_thousand_rules_take_workers_little_time(world):
    """What a worker's thread spends is shown and not judged; that no datagram is lost meanwhile is, and that memory returns."""
    world.serve_datagrams(echo_datagram, S4, 8082)
    session = rule("session", 82, 8082, protocol="udp")

    def many(generation, changing):
        return [session] + [rule("rule%d" % n, 1000 + n, 1 + (n + generation if n % changing == 0 else n)) for n in range(20_000)]

    daemon = world.daemon([session], device={"queues": 2})
    echoes, ends = [], threading.Event()

    def ask_on():
        with world.client.datagrams(V4, 82, timeout=5) as s:
            while not ends.is_set():
                s.send(b"%d" % len(echoes))
                echoes.append(s.recv(100) == b"%d" % len(echoes))

    def worked():
        return max(int(daemon.threads("schedstat")[number].split()[0]) for number, name in daemon.threads("comm").items()
                   if name == "ferry-worker-%d\n" % idle)

    daemon.reload(many(0, 1), within=20)
    with world.client.datagrams(V4, 82) as s:
        s.send(b"?")
        s.recv(100)
        idle = 1 - int(daemon.status()["flows"][0]["worker"])
    spent = {}
    for name, changing in (("one", 1 << 30), ("1 in 100", 100), ("all", 1)):
        daemon.reload(many(1, changing), within=20)
        before = worked()
        daemon.reload(many(2, changing), within=20)
        spent[name] = (worked() - before) / 1e6
    asking = threading.Thread(target=ask_on, daemon=True)
    asking.start()
    for generation in range(3, 5):
        daemon.reload(many(generation, 1), within=20)
    memory = daemon.resident()
    for generation in range(5, 8):
        daemon.reload(many(generation, 1), within=20)
    ends.set()
    asking.join(10)
    figure("a reload takes an idle worker %s of 20 000 rules changed",
           ", ".join("%.2f ms with %s" % (ms, name) for name, ms in spent.items()))
    expect(not asking.is_alive() and len(echoes) > 100 and all(echoes), "no answer, or another's, after %d", len(echoes))
    expect(daemon.resident() - memory < 32 * MIB, "memory grew by %d KiB", (daemon.resident() - memory) // 1024)
