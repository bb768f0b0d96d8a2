"""Offload that fails while the daemon runs: the kernel refuses packets that it took before."""
import os

import bulk
from harness.daemon import wait
from harness.namespaces import expect
from harness.peers import MIB
from harness.runner import BOTH, case, figure, tool_missing


def refusing(error, when):
    """A daemon some of whose writes to the device fail, counted for each thread; a hundred apart, they hit no segment of
    what failed before."""
    return ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=writev",
            "-e", "inject=writev:error=%s:when=%s" % (error, when)]


def rewritten(daemon):
    return int(daemon.status()["counters"]["tun_packets_rewritten"])


def download(world, family, prefix, total=64 * MIB):
    tool_missing("strace")
    bulk.start_web(world, family)
    daemon = world.daemon([bulk.forward(family)], prefix=prefix)
    expect(bulk.curl_down(world, family, total) == (total, bulk.digest(total, bulk.SEED)), "the download differs")
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")
    figure("%d packets written again", rewritten(daemon))
    expect(daemon.drops("device-write-failed") == 0, "packets were lost")
    return daemon


@case(limit=60, families=BOTH)
def what_finds_no_memory_goes_out_in_segments(world, family):
    daemon = download(world, family, refusing("ENOBUFS", "20+100"))
    expect(rewritten(daemon) >= 8, "%d packets were written again", rewritten(daemon))
    expect("without offload" not in daemon.log(), "offload was given up for want of memory")


@case(limit=60, families=BOTH)
def a_kernel_that_refuses_offload_gets_plain_packets(world, family):
    # On one processor one thread writes all.
    alone = ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
    daemon = download(world, family, alone + refusing("EINVAL", "20..720+100"))
    daemon.wait_log(r"the kernel refuses offloaded packets; going on without offload")
    expect(rewritten(daemon) == 8, "%d packets were written again", rewritten(daemon))


@case(limit=60)
def what_cannot_be_written_at_all_is_sent_again(world):
    """A packet and the segments made of it find no memory: its endpoint's timers mend what is lost."""
    tool_missing("strace")
    bulk.start_web(world, 4)
    total = 4 * MIB
    daemon = world.daemon([bulk.forward(4)], prefix=refusing("ENOMEM", "20..21"))
    expect(bulk.curl_down(world, 4, total) == (total, bulk.digest(total, bulk.SEED)), "the download differs")
    wait(lambda: daemon.flows() == 0, 5, "end of the flows")
    expect(daemon.drops("device-write-failed") > 0, "nothing was lost")
