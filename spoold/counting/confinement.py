"""What the worker may still do after it is ready: compute, and talk over the socket it has.

Limits of the process (setrlimit), and a seccomp filter that refuses files, sockets, other programs
and other processes. The filter is Linux on x86-64 and arm64; elsewhere the limits stand alone, and
`confine` says so. A descriptor that is passed still works: that is how documents come in.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from dataclasses import dataclass

_MIB = 1024 * 1024
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_SET_DUMPABLE = 38, 22, 4
_SECCOMP_MODE_FILTER = 2
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000

# System calls that are refused, by number. Where a name is missing the system does not have it.
_REFUSED: dict[str, tuple[int, ...]] = {
    # open openat openat2 creat | socket connect accept bind listen socketpair accept4, fallocate
    # | clone fork vfork clone3 execve execveat | kill tkill tgkill ptrace process_vm_* pidfd_*
    # | rename link unlink symlink mkdir rmdir chmod chown and their kin | mount, chroot, unshare,
    # setns, bpf, perf, keyctl, io_uring, userfaultfd, memfd_create, prlimit64, truncate
    "x86_64": (
        *(2, 257, 437, 85, 41, 42, 43, 49, 50, 53, 288, 285),
        *(56, 57, 58, 435, 59, 322, 62, 200, 234, 101, 310, 311, 424, 434, 438),
        *(76, 77, 82, 83, 84, 86, 87, 88, 90, 91, 92, 93, 94, 133, 258, 259, 260, 263, 264, 265),
        *(266, 268, 316, 280, 132, 235, 261, 188, 189, 190, 197, 198, 199),
        *(165, 166, 161, 155, 272, 308, 321, 298, 248, 249, 250, 425, 426, 427, 323, 319, 302),
        *(160, 303, 304, 129, 297, 29, 30, 31, 68, 69, 70, 71, 240, 246, 175, 313, 169, 172, 173),
        *(428, 429, 430, 431, 432, 433, 442),
    ),
    "aarch64": (
        *(56, 437, 198, 203, 202, 200, 201, 199, 242, 47),
        *(220, 435, 221, 281, 129, 130, 131, 117, 270, 271, 424, 434, 438),
        *(45, 46, 276, 38, 37, 35, 36, 34, 33, 52, 53, 54, 55, 88, 5, 6, 7, 14, 15, 16),
        *(40, 39, 51, 41, 97, 268, 280, 241, 217, 218, 219, 425, 426, 427, 282, 279, 261),
        *(164, 264, 265, 138, 240, 194, 195, 196, 186, 187, 188, 189, 180, 104, 105, 273, 142),
        *(428, 429, 430, 431, 432, 433, 442),
    ),
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a worker may take."""

    memory_bytes: int = 1024 * _MIB
    processor_s: int = 600  # in its whole life; a document has its own deadline
    open_files: int = 16


def confine(limits: Limits) -> bool:
    """Give up everything but computing, for good; returns whether the filter is in force."""
    # The first to go when the machine has no memory left.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with contextlib.suppress(OSError):
        os.nice(5)
    _limit(resource.RLIMIT_AS, limits.memory_bytes)
    _limit(resource.RLIMIT_CPU, limits.processor_s)
    _limit(resource.RLIMIT_NOFILE, limits.open_files)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    return sys.platform == "linux" and _filter(platform.machine())


def _limit(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(which, (value, value))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _filter(machine: str) -> bool:
    if machine not in _REFUSED:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    code = ctypes.create_string_buffer(_instructions(machine))
    program = _Program(len(code.raw) // 8, ctypes.addressof(code))
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    mode = ctypes.c_ulong(_SECCOMP_MODE_FILTER)
    return bool(libc.prctl(_PR_SET_SECCOMP, mode, ctypes.byref(program), 0, 0) == 0)


def _instructions(machine: str) -> bytes:
    """The filter: another architecture ends the process, a refused call fails with EPERM."""

    def one(code: int, if_true: int, if_false: int, value: int) -> bytes:
        return struct.pack("=HBBI", code, if_true, if_false, value)

    lines = [
        one(_LOAD, 0, 0, 4),  # the architecture
        one(_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        one(_RETURN, 0, 0, _KILL),
        one(_LOAD, 0, 0, 0),  # the number of the call
        one(_JUMP_AT_LEAST, 0, 1, _X32),
        one(_RETURN, 0, 0, _KILL),
    ]
    for number in _REFUSED[machine]:
        lines.append(one(_JUMP_EQUAL, 0, 1, number))
        lines.append(one(_RETURN, 0, 0, _ERRNO | errno.EPERM))
    lines.append(one(_RETURN, 0, 0, _ALLOW))
    return b"".join(lines)
