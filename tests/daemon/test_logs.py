"""Log events: JSON and pretty lines, and text of peers that does nothing to a terminal."""

from __future__ import annotations

import io
import json
import re

import pytest
import structlog

from spoold.daemon import logs


def test_a_line_of_json_for_each_event() -> None:
    """Time in UTC, level and event come first, the fields as they are."""
    out = io.StringIO()
    logs.configure("info", out)
    structlog.get_logger().info("job_accepted", printer="café", position=7, ok=True, none=None)
    line = out.getvalue()
    assert line.endswith("\n")
    found = json.loads(line)
    assert list(found)[:3] == ["at", "level", "event"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", found.pop("at"))
    assert found == {
        "level": "info",
        "event": "job_accepted",
        "printer": "café",
        "position": 7,
        "ok": True,
        "none": None,
    }


@pytest.mark.parametrize("pretty", [True, False])
def test_control_characters_never_leave(pretty: bool) -> None:
    """Escape sequences, line breaks, C1 and bidi controls of a peer are shown, not acted on."""
    out = io.StringIO()
    logs.configure("info", out, pretty=pretty)
    evil = "a\x1b[2Jb\nfake event\x9b\u202e\u2028\ud800c"
    structlog.get_logger().info("job_accepted", title=evil, nested={evil: [evil]}, raw=b"\x1b")
    line = out.getvalue()
    assert line.count("\n") == 1
    text = re.sub(r"\x1b\[\d*m", "", line) if pretty else line  # the renderer's own colours
    assert text[:-1].isprintable()
    assert "x1b[2Jb" in text
    assert "u202e" in text


def test_an_exception_keeps_its_lines_and_loses_its_controls() -> None:
    """A traceback stays readable, and what the peer put into its message is escaped."""
    out = io.StringIO()
    logs.configure("info", out)
    try:
        raise ValueError("bad \x1b[31m header")
    except ValueError:
        structlog.get_logger().exception("connection_failed")
    found = json.loads(out.getvalue())
    assert found["level"] == "error"
    assert found["exception"].startswith("Traceback")
    assert "bad \\x1b[31m header" in found["exception"]


def test_level_is_the_least_that_is_written() -> None:
    """Below the level nothing is written, and an unknown level is refused."""
    out = io.StringIO()
    logs.configure("warning", out)
    log = structlog.get_logger()
    log.info("job_accepted")
    log.warning("disk_low")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["disk_low"]
    with pytest.raises(ValueError, match="noisy"):
        logs.configure("noisy")


def test_a_log_that_cannot_be_written_is_dropped() -> None:
    """A full disk or a closed pipe behind stdout raises nothing at the one who logs."""

    class Full(io.StringIO):
        def write(self, text: str, /) -> int:
            raise OSError(28, "No space left on device")

    logs.configure("info", Full())
    structlog.get_logger().info("job_accepted")
    closed = io.StringIO()
    logs.configure("info", closed, pretty=False)
    closed.close()
    structlog.get_logger().info("job_accepted")
