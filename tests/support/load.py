"""Senders of jobs over raw, frames and IPP, who remember what they sent and what they were told.

Every job is told apart by its name: the job-uuid of a frames job, the title of the others. What the
daemon itself told its clients, and when, is read from its record (`Answers`).
"""

from __future__ import annotations

import random
import re
import socket
import subprocess
import threading
from collections.abc import Iterable, Sequence
from http.client import HTTPConnection, HTTPException, IncompleteRead
from uuid import UUID, uuid4

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
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
        self.titled: set[str] = set()  # those of `sent` that are known by their title
        # Which of these came from which port of ours, one after the other, in the last run.
        self.ports: dict[int, list[str]] = {}

    def run(
        self, daemon: Daemon, raw_senders: int = 2, ipp_senders: int = 0, jobs: int = 12
    ) -> None:
        """Send `jobs` jobs by each sender, or until the daemon is gone."""
        self.ports.clear()
        senders = [
            self._send_frames,
            *[self._send_raw] * raw_senders,
            *[self._send_ipp] * ipp_senders,
        ]
        threads = [threading.Thread(target=sender, args=(daemon, jobs)) for sender in senders]
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
                with socket.create_connection(("127.0.0.1", daemon.port), 30) as sender:
                    self._note(name, body, sender)
                    sender.settimeout(20)
                    sender.sendall(body)
                    sender.shutdown(socket.SHUT_WR)
                    if sender.recv(1) == b"":
                        self.acknowledged.add(name)
            except OSError:
                if daemon.process.poll() is not None:
                    return

    def _send_ipp(self, daemon: Daemon, count: int) -> None:
        """By Print-Job, and in two steps by Create-Job and Send-Document, in turn."""
        for number in range(count):
            name = uuid4().hex
            title, body = ipp.name_("job-name", name), self._body(name)
            client = HTTPConnection("127.0.0.1", daemon.port, timeout=60)
            try:
                client.connect()
                self._note(name, body, client.sock)
                if number % 2:
                    made = _ask(client, ipp_request(Operation.CREATE_JOB, title))
                    which = ipp.integer("job-id", made.group(ipp.Tag.JOB).first("job-id"))
                    last = ipp.boolean("last-document", True)
                    request = ipp_request(Operation.SEND_DOCUMENT, which, last)
                else:
                    request = ipp_request(Operation.PRINT_JOB, title)
                _ask(client, request + body)
                self.acknowledged.add(name)
            except (OSError, HTTPException):
                if daemon.process.poll() is not None:
                    return
            finally:
                client.close()

    def _note(self, name: str, body: bytes, sock: socket.socket) -> None:
        self.sent[name] = body
        self.titled.add(name)
        self.ports.setdefault(sock.getsockname()[1], []).append(name)

    def _send_frames(self, daemon: Daemon, count: int) -> None:
        names = (str(uuid4()) for _ in range(count))
        self._submit(daemon, ((name, self._body(name)) for name in names))

    def send_again(self, daemon: Daemon) -> None:
        """Send every frames job again, as a client does that does not know what became of it.

        Raises:
            AssertionError: a job that had a number was told another one.
        """
        self._submit(daemon, [(name, self.sent[name]) for name in self.sent.keys() - self.titled])

    def _submit(self, daemon: Daemon, jobs: Iterable[tuple[str, bytes]]) -> None:
        try:
            with BlockingProvider(
                [f"127.0.0.1:{daemon.port}"],
                connect_timeout_s=10,
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
                daemon.process.wait(30)
            except subprocess.TimeoutExpired:
                raise error from None  # it may fail for no other reason than the daemon's end


def ipp_request(operation: Operation, *attributes: ipp.Attribute) -> bytes:
    """A request to the printer `default`, up to where its document begins."""
    named = (
        ipp.charset("attributes-charset", "utf-8"),
        ipp.language("attributes-natural-language", "en"),
        ipp.uri("printer-uri", "ipp://127.0.0.1/printers/default"),
        *attributes,
    )
    group = ipp.group(ipp.Tag.OPERATION, named)
    return ipp.encode(ipp.Message((2, 0), operation, 1, [group]))


def ask_ipp(
    daemon: Daemon, operation: Operation, *attributes: ipp.Attribute, body: bytes = b""
) -> ipp.Message:
    """What the daemon answers ada, over a connection of its own.

    Raises:
        OSError, HTTPException: there was no whole answer.
    """
    client = HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    try:
        asker = ipp.name_("requesting-user-name", "ada")
        return _exchange(client, ipp_request(operation, asker, *attributes) + body)
    finally:
        client.close()


def _ask(client: HTTPConnection, request: bytes) -> ipp.Message:
    said = _exchange(client, request)
    assert said.code == Status.SUCCESSFUL_OK, said
    return said


def _exchange(client: HTTPConnection, request: bytes) -> ipp.Message:
    client.request("POST", "/printers/default", request, {"Content-Type": "application/ipp"})
    with client.getresponse() as answer:
        said = ipp.Decoder().feed(answer.read())
    if said is None:
        raise IncompleteRead(b"")
    return said


class Answers:
    """The jobs that a recorded daemon has acknowledged up to a moment of its record."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._ports: dict[int, int] = {}  # the client's port, by descriptor
        self._accepted: dict[int, int] = {}  # how many connections came from a port
        self._said: dict[int, bytes] = {}  # over HTTP, since the last whole answer, by descriptor
        self.acknowledged: set[str] = set()

    def enter(self, call: Call) -> bool:
        """Whether this call is an acknowledgement.

        That is for a raw job that a FIN is allowed, for frames that its uuid is told, for IPP that
        the operation which brought the document succeeded.
        """
        names: set[str] = set()
        if call.name == "setsockopt" and b"SO_LINGER, {l_onoff=0" in call.arguments:
            names = self._titled(call)
        elif call.name == "sendto" and self._port(call):
            if self._is_last_of_job(call):
                names = self._titled(call)
            told = re.findall(rb"[0-9a-f]{8}-[0-9a-f-]{27}", call.strings()[0])
            names |= {one.decode() for one in told} & self._load.sent.keys()
        is_new = not names <= self.acknowledged
        self.acknowledged |= names
        return is_new

    def leave(self, call: Call) -> None:
        if call.name == "accept4" and call.result is not None and call.result >= 0:
            found = re.search(rb"sin_port=htons\((\d+)\)", call.arguments)
            port = int(found[1]) if found else 0
            self._ports[call.result] = port
            self._said[call.result] = b""
            self._accepted[port] = self._accepted.get(port, 0) + 1

    def _titled(self, call: Call) -> set[str]:
        """The job that came over this connection, if it is known by its title."""
        port = self._port(call)
        names = self._load.ports.get(port)
        return {names[self._accepted[port] - 1]} if names else set()

    def _is_last_of_job(self, call: Call) -> bool:
        """Whether this ends an answer of IPP to a Print-Job or a Send-Document, and a good one."""
        descriptor = call.files()[0][0]
        said = self._said[descriptor] = self._said[descriptor] + call.strings()[0]
        head, end, body = said.partition(b"\r\n\r\n")
        if not (end and head.startswith(b"HTTP/1.1 200")):
            return False
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length is None or len(body) < int(length[1]):
            return False
        self._said[descriptor] = b""
        answer = ipp.Decoder().feed(body)
        is_open = b"job-incoming" in body  # of a Create-Job: there is no document yet
        return answer.code == Status.SUCCESSFUL_OK and not is_open

    def _port(self, call: Call) -> int:
        return self._ports.get(call.files()[0][0], 0)
