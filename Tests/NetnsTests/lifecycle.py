"""Start and end: what the daemon added is gone after every orderly end, and a killed run is taken over."""
import os
import re
import signal
import time

from harness.daemon import wait
from harness.kernel import children_of
from harness.namespaces import S4, S6, V4, V6, at, expect
from harness.peers import ask, named
from harness.runner import case

RULES = [{"name": "web", "listen": [at(V4, 80), "10.77.4.0/24:80"], "target": at(S4, 8080)},
         {"name": "web6", "listen": [at(V6, 80), "[fd77:4::/64]:80"], "target": at(S6, 8080)}]
ROUTES = {"routes": ["198.18.30.0/24", "2001:2:0:30::/64"]}


def exchanged(world):
    with world.client.connect(V4, 80) as s:
        return ask(s)


def ends_clean(world, sig):
    """Where no flow stands, the end waits for nothing: not for `drain_timeout`, which no test outlasts."""
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon(RULES, device=ROUTES, daemon={"drain_timeout": "1h"})
    expect(exchanged(world) == "here", "no exchange")
    expect(world.client.has_device("pf0"), "no device")
    expect(world.changed(), "the check itself sees no difference while the daemon runs")
    daemon.stop(sig)
    world.expect_unchanged()
    expect(not os.path.exists(daemon.control), "the control socket is still there")


@case()
def sigterm_removes_device_addresses_and_routes(world):
    ends_clean(world, signal.SIGTERM)


@case()
def sigint_removes_device_addresses_and_routes(world):
    ends_clean(world, signal.SIGINT)


@case()
def sigterm_with_open_flows_ends_in_time_and_tells_both_sides(world):
    def handler(connection):
        connection.sendall(b"hello")
        try:
            return connection.recv(1) == b""
        except ConnectionResetError:
            return True
    server = world.serve(handler, S4, 8080)
    daemon = world.daemon(RULES, daemon={"drain_timeout": "1s"})
    with world.client.connect(V4, 80) as s:
        s.recv(5)
        daemon.stop(within=8)
        expect(server.result(5), "the target was not told")
    world.expect_unchanged()


@case()
def second_signal_is_no_accident(world):
    daemon = world.daemon(RULES)
    daemon.process.send_signal(signal.SIGTERM)
    time.sleep(0.01)
    if daemon.alive:
        daemon.process.send_signal(signal.SIGTERM)
    status = daemon.process.wait(10)
    daemon.exempt = True
    expect(status in (0, 1), "exited with %d", status)      # 1: the second one cut the orderly end short
    world.expect_unchanged()


@case()
def killed_run_is_taken_over_at_once(world):
    world.serve(named("here"), S4, 8080)
    first = world.daemon(RULES, device=ROUTES)
    for _ in range(3):
        expect(exchanged(world) == "here", "no exchange")
        first.kill()
        first.messages.clear()
        first.start()
    expect(exchanged(world) == "here", "no exchange after kill -9 and restart")


@case()
def kept_device_stays_and_is_taken_over(world):
    world.serve(named("here"), S4, 8080)
    first = world.daemon(RULES, device={"keep": True})
    expect(exchanged(world) == "here", "no exchange")
    first.stop()
    expect(world.client.has_device("pf0"), "keep = true, and the device is gone")
    second = world.daemon(RULES)
    expect(exchanged(world) == "here", "no exchange over the kept device")
    second.stop()
    expect(not world.client.has_device("pf0"), "keep = false, and the device is still there")


@case()
def kept_device_of_a_killed_run_is_taken_over(world):
    world.serve(named("here"), S4, 8080)
    first = world.daemon(RULES, device={"keep": True})
    first.kill()
    world.daemon(RULES)
    expect(exchanged(world) == "here", "no exchange over the device that was left behind")


@case()
def user_who_may_not_remove_the_control_socket_leaves_none(world):
    """Neither in a directory of root's nor together with a directory that was made for it."""
    os.chmod(world.scratch, 0o755)
    folder = world.path("made")
    for path in (world.path("control.sock"), os.path.join(folder, "control.sock")):
        daemon = world.daemon(RULES, daemon={"user": "nobody", "control": path})
        daemon.control = path
        expect(daemon.flows() == 0, "the control socket does not answer")
        with open("/proc/%d/status" % daemon.process.pid) as f:
            expect(re.search(r"^Uid:\s+65534\s+65534\s+65534\s", f.read(), re.M), "the daemon is still root")
        helpers = children_of(daemon.process.pid)
        expect(len(helpers) == 1, "%d processes besides the daemon", len(helpers))
        with open("/proc/%d/status" % helpers[0]) as f:
            text = f.read()
        expect(re.search(r"^CapEff:\s+0000000000000002$", text, re.M), "the remover has more than CAP_DAC_OVERRIDE")
        expect(len(os.listdir("/proc/%d/fd" % helpers[0])) == 1, "the remover has descriptors of the daemon")
        daemon.stop()
        expect(not os.path.exists(path), "the control socket is still there")
        expect(not os.path.exists("/proc/%d" % helpers[0]), "the remover is still there")
    expect(not os.path.exists(folder), "the directory that was made is still there")


@case()
def killed_run_of_a_user_leaves_a_socket_that_is_replaced(world):
    os.chmod(world.scratch, 0o755)
    first = world.daemon(RULES, daemon={"user": "nobody"})
    (helper,) = children_of(first.process.pid)
    for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(helper, sig)
    first.kill()
    wait(lambda: not os.path.exists("/proc/%d" % helper) or process_state(helper) == "Z", 3, "end of the remover")
    expect(os.path.exists(first.control), "a killed run's socket is gone: another run's could be")
    first.messages.clear()
    first.start()
    expect(first.flows() == 0, "the control socket does not answer")
    first.stop()
    expect(not os.path.exists(first.control), "the control socket is still there")


def process_state(number):
    with open("/proc/%d/stat" % number) as f:
        text = f.read()
    return text[text.rindex(")") + 2]


@case()
def watchdog_is_fed(world):
    daemon = world.daemon(RULES, environment={"WATCHDOG_USEC": "600000"})
    time.sleep(2.0)
    daemon.gather()
    fed = sum("WATCHDOG=1" in m for m in daemon.messages)
    expect(fed >= 3, "WATCHDOG=1 came %d times in 2 s, every 0.3 s is due", fed)


@case()
def watchdog_of_another_process_is_ignored(world):
    daemon = world.daemon(RULES, environment={"WATCHDOG_USEC": "200000", "WATCHDOG_PID": "1"})
    time.sleep(0.7)
    daemon.gather()
    expect(not any("WATCHDOG=1" in m for m in daemon.messages), "fed a watchdog that was set for another process")


@case()
def device_that_is_deleted_under_it_is_no_crash(world):
    daemon = world.daemon(RULES)
    world.client.ip("link del pf0")
    daemon.exempt = True
    status = daemon.process.wait(5)
    expect(status == 1, "exited with %d: %s", status, daemon.last())
    telling = [line for line in daemon.log().splitlines() if "device pf0 was deleted" in line]
    expect(len(telling) == 1, "%d lines say that the device is gone: %s", len(telling), daemon.last(4))
    expect(not os.path.exists(daemon.control), "the control socket is still there")


@case()
def address_change_of_the_host_leaves_flows_alone(world):
    world.serve(named("here"), S4, 8080)
    world.daemon(RULES)
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "here", "no exchange")
        world.host.ip("addr add 198.18.50.1/24 dev pfs0", "addr del 198.18.50.1/24 dev pfs0")
        expect(ask(s) == "here", "the flow was lost")


@case()
def daemon_outlives_its_target_and_finds_it_again(world):
    server = world.serve(named("here"), S4, 8080)
    daemon = world.daemon(RULES)
    expect(exchanged(world) == "here", "no exchange")
    server.close()
    wait(lambda: daemon.flows() == 0, 5, "end of the flow")
    try:
        world.client.connect(V4, 80, timeout=3).close()
        expect(False, "accepted for a target that is gone")
    except ConnectionRefusedError:
        pass
    world.serve(named("back"), S4, 8080)
    expect(exchanged(world) == "back", "no exchange after the target came back")
