"""Processes of spoold that do not import it first: each is a fork of one that has.

Hundreds of daemons are started by the tests, and half of the work of a start is importing. A
`Forked` process is otherwise what `python -m spoold` is: a process of its own, with its own command
line, environment and descriptors, ended by signals. It is forked from a process that has a single
thread and nothing open. That a bare interpreter can start spoold is proved where it is installed
(tests/systemd), and wherever a test runs `sys.executable`.

    python -m support.forking DESCRIPTOR

is that process: it takes an order as JSON with the descriptors of the new process, forks, answers
with the number of that, and writes its exit code to a pipe when it has ended.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parent.parent
COMMAND = "spoold.cli"  # the module whose `main` is the command `spoold`
# What the commands of the tests import when they need it.
LATER = (
    "spoold.daemon.logs",
    "spoold.daemon.process",
    "spoold.daemon.restore",
    "spoold.driver.file",
    "spoold.driver.ipp",
    "spoold.driver.lpd",
    "spoold.driver.next_hop",
    "spoold.driver.raw",
    "spoold.simulate.ipp_printer",
    "spoold.simulate.printer",
)
ORDER_BYTES_MAX = 1 << 17
DESCRIPTORS_MAX = 1 << 12


class Forked:
    """As `subprocess.Popen`: `pid`, `stdout`, `returncode`, and the methods below."""

    def __init__(
        self,
        *words: object,
        module: str = COMMAND,
        stdout: int = subprocess.PIPE,
        stderr: int = 2,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """Run `module.main()` with these arguments.

        `stdout` and `stderr` are descriptors; without `stdout` there is a pipe.
        """
        self.stdout = None
        self.returncode: int | None = None
        self._lock = threading.Lock()
        with ExitStack() as stack:

            def pipe() -> tuple[int, int]:
                ours, its = os.pipe()
                stack.callback(os.close, its)
                return ours, its

            self._status, status = pipe()
            weakref.finalize(self, os.close, self._status)
            if stdout == subprocess.PIPE:
                reading, stdout = pipe()
                self.stdout = os.fdopen(reading, "rb")
            order = {
                "module": module,
                "words": [str(word) for word in words],
                "environ": dict(os.environ if environ is None else environ),
                "folder": os.getcwd(),
            }
            self.pid = _forge().fork(order, [stdout, stderr, status])

    def poll(self) -> int | None:
        """The exit code, once it has ended."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, when it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not within `timeout` seconds.
        """
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        status = select.poll()
        status.register(self._status, select.POLLIN)
        if self.returncode is None and status.poll(None if timeout is None else timeout * 1000):
            with self._lock:
                if self.returncode is None:  # no other thread has taken it meanwhile
                    self.returncode = int(os.read(self._status, 16))
        return self.returncode


def run(
    *words: object, module: str = COMMAND, environ: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, at most a minute; its `args` are the words."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = Forked(
            *words, module=module, stdout=out.fileno(), stderr=errors.fileno(), environ=environ
        )
        try:
            code = process.wait(60)
        finally:
            process.kill()
        out.seek(0)
        errors.seek(0)
        said = (out.read().decode(), errors.read().decode())
    return subprocess.CompletedProcess(words, code, *said)


class _Forge:
    """The process that forks, one for each process of tests. When that ends, all end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._orders, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "support.forking", str(its.fileno())],
                pass_fds=[its.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(TESTS)},
            )

    def fork(self, order: dict[str, object], descriptors: list[int]) -> int:
        rights = array.array("i", descriptors)
        with self._lock:
            self._orders.sendmsg(
                [json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
            )
            return int(self._orders.recv(16))

    def close(self) -> None:
        self._orders.close()
        self._process.wait(30)


@cache
def _forge() -> _Forge:
    forge = _Forge()
    atexit.register(forge.close)
    return forge


class _Order(NamedTuple):
    module: str
    words: list[str]
    environ: dict[str, str]
    folder: str
    descriptors: list[int]  # stdout, stderr, and where the exit code is written


def _orders(stack: ExitStack, orders: socket.socket) -> _Order | None:
    """Fork for each order. Returns in a forked process with its order, in this one at the end."""
    events = stack.enter_context(selectors.DefaultSelector())
    events.register(orders, selectors.EVENT_READ)
    children: dict[int, tuple[int, int]] = {}  # pid and status pipe, by descriptor of the process
    while True:
        for key, _ in events.select():
            if key.fileobj is not orders:
                events.unregister(key.fileobj)
                _bury(key.fd, *children.pop(key.fd))
                continue
            text, descriptors, _, _ = socket.recv_fds(orders, ORDER_BYTES_MAX, 3)
            if not text:
                for pid, _ in children.values():
                    os.kill(pid, signal.SIGKILL)
                return None
            order = _Order(**json.loads(text), descriptors=descriptors)
            importlib.import_module(order.module)
            pid = os.fork()
            if pid == 0:
                return order
            for one in descriptors[:2]:
                os.close(one)
            handle = os.pidfd_open(pid)
            children[handle] = (pid, descriptors[2])
            events.register(handle, selectors.EVENT_READ)
            orders.send(str(pid).encode())


def _bury(handle: int, pid: int, status: int) -> None:
    os.close(handle)
    _, ended = os.waitpid(pid, 0)
    try:
        os.write(status, str(os.waitstatus_to_exitcode(ended)).encode())
    except BrokenPipeError:
        pass  # nobody wants to know
    os.close(status)


def main() -> int:
    for name in LATER:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    with ExitStack() as stack:
        order = _orders(stack, stack.enter_context(socket.socket(fileno=int(sys.argv[1]))))
    if order is None:
        return 0
    for number, one in enumerate(order.descriptors[:2], 1):
        os.dup2(one, number)
    os.closerange(3, DESCRIPTORS_MAX)
    os.chdir(order.folder)
    os.environ.clear()
    os.environ.update(order.environ)
    sys.argv = [order.module, *order.words]
    crashpoint = sys.modules.get("spoold.spool.crashpoint")
    if crashpoint is not None:
        importlib.reload(crashpoint)  # it has read the environment of another process
    code: int | None = sys.modules[order.module].main()
    return code or 0


if __name__ == "__main__":
    sys.exit(main())
