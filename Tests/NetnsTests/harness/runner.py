"""Runs the tests one after another, each in a process of its own with a time bound of its own.

A line per test, `ok name 1.2s` or `FAILED name why`, and the figures it measured; after a failure the daemon's log too. The
last line counts. A test that cannot run (no privilege, no namespaces, no binary) is a failure, never a skip. Whatever a test
leaves, be it processes, namespaces or sockets, is removed before the next one begins.
"""
import argparse
import fnmatch
import functools
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback

from harness import kernel
from harness.daemon import BINARY
from harness.namespaces import PREFIX, Failed, remove, sweep
from harness.world import World

CASES = []
GRACE_SECONDS = 15      # for a test past its bound to tell its log and clean up


def case(limit=20, families=()):
    """Registers a test: a function of a `World`, bounded to `limit` seconds; its name is `theme.function`.

    With `families=(4, 6)` it becomes a test per address family, which is the function's second argument.
    """
    def register(function):
        name = "%s.%s" % (function.__module__, function.__name__)
        if families:
            CASES.extend(("%s_ipv%d" % (name, f), functools.partial(function, family=f), limit) for f in families)
        else:
            CASES.append((name, function, limit))
        return function
    return register


BOTH = (4, 6)
FIGURE = "figure: "


def figure(text, *values):
    """A measurement that the run shows of passed tests too."""
    print(FIGURE + (text % values if values else text))


class TimeBound(Failed):
    pass


def in_child(function, limit, tag, report):
    """The child process: prints detail to its output, writes the one line `why` to `report`."""
    def ring(*_):
        raise TimeBound("did not end within %d s" % limit)

    def ask_to_end(*_):
        raise TimeBound("the runner was asked to end")

    os.setpgid(0, 0)
    kernel.die_with_parent()
    signal.signal(signal.SIGTERM, ask_to_end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, ring)
    why = ""
    try:
        signal.alarm(limit)
        with World(tag) as world:
            function(world)
    except BaseException as error:
        signal.alarm(0)
        where = [f for f in traceback.extract_tb(error.__traceback__) if os.sep + "harness" + os.sep not in f.filename]
        place = "%s:%d: " % (os.path.basename(where[-1].filename), where[-1].lineno) if where else ""
        text = str(error) if isinstance(error, Failed) else "%s: %s" % (type(error).__name__, error)
        why = place + " ".join(text.split())
        if not isinstance(error, Failed) or isinstance(error, TimeBound):
            traceback.print_exc(file=sys.stdout)
    sys.stdout.flush()
    os.write(report, (why or "passed").encode()[:4000])
    os._exit(1 if why else 0)


class Runner:
    def __init__(self, arguments):
        self.arguments, self.child, self.ending = arguments, None, False
        self.passed = self.failed = 0

    def run(self, name, function, limit, number):
        if os.geteuid():
            return "needs root (namespaces and a TUN device)", ""
        if not os.access(BINARY, os.X_OK):
            return "no program at %s (build it, or set PORTFERRY_BIN)" % BINARY, ""
        tag = "%s%d-%d" % (PREFIX, os.getpid(), number)
        read, write = os.pipe()
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            sys.stdout.flush()
            self.child = os.fork()
            if self.child == 0:
                os.close(read)
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                in_child(function, limit, tag, write)
            os.close(write)
            killed = self.await_child(limit + GRACE_SECONDS)
            with os.fdopen(read) as pipe:
                why = pipe.read()
            self.clean(tag)
            if why == "passed":
                why = ""
            elif not why:
                why = "killed after %d s" % (limit + GRACE_SECONDS) if killed else "the test's process died"
            output.seek(0)
            detail = output.read()
            return why, detail if why else "".join(x for x in detail.splitlines(True) if x.startswith(FIGURE))

    def await_child(self, seconds):
        """Reaps the child; kills it when the bound has passed. True when it had to be killed."""
        deadline, killed = time.monotonic() + seconds, False
        while True:
            done, _ = os.waitpid(self.child, os.WNOHANG)
            if done:
                self.child = None
                return killed
            if time.monotonic() > deadline:
                os.kill(self.child, signal.SIGKILL)
                killed = True
            time.sleep(0.01)

    def clean(self, tag):
        """Ends what the test's process left to us, by number, and deletes its namespaces."""
        for pid in kernel.children_of(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            while os.waitpid(-1, 0)[0]:
                pass
        except ChildProcessError:
            pass
        remove(tag)

    def end(self, *_):
        """SIGTERM or SIGINT: the running test is asked to clean up, then the runner stops."""
        self.ending = True
        if self.child:
            os.kill(self.child, signal.SIGTERM)

    def all(self, chosen):
        kernel.adopt_orphans()
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGINT, self.end)
        sweep()
        number = 0
        for _ in range(self.arguments.repeat):
            for name, function, limit in chosen:
                number += 1
                began = time.monotonic()
                why, detail = self.run(name, function, limit, number)
                if why:
                    self.failed += 1
                    print("FAILED %s %s" % (name, why))
                else:
                    self.passed += 1
                    print("ok %s %.1fs" % (name, time.monotonic() - began))
                print("".join("    %s\n" % line for line in detail.splitlines()), end="")
                sys.stdout.flush()
                if self.ending or (why and self.arguments.fail_fast):
                    return


def main(themes):
    parser = argparse.ArgumentParser(prog="NetnsTests", description="Runs the daemon in network namespaces (as root).")
    parser.add_argument("--only", metavar="GLOB", action="append", help="tests by name, e.g. 'udp.*'; may be repeated")
    parser.add_argument("--list", action="store_true", help="names and time bounds")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="run the chosen tests N times")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    arguments = parser.parse_args()
    for theme in themes:
        importlib.import_module(theme)
    chosen = [c for c in CASES if not arguments.only or any(fnmatch.fnmatch(c[0], g) for g in arguments.only)]
    if arguments.list:
        for name, _, limit in chosen:
            print("%s (at most %d s)" % (name, limit))
        return 0
    began = time.monotonic()
    runner = Runner(arguments)
    runner.all(chosen)
    if runner.ending:
        print("FAILED interrupted")
        runner.failed += 1
    if not chosen:
        print("FAILED no test has such a name")
        runner.failed += 1
    print("namespaces: %.0f s" % (time.monotonic() - began))
    print("%d passed, %d failed" % (runner.passed, runner.failed))
    return 1 if runner.failed else 0


def tool_missing(*names):
    """Fails with the tool's name: a test that cannot run is a failure."""
    for name in names:
        if subprocess.run(["sh", "-c", "command -v " + name], capture_output=True).returncode:
            raise Failed("%s is not installed" % name)
