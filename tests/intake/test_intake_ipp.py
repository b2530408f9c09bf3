"""What the URIs of IPP requests name, and the times of day at which CUPS's clients let jobs go."""

from __future__ import annotations

import pytest

from spoold.intake.ipp_jobs import time_of_day_us
from spoold.intake.ipp_request import Target, is_ipp_path, parse_target

NODE = Target(None, None)
DEFAULT = Target("", None)


@pytest.mark.parametrize(
    ("uri", "target"),
    [
        ("ipp://h/printers/q", Target("q", None)),
        ("ipps://h:9192/printers/q/", Target("q", None)),
        ("http://h/printers/q/.printer", Target("q", None)),
        ("ipp://h/classes/pool", Target("pool", None)),
        ("ipp://h/ipp/print/q", Target("q", None)),
        ("ipp://h/printers/B%C3%BCro", Target("Büro", None)),
        ("ipp://h/ipp/print", DEFAULT),
        ("ipp://h/ipp", DEFAULT),
        ("ipp://h/", NODE),
        ("ipp://h", NODE),
        ("ipp://h/jobs", NODE),
        ("ipp://h/jobs/17", Target(None, 17)),
        ("ftp://h/printers/q", None),
        ("ipp://h/printers/a/b", None),
        ("ipp://h/jobs/x", None),
        ("ipp://h/etc/passwd", None),
        ("ipp://[h/printers/q", None),
        ("", None),
    ],
)
def test_a_uri_names_a_printer_a_job_or_the_node(uri, target):
    """As clients of printers, of CUPS and of Windows write them."""
    assert parse_target(uri) == target


@pytest.mark.parametrize(
    ("path", "is_spoken"),
    [
        ("/", True),
        ("/ipp/print", True),
        ("/printers/q", True),
        ("/jobs/", True),
        ("/admin/", True),
        ("/healthz", False),
        ("/printersx", False),
    ],
)
def test_ipp_is_spoken_where_clients_post(path, is_spoken):
    """Printers, classes and jobs have their paths, as those of CUPS; other paths are not IPP's."""
    assert is_ipp_path(path) is is_spoken


@pytest.mark.parametrize(
    ("text", "now_s", "then_s"),
    [
        ("00:30", 0, 1800),
        ("00:30:15", 1800, 1815),
        ("00:30", 1800, 86_400 + 1800),
        ("23:59:59", 90_000, 2 * 86_400 - 1),
        ("24:00", 0, None),
        ("noon", 0, None),
        ("1:30", 0, None),
    ],
)
def test_a_time_of_day_is_the_next_one(text, now_s, then_s):
    """In UTC; what is none is left to those who know keywords."""
    found = time_of_day_us(text, now_s * 1_000_000)
    assert found == (None if then_s is None else then_s * 1_000_000)
