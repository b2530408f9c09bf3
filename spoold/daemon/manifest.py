"""A backup's list of contents: a line of JSON for each file, and what the whole is.

The first line says what it is a backup of, the last one how many lines came before it and their
BLAKE3 digest: a list that was cut short or changed is not taken for one. Files are named relative
to the backup, with their size in bytes and their digest as `blake3:HEX` or `sha256:HEX`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import blake3

from spoold.model.errors import SpoolError

NAME = "manifest.jsonl"
FORMAT = 1
ADVICE = "Take another backup; `spoold backup list DIR` shows which there are."


@dataclass(frozen=True, slots=True)
class Head:
    """What a backup holds. `position` is the last of the journal; `waiting` counts the jobs that
    were not finished. `damaged` documents were missing or changed when it was made. `credentials`
    are the names of what the service manager had handed over: none of that is in it.
    """

    format: int
    software: str
    schema: int
    node_guid: str
    node_name: str
    journal: str
    incarnation: str
    position: int
    last_job_id: int
    jobs: int
    waiting: int
    documents: int
    bytes: int
    damaged: int
    made_us: int
    credentials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    file: str
    size: int
    digest: str


@dataclass(frozen=True, slots=True)
class Manifest:
    head: Head
    entries: dict[str, Entry]


def write(folder: Path, head: Head, entries: Iterable[Entry]) -> None:
    """Write the list of contents, synced; the backup is one when its folder gets its name.

    Raises:
        OSError: it cannot be written.
    """
    lines = [_line(asdict(head))]
    lines += [_line(asdict(entry)) for entry in entries]
    body = b"".join(lines)
    last = _line({"lines": len(lines), "digest": blake3.blake3(body).hexdigest()})
    write_synced(folder / NAME, body + last)


def read(folder: Path) -> Manifest:
    """The list of contents of a backup.

    Raises:
        SpoolError: there is none, it is damaged, or of a newer spoold.
    """
    path = folder / NAME
    try:
        data = path.read_bytes()
        *lines, last = data.splitlines(keepends=True)
        end = json.loads(last)
        head, *entries = (json.loads(line) for line in lines)
        if head["format"] > FORMAT:
            raise SpoolError(
                "read", str(path), "it was made by a newer spoold", "Use that one, or a later one."
            )
        if end != {"lines": len(lines), "digest": blake3.blake3(b"".join(lines)).hexdigest()}:
            raise ValueError("it is cut short, or was changed")
        return Manifest(head_of(head), {one["file"]: Entry(**one) for one in entries})
    except OSError as error:
        raise SpoolError("read", str(path), error.strerror, "Name a backup.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise SpoolError("read", str(path), error, ADVICE) from error


def read_head(folder: Path) -> Head | None:
    """What a backup says of itself, without a look at its list; None when it says nothing.

    Raises:
        PermissionError: we may not look.
    """
    try:
        with (folder / NAME).open("rb") as file:
            return head_of(json.loads(file.readline(64 * 1024)))
    except PermissionError:
        raise
    except (OSError, ValueError, TypeError, KeyError):
        return None


def head_of(found: dict[str, Any]) -> Head:
    """A head from its map; raises KeyError for one that lacks something."""
    values = {one.name: found[one.name] for one in fields(Head) if one.name != "credentials"}
    return Head(**values, credentials=tuple(found.get("credentials", ())))


def as_map(head: Head) -> dict[str, Any]:
    return asdict(head)


def write_synced(path: Path, data: bytes) -> None:
    """A small file, synced; its name is not. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def write_json(path: Path, value: dict[str, Any]) -> None:
    """A small file of our own, synced; raises OSError."""
    write_synced(path, _line(value))


def read_json(path: Path) -> dict[str, Any]:
    """What `write_json` wrote; raises OSError, ValueError."""
    found = json.loads(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError("it holds no map")
    return found


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode() + b"\n"
