"""The daemon under test: a configuration, the process, what it tells systemd, its log and its control socket.

Readiness comes over a NOTIFY_SOCKET of ours, as from systemd: no test sleeps until the daemon may be up.
"""
import contextlib
import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import time

from harness import kernel
from harness.namespaces import C4, C6, Failed, end, expect

DEVICE = "pf0"
BINARY = os.path.abspath(os.environ.get("PORTFERRY_BIN") or os.path.join(
    os.path.dirname(__file__), "..", "..", "..", ".build", "release", "portferry"))


def toml(value):
    """A TOML value; JSON's strings, numbers, booleans and arrays of them are TOML's too."""
    if isinstance(value, dict):
        return "{ " + ", ".join("%s = %s" % (k, toml(v)) for k, v in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value)


def document(forwards=(), **tables):
    lines = []
    for name, keys in tables.items():
        if keys:
            lines += ["[%s]" % name] + ["%s = %s" % (k, toml(v)) for k, v in keys.items()] + [""]
    for number, keys in enumerate(forwards):
        lines += ["[[forward]]"] + ["%s = %s" % (k, toml(v)) for k, v in ({"name": "rule%d" % number} | keys).items()]
        lines += [""]
    return "\n".join(lines)


class Daemon:
    """`where` is the namespace of the daemon's sockets, `device_in` the one of its device (None: the same)."""

    def __init__(self, scratch, where, device_in, forwards=(), device=None, daemon=None, defaults=None,
                 environment=None, prefix=(), label="daemon"):
        self.scratch, self.where, self.label = scratch, where, label
        self.prefix, self.environment = list(prefix), dict(environment or {})
        self.device = {"name": DEVICE, "addresses": [C4 + "/24", C6 + "/64"]}
        if device_in is not None:
            self.device["netns"] = device_in.path
        self.device |= device or {}
        self.control = os.path.join(scratch, label + ".sock")
        self.daemon = {"control": self.control, "log": {"level": "info"}} | (daemon or {})
        self.daemon = {k: v for k, v in self.daemon.items() if v is not None}
        self.defaults = defaults or {}
        self.config, self.log_path = (os.path.join(scratch, label + ending) for ending in (".toml", ".log"))
        self.process, self.messages, self.exempt = None, [], False
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify_path = os.path.join(scratch, label + ".notify")
        self.notify.bind(self.notify_path)
        os.chmod(self.notify_path, 0o666)
        self.write(forwards)

    # Configuration.

    def write(self, forwards=(), text=None, **changes):
        """Writes the file; `changes` replace whole tables by name."""
        tables = {"device": self.device, "daemon": self.daemon, "defaults": self.defaults} | changes
        with open(self.config + ".new", "w") as f:
            f.write(document(forwards, **tables) if text is None else text)
        os.replace(self.config + ".new", self.config)

    # Life.

    def launch(self):
        """Starts the process without waiting for it. `exempt`: its end is no surprise to the test."""
        self.exempt = False
        environment = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "WATCHDOG_USEC")}
        environment |= {"NOTIFY_SOCKET": self.notify_path} | self.environment
        argv = self.where.argv(self.prefix + [BINARY, "run", "--config", self.config])
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                            preexec_fn=kernel.die_with_parent)
        return self

    def start(self, within=10.0):
        self.launch()
        self.wait_for("READY=1", within)
        return self

    def wait_for(self, word, within=10.0, after=0):
        """Returns the first notification, from index `after` on, that has the line `word` (or `word=...`)."""
        deadline, looked = time.monotonic() + within, after
        while True:
            self.gather()
            for message in self.messages[looked:]:
                if any(line == word or line.startswith(word + "=") for line in message):
                    return message
            looked = max(looked, len(self.messages))
            if self.process.poll() is not None:
                raise Failed("%s exited with %d before %s: %s" % (self.label, self.process.returncode, word, self.last()))
            left = deadline - time.monotonic()
            if left <= 0:
                raise Failed("%s did not say %s within %g s: %s" % (self.label, word, within, self.last()))
            select.select([self.notify], [], [], min(left, 0.1))

    def gather(self):
        """Takes what has been notified so far; returns the count."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.messages.append(self.notify.recv(4096, socket.MSG_DONTWAIT).decode().splitlines())
        return len(self.messages)

    def reload(self, forwards=(), text=None, within=10.0, **changes):
        """Writes the file, sends SIGHUP and waits until the daemon is ready again, with new rules or old."""
        self.write(forwards, text, **changes)
        before = self.gather()
        self.process.send_signal(signal.SIGHUP)
        self.wait_for("RELOADING=1", within, before)
        # READY may stand in a datagram of its own only: one that follows RELOADING.
        at = next(i for i in range(before, len(self.messages)) if "RELOADING=1" in self.messages[i])
        self.wait_for("READY=1", within, at + 1)

    def stop(self, sig=signal.SIGTERM, within=10.0):
        """Asks the daemon to end and expects exit status 0."""
        expect(self.process.poll() is None, "%s had already exited with %s: %s", self.label,
               self.process.returncode, self.last())
        self.process.send_signal(sig)
        try:
            status = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed("%s did not end within %g s of %s" % (self.label, within, signal.Signals(sig).name))
        self.gather()
        self.exempt = True
        expect(status == 0, "%s exited with %d after %s: %s", self.label, status, signal.Signals(sig).name, self.last())

    def kill(self):
        """kill -9, reaped; the clean-up that a daemon owes is not asked of this one."""
        self.process.kill()
        self.process.wait(5)
        self.exempt = True

    def discard(self):
        if self.process is not None:
            end(self.process)
        self.notify.close()

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    # Log.

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def last(self, lines=2):
        return " | ".join(self.log().strip().splitlines()[-lines:])[-400:]

    def wait_log(self, pattern, within=3.0):
        return wait(lambda: re.search(pattern, self.log()), within, "log matching %r" % pattern)

    # What it uses.

    def resident(self):
        """Octets of resident memory."""
        with open("/proc/%d/statm" % self.process.pid) as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def resident_data(self):
        """Octets of resident memory that the daemon wrote: its code comes in page by page as it runs."""
        with open("/proc/%d/status" % self.process.pid) as f:
            return next(int(line.split()[1]) << 10 for line in f if line.startswith("RssAnon:"))

    def threads(self, file):
        """A file of /proc of each thread, by the thread's number."""
        folder = "/proc/%d/task" % self.process.pid
        found = {}
        for number in os.listdir(folder):
            with open("%s/%s/%s" % (folder, number, file)) as f:
                found[number] = f.read()
        return found

    @contextlib.contextmanager
    def stopped(self):
        """The daemon does nothing inside the `with`: what comes for it in there waits."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            wait(lambda: all("\nState:\tt" in text.replace("\tT", "\tt") for text in self.threads("status").values()), 3, "stop of all threads")
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def trace_worker(self, world, *options):
        """Has strace look at the first worker."""
        worker = next(number for number, name in self.threads("comm").items() if name == "ferry-worker-0\n")
        tracer = world.spawn(world.host, ["strace", "-qq", "-p", worker, *options])
        wait(lambda: "TracerPid:\t0\n" not in self.threads("status")[worker], 5, "tracing of the worker")
        return tracer

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.process.pid))

    # Control socket.

    def get(self, path):
        return json.loads(self.text(path))

    def text(self, path):
        """The body of what the control socket answers."""
        connection = http.client.HTTPConnection("localhost", timeout=5)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(self.control)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode()
            expect(answer.status == 200, "GET %s: %d %s", path, answer.status, body[:200])
            return body
        finally:
            connection.close()

    def status(self):
        return self.get("/api/v1/status")

    def flows(self):
        """Flows that stand now, TCP and UDP."""
        return int(self.status()["flow_count"])

    def drops(self, *reasons):
        """Packets dropped for any of these reasons, by the operator's words."""
        counted = self.status()["drops"]
        return sum(int(counted.get(reason, 0)) for reason in reasons)


def wait(probe, within, what, every=0.02):
    """Polls until the probe returns something true, and returns that."""
    deadline = time.monotonic() + within
    while True:
        value = probe()
        if value:
            return value
        if time.monotonic() > deadline:
            raise Failed("no %s within %g s" % (what, within))
        time.sleep(every)
