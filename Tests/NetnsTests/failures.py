"""What cannot start says why in one clear sentence and exits with 1; `check` and the command line by themselves."""
import fcntl
import os
import re
import shutil
import struct
import subprocess

import harness.daemon
from harness.daemon import BINARY, DEVICE, document
from harness.namespaces import S4, V4, at, expect
from harness.runner import case

RULES = [{"name": "web", "listen": at(V4, 80), "target": at(S4, 8080)}]
UNSEEMLY = r"Fatal error|Stack dump|Backtrace|Illegal instruction|thread \d+ crashed|\$s\d|Error Domain|Optional\("


def command(*argv, **options):
    return subprocess.run([BINARY, *map(str, argv)], capture_output=True, text=True, timeout=10,
                          stdin=subprocess.DEVNULL, **options)


def fails_to_start(daemon, *words):
    """Exit status 1 and one clear sentence that has every one of `words` (patterns)."""
    daemon.launch().exempt = True
    try:
        status = daemon.process.wait(8)
    except subprocess.TimeoutExpired:
        expect(False, "it runs: %s", daemon.last())
    log = daemon.log()
    expect(status == 1, "exited with %d: %s", status, daemon.last(4))
    expect(not re.search(UNSEEMLY, log), "not a clear sentence: %s", daemon.last(6))
    telling = [line for line in log.splitlines() if all(re.search(w, line, re.I) for w in words)]
    expect(len(telling) == 1, "%d lines have %s: %s", len(telling), " and ".join(words), daemon.last(4))
    others = [line for line in log.splitlines() if line not in telling and not re.match(r"\S+ (info|notice) ", line)]
    expect(not others, "besides the sentence there is: %s", " | ".join(others)[:300])
    expect(len(telling[0]) < 400, "the sentence has %d characters", len(telling[0]))
    daemon.gather()
    expect(not any("READY=1" in m for m in daemon.messages), "READY=1 before the failure")
    return telling[0]


@case()
def without_privilege(world):
    binary = world.path("portferry")
    shutil.copy(BINARY, binary)
    for path, mode in ((world.scratch, 0o755), (binary, 0o755)):
        os.chmod(path, mode)
    harness.daemon.BINARY = binary      # this test's process is its own
    daemon = world.daemon(RULES, start=False, device_in=None, prefix=[
        "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"])
    os.chmod(daemon.config, 0o644)
    fails_to_start(daemon, r"CAP_NET_ADMIN|privilege|permission|not permitted|root")
    world.expect_unchanged()


@case()
def without_the_tun_device_file(world):
    daemon = world.daemon(RULES, start=False, prefix=[
        "unshare", "--mount", "--propagation", "private", "sh", "-c",
        "mount --bind %s /dev/net && exec \"$@\"" % world.scratch, "sh"])
    fails_to_start(daemon, "/dev/net/tun")


@case()
def device_name_of_another_link(world):
    world.client.ip("link add %s type veth peer name other0" % DEVICE)
    world.before = world.snapshot()
    fails_to_start(world.daemon(RULES, start=False), DEVICE)
    world.expect_unchanged()


@case()
def device_name_of_another_programs_tun(world):
    with world.client.entered():
        tun = os.open("/dev/net/tun", os.O_RDWR)
        # TUNSETIFF with IFF_TUN | IFF_NO_PI; open until this process ends.
        fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", DEVICE.encode(), 0x1001))
    world.before = world.snapshot()
    fails_to_start(world.daemon(RULES, start=False), DEVICE)
    world.expect_unchanged()        # the other program still holds its device


@case()
def device_of_a_running_daemon(world):
    first = world.daemon(RULES)
    second = world.daemon(RULES, start=False)
    fails_to_start(second, DEVICE)
    expect(first.alive and world.client.has_device(DEVICE), "the first daemon's device is gone")
    expect(first.flows() == 0, "the first daemon does not answer")


@case()
def control_socket_of_a_running_daemon(world):
    first = world.daemon(RULES)
    second = world.daemon(RULES, start=False, device={"name": "pf1", "addresses": ["10.77.100.1/24"]},
                          daemon={"control": first.control})
    fails_to_start(second, re.escape(first.control))
    expect(first.flows() == 0, "the first daemon's control socket was taken away")


@case()
def status_address_in_use(world):
    with world.host.socket("127.0.0.1") as s:
        s.bind(("127.0.0.1", 9077))
        s.listen()
        fails_to_start(world.daemon(RULES, start=False, daemon={"status": "127.0.0.1:9077"}), "9077", "in use|use")
    world.expect_unchanged()


@case()
def namespace_that_does_not_exist(world):
    fails_to_start(world.daemon(RULES, start=False, device={"netns": "/run/netns/portferry-none"}), "portferry-none")


@case()
def file_that_does_not_exist(world):
    daemon = world.daemon(RULES, start=False)
    os.unlink(daemon.config)
    fails_to_start(daemon, re.escape(daemon.config))


@case()
def file_that_is_a_folder(world):
    daemon = world.daemon(RULES, start=False)
    os.unlink(daemon.config)
    os.mkdir(daemon.config)
    fails_to_start(daemon, re.escape(daemon.config))


@case()
def file_that_is_empty(world):
    daemon = world.daemon(RULES, start=False)
    daemon.write(text="\n\n")
    fails_to_start(daemon, re.escape(daemon.config), "empty")


@case()
def file_that_is_no_text(world):
    daemon = world.daemon(RULES, start=False)
    shutil.copyfile(BINARY, daemon.config)
    fails_to_start(daemon, re.escape(daemon.config), "no text")


@case()
def namespace_that_is_none(world):
    for path in ("/proc", "/proc/self/ns/mnt", "/proc/version"):
        fails_to_start(world.daemon(RULES, start=False, device={"netns": path}), "%s is not a network namespace" % path)


@case()
def user_that_does_not_exist(world):
    fails_to_start(world.daemon(RULES, start=False, daemon={"user": "portferry-none"}), "portferry-none", "daemon.user")
    world.expect_unchanged()


@case()
def user_that_may_not_be_become(world):
    daemon = world.daemon(RULES, start=False, daemon={"user": "nobody"}, prefix=["setpriv", "--bounding-set=-setuid"])
    fails_to_start(daemon, "daemon.user", "CAP_SETUID")
    expect(not os.path.exists(daemon.control), "the control socket is still there")
    world.expect_unchanged()


@case()
def status_address_of_no_interface(world):
    fails_to_start(world.daemon(RULES, start=False, daemon={"status": "192.0.2.1:9077"}), "192.0.2.1:9077", "no interface")
    world.expect_unchanged()


@case()
def control_socket_without_its_folder(world):
    daemon = world.daemon(RULES, start=False, daemon={"control": world.path("none/none/control.sock")})
    fails_to_start(daemon, "none/none/control.sock", "directory does not exist")
    world.expect_unchanged()


@case()
def file_with_errors_tells_all_of_them(world):
    daemon = world.daemon(start=False)
    daemon.write(text='[device]\nname = "much-too-long-a-name"\n\n[[forward]]\nname = "a"\nlisten = "10.77.0.10:0"\n'
                      'taget = "198.18.2.2:80"\n')
    daemon.launch().exempt = True
    expect(daemon.process.wait(8) == 1, "exited with %s", daemon.process.returncode)
    log = daemon.log()
    expect(not re.search(UNSEEMLY, log), "not clear: %s", daemon.last(6))
    for line in (2, 6, 7):
        expect("%s:%d:" % (daemon.config, line) in log, "line %d is not named: %s", line, daemon.last(12))
    expect("target" in log, "the nearest key is not named")
    expect(log.count("^") >= 3, "%d carets for three errors", log.count("^"))
    world.expect_unchanged()


def checked(world, text):
    path = world.path("check.toml")
    with open(path, "wb") as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    done = command("check", "--config", path)
    expect(not re.search(UNSEEMLY, done.stdout + done.stderr), "not clear: %s", (done.stdout + done.stderr)[:300])
    return done.returncode, done.stdout + done.stderr, path


@case()
def check_accepts_a_good_file_and_touches_nothing(world):
    status, text, _ = checked(world, document(RULES, device={"name": DEVICE, "addresses": ["10.77.0.1/24"]}))
    expect(status == 0, "exited with %d: %s", status, text[:300])
    world.expect_unchanged()


@case()
def check_names_file_line_and_column(world):
    status, text, path = checked(world, 'title = "x"\n[device]\naddreses = ["10.77.0.1/24"]\n')
    expect(status == 1, "exited with %d", status)
    expect(re.search(re.escape(path) + r":3:1\b", text), "no %s:3:1 in: %s", path, text[:300])
    expect("addresses" in text and "^" in text, "no nearest key or no caret: %s", text[:400])


@case()
def check_takes_the_file_as_an_argument(world):
    path = world.path("good.toml")
    with open(path, "w") as f:
        f.write(document(RULES))
    for argv in ([path], ["--config", path], [path, "--config", path]):
        done = command("check", *argv)
        expect(done.returncode == 0 and path in done.stdout, "%s: %d %s", argv, done.returncode, done.stderr[:200])
    done = command("check", path, "--config", "/other.toml")
    expect(done.returncode == 2 and "two" in done.stderr, "two files: %d %s", done.returncode, done.stderr[:200])
    for name in "check", "run":
        done = command(name, world.path("none.toml"))
        expect(done.returncode == 1 and "none.toml: error: there is no such file" in done.stderr,
               "%s: %d %s", name, done.returncode, done.stderr[:200])
        expect("portferry check my.toml" in done.stderr, "what to type is not told: %s", done.stderr[:200])


@case()
def check_shows_where_queues_stand(world):
    status, text, path = checked(world, "[device]\nqueues = 65\n")
    expect(status == 1 and path + ":2:10: error: 'queues' is out of range" in text and "^" in text,
           "%d %s", status, text[:300])


@case()
def check_refuses_hostile_files_in_words(world):
    for name, text in {"empty rule": "[[forward]]\n", "nul": b"\0\0\0", "not utf-8": b'name = "\xff\xfe"\n',
                       "deep": b"a = " + b"[" * 20000, "long key": b"a" * 200_000, "only a quote": b'"',
                       "duplicate": "[device]\nname = 'a'\n[device]\nname = 'b'\n",
                       "two rules alike": document([RULES[0], RULES[0] | {"name": "other"}]),
                       "two names alike": document([RULES[0], RULES[0] | {"listen": at(V4, 81)}])}.items():
        status, said, path = checked(world, text)
        expect(status == 1, "%s: exited with %d", name, status)
        expect(path + ":" in said, "%s: no place is named: %s", name, said[:200])
        expect(len(said) < 20_000, "%s: %d characters of complaint", name, len(said))


@case()
def check_of_the_default_file_passes(world):
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "Config", "portferry.toml")
    expect(os.path.exists(path), "Config/portferry.toml is missing")
    done = command("check", "--config", path)
    expect(done.returncode == 0, "exited with %d: %s", done.returncode, (done.stdout + done.stderr)[:300])


@case()
def help_and_version_and_usage(world):
    done = command("--version")
    expect(done.returncode == 0 and re.search(r"\d+\.\d+", done.stdout), "--version: %r", done.stdout + done.stderr)
    done = command("--help")
    expect(done.returncode == 0 and all(w in done.stdout for w in ("run", "check")), "--help: %r", done.stdout[:200])
    for each in ("run", "check"):
        done = command(each, "--help")
        expect(done.returncode == 0 and "--config" in done.stdout, "%s --help: %r", each, done.stdout[:200])
    for argv in (["frobnicate"], ["run", "--no-such-option"]):
        done = command(*argv)
        expect(done.returncode == 2, "%s exited with %d, usage errors are 2", " ".join(argv), done.returncode)
        expect(done.stderr.strip(), "%s: nothing on standard error", " ".join(argv))


@case()
def output_to_a_closed_pipe_is_no_crash(world):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([BINARY, "--help"], stdout=write, stderr=subprocess.PIPE, text=True, timeout=10)
    os.close(write)
    expect(not re.search(UNSEEMLY, done.stderr), "%s", done.stderr[:200])
