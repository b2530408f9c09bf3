"""Senders of jobs over raw and frames, who remember what they sent and what they were told.

Every job is told apart by its name: the title of a raw job, the job-uuid of a frames job. What the
daemon itself told its clients, and when, is read from its record (`Answers`).
"""

from __future__ import annotations

import random
import re
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid4

from spoold.provider.blocking import BlockingProvider
from spoold.provider.receipt import SubmitError
from support.process import Daemon
from support.trace import Call

SIZES = (10, 4000, 60_000, 300_000, 1_500_000)


class Load:
    """Jobs by name: `sent` whole, `acknowledged` those whose sender was told so.

    `receipts` are the ids that frames jobs got. It goes on from daemon to daemon.
    """

    def __init__(self, seed: int, sizes: Sequence[int] = SIZES) -> None:
        self._random = random.Random(seed)
        self._sizes = sizes
        self.sent: dict[str, bytes] = {}
        self.acknowledged: set[str] = set()
        self.receipts: dict[str, int] = {}
        self.raw: set[str] = set()  # those of `sent` that went over raw
        # Which raw jobs came from which port of ours, one after the other, in the last run.
        self.raw_ports: dict[int, list[str]] = {}

    def run(self, daemon: Daemon, raw_senders: int = 2, jobs: int = 12) -> None:
        """Send `jobs` jobs by each sender, or until the daemon is gone."""
        self.raw_ports.clear()
        threads = [
            threading.Thread(target=self._send_raw, args=(daemon, jobs)) for _ in range(raw_senders)
        ]
        threads.append(threading.Thread(target=self._send_frames, args=(daemon, jobs)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _body(self, name: str) -> bytes:
        noise = self._random.randbytes(self._random.choice(self._sizes))
        return b"%!PS " + name.encode() + b"\n" + noise

    def _send_raw(self, daemon: Daemon, count: int) -> None:
        for _ in range(count):
            name = uuid4().hex
            # The title says which job it is; a body of its own kind is not needed for that.
            head = f'\x1b%-12345X@PJL JOB NAME="{name}"\r\n@PJL ENTER LANGUAGE=PCL\r\n'.encode()
            body = head + self._body(name) + b"\x1b%-12345X"
            try:
                with socket.create_connection(("127.0.0.1", daemon.port), 5) as sender:
                    self.sent[name] = body
                    self.raw.add(name)
                    self.raw_ports.setdefault(sender.getsockname()[1], []).append(name)
                    sender.settimeout(20)
                    sender.sendall(body)
                    sender.shutdown(socket.SHUT_WR)
                    if sender.recv(1) == b"":
                        self.acknowledged.add(name)
            except OSError:
                if daemon.process.poll() is not None:
                    return

    def _send_frames(self, daemon: Daemon, count: int) -> None:
        names = (str(uuid4()) for _ in range(count))
        self._submit(daemon, ((name, self._body(name)) for name in names))

    def send_again(self, daemon: Daemon) -> None:
        """Send every frames job again, as a client does that does not know what became of it.

        Raises:
            AssertionError: a job that had a number was told another one.
        """
        self._submit(daemon, [(name, self.sent[name]) for name in self.sent.keys() - self.raw])

    def _submit(self, daemon: Daemon, jobs: Iterable[tuple[str, bytes]]) -> None:
        try:
            with BlockingProvider(
                [f"127.0.0.1:{daemon.port}"],
                connect_timeout_s=2,
                answer_timeout_s=20,
                doubt_timeout_s=0.5,
                unreachable_timeout_s=0.5,
            ) as provider:
                for name, body in jobs:
                    self.sent[name] = body
                    receipt = provider.submit(body, printer="default", job_uuid=UUID(name))
                    number = self.receipts.setdefault(name, receipt.job_id)
                    assert number == receipt.job_id, f"{name} was {number}"
                    self.acknowledged.add(name)
        except (OSError, SubmitError) as error:
            try:
                daemon.process.wait(10)
            except subprocess.TimeoutExpired:
                raise error from None  # it may fail for no other reason than the daemon's end


class Answers:
    """The jobs that a recorded daemon has acknowledged up to a moment of its record."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._ports: dict[int, int] = {}  # the client's port, by descriptor
        self._accepted: dict[int, int] = {}  # how many connections came from a port
        self.acknowledged: set[str] = set()

    def enter(self, call: Call) -> bool:
        """Whether this call is an acknowledgement: a FIN is allowed, or a uuid is told."""
        names: set[str] = set()
        if call.name == "setsockopt" and b"SO_LINGER, {l_onoff=0" in call.arguments:
            port = self._port(call)
            if port in self._load.raw_ports:
                names = {self._load.raw_ports[port][self._accepted[port] - 1]}
        elif call.name == "sendto" and self._port(call):
            told = re.findall(rb"[0-9a-f]{8}-[0-9a-f-]{27}", call.strings()[0])
            names = {one.decode() for one in told} & self._load.sent.keys()
        is_new = not names <= self.acknowledged
        self.acknowledged |= names
        return is_new

    def leave(self, call: Call) -> None:
        if call.name == "accept4" and call.result is not None and call.result >= 0:
            found = re.search(rb"sin_port=htons\((\d+)\)", call.arguments)
            port = int(found[1]) if found else 0
            self._ports[call.result] = port
            self._accepted[port] = self._accepted.get(port, 0) + 1

    def _port(self, call: Call) -> int:
        return self._ports.get(call.files()[0][0], 0)
