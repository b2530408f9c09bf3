"""Documents in a format that a printer does not take, converted by a program before they are sent.

In: a job, its document, the conversion that its printer names. Out: what the driver gets, a job and
a source of the new format; or why not. The program runs in a process of its own (`launcher`): its
own empty directory, no network where that can be had, limits on memory, processor, files and time,
an environment of three names. It gets the document as its input and its output is the result; what
it says on its error output is kept for the operator, bounded. Of all this nothing outlives the
attempt but a result whose printer did not answer: that is kept for the next attempt.

This is the one module of spoold that starts programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import blake3
import structlog
import trio

from spoold.driver.link import Source
from spoold.model.conversion import Conversion, filled
from spoold.model.errors import SpoolError
from spoold.model.job import Job, JobReason
from spoold.model.outcome import Blame, Deferred, Refused
from spoold.model.text import plain
from spoold.spool.sources import FileSource

log = structlog.get_logger("spoold.dispatch")

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LAUNCHER: Final = Path(__file__).with_name("launcher.py")
NOBODY: Final = 65534
KEPT_MAX: Final = 32  # results that wait for a printer to answer
SAID_BYTES_MAX: Final = 8 * 1024
SAID_LINES, SAID_CHARACTERS_MAX = 4, 400
COPY_BYTES = 1024 * 1024
END_S = 10.0  # how long the launcher has to end what it started
FILES_OPEN_MAX = 256
RETRY_S = 60.0
_FROM_OUTSIDE = frozenset({-signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP})


class Limits(Protocol):
    """What one conversion may take; see the configuration."""

    @property
    def memory_bytes_max(self) -> int: ...
    @property
    def cpu_s_max(self) -> float: ...
    @property
    def output_bytes_max(self) -> int: ...
    @property
    def deadline_s(self) -> float: ...
    @property
    def at_once(self) -> int: ...


class NotConverted(Exception):
    """There is no result; `outcome` says whose fault that is."""

    def __init__(self, outcome: Refused | Deferred) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Converted:
    """What the driver sends: `job` describes the new document. `note` goes into the evidence."""

    job: Job
    source: FileSource
    note: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Result:
    """A document that was made; `key` says of what and how."""

    key: tuple[Any, ...]
    fd: int
    size: int
    digest: str
    note: dict[str, Any]


class Converter:
    """Converts in directories under `folder`, some documents at a time.

    Programs work there by names that begin with a dot: whoever is nobody sees nothing above it.
    """

    def __init__(self, folder: Path, limits: Callable[[], Limits]) -> None:
        self._folder = folder
        self._limits = limits
        self._turns = trio.CapacityLimiter(limits().at_once)
        self._kept: OrderedDict[int, _Result] = OrderedDict()

    def sweep(self) -> None:
        """At the start: remove what a crash left; nobody works on it any more."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o711, parents=True, exist_ok=True)

    def close(self) -> None:
        while self._kept:
            os.close(self._kept.popitem()[1].fd)

    @asynccontextmanager
    async def converted(
        self, job: Job, source: Source, conversion: Conversion
    ) -> AsyncIterator[Converted]:
        """The document as the printer takes it, for as long as this is open.

        Raises:
            NotConverted: it cannot be made, or not now.
        """
        key = _key_of(job, conversion)
        result = self._kept.pop(job.id, None)
        if result is not None and result.key != key:
            os.close(result.fd)
            result = None
        if result is None:
            result = await self._convert(key, job, source, conversion)
        try:
            yield _described(job, conversion, result)
        except BaseException:
            os.close(result.fd)
            raise
        self._keep(job.id, result)

    def forget(self, job_id: int) -> None:
        """The job needs its result no more."""
        result = self._kept.pop(job_id, None)
        if result is not None:
            os.close(result.fd)

    def _keep(self, job_id: int, result: _Result) -> None:
        self._kept[job_id] = result
        while len(self._kept) > KEPT_MAX:
            os.close(self._kept.popitem(last=False)[1].fd)

    # -- one conversion ------------------------------------------------------------------------

    async def _convert(
        self, key: tuple[Any, ...], job: Job, source: Source, conversion: Conversion
    ) -> _Result:
        self._turns.total_tokens = self._limits().at_once
        async with self._turns:
            with self._explained(), self._workplace() as (place, output):
                document = await _in_thread(_document, place, source, conversion.wants_file)
                with document:
                    command = filled(conversion, job, "./input")
                    said, ended = await self._run(command, place, document, output)
                self._check(conversion, said, ended, os.fstat(output).st_size)
                size, digest = await _in_thread(_digest, output)
                note = {
                    "converted_from": job.document.format,
                    "converted_to": conversion.target,
                    "converted_by": conversion.command[0],
                    "converted_digest": digest,
                    "converted_bytes": size,
                }
                log.debug("job_converted", job_uuid=str(job.uuid), **note, **_used(ended))
                return _Result(key, os.dup(output), size, digest, note)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """What goes wrong on our side is nobody's document's fault."""
        try:
            yield
        except (OSError, SpoolError) as error:
            raise NotConverted(
                Deferred(
                    "resources-are-not-ready", f"No conversion now: {error}", Blame.JOB, RETRY_S
                )
            ) from error

    @contextmanager
    def _workplace(self) -> Iterator[tuple[Path, int]]:
        """A directory for one conversion, and the file that its result goes to, without a name."""
        place = self._folder / os.urandom(16).hex()
        place.mkdir(mode=0o700)
        output = -1
        try:
            output = os.open(place / "output", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            (place / "output").unlink()
            if os.geteuid() == 0:  # then the program runs as nobody
                os.chown(place, NOBODY, NOBODY)
            yield place, output
        finally:
            if output >= 0:
                os.close(output)
            shutil.rmtree(place, ignore_errors=True)

    async def _run(
        self, command: Sequence[str], place: Path, document: BinaryIO, output: int
    ) -> tuple[str, dict[str, Any]]:
        """What the program said at last, and how it ended."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            process = await trio.lowlevel.open_process(
                [sys.executable, "-I", "-S", str(LAUNCHER), str(theirs.fileno()),
                 self._written_limits(), *command],
                stdin=document,
                stdout=output,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(),),
                cwd=place,
                env={"PATH": PATH, "LC_ALL": "C.UTF-8", "TMPDIR": "."},
                start_new_session=True,
            )  # fmt: skip
            theirs.close()
            said = bytearray()
            try:
                with trio.fail_after(self._limits().deadline_s + END_S):
                    await _listen(process, said)
                    await process.wait()
            except trio.TooSlowError:
                pass  # it goes now, and leaves no result
            finally:
                ours.shutdown(socket.SHUT_WR)
                with trio.move_on_after(END_S, shield=True):
                    await process.wait()
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                if process.stderr is not None:
                    await trio.aclose_forcefully(process.stderr)
            ours.setblocking(False)
            return _last_lines(bytes(said)), _answer(ours)

    def _written_limits(self) -> str:
        limits = self._limits()
        cpu_s = max(1, round(limits.cpu_s_max))
        output = limits.output_bytes_max
        return json.dumps(
            {
                "rlimits": [
                    ["RLIMIT_AS", limits.memory_bytes_max, limits.memory_bytes_max],
                    ["RLIMIT_CPU", cpu_s, cpu_s + 2],
                    ["RLIMIT_FSIZE", output, output],
                    ["RLIMIT_NOFILE", FILES_OPEN_MAX, FILES_OPEN_MAX],
                    ["RLIMIT_CORE", 0, 0],
                ],
                "deadline_s": limits.deadline_s,
                "directory_bytes": 2 * output,
            }
        )

    def _check(self, conversion: Conversion, said: str, ended: dict[str, Any], size: int) -> None:
        """Let a result pass.

        Raises:
            NotConverted: there is none.
        """
        code, why = ended.get("code"), ended.get("why")
        program = conversion.command[0]
        if problem := ended.get("problem"):
            detail = f"{program} cannot be started: {plain(str(problem))}."
            raise NotConverted(Deferred("converter-not-usable", detail))
        if why in (None, "stopped") or code in _FROM_OUTSIDE:
            detail = f"{program} was stopped from outside."
            raise NotConverted(Deferred("resources-are-not-ready", detail, Blame.JOB, RETRY_S))
        if why == "ended" and code == 0 and size:
            return
        cause = self._cause(code, why, size)
        detail = f"{program} {cause}" + (f": {said}" if said else ".")
        raise NotConverted(Refused(JobReason.DOCUMENT_FORMAT_ERROR, detail))

    def _cause(self, code: Any, why: Any, size: int) -> str:
        limits = self._limits()
        if why == "deadline":
            return f"took longer than {limits.deadline_s:g} s"
        if why == "directory" or code == -signal.SIGXFSZ or size >= limits.output_bytes_max:
            return f"wrote more than {limits.output_bytes_max} bytes"
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            return f"used more than {limits.cpu_s_max:g} s of the processor, or was killed"
        if isinstance(code, int) and code < 0:
            return f"was ended by signal {-code}"
        return f"failed with exit code {code}" if code else "made nothing"


def _key_of(job: Job, conversion: Conversion) -> tuple[Any, ...]:
    return (job.document.digest, job.document.size, tuple(filled(conversion, job, "")))


def _described(job: Job, conversion: Conversion, result: _Result) -> Converted:
    document = replace(
        job.document, format=conversion.target, size=result.size, digest=result.digest
    )
    job = replace(job, document=document)
    if conversion.makes_copies:
        job = replace(job, copies_embedded=True)
    return Converted(job, FileSource(result.fd, result.size), result.note)


def _used(ended: dict[str, Any]) -> dict[str, Any]:
    return {key: ended[key] for key in ("cpu_s", "memory_bytes", "is_alone") if key in ended}


async def _in_thread(work: Callable[..., Any], *args: Any) -> Any:
    return await trio.to_thread.run_sync(work, *args)


def _document(place: Path, source: Source, is_file: bool) -> BinaryIO:
    """In a thread: the document, to be read from its beginning; with a copy that has a name."""
    fd = source.fileno()
    if fd is not None and not is_file:
        return open(f"/proc/self/fd/{fd}", "rb")  # with a place of its own to read at
    path = place / "input"
    with path.open("xb") as file:
        offset = 0
        while data := source.read_at(offset, COPY_BYTES):
            file.write(data)
            offset += len(data)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    return path.open("rb")


def _digest(fd: int) -> tuple[int, str]:
    """In a thread: size and digest of what was made."""
    digest = blake3.blake3()
    offset = 0
    while data := os.pread(fd, COPY_BYTES, offset):
        digest.update(data)
        offset += len(data)
    return offset, f"blake3:{digest.hexdigest()}"


async def _listen(process: trio.Process, said: bytearray) -> None:
    """Keep the last of what the program says, until all who could say something have ended."""
    assert process.stderr is not None
    async for data in process.stderr:
        said += data
        del said[:-SAID_BYTES_MAX]


def _answer(ours: socket.socket) -> dict[str, Any]:
    """What the launcher wrote; empty when it was killed."""
    try:
        found = json.loads(ours.recv(65536) or b"{}")
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _last_lines(said: bytes) -> str:
    lines = [plain(line.strip()) for line in said.decode(errors="replace").splitlines()]
    return " / ".join([line for line in lines if line][-SAID_LINES:])[-SAID_CHARACTERS_MAX:]
