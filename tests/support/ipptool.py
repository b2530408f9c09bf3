"""ipptool of CUPS: its suites, run against a daemon, and what they report; sample documents."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from support.documents import document

SUITES = Path("/usr/share/cups/ipptool")
_RESULT = re.compile(r"^    (.*?) +\[(PASS|FAIL|SKIP)\]")
RESOLUTIONS = (150, 180, 300, 360, 600, 720)
KINDS = ("black-1", "cmyk-8", "sgray-8", "srgb-8", "srgb-16")
PAGES = (
    "color.jpg-4x6",
    "gray.jpg-4x6",
    "document-a4",
    "document-letter",
    "onepage-a4",
    "onepage-letter",
)


class Report(NamedTuple):
    """The names of tests by their end, in order, and all that was said."""

    passed: list[str]
    failed: list[str]
    skipped: list[str]
    output: str


def _ghostscript(device: str, path: Path, *options: str) -> None:
    program = "/Helvetica findfont 24 scalefont setfont 36 100 moveto (spoold) show showpage"
    command = ["gs", "-q", "-dBATCH", "-dNOPAUSE", "-dSAFER", f"-sDEVICE={device}"]
    subprocess.run(
        [*command, *options, f"-sOutputFile={path}", "-c", program], check=True, timeout=60
    )


def make_samples(root: Path) -> Path:
    """A copy of the suites with the documents beside them that they print."""
    folder, data = root / "ipptool", root / "data"
    folder.mkdir()
    data.mkdir()
    for name in ("testprint", "testprint.ps"):
        (data / name).write_bytes(document("ps2write"))
    for suite in SUITES.glob("*.test"):
        shutil.copyfile(suite, folder / suite.name)
    for paper in ("a4", "letter"):
        for name in ("document", "onepage"):
            _ghostscript("pdfwrite", folder / f"{name}-{paper}.pdf", f"-sPAPERSIZE={paper}")
        (folder / f"document-{paper}.ps").write_bytes(document("ps2write"))
    _ghostscript("jpeg", folder / "color.jpg", "-r36")
    _ghostscript("jpeggray", folder / "gray.jpg", "-r36")
    raster = folder / "sample.pwg"
    _ghostscript(
        "pwgraster", raster, "-r150", "-dDEVICEWIDTHPOINTS=288", "-dDEVICEHEIGHTPOINTS=432"
    )
    for dpi, kind, page in itertools.product(RESOLUTIONS, KINDS, PAGES):
        place = folder / f"pwg-raster-samples-{dpi}dpi" / kind
        place.mkdir(parents=True, exist_ok=True)
        os.link(raster, place / f"{page}-{kind}-{dpi}dpi.pwg")
    return folder


def run_suite(folder: Path, uri: str, suite: str, *options: str, seconds: float = 60) -> Report:
    """Run one suite to its end, in the folder of the samples."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    done = subprocess.run(
        ["ipptool", "-tI", "-T", "10", *options, uri, suite],
        cwd=folder,
        env={**os.environ, "HOME": str(home), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        timeout=seconds,
    )
    output = done.stdout.decode("utf-8", "replace") + done.stderr.decode("utf-8", "replace")
    found: dict[str, list[str]] = {"PASS": [], "FAIL": [], "SKIP": []}
    for line in output.splitlines():
        if match := _RESULT.match(line):
            found[match[2]].append(match[1].strip())
    return Report(found["PASS"], found["FAIL"], found["SKIP"], output)
