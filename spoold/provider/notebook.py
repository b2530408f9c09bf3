"""What a provider keeps on its own disk: where it may print itself, and which jobs it did print.

In: what servers tell in advance, and a note of each job before the step that nobody can undo. Out:
the same after a restart. A note is durable when `put` returns. The folder is for its owner alone,
and any number of processes may use it at once.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from spoold.model.errors import ConfigError

PRINTERS = "printers.json"
JOBS = "jobs"
SENT_DAYS_MAX = 30  # after which nobody asks any more what became of a lost answer


class Stage(StrEnum):
    """How far a job has come that needs a note."""

    SENT = "sent"  # it went out whole to a server, whose answer is to come, or was lost
    PRINTING = "printing"  # bytes may have left for the device
    PRINTED = "printed"  # the device has all of it
    IN_DOUBT = "in-doubt"  # nobody knows what came out


@dataclass(frozen=True, slots=True)
class DirectPrinter:
    """A printer that the provider may print on while it reaches no server; no formats: any."""

    printer: str
    printer_guid: str
    uri: str
    options: dict[str, str] = field(default_factory=dict)
    formats: tuple[str, ...] = ()

    @classmethod
    def of(cls, told: dict[str, Any]) -> DirectPrinter:
        """Raises:
        KeyError, TypeError, ValueError: what was told makes no sense.
        """
        names = (told["printer"], told["printer_guid"], told["uri"])
        options, formats = dict(told["options"]), tuple(told["formats"])
        if not all(isinstance(one, str) for one in (*names, *options, *options.values(), *formats)):
            raise TypeError("a printer is told in texts")
        return cls(*names, options, formats)

    def takes(self, format_: str, unnamed: str) -> bool:
        """Whether it prints a document of `format_`; `unnamed` says that nobody knows it."""
        return format_ == unnamed or not self.formats or format_.lower() in self.formats


@dataclass(frozen=True, slots=True)
class Note:
    """`report` are the arguments of `job.report` (FRAMES.md), but for how long ago it was."""

    job_uuid: UUID
    stage: Stage
    at_us: int
    printer: str = ""
    uri: str = ""
    report: dict[str, Any] = field(default_factory=dict)


class Busy(Exception):
    """Another process is at this job."""


class Notebook:
    def __init__(self, folder: Path) -> None:
        """Raises:
        ConfigError: the folder cannot be used, or others may look into it.
        """
        self._folder = folder
        self._jobs = folder / JOBS
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._jobs.mkdir(mode=0o700, exist_ok=True)
            status = folder.stat()
        except OSError as error:
            raise _unusable(folder, error.strerror or str(error), "Name another one.") from error
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            advice = f"Run: chown {os.geteuid()} {folder} && chmod 700 {folder}"
            raise _unusable(folder, "others may use it, too", advice)

    # -- what servers told -----------------------------------------------------------------------

    def printer(self, name: str) -> DirectPrinter | None:
        """How `name` is printed on without a server; None: its jobs wait for one."""
        return self.printers().get(name)

    def printers(self) -> dict[str, DirectPrinter]:
        try:
            told = json.loads((self._folder / PRINTERS).read_bytes())
            return {one["printer"]: DirectPrinter.of(one) for one in told}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError) as error:
            path = self._folder / PRINTERS
            raise _unusable(path, str(error), "Remove it: it is asked for again.") from error

    def told_s_ago(self) -> float | None:
        """How long ago servers told of the printers; None: never."""
        try:
            return max(0.0, time.time() - (self._folder / PRINTERS).stat().st_mtime)
        except OSError:
            return None

    def keep_printers(self, printers: list[DirectPrinter]) -> None:
        """Raises OSError."""
        _write(self._folder / PRINTERS, [asdict(one) for one in printers])

    # -- notes of jobs ---------------------------------------------------------------------------

    def find(self, job_uuid: UUID) -> Note | None:
        """Raises:
        ConfigError: there is a note that cannot be read.
        """
        path = self._path(job_uuid)
        try:
            return _note_of(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            advice = "Remove it, if nothing of the job was printed."
            raise _unusable(path, str(error), advice) from error

    def put(self, note: Note) -> None:
        """Raises OSError: it is not written."""
        told = asdict(note) | {"job_uuid": str(note.job_uuid), "stage": note.stage.value}
        _write(self._path(note.job_uuid), told)

    def remove(self, job_uuid: UUID) -> None:
        self._path(job_uuid).unlink(missing_ok=True)

    def notes(self) -> list[Note]:
        """All that can be read, the oldest first; what became old for nothing is dropped."""
        found = []
        for path in self._jobs.glob("*.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                found.append(_note_of(json.loads(path.read_bytes())))
        oldest_us = time.time_ns() // 1000 - SENT_DAYS_MAX * 86_400_000_000
        for note in found:
            if note.stage is Stage.SENT and note.at_us < oldest_us:
                self.remove(note.job_uuid)
        return sorted(found, key=lambda note: note.at_us)

    @contextmanager
    def locked(self, job_uuid: UUID) -> Iterator[None]:
        """The job is this process's as long as the block lasts.

        Raises:
            Busy: it is another one's.
        """
        path = self._path(job_uuid, "lock")
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_there(path, descriptor):
                    break
            except BlockingIOError:
                os.close(descriptor)
                raise Busy from None
            os.close(descriptor)  # somebody removed it meanwhile
        try:
            yield
        finally:
            if _is_there(path, descriptor):
                path.unlink()
            os.close(descriptor)

    def _path(self, job_uuid: UUID, kind: str = "json") -> Path:
        return self._jobs / f"{job_uuid}.{kind}"


def _note_of(told: dict[str, Any]) -> Note:
    return Note(
        UUID(told["job_uuid"]),
        Stage(told["stage"]),
        int(told["at_us"]),
        str(told["printer"]),
        str(told["uri"]),
        dict(told["report"]),
    )


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _write(path: Path, content: Any) -> None:
    """`path` holds this and nothing else, durably."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.flush()
            os.fsync(descriptor)
        new.rename(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _unusable(path: Path, cause: str, advice: str) -> ConfigError:
    return ConfigError("use the provider's notebook", str(path), cause, advice)
