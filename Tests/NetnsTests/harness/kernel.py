"""The few Linux calls that Python 3.11 does not offer.

setns() moves only the calling thread, and a socket belongs for life to the namespace it was made in: so one test
process can hold clients and servers of several namespaces at once, without a helper process for each.
"""
import ctypes
import fcntl
import os
import signal
import struct

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def _checked(result):
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def setns(descriptor):
    _checked(_libc.setns(descriptor, CLONE_NEWNET))


def without_offload(descriptor, device):
    """Turns off segmentation and coalescing of a network device, named in the namespace of the socket `descriptor`."""
    for command in (0x1F, 0x24, 0x2C):          # ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO
        value = ctypes.create_string_buffer(struct.pack("II", command, 0), 8)
        request = struct.pack("16sQ16x", device.encode(), ctypes.addressof(value))
        fcntl.ioctl(descriptor, 0x8946, request)        # SIOCETHTOOL


def die_with_parent(sig=signal.SIGKILL):
    """The kernel sends `sig` when the thread that forked this process ends: fork from main threads only."""
    _checked(_libc.prctl(PR_SET_PDEATHSIG, sig, 0, 0, 0))


def adopt_orphans():
    """Grandchildren whose parent died become children of this process, which can then end them."""
    _checked(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def children_of(parent):
    """Process numbers of all living descendants, by /proc."""
    below = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open("/proc/%s/stat" % entry) as f:
                    text = f.read()
            except OSError:
                continue
            below.setdefault(int(text[text.rindex(")") + 2:].split()[1]), []).append(int(entry))
    found, todo = [], [parent]
    while todo:
        for child in below.get(todo.pop(), []):
            found.append(child)
            todo.append(child)
    return found
