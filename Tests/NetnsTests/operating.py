"""What an operator sees: the log's words about flows, `Scripts/run` from its first line to its last, the unit's bounds."""
import os
import re
import signal
import socket
import subprocess
import time

from harness.daemon import BINARY, document, wait
from harness.namespaces import NOWHERE4, S4, V4, V6, at, expect, run
from harness.peers import ask, echo_datagram, named, reset
from harness.runner import case

ROOT = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))


def web(port=80, **keys):
    return {"name": "web%d" % port, "listen": at(V4, port), "target": at(S4, 8080)} | keys


def knock(world, port):
    try:
        world.client.connect(V4, port, 5).close()
    except OSError:
        pass


def lines(daemon, message):
    return [line for line in daemon.log().splitlines() if " %s " % message in line]


@case()
def log_says_how_flows_ended(world):
    def resets(connection):
        connection.recv(1)
        reset(connection)
    world.serve(named("here"), S4, 8080)
    world.serve(resets, S4, 8081)
    world.serve_datagrams(echo_datagram, S4, 8082)
    daemon = world.daemon([web(), web(81, target=at(S4, 8081)), web(82), web(83),
                           web(84, protocol="udp", target=at(S4, 8082), udp_timeout="1s")])
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "here", "no exchange")
    daemon.wait_log(r"flow ended .*reason=finished .*rule=web80 .*up=1\b")
    with world.client.connect(V4, 81) as s:
        s.sendall(b"?")
        try:
            s.recv(1)
        except ConnectionResetError:
            pass
    daemon.wait_log(r"flow ended .*reason=target-reset .*rule=web81 ")
    s = world.client.connect(V4, 82)
    expect(ask(s) == "here", "no exchange")
    reset(s)
    daemon.wait_log(r"flow ended .*reason=client-reset .*rule=web82 ")
    with world.client.socket(V4, socket.SOCK_DGRAM) as s:
        s.sendto(b"?", (V4, 84))
        daemon.wait_log(r"flow ended .*protocol=udp reason=idle .*rule=web84 ", within=5)
    with world.client.connect(V4, 83) as s:
        expect(ask(s) == "here", "no exchange")
        daemon.stop()
    daemon.wait_log(r"flow ended .*reason=stopped .*rule=web83 ")
    expect(len(lines(daemon, "flow ended")) == 5, "not one line for each flow: %s", lines(daemon, "flow ended"))


@case()
def log_says_why_clients_got_no_flow(world):
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([web(), web(81, target=at(S4, 9)), web(82, target=at(NOWHERE4, 80)), web(83, max_connections=1)])
    knock(world, 81)
    daemon.wait_log(r"flow failed .*reason=refused .*rule=web81 ")
    knock(world, 82)
    daemon.wait_log(r"flow failed .*reason=unreachable .*rule=web82 ")
    knock(world, 84)
    daemon.wait_log(r"client turned away .*reason=no-rule virtual=%s:84" % re.escape(V4))
    with world.client.connect(V4, 83) as s:
        expect(ask(s) == "here", "no exchange")
        second = world.client.socket(V4)
        second.setblocking(False)
        second.connect_ex((V4, 83))
        daemon.wait_log(r"client turned away .*reason=rule-full rule=web83 ")
        second.close()


@case()
def lines_about_clients_without_a_flow_are_bounded(world):
    daemon = world.daemon([web()], device={"queues": 1})    # each worker has its share of the lines, and its own count
    began = time.monotonic()
    for _ in range(400):
        knock(world, 81)
    bound = 50 + 10 * (time.monotonic() - began + 1)
    time.sleep(0.2)
    knock(world, 82)
    last = daemon.wait_log(r"virtual=\S+:82\b")
    told = lines(daemon, "client turned away")
    expect(50 <= len(told) <= bound + 1, "%d lines, at most %d are due", len(told), bound)
    left_out = sum(int(n) for n in re.findall(r"left_out=(\d+)", daemon.log()))
    expect(last and left_out + len(told) == 401, "%d told and %d left out of 401", len(told), left_out)


# Scripts/run

def script(world, config, name, namespace=None):
    """Scripts/run with a `swift` that has built already."""
    tools = world.path("tools")
    os.makedirs(tools, exist_ok=True)
    swift = os.path.join(tools, "swift")
    with open(swift, "w") as f:
        f.write("#!/bin/sh\ncase $* in\n--version) echo 'Swift version 6.3 (fake)' ;;\n"
                "*--show-bin-path) echo '%s' ;;\nesac\n" % os.path.dirname(BINARY))
    os.chmod(swift, 0o755)
    environment = os.environ | {"PATH": tools + ":" + os.environ["PATH"]}
    return world.spawn(namespace or world.host, [os.path.join(ROOT, "Scripts", "run"), "--config", config],
                       label=name, env=environment)


def output(process):
    with open(process.output_path) as f:
        return f.read()


def page_config(world, name, v4, level="notice", log_format="text", rule=True):
    path = world.path(name + ".toml")
    forwards = [{"name": "welcome", "listen": [at(v4, 8080)], "target": "127.0.0.1:9077"}] if rule else []
    with open(path, "w") as f:
        f.write(document(forwards, device={"name": "pf1", "addresses": [v4.rsplit(".", 1)[0] + ".1/24"]},
                         daemon={"status": "127.0.0.1:9077", "control": world.path(name + ".sock"),
                                 "log": {"level": level, "format": log_format}}))
    return path


def announced(world, config, url):
    process = script(world, config, "run")
    wait(lambda: "Stop it with Ctrl-C" in output(process), 10, "announcement in %r" % output(process)[-300:])
    expect("    curl %s\n" % url in output(process), "%s is not what is announced: %s", url, output(process))
    page = run(world.host.argv(["curl", "-sS", "--max-time", "5", "--noproxy", "*", url]))
    expect("Portferry on pf1" in page, "another page: %s", page[:200])
    return process


def ended(process):
    process.send_signal(signal.SIGINT)
    expect(process.wait(5) == 0, "Scripts/run exited with %s", process.returncode)
    wait(lambda: re.search(r"\bended\b", output(process)), 3, "last words")


@case()
def run_script_names_the_address_that_the_file_has(world):
    ended(announced(world, page_config(world, "a", "10.77.9.9"), "http://10.77.9.9:8080/"))
    ended(announced(world, page_config(world, "b", "10.77.8.9", log_format="json"), "http://10.77.8.9:8080/"))
    ended(announced(world, page_config(world, "c", "10.77.7.9", rule=False), "http://127.0.0.1:9077/"))


@case()
def run_script_that_fails_beside_another_daemon_announces_nothing(world):
    config = page_config(world, "a", "10.77.9.9")
    first = announced(world, config, "http://10.77.9.9:8080/")
    second = script(world, config, "second")
    expect(second.wait(10) == 1, "the second exited with %s", second.returncode)
    wait(lambda: "pf1" in output(second), 3, "reason in the second's output")
    expect("Portferry is up" not in output(second), "the second announced itself: %s", output(second))
    ended(first)


@case()
def run_script_says_whose_build_directory_it_is(world):
    project = world.path("project")
    os.makedirs(os.path.join(project, ".build"))
    run(["cp", "-r", os.path.join(ROOT, "Scripts"), os.path.join(ROOT, "Config"), project])
    swift = os.path.join(project, "swift")
    with open(swift, "w") as f:
        f.write("#!/bin/sh\necho 'Swift version 6.3 (fake)'\n")
    run(["chmod", "-R", "a+rX,go-w", world.scratch])
    os.chmod(swift, 0o755)
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", os.path.join(project, "Scripts", "run")],
        capture_output=True, text=True, timeout=10, env={"PATH": project + ":" + os.environ["PATH"], "HOME": "/"})
    expect(done.returncode == 1 and done.stderr.count("\n") == 1, "exit %d: %s", done.returncode, done.stderr)
    expect(re.search(r"\.build belongs to root, .*sudo rm -rf", done.stderr), "it says: %s", done.stderr)


# The systemd unit

def unit(key):
    with open(os.path.join(ROOT, "Config", "portferry.service")) as f:
        return [line.split("=", 1)[1].strip() for line in f if line.startswith(key + "=")]


@case()
def units_capabilities_suffice(world):
    bounds = ",".join("+" + word[4:].lower() for word in " ".join(unit("CapabilityBoundingSet")).split())
    confined = ["setpriv", "--bounding-set=-all," + bounds, "--inh-caps=-all", "--no-new-privs"]
    expect(unit("NoNewPrivileges") == ["yes"] and unit("Type") == ["notify"], "the unit says otherwise")
    os.chmod(world.scratch, 0o755)
    world.serve(named("here"), S4, 8080)
    daemon = world.daemon([web()], prefix=confined, start=False,
                          daemon={"status": "127.0.0.1:80", "user": "nobody"}, environment={"WATCHDOG_USEC": "400000"})
    os.chmod(daemon.config, 0o644)
    daemon.start()
    with world.client.connect(V4, 80) as s:
        expect(ask(s) == "here", "no exchange")
    daemon.wait_for("WATCHDOG=1")
    daemon.reload([web(), {"name": "web6", "listen": at(V6, 80), "target": at(S4, 8080)}], daemon=daemon.daemon)
    expect(len(daemon.status()["rules"]) == 2, "the reload was refused: %s", daemon.last())
    daemon.stop()
