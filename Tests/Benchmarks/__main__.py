"""The benchmark behind Scripts/bench: what is installed, side by side, in network namespaces of one machine."""
import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "NetnsTests")]

import drawing  # noqa: E402
import forwarders  # noqa: E402
import measures  # noqa: E402
from harness.namespaces import PREFIX, Failed, Namespaces, remove, sweep  # noqa: E402

NEEDED = {"ip": "iproute2", "nft": "nftables", "nsenter": "util-linux", "iperf3": "iperf3", "cc": "gcc"}


def say(words):
    print(words, file=sys.stderr, flush=True)


def processor():
    with open("/proc/cpuinfo") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return " ".join(names[0].split()) if names else platform.machine()


def chosen(names, everything, attribute):
    """Those of `everything` that a comma list names, in its own order; all without a list."""
    if names is None:
        return list(everything)
    known = [getattr(each, attribute) for each in everything]
    wanted = [name for name in names.split(",") if name]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise Failed("there is no '%s': choose among %s" % (unknown[0], ", ".join(known)))
    return [each for each in everything if getattr(each, attribute) in wanted]


def measure_all(forwarder, tag, scratch, load, seconds, wanted, row):
    """One repeat of one forwarder: a value, or None and the reason, for each measure."""
    def failed(key, error):
        row["failed"][key] = str(error)
        row["values"].setdefault(key, []).append(None)
    with Namespaces(tag) as world:
        bench = measures.Bench(world, forwarder, load, seconds)
        with bench.servers():
            try:
                forwarder.start(world, scratch)
                forwarders.wait_for_path(world, forwarder)
                for measure in wanted:
                    try:
                        value = measure.take(bench)
                    except (Failed, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
                        failed(measure.key, error)
                        continue
                    row["values"].setdefault(measure.key, []).append(round(value, 4))
                    say("  %-11s %-32s %s %s" % (forwarder.name, measure.title, drawing.number(value, measure.places),
                                                 measure.unit))
            finally:
                forwarder.stop()


def run(options):
    wanted = chosen(options.measures, measures.ALL, "key")
    there = []
    for kind in chosen(options.peers, forwarders.ALL, "name"):
        forwarder = kind()
        why = forwarder.missing()
        if why:
            say("without %s: %s" % (forwarder.name, why))
        else:
            there.append(forwarder)
    if not there:
        raise Failed("nothing is left to be measured")
    document = {
        "machine": {"processor": processor(), "cores": os.cpu_count(), "kernel": os.uname().release},
        "method": {"congestion_control": "cubic", "seconds": options.seconds, "repeats": options.repeats},
        "measures": [m.described() for m in wanted],
        "forwarders": [{"name": f.name, "title": f.title, "version": f.version(), "values": {}, "failed": {}} for f in there],
    }
    tag = "%s%d-b" % (PREFIX, os.getpid())
    scratch = tempfile.mkdtemp(prefix="portferry-bench-")
    try:
        sweep()
        load = os.path.join(scratch, "load")
        subprocess.run(["cc", "-O2", "-o", load, os.path.join(HERE, "load.c")], check=True)
        for repeat in range(options.repeats):
            say("run %d of %d" % (repeat + 1, options.repeats))
            for forwarder, row in zip(there, document["forwarders"]):
                try:
                    measure_all(forwarder, tag, scratch, load, options.seconds, wanted, row)
                except Failed as error:
                    say("  %-11s %s" % (forwarder.name, error))
                    for measure in wanted:      # a repeat has a value for each
                        if len(row["values"].get(measure.key, [])) <= repeat:
                            row["values"].setdefault(measure.key, []).append(None)
                    row["failed"]["start"] = str(error)
    finally:
        remove(tag)
        shutil.rmtree(scratch, ignore_errors=True)
    return document


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def main():
    parser = argparse.ArgumentParser(prog="Scripts/bench", description="Measures Portferry beside the kernel, haproxy, "
                                     "socat and pasta, as far as they are installed, and prints a table.")
    parser.add_argument("--seconds", type=int, default=2, metavar="N", help="length of each measurement (2)")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="measurements of each kind (3)")
    parser.add_argument("--peers", metavar="LIST", help="of " + ",".join(f.name for f in forwarders.ALL))
    parser.add_argument("--measures", metavar="LIST", help="of " + ",".join(m.key for m in measures.ALL))
    parser.add_argument("--json", metavar="FILE", help="write every value there")
    parser.add_argument("--svg", metavar="FILE", help="write a chart there")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--from", dest="source", metavar="FILE", help="measure nothing: draw what --json has written")
    options = parser.parse_args()
    if options.seconds < 1 or options.repeats < 1:
        parser.error("at least one second, and one repeat")
    try:
        if options.source:
            with open(options.source) as f:
                document = json.load(f)
        else:
            lacking = ["%s (package %s)" % pair for pair in NEEDED.items() if not shutil.which(pair[0])]
            if lacking:
                raise Failed("please install " + ", ".join(lacking))
            if os.geteuid():
                raise Failed("network namespaces need root")
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            document = run(options)
    except Failed as error:
        say("Scripts/bench: %s" % error)
        return 1
    except KeyboardInterrupt:
        say("stopped; namespaces and processes are removed")
        return 130
    if options.json:
        write(options.json, json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if options.svg:
        write(options.svg, drawing.chart(document))
    print(drawing.markdown(document) if options.markdown else drawing.table(document), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
