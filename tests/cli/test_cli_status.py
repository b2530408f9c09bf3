"""`spoold status`: one screen that says whether all is well, and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from spoold.cli import status
from support.commands import Run

WELL: dict[str, Any] = {
    "verdict": "ok",
    "checks": [{"part": "certificates", "verdict": "ok", "days_left": {"node": 300}}],
    "node_name": "library",
    "version": "1.2",
    "uptime_s": 7200,
    "jobs": {"pending": 4, "pending-held": 2},
    "jobs_finished": 17,
    "printers": {"idle": 2, "stopped": 1},
    "paused": 3,
    "paused_names": ["annex", "desk"],
    "stopped": [],
    "spool_free_bytes": 1 << 30,
    "spool_total_bytes": 4 << 30,
    "quarantined": 0,
    "connections": {"clear": 3},
    "backup_us": None,
    "restored_us": None,
}


def stopped(number: int) -> dict[str, Any]:
    return {
        "name": f"p{number}",
        "since_us": 1,
        "reasons": ["connecting-to-device"],
        "message": "no route to host",
        "waiting": 3,
        "advice": "Look at its power.",
    }


def told(**changes: Any) -> list[str]:
    answer = {**WELL, **changes}
    return [*status._head(answer), *status._figures(answer), *status._verdict(answer)]


def test_a_node_that_is_well_says_so(run: Run) -> None:
    """A line for each thing there is, and the one word that is wanted."""
    said = run("status")
    assert said.code == 0
    first, *rest = said.out.splitlines()
    assert first.startswith("spoold ")
    assert " on library, up for " in first
    assert {"jobs", "printers", "disk", "certificates", "backup", "connections"} <= {
        line.split(" ")[0] for line in rest if line
    }
    assert run("status --json").json["verdict"] in ("ok", "warning")
    assert "printers      2 idle, 1 stopped (3 paused: annex, desk, …)" in told()


def test_troubles_come_with_what_to_do() -> None:
    """Each part that is not well, then the printers that do not print."""
    lines = told(
        verdict="failed",
        checks=[
            {"part": "disk", "verdict": "failed", "text": "full", "advice": "Free space."},
            {"part": "clock", "verdict": "ok", "text": "", "advice": ""},
        ],
        stopped=[stopped(1)],
        restored_us=1,
    )
    text = "\n".join(lines)
    assert "restored or rolled back" in lines[0]
    assert "Something does not work:\n  FAILED disk: full.\n    Free space." in text
    assert "p1 (connecting-to-device: no route to host) for" in text
    assert "3 jobs wait." in text
    assert text.endswith("Look at its power.")
    assert "clock" not in text


@pytest.mark.parametrize("count", [5, 10])
def test_it_fits_one_screen(count: int) -> None:
    """Whatever is wrong, and however many printers are."""
    check = {"part": "disk", "verdict": "warning", "text": "t", "advice": "a"}
    lines = told(verdict="warning", checks=[check] * 4, stopped=[stopped(n) for n in range(count)])
    assert len(lines) <= 28
    assert ("And 5 more" in lines[-1]) is (count == 10)


def test_the_audit_trail_is_told(run: Run, paused: str) -> None:
    """Who did what, the last at the end; and what does not go together is refused."""
    said = run("journal --audit")
    assert said.code == 0
    assert "printer-changed" in said.out
    assert "(local)" in said.out
    assert run("journal --audit --since 1d").out
    assert run("journal --audit --since 1d --json").code == 0
    assert run("journal --since 1d").code == 2
    assert run("journal --audit --follow").code == 2
