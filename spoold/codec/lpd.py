"""LPD (RFC 1179): both roles, sans-IO.

Server: bytes in, events out, in the order of the wire; the caller sends the acknowledgement octets
(`acknowledgement`) that the events ask for. Client: functions that make the bytes of commands and
subcommands (RFC 1179, sections 5 and 6). The control file is in `lpd_control`, and named here too.
A file whose announced length cannot be one runs to the end of the stream; everything else that is
malformed is a `RemoteProtocolError`, and nothing is repaired. Document bytes are neither copied
nor kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from spoold.codec.lpd_control import FILES_PER_JOB_MAX as FILES_PER_JOB_MAX
from spoold.codec.lpd_control import FORMATS as FORMATS
from spoold.codec.lpd_control import ControlFile as ControlFile
from spoold.codec.lpd_control import PrintFile as PrintFile
from spoold.codec.lpd_control import build_control as build_control
from spoold.codec.lpd_control import parse_control as parse_control
from spoold.codec.lpd_control import text_bytes
from spoold.model import person
from spoold.model.errors import RemoteProtocolError

PORT = 515
LINE_BYTES_MAX = 1024
CONTROL_BYTES_MAX = 65536
NAME_BYTES_MAX = 255
# Some senders announce the length of a stream that they do not know: 2^32-1, or a number beyond
# any document. Document limits are far below this one.
ABSURD_BYTES = 10**11
_UNKNOWN_LENGTH = 0xFFFFFFFF

_OPERANDS = re.compile(rb"[ \t\v\f]+")
_BAD_IN_LINE = re.compile(rb"[\x00-\x08\x0d-\x1f\x7f]")  # the rest of them is white space


# --- the client's bytes ---------------------------------------------------------------------------

END_OF_FILE = b"\0"  # follows a control file and a data file


def print_waiting(queue: bytes) -> bytes:
    return b"\x01" + queue + b"\n"


def receive_job(queue: bytes) -> bytes:
    return b"\x02" + queue + b"\n"


def queue_state(queue: bytes, names: Iterable[bytes] = (), *, is_long: bool = False) -> bytes:
    return b" ".join([(b"\x04" if is_long else b"\x03") + queue, *names]) + b"\n"


def remove_jobs(queue: bytes, agent: bytes, names: Iterable[bytes] = ()) -> bytes:
    return b" ".join([b"\x05" + queue, agent, *names]) + b"\n"


def abort_job() -> bytes:
    return b"\x01\n"


def control_file(name: bytes, size: int) -> bytes:
    """The subcommand; after its acknowledgement the file and `END_OF_FILE` follow."""
    return b"\x02%d %b\n" % (size, name)


def data_file(name: bytes, size: int) -> bytes:
    """The subcommand; after its acknowledgement the file and `END_OF_FILE` follow."""
    return b"\x03%d %b\n" % (size, name)


def file_name(kind: str, index: int, number: int, host: str, *, is_long: bool = False) -> bytes:
    """`cfA123host` or `dfA123host`: `kind` is c or d, `index` 0..51 the file, `number` the job.

    `is_long` writes the job's number in six digits, as LPRng's `longnumber` does.
    """
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    digits = f"{number % 10**6:06d}" if is_long else f"{number % 1000:03d}"
    host_bytes = _OPERANDS.sub(b"", text_bytes(host, 31))
    return f"{kind}f{letters[index % 52]}{digits}".encode("ascii") + host_bytes


def acknowledgement(code: int = 0) -> bytes:
    """The octet that answers: 0 is yes, anything else no."""
    return bytes([code])


# --- the server -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PrintWaiting:
    """Command 1. Acknowledge it."""

    queue: str


@dataclass(frozen=True, slots=True)
class ReceiveJob:
    """Command 2. Acknowledge it; subcommands follow."""

    queue: str


@dataclass(frozen=True, slots=True)
class QueueState:
    """Commands 3 and 4. Send the listing and close. `names` are users and job numbers."""

    queue: str
    is_long: bool
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RemoveJobs:
    """Command 5. `agent` is the user that asks, as he says himself."""

    queue: str
    agent: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Abort:
    """Subcommand 1: forget the files of this job. No acknowledgement."""


@dataclass(frozen=True, slots=True)
class ControlFileBegins:
    """Subcommand 2. Acknowledge it; the file follows."""

    name: bytes
    size: int


@dataclass(frozen=True, slots=True)
class ControlFileEnds:
    """The whole control file. Acknowledge it.

    `is_job_complete`: every data file that it prints came before it, so the job ends here.
    """

    name: bytes
    control: ControlFile
    body: bytes
    is_job_complete: bool


@dataclass(frozen=True, slots=True)
class DataFileBegins:
    """Subcommand 3. Acknowledge it. `size` None: the file runs to the end of the stream."""

    name: bytes
    size: int | None


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes of the data file, as they came: nothing was copied."""

    data: bytes | memoryview


@dataclass(frozen=True, slots=True)
class DataFileEnds:
    """The data file is whole, or its stream ended. Acknowledge it.

    `is_job_complete`: no file that the control files print is missing, so the job ends here.
    """

    name: bytes
    is_job_complete: bool


@dataclass(frozen=True, slots=True)
class Closed:
    """The client ended the stream, between files."""


Event = (
    PrintWaiting
    | ReceiveJob
    | QueueState
    | RemoveJobs
    | Abort
    | ControlFileBegins
    | ControlFileEnds
    | DataFileBegins
    | Data
    | DataFileEnds
    | Closed
)


class _State(Enum):
    LINE = "line"
    CONTROL = "control"
    DATA = "data"
    END_OCTET = "end-octet"  # of a data file
    TO_THE_END = "to-the-end"
    CLOSED = "closed"
    ERROR = "error"


class LpdServer:
    """One connection, from the server's side. Feed `receive_data`, then drain `next_event`.

    After `Data` the bytes of the event must be used before `receive_data` is called again. A
    `RemoteProtocolError` is final: the connection cannot be used any more.
    """

    def __init__(self) -> None:
        self._state = _State.LINE
        self._in_job = False
        self._is_end = False
        self._input: bytes = b""
        self._at = 0
        self._line = bytearray()
        self._name = b""
        self._left = 0
        self._control = bytearray()
        self._prints: set[bytes] | None = None  # what the control files of this job print
        self._came: set[bytes] = set()  # data files of this job
        self._files = 0

    def receive_data(self, data: bytes) -> None:
        """Take what came from the client; b"" says that it ended the stream."""
        self._is_end = self._is_end or not data
        if self._at < len(self._input):
            data = self._input[self._at :] + data
        self._input, self._at = data, 0

    def next_event(self) -> Event | None:
        """The next event; None when more data is needed.

        Raises:
            RemoteProtocolError: the client broke the protocol, or ended inside a line or file.
        """
        try:
            return self._next()
        except RemoteProtocolError:
            self._state = _State.ERROR
            raise

    def _next(self) -> Event | None:
        match self._state:
            case _State.LINE:
                return self._next_line()
            case _State.DATA:
                return self._next_data()
            case _State.CONTROL:
                return self._next_control()
            case _State.END_OCTET:
                return self._next_end_octet()
            case _State.TO_THE_END:
                return self._next_to_the_end()
            case _State.CLOSED:
                return None
            case _State.ERROR:
                raise RemoteProtocolError("the connection has failed already")

    def _next_line(self) -> Event | None:
        end = self._input.find(b"\n", self._at)
        stop = len(self._input) if end < 0 else end
        if len(self._line) + stop - self._at > LINE_BYTES_MAX:
            raise RemoteProtocolError(f"a line of over {LINE_BYTES_MAX} bytes")
        self._line += self._input[self._at : stop]
        self._at = stop
        if end < 0:
            if not self._is_end:
                return None
            if self._line:
                raise RemoteProtocolError("the stream ended inside a command")
            self._state = _State.CLOSED
            return Closed()
        self._at += 1
        line = bytes(self._line)
        self._line.clear()
        if not line:
            raise RemoteProtocolError("an empty line where a command should be")
        code, operands = line[0], [o for o in _OPERANDS.split(line[1:]) if o]
        if _BAD_IN_LINE.search(line, 1):
            raise RemoteProtocolError("a control character in a command")
        if self._in_job:
            event = self._subcommand(code, operands)
            if event is not None:
                return event
        return self._command(code, operands)

    def _command(self, code: int, operands: list[bytes]) -> Event:
        if not 1 <= code <= 5:
            raise RemoteProtocolError(f"no such command: {code}")
        if not operands:
            raise RemoteProtocolError(f"command {code} without a queue")
        queue, *rest = (person.decode_text(operand) for operand in operands)
        if code >= 3 and len(operands) > 2 + FILES_PER_JOB_MAX:
            raise RemoteProtocolError("too many operands")
        if code < 3 and rest:
            raise RemoteProtocolError(f"command {code} with more than a queue")
        self._in_job = code == 2
        self._forget_job()
        if code == 1:
            return PrintWaiting(queue)
        if code == 2:
            return ReceiveJob(queue)
        if code == 5:
            return RemoveJobs(queue, rest[0] if rest else "", tuple(rest[1:]))
        return QueueState(queue, code == 4, tuple(rest))

    def _subcommand(self, code: int, operands: list[bytes]) -> Event | None:
        """The subcommand, or None when the line is a command: the next job's, after this one."""
        if code == 1 and not operands:
            self._forget_job()
            return Abort()
        if code not in (2, 3) or len(operands) != 2 or not operands[0].isdigit():
            return None
        length, self._name = operands
        size = int(length) if len(length) <= 20 else ABSURD_BYTES
        if len(self._name) > NAME_BYTES_MAX or b"/" in self._name:
            raise RemoteProtocolError("a file name that is too long, or a path")
        if code == 2:
            if size > CONTROL_BYTES_MAX:
                raise RemoteProtocolError(f"a control file of {size} bytes")
            self._state, self._left = _State.CONTROL, size
            return ControlFileBegins(self._name, size)
        if self._name in self._came:
            raise RemoteProtocolError("a data file twice in a job")
        self._count_file()
        if self._is_unknown_length(size):
            self._state = _State.TO_THE_END
            return DataFileBegins(self._name, None)
        self._state, self._left = _State.DATA, size
        return DataFileBegins(self._name, size)

    def _is_unknown_length(self, size: int) -> bool:
        # 0 means unknown to some senders and empty to others. It can only be unknown where
        # nothing is to follow: behind the control file, for the last file that it prints.
        if size == 0:
            return self._prints is not None and self._prints - self._came <= {self._name}
        return size == _UNKNOWN_LENGTH or size >= ABSURD_BYTES

    def _next_data(self) -> Event | None:
        if not self._left:
            self._state = _State.END_OCTET
            return self._next_end_octet()
        have = len(self._input) - self._at
        if not have:
            if self._is_end:
                raise RemoteProtocolError(f"the stream ended {self._left} bytes before its file")
            return None
        if self._at == 0 and have <= self._left:
            self._left -= have
            data, self._input = self._input, b""
            return Data(data)
        take = min(have, self._left)
        view = memoryview(self._input)[self._at : self._at + take]
        self._left -= take
        self._at += take
        return Data(view)

    def _next_end_octet(self) -> Event | None:
        if not self._take_end_octet():
            return None
        self._came.add(self._name)
        return DataFileEnds(self._name, self._end_of_file())

    def _take_end_octet(self) -> bool:
        """True behind the octet that follows a file. A sender that ended instead is forgiven."""
        if self._at == len(self._input):
            return self._is_end
        if self._input[self._at]:
            raise RemoteProtocolError("a file without its end: more bytes than announced")
        self._at += 1
        return True

    def _next_to_the_end(self) -> Event | None:
        if self._at < len(self._input):
            data: bytes | memoryview = self._input
            if self._at:
                data = memoryview(self._input)[self._at :]
            self._input, self._at = b"", 0
            return Data(data)
        if not self._is_end:
            return None
        self._came.add(self._name)
        return DataFileEnds(self._name, self._end_of_file())

    def _next_control(self) -> Event | None:
        take = min(self._left, len(self._input) - self._at)
        self._control += self._input[self._at : self._at + take]
        self._at += take
        self._left -= take
        if self._left and self._is_end:
            raise RemoteProtocolError("the stream ended inside a control file")
        if self._left or not self._take_end_octet():
            return None
        body = bytes(self._control)
        self._control.clear()
        control = parse_control(body)
        self._count_file()
        self._prints = (self._prints or set()) | {file.name for file in control.files}
        if len(self._prints) > FILES_PER_JOB_MAX:
            raise RemoteProtocolError(f"a job of over {FILES_PER_JOB_MAX} files")
        return ControlFileEnds(self._name, control, body, self._end_of_file())

    def _count_file(self) -> None:
        self._files += 1
        if self._files > 2 * FILES_PER_JOB_MAX:  # a control file each, at most
            raise RemoteProtocolError(f"a job of over {FILES_PER_JOB_MAX} files")

    def _end_of_file(self) -> bool:
        """Go on to the next line; true, and a new job, when nothing of this one is missing."""
        self._state = _State.LINE
        if self._prints is None or not self._came or self._prints - self._came:
            return False
        self._forget_job()
        return True

    def _forget_job(self) -> None:
        self._prints = None
        self._came = set()
        self._files = 0
