"""C symbols for compiled code: the system calls and libsrtp functions that the forwarding kernel uses.

Names are resolved in the process, not by address, so that compiled code can be cached on disk. libsrtp is the copy
inside pylibsrtp's extension: one library for Python and kernel.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from numba import njit, types
from pylibsrtp import _binding

llvmlite.binding.load_library_permanently(_binding.__file__)

_pointer, _int, _unsigned, _long = types.uintp, types.int32, types.uint32, types.int64

# int poll(struct pollfd *, nfds_t, int timeout_ms)
poll: Any = types.ExternalFunction("poll", _int(_pointer, types.uint64, _int))
# int recvmmsg(int, struct mmsghdr *, unsigned, int flags, struct timespec *)
recvmmsg: Any = types.ExternalFunction("recvmmsg", _int(_int, _pointer, _unsigned, _int, _pointer))
# int sendmmsg(int, struct mmsghdr *, unsigned, int flags)
sendmmsg: Any = types.ExternalFunction("sendmmsg", _int(_int, _pointer, _unsigned, _int))
# int epoll_wait(int, struct epoll_event *, int, int timeout_ms)
epoll_wait: Any = types.ExternalFunction("epoll_wait", _int(_int, _pointer, _int, _int))
# ssize_t read(int, void *, size_t); ssize_t write(int, const void *, size_t)
read: Any = types.ExternalFunction("read", _long(_int, _pointer, _pointer))
write: Any = types.ExternalFunction("write", _long(_int, _pointer, _pointer))
# int clock_gettime(clockid_t, struct timespec *)
clock_gettime: Any = types.ExternalFunction("clock_gettime", _int(_int, _pointer))
# int nanosleep(const struct timespec *, struct timespec *)
nanosleep: Any = types.ExternalFunction("nanosleep", _int(_pointer, _pointer))
# int *__errno_location(void)
errno_location: Any = types.ExternalFunction("__errno_location", _pointer())
# void *memcpy(void *, const void *, size_t)
memcpy: Any = types.ExternalFunction("memcpy", _pointer(_pointer, _pointer, _pointer))
# int memcmp(const void *, const void *, size_t)
memcmp: Any = types.ExternalFunction("memcmp", _int(_pointer, _pointer, _pointer))
# srtp_err_status_t srtp_*(srtp_t, void *, int *)
srtp_protect: Any = types.ExternalFunction("srtp_protect", _int(_pointer, _pointer, _pointer))
srtp_unprotect: Any = types.ExternalFunction("srtp_unprotect", _int(_pointer, _pointer, _pointer))
srtp_protect_rtcp: Any = types.ExternalFunction("srtp_protect_rtcp", _int(_pointer, _pointer, _pointer))
srtp_unprotect_rtcp: Any = types.ExternalFunction("srtp_unprotect_rtcp", _int(_pointer, _pointer, _pointer))

CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1
MSG_DONTWAIT = 0x40
POLLIN = 1
AF_INET = 2
AF_INET6 = 10
SOL_SOCKET, SOL_UDP = 1, 17
UDP_SEGMENT, UDP_GRO = 103, 104
SO_TIMESTAMPNS = 35  # also the type of its control message
EINTR, EIO, EAGAIN, EINVAL, ENOPROTOOPT, EOPNOTSUPP, ENOBUFS = 4, 5, 11, 22, 92, 95, 105


def _last_error() -> np.int64:
    place = np.empty(1, np.int32)
    memcpy(place.ctypes.data, errno_location(), np.uint64(4))
    return np.int64(place[0])


# The number of the error that the last failed call of this thread left.
read_errno: Any = njit(nogil=True)(_last_error)
