"""One test's world: namespaces, scratch folder, daemons, programs and servers, and the checks that every test ends with.

After a test's own expectations, each daemon that still runs is asked to end: it must exit with 0 and leave links,
addresses, routes and rules of all namespaces as they were before it began.
"""
import os
import shutil
import signal
import subprocess
import tempfile

from harness import kernel
from harness.daemon import Daemon
from harness.namespaces import Failed, Namespaces, end
from harness.peers import DatagramServer, StreamServer


class World:
    def __init__(self, tag):
        self.namespaces = Namespaces(tag)
        self.daemons, self.processes, self.listeners = [], [], []

    def __enter__(self):
        self.scratch = tempfile.mkdtemp(prefix="portferry-netns-")
        try:
            net = self.namespaces.__enter__()
        except BaseException:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise
        self.client, self.host, self.servers = net.client, net.host, net.servers
        self.before = self.snapshot()
        return self

    def snapshot(self):
        return {n.name[-1]: n.snapshot() for n in (self.client, self.host, self.servers)}

    def changed(self):
        """What differs from the time before any daemon ran, in words."""
        now, found = self.snapshot(), []
        for name, parts in self.before.items():
            for part, rows in parts.items():
                found += ["%s %s left behind: %s" % (name, part, r) for r in now[name][part] if r not in rows]
                found += ["%s %s missing: %s" % (name, part, r) for r in rows if r not in now[name][part]]
        return found

    def expect_unchanged(self):
        found = self.changed()
        if found:
            raise Failed("; ".join(found)[:600])

    # Things of a test.

    def daemon(self, forwards=(), start=True, where=None, device_in="client", **options):
        """A daemon in H with its device in C, ready to carry traffic."""
        where = where or self.host
        device_in = self.client if device_in == "client" else device_in
        label = "daemon" if not self.daemons else "daemon%d" % (len(self.daemons) + 1)
        made = Daemon(self.scratch, where, device_in, forwards, label=label, **options)
        self.daemons.append(made)
        return made.start() if start else made

    def spawn(self, namespace, argv, label=None, **options):
        """A program that lives no longer than the test; its output goes to the scratch folder."""
        path = os.path.join(self.scratch, "%s-%d.out" % (label or os.path.basename(str(argv[0])), len(self.processes)))
        with open(path, "ab") as output:
            options = {"stdin": subprocess.DEVNULL, "stdout": output, "stderr": output} | options
            made = subprocess.Popen(namespace.argv(argv), preexec_fn=kernel.die_with_parent, **options)
        made.output_path = path
        self.processes.append(made)
        return made

    def serve(self, handler, address, port, namespace=None):
        made = StreamServer(namespace or self.servers, address, port, handler)
        self.listeners.append(made)
        return made

    def serve_datagrams(self, handler, address, port, namespace=None):
        made = DatagramServer(namespace or self.servers, address, port, handler)
        self.listeners.append(made)
        return made

    def path(self, name):
        return os.path.join(self.scratch, name)

    # The end.

    def __exit__(self, kind, error, trace):
        failure = None
        try:
            if kind is None:
                try:
                    self.finish()
                except Exception as problem:  # told after the clean-up, with the log
                    failure = problem
            if error is not None or failure is not None:
                self.tell_logs()
        finally:
            signal.alarm(0)
            for process in self.processes:
                end(process, signal.SIGKILL)
            for daemon in self.daemons:
                daemon.discard()
            for listener in self.listeners:
                listener.close()
            self.namespaces.__exit__()
            shutil.rmtree(self.scratch, ignore_errors=True)
        if failure is not None:
            raise failure

    def finish(self):
        for daemon in self.daemons:
            if daemon.alive:
                daemon.stop()
            elif daemon.process is not None and not daemon.exempt:
                raise Failed("%s exited by itself with %s: %s" % (daemon.label, daemon.process.returncode, daemon.last()))
        if self.daemons:
            self.expect_unchanged()

    def tell_logs(self):
        for daemon in self.daemons:
            if os.path.exists(daemon.log_path):
                lines = daemon.log().splitlines()[-25:]
                print("-- %s, %s, last %d lines of its log:" % (
                    daemon.label, "running" if daemon.alive else "not running", len(lines)))
                print("\n".join("   " + line[:300] for line in lines), flush=True)
