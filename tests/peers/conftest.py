"""A daemon for a module of tests with foreign programs, as its `CONFIG` says."""

from __future__ import annotations

import pytest

from support.peers import Jobs
from support.process import running


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    return tmp_path_factory.mktemp(request.module.__name__.rpartition(".")[2])


@pytest.fixture(scope="module")
def daemon(folder, request):
    """The daemon; the deployment CA lies beside it as `ca.pem`."""
    with running(folder, config=request.module.CONFIG) as daemon:
        (folder / "ca.pem").write_text(daemon.call("node.ca")["pem"])
        yield daemon
        assert daemon.end() == 0


@pytest.fixture
def jobs(daemon):
    """The jobs that come from now on."""
    return Jobs(daemon)
