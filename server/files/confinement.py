"""Gives up, in a process, what it does not need: memory, time, privileges, and with Landlock all files but a few.

Landlock is Linux' own way for programs to shut themselves in (Documentation/userspace-api/landlock.rst, since 5.13);
where the kernel has none, the other bounds hold alone.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Iterable

MEMORY = 1_536 * 1_048_576  # of addresses: a picture of 40 million pixels takes 160 MB, some three times
CPU_S = 120
FILES = 32
NICENESS = 10  # pictures in streams go before pictures in messages
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38  # linux/prctl.h
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # system calls, the same on all machines
ASK_VERSION, PATH_BENEATH = 1, 1  # linux/landlock.h
WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
# All rights to files that a version knows, by the least version: what is among them and not allowed is denied.
RIGHTS = ((5, (1 << 16) - 1), (3, (1 << 15) - 1), (2, (1 << 14) - 1), (1, (1 << 13) - 1))
TCP, TCP_SINCE = 0b11, 4  # to listen and to connect
SCOPES, SCOPES_SINCE = 0b11, 6  # to reach other processes' abstract sockets, and to send them signals
LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")

_libc = ctypes.CDLL(None, use_errno=True)


def bound(largest: int) -> None:
    """Bound memory, time and the size of files; give up new privileges, and life without the parent."""
    for limit, most in (
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, largest),
        (resource.RLIMIT_NOFILE, FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.nice(NICENESS)


def landlock_version() -> int:
    """Return which version of Landlock this machine has, 0 for none."""
    return max(0, int(_libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION)))


def shut_in(written: Iterable[int]) -> None:
    """Open no file any more but Python's own, to be read, and those of some descriptors; reach no network.

    Descriptors that are open stay so. Needs `bound`, and does nothing where there is no Landlock.
    """
    version = landlock_version()
    if not version:
        return
    rights = next(rights for least, rights in RIGHTS if version >= least)
    asked = struct.pack("=Q", rights)
    if version >= TCP_SINCE:
        asked += struct.pack("=Q", TCP)
    if version >= SCOPES_SINCE:
        asked += struct.pack("=Q", SCOPES)
    rules = _call(CREATE_RULESET, asked, ctypes.c_size_t(len(asked)), 0)
    for path in {sys.prefix, sys.base_prefix, *LIBRARIES}:
        if os.path.isdir(path):
            folder = os.open(path, os.O_PATH | os.O_DIRECTORY)
            _allow(rules, folder, READ_FILE | READ_DIR)
            os.close(folder)
    for descriptor in written:
        _allow(rules, descriptor, rights & (READ_FILE | WRITE_FILE | TRUNCATE))
    _call(RESTRICT_SELF, rules, 0)
    os.close(rules)


def _allow(rules: int, descriptor: int, rights: int) -> None:
    _call(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights, descriptor), 0)


def _call(number: int, *arguments: object) -> int:
    done = int(_libc.syscall(number, *arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return done
