"""A CUPS with our backend, and a spoold that its queues print to."""

from __future__ import annotations

import pytest

from support.backends import Site
from support.cups import cups
from support.documents import document
from support.ports import own_port


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "spoold").mkdir()
    with own_port() as mutual, own_port() as clear, own_port() as nobody:
        yield Site(folder, mutual, clear, nobody)


@pytest.fixture(scope="module")
def printing(site):
    """Their CUPS; `DirtyCleanInterval 0` makes it keep what it accepts when it is killed."""
    with cups("DirtyCleanInterval 0") as running_cups:
        with site.start() as daemon:
            site.put_backend(running_cups, site.enrol(daemon, "cups", "*"))
            assert daemon.end() == 0
        yield running_cups


@pytest.fixture
def daemon(site, printing):
    with site.start() as daemon:
        yield daemon
        assert daemon.end() == 0


@pytest.fixture
def queue(site, printing):
    """`queue(query)` is the name of a new queue in CUPS."""

    def add(query: str = "", *options: object, uri: str = "", printer: str = "default") -> str:
        site.queues += 1
        name = f"q{site.queues}"
        printing.add(name, uri or site.uri(query, printer), *options)
        return name

    return add


@pytest.fixture
def pdf(tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(document("pdfwrite"))
    return path
