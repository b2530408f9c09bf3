"""Findings, the table that people read, and the JSON that programs read."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table: a figure of spoold, what it is held against, and whether it does.

    `ours` and `theirs` hold a figure for each pair. `goal` is about the median of `ratios` where
    there is a peer, else about the median of `ours`; `at_most` says on which side of it is good.
    """

    what: str
    unit: str
    ours: list[float]
    goal: float
    peer: str = ""
    theirs: list[float] = field(default_factory=list)
    at_most: bool = False
    allowance: float = 0.0  # Added to the goal times the peer's figure.
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def ratios(self) -> list[float]:
        return [mine / other for mine, other in zip(self.ours, self.theirs, strict=True) if other]

    @property
    def reached(self) -> bool:
        if self.allowance:
            limits = [self.goal * other + self.allowance for other in self.theirs]
            over = [mine - limit for mine, limit in zip(self.ours, limits, strict=True)]
            return statistics.median(over) <= 0
        figure = statistics.median(self.ratios if self.peer else self.ours)
        return figure <= self.goal if self.at_most else figure >= self.goal

    def as_json(self) -> dict[str, Any]:
        found = asdict(self) | {"reached": self.reached}
        found["median"] = statistics.median(self.ours)
        if self.peer:
            found |= {"ratios": self.ratios, "ratio_median": statistics.median(self.ratios)}
        return found


def _figure(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _figures(values: list[float]) -> str:
    if not values:
        return ""
    middle = _figure(statistics.median(values))
    if len(values) == 1:
        return middle
    return f"{middle} [{_figure(min(values))}..{_figure(max(values))}]"


def _goal(finding: Finding) -> str:
    sign = "<=" if finding.at_most else ">="
    if not finding.peer:
        return f"{sign} {_figure(finding.goal)}"
    more = f" + {finding.allowance:g} {finding.unit}" if finding.allowance else ""
    return f"{sign} {finding.goal:.3g}x{more}"


def table(findings: list[Finding]) -> str:
    """The findings as a Markdown table: medians, with the least and the most in brackets."""
    rows = [("what", "unit", "spoold", "held against", "its figure", "ratio", "goal", "")]
    rows += [
        (
            one.what,
            one.unit,
            _figures(one.ours),
            one.peer,
            _figures(one.theirs),
            _figures(one.ratios) if one.peer else "",
            _goal(one),
            "reached" if one.reached else "MISSED",
        )
        for one in findings
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def _first_line(command: list[str]) -> str:
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except OSError:
        return ""
    return said.strip().splitlines()[0] if said.strip() else ""


def sync_ms(directory: Path, times: int = 200) -> float:
    """The median time of an fsync after 4 KiB appended to a file, on the disk that is used."""
    path = directory / "sync"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    spent = []
    for _ in range(times):
        os.write(descriptor, b"x" * 4096)
        began = time.perf_counter()
        os.fsync(descriptor)
        spent.append(time.perf_counter() - began)
    os.close(descriptor)
    path.unlink()
    return statistics.median(spent) * 1000


def machine(directory: Path) -> dict[str, Any]:
    """What the figures depend on and the code does not."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cups = _first_line(["cups-config", "--version"]) or _first_line(
        ["dpkg-query", "--show", "--showformat", "${Version}", "cups-daemon"]
    )
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "cups": cups,
        "file_system": _first_line(["stat", "--file-system", "--format", "%T", str(directory)]),
        "sync_ms": sync_ms(directory),
        "load_before": os.getloadavg()[0],
    }


def write_json(path: Path, about: dict[str, Any], findings: list[Finding]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": about, "findings": [one.as_json() for one in findings]}
    path.write_text(json.dumps(document, indent=1) + "\n")
