"""Runs one converter within limits. A program of its own: `convert` starts it, nobody imports it.

    python -I -S launcher.py CONTROL LIMITS PROGRAM [ARGUMENT]...

CONTROL is the number of a socket; when its other end closes, the converter and all its descendants
are killed, so that neither a cancelled attempt nor a killed spoold leaves any of them behind. What
became of the converter is written to it, as one line of JSON. LIMITS is JSON, too. Standard input,
output and error, the directory and the environment are the converter's own already. It imports the
standard library alone, and forks before it has a second thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import Any, NoReturn

NOBODY = 65534
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
LOOK_S = 0.5
FILES_MAX = 10_000
PROBLEM_BYTES_MAX = 1_000
KILLS_MAX = 1_000
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 36, 38

_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    limits: dict[str, Any] = json.loads(sys.argv[2])
    for number in ENDING:  # what ends spoold ends us by way of the socket
        signal.signal(number, signal.SIG_IGN)
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    is_alone = leave_network()
    launcher = os.getpid()
    problems, tell = os.pipe()  # both ends close when a program is executed
    child = os.fork()
    if child == 0:
        become(sys.argv[3:], limits, launcher, tell)
    os.close(tell)
    problem = os.read(problems, PROBLEM_BYTES_MAX).decode(errors="replace")
    result = {**watch(child, control, limits), "problem": problem, "is_alone": is_alone}
    kill_descendants()
    with contextlib.suppress(OSError):
        control.sendall(json.dumps(result).encode() + b"\n")


def leave_network() -> bool:
    """Be in a network of nobody, where this machine and user may; else stay."""
    uid, gid = os.getuid(), os.getgid()
    if uid == 0:
        return bool(_libc.unshare(CLONE_NEWNET) == 0)
    if _libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"),
                       ("gid_map", f"{gid} {gid} 1")):  # fmt: skip
        with contextlib.suppress(OSError), open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def become(command: list[str], limits: dict[str, Any], launcher: int, tell: int) -> NoReturn:
    """In the child: give up what it need not have, and become the converter; or tell why not."""
    try:
        for what, soft, hard in limits["rlimits"]:
            resource.setrlimit(getattr(resource, what), (soft, hard))
        os.umask(0o077)
        with contextlib.suppress(OSError):  # a hardened service may not
            os.nice(5)
        if os.getuid() == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        for number in (*ENDING, signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores the last two
            signal.signal(number, signal.SIG_DFL)
        if os.getppid() == launcher:
            os.execvpe(command[0], command, os.environ)
    except BaseException as error:
        os.write(tell, str(error).encode()[:PROBLEM_BYTES_MAX])
    os._exit(1)


def watch(child: int, control: socket.socket, limits: dict[str, Any]) -> dict[str, Any]:
    """Wait for the end of the converter, or for the moment at which it must end."""
    deadline = time.monotonic() + limits["deadline_s"]
    pidfd = os.pidfd_open(child)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(control, select.POLLIN | select.POLLHUP)
    why = ""
    while not why:
        left_s = min(LOOK_S, max(0.0, deadline - time.monotonic()))
        ready = [fd for fd, _ in poll.poll(left_s * 1000)]
        if pidfd in ready:
            why = "ended"
        elif control.fileno() in ready:
            why = "stopped"
        elif time.monotonic() >= deadline:
            why = "deadline"
        elif is_too_much(limits["directory_bytes"]):
            why = "directory"
    if why != "ended":
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    return {
        "why": why,
        "code": os.waitstatus_to_exitcode(status),
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 3),
        "memory_bytes": usage.ru_maxrss * 1024,
    }


def is_too_much(bytes_max: int) -> bool:
    """Whether the converter fills its directory."""
    size = count = 0
    for folder, _, names in os.walk("."):
        for name in names:
            count += 1
            with contextlib.suppress(OSError):
                size += os.lstat(os.path.join(folder, name)).st_blocks * 512
            if count > FILES_MAX:
                return True
    return size > bytes_max


def kill_descendants() -> None:
    """Whatever the converter started falls to us when its parent ends, and ends here."""
    mine = f"/proc/self/task/{os.getpid()}/children"
    for _ in range(KILLS_MAX):
        try:
            with open(mine) as file:
                children = [int(pid) for pid in file.read().split()]
        except OSError:  # a kernel that does not say
            return
        if not children:
            return
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
