"""The namespace tests: `python3 Tests/NetnsTests [--only GLOB] [--list] [--repeat N]`, as root.

The real daemon ($PORTFERRY_BIN, else .build/release/portferry) with a real TUN device between real programs. Each theme is
a file beside this one; what they share is in `harness`. Standard library only.
"""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness.runner import main  # noqa: E402

THEMES = ["refusals", "mapping", "half_close", "udp", "udp_runs", "icmp", "concurrency", "pressure", "reload", "device",
          "lifecycle", "failures", "hostile", "flood", "silence", "stall", "congestion", "loss", "operating", "workers",
          "bulk", "offload"]

if __name__ == "__main__":
    sys.exit(main(THEMES))
