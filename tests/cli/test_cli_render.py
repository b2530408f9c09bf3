"""Tables, sizes, ages and times for people; JSON for programs."""

from __future__ import annotations

import json

import pytest

from spoold.cli import render
from spoold.cli.render import Column

COLUMNS = (Column("ID", align_right=True), Column("TITLE", gives_way=True), Column("STATE"))


def test_a_table_is_aligned_by_what_is_in_it() -> None:
    """Numbers stand right, texts left, and no line ends in blanks."""
    lines = render.table(COLUMNS, [["7", "report", "pending"], ["1234", "x", "completed"]], None)
    assert lines == [
        "  ID  TITLE   STATE",
        "   7  report  pending",
        "1234  x       completed",
    ]


def test_a_long_title_gives_way_to_the_terminal() -> None:
    """Lines fit the width; only columns that give way are cut, and not to nothing."""
    rows = [["7", "a" * 200, "pending"], ["8", "é" * 30, "pending"], ["9", "文" * 30, "pending"]]
    for width in (40, 60, 80):
        lines = render.table(COLUMNS, rows, width)
        assert all(render.cells(line) <= width for line in lines)
        assert lines[1].endswith("…  pending")
    narrow = render.table(COLUMNS, rows, 5)
    assert narrow[1] == " 7  aaaaaaa…  pending"


def test_control_characters_of_a_title_stay_out_of_the_terminal() -> None:
    """Escape sequences, line breaks and bidi controls are shown, and take their cells."""
    evil = "\x1b[2J\n\u202e"
    (_, line) = render.table(COLUMNS, [["7", evil, "pending"]], None)
    assert line == " 7  \\x1b[2J\\n\\u202e  pending"


def test_fields_leave_out_what_is_empty(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each thing known; lists and maps in words."""
    render.print_fields(
        [
            ("name", "a\x1bb"),
            ("none", None),
            ("empty", ""),
            ("members", ["x", "y"]),
            ("options", {"pjl": "on"}),
            ("paused", False),
            ("copies", 0),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "name:    a\\x1bb",
        "members: x, y",
        "options: pjl=on",
        "paused:  no",
        "copies:  0",
    ]


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (5 * 1024**3 // 2, "2.5 GiB"),
        (5000 * 1024**4, "5000.0 TiB"),
    ],
)
def test_sizes(size: int | None, text: str) -> None:
    """Binary units, one digit behind the point."""
    assert render.bytes_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_ages(seconds: int, text: str) -> None:
    """The unit grows with the span, and a clock that went back is no age below zero."""
    assert render.age(1_000_000_000_000_000, 1_000_000_000_000_000 + seconds * 1_000_000) == text


def test_clocks_that_differ_are_told_as_far_as_it_matters() -> None:
    """To the millisecond, or to the day."""
    told = [render.clock(one) for one in (None, -12.4, 3_600_000.0, -17_279_999_973.5)]
    assert told == ["-", "-0.012 s", "+60 min", "-200 d"]


def test_times_are_local_iso(monkeypatch: pytest.MonkeyPatch) -> None:
    """The zone of the reader, to the millisecond where there are any."""
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert render.local_time(1_700_000_000_000_000) == "2023-11-15 07:13:20"
        assert render.local_time(1_700_000_000_123_456) == "2023-11-15 07:13:20.123"
        assert render.local_time(None) == "-"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_lists_are_json(capsys: pytest.CaptureFixture[str], count: int) -> None:
    """A list of any length, bytes in hexadecimal."""
    render.print_json_list({"id": n, "hash": b"\x01"} for n in range(count))
    assert json.loads(capsys.readouterr().out) == [{"id": n, "hash": "01"} for n in range(count)]
