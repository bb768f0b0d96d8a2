"""The TCP traces against the kernel's own TCP: `python3 Tests/KernelTraces [--only REGEX] [--verbose]`, as root.

Tests/TCPTests says what our TCP answers to which segments. Here the same traces are played to a listening socket of
this kernel, behind a TUN device in a network namespace of its own, so that expectations which no TCP meets are found.
What differs must be listed with its reason in Tests/TCPTests/KERNEL.md; what is listed must differ. Traces that ask for
what a kernel does not have, or that take long, are told as inapplicable. The tests must have been built.
"""
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TABLE = os.path.join(ROOT, "Tests", "TCPTests", "KERNEL.md")
LEAST = 60  # traces that the kernel must have answered as ours does

# What the traces take for granted, and what would carry one connection's past into the next.
SETTINGS = {
    "net/ipv4/tcp_no_metrics_save": 1,
    "net/ipv4/tcp_invalid_ratelimit": 0,
    "net/ipv4/tcp_ecn": 2,
    "net/ipv4/tcp_sack": 1,
    "net/ipv4/tcp_dsack": 1,
    "net/ipv4/tcp_comp_sack_nr": 0,
    "net/ipv4/tcp_timestamps": 1,
    "net/ipv4/tcp_window_scaling": 1,
    "net/ipv4/tcp_fastopen": 0,
    "net/ipv4/tcp_rfc1337": 1,
    "net/ipv4/tcp_syncookies": 0,
    "net/ipv4/tcp_autocorking": 0,
    "net/ipv4/conf/all/rp_filter": 0,
    "net/ipv4/conf/default/rp_filter": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
}

COMMANDS = """
ip link set lo up
ip tuntap add mode tun name trace0
ip link set trace0 mtu 65535 up
ip addr add 10.77.0.10/32 dev trace0
ip addr add fd77::10/128 dev trace0 nodad
ip route add 192.0.2.0/24 dev trace0
ip route add 2001:db8::/64 dev trace0
"""


def set_up():
    for name, value in SETTINGS.items():
        path = os.path.join("/proc/sys", name)
        if os.path.exists(path):
            with open(path, "w") as file:
                file.write(str(value))
    for command in COMMANDS.strip().splitlines():
        subprocess.run(command.split(), check=True)


def listed():
    """Test name to reason, and the names of those that a few milliseconds decide, from the tables."""
    reasons, loose, by_clock = {}, set(), False
    with open(TABLE) as file:
        for line in file:
            by_clock = by_clock or line.startswith("## By the clock")
            cells = line.split("|")
            if len(cells) >= 4 and cells[1].strip().startswith("`"):
                for name in re.findall(r"`(\w+\.\w+)`", cells[1]):
                    reasons[name] = cells[2].strip()
                    if by_clock:
                        loose.add(name)
    return reasons, loose


def run(only):
    """Runs the tests in this namespace: test name to [(verdict, why, trace)], a case each."""
    results = tempfile.NamedTemporaryFile("r", suffix=".traces")
    environment = dict(os.environ, PORTFERRY_TRACE_PEER="kernel", PORTFERRY_TRACE_RESULTS=results.name)
    command = ["swift", "test", "--skip-build", "--disable-xctest", "--no-parallel", "--filter", only]
    output = subprocess.run(command, env=environment, cwd=os.environ.get("PORTFERRY_PACKAGE", ROOT), text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
    if not re.search(r"Test run with \d+ tests?", output):
        print(output[-4000:])
    traces = {}
    for line in results.read().splitlines():
        if line.startswith("    "):
            case[2].append(line)
        else:
            identity, verdict, why = line.split("\t", 2)
            case = (verdict, why, [])
            traces.setdefault(name_of(identity), []).append(case)
    return traces


def name_of(identity):
    """`Suite.function` of Swift Testing's identifier, TCPTests.Suite/function(arguments:)/File.swift:1:1."""
    match = re.search(r"\.(\w+)/(\w+)\(", identity)
    return f"{match[1]}.{match[2]}" if match else identity


def verdict_of(cases):
    """What a test came to: (verdict, why, trace) of its most telling case."""
    return min(cases, key=lambda case: ("differs", "same", "inapplicable").index(case[0]))


def is_failure(name, cases, reasons, loose):
    return name not in loose and (verdict_of(cases)[0] == "differs") != (name in reasons)


def judge(traces, reasons, loose, verbose):
    """Prints what is to be told, and returns the counts by verdict and the names of the failed."""
    counts, failed = dict(same=0, differs=0, inapplicable=0), []
    for name, cases in sorted(traces.items()):
        verdict, why, trace = verdict_of(cases)
        counts[verdict] += 1
        if is_failure(name, cases, reasons, loose):
            failed.append(name)
            if verdict == "differs":
                print("\n".join([f"FAILED {name}: the kernel differs, and the table does not say why", f"    {why}"] + trace[-25:]))
            else:
                print(f"FAILED {name}: the table says that the kernel differs, but it is {verdict} {why}")
        elif verbose or verdict == "differs":
            print(f"ok {name}: {verdict}; {reasons.get(name, why)}")
    return counts, failed


def main(arguments):
    if "--inside" not in arguments:
        return subprocess.run(["unshare", "-n", sys.executable, os.path.abspath(__file__), "--inside", *arguments]).returncode
    only = arguments[arguments.index("--only") + 1] if "--only" in arguments else "TCPTests"
    set_up()
    traces, (reasons, loose) = run(only), listed()
    # What came late by chance does not do so twice.
    doubtful = [name for name, cases in traces.items() if is_failure(name, cases, reasons, loose)]
    if doubtful:
        traces.update(run("|".join(re.escape(name.replace(".", "/")) + r"\(" for name in doubtful)))
    counts, failed = judge(traces, reasons, loose, "--verbose" in arguments)
    if "--only" not in arguments:
        for name in sorted(reasons.keys() - traces.keys()):
            failed.append(name)
            print(f"FAILED {name}: the table names it, and it did not run")
        if counts["same"] < LEAST:
            failed.append("")
            print(f"FAILED only {counts['same']} traces are the same; fewer than {LEAST} say nothing")
    print(f"{counts['same']} the same, {counts['differs']} differ, {counts['inapplicable']} inapplicable")
    wrong = sum(name in traces and verdict_of(traces[name])[0] != "inapplicable" for name in failed)
    print(f"{counts['same'] + counts['differs'] - wrong} passed, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
