"""Log events as entries of the systemd journal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
from pathlib import Path

import pytest
import structlog

from spoold.daemon import journald, logs


def fields(entry: bytes) -> dict[str, str]:
    """An entry read as journald reads it: lines, or a name, a length, and so many bytes."""
    found = {}
    while entry:
        line, _, entry = entry.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name, size = line, int.from_bytes(entry[:8], "little")
            value, entry = entry[8 : 8 + size], entry[9 + size :]
        found[name.decode()] = value.decode()
    return found


def test_an_event_has_its_fields() -> None:
    """Priority, identifier and event, and each plain value under its name."""
    event = {
        "at": "now",
        "level": "warning",
        "event": "attempt_deferred",
        "printer": "desk",
        "job-uuid": "7",
        "reason": "two\nlines",
        "more": {"not": "plain"},
        "naïve": "name",
    }
    assert fields(journald.entry(event, "{}")) == {
        "MESSAGE": "{}",
        "PRIORITY": "4",
        "SYSLOG_IDENTIFIER": "spoold",
        "SPOOLD_EVENT": "attempt_deferred",
        "SPOOLD_PRINTER": "desk",
        "SPOOLD_JOB_UUID": "7",
        "SPOOLD_REASON": "two\nlines",
    }


def test_long_values_are_cut_where_a_character_ends() -> None:
    """An entry stays readable text."""
    entry = fields(journald.entry({"event": "x", "reason": "é" * 5000}, "{}"))
    assert len(entry["SPOOLD_REASON"].encode()) <= journald.VALUE_BYTES_MAX


def test_what_journald_does_not_take_goes_to_the_stream(tmp_path: Path) -> None:
    """A datagram while it listens; a line with its priority when it does not."""
    where = str(tmp_path / "journal")
    out = io.StringIO()
    with (
        contextlib.closing(journald.Journald(out, where)) as end,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.settimeout(30)
        receiver.bind(where)
        end.info('{"event": "x"}', {"event": "x", "level": "info"})
        assert fields(receiver.recv(65536))["MESSAGE"] == '{"event": "x"}'
        receiver.close()
        end.error('{"event": "y"}', {"event": "y", "level": "error"})
    assert out.getvalue() == '<3>{"event": "y"}\n'


def test_behind_the_journal_events_go_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When stdout is the stream that systemd names, and not else."""
    where = tmp_path / "journal"
    made: list[journald.Journald] = []

    class Kept(journald.Journald):
        def __init__(self, stream) -> None:
            super().__init__(stream)
            made.append(self)

    monkeypatch.setattr(journald, "Journald", Kept)
    monkeypatch.setattr(journald, "SOCKET", str(where))
    with (
        (tmp_path / "out").open("w") as out,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
    ):
        receiver.settimeout(30)
        receiver.bind(str(where))
        status = os.fstat(out.fileno())
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        logs.configure("info")
        structlog.get_logger().warning("job_held", printer="desk")
        entry = fields(receiver.recv(65536))
        assert (entry["SPOOLD_EVENT"], entry["PRIORITY"]) == ("job_held", "4")
        assert json.loads(entry["MESSAGE"])["printer"] == "desk"
        monkeypatch.setenv("JOURNAL_STREAM", "1:1")
        logs.configure("info")
        structlog.get_logger().warning("job_held")
    made.pop().close()
    assert made == []
    assert '"job_held"' in (tmp_path / "out").read_text()
