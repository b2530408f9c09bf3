"""Two real servers and a provider: a cut upload goes on at the next one, once."""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack

import pytest

from spoold.provider.blocking import BlockingProvider
from support.nodes import config_of, wait_job
from support.process import all_jobs, running

pytestmark = pytest.mark.slow


@pytest.fixture
def servers(tmp_path):
    with ExitStack() as stack:
        found = []
        for name in ("hq", "library"):
            (tmp_path / name).mkdir()
            found.append(stack.enter_context(running(tmp_path / name, config=config_of(name))))
        yield found


@pytest.mark.parametrize("is_trio", [False, True])
def test_a_cut_upload_goes_on_at_the_next_endpoint(servers, tmp_path, is_trio):
    """The first server is killed in mid-upload: the second has the whole job, the first none."""
    hq, library = servers
    body = b"%!PS\n" + b"0123456789abcdef" * 2_000_000
    cut_at: list[float] = []
    went_on_at: list[float] = []

    def progress(sent: int, size: int) -> None:
        if not cut_at and sent > size // 3:
            hq.process.send_signal(signal.SIGKILL)
            hq.process.wait(30)
            cut_at.append(time.monotonic())
        elif cut_at and not went_on_at and sent < size // 3:
            went_on_at.append(time.monotonic())

    job = {"printer": "default", "title": "cut", "user": "ada", "progress": progress}
    endpoints = [f"127.0.0.1:{one.port}" for one in servers]
    with BlockingProvider(endpoints) as provider:
        if is_trio:
            [receipt] = provider.submit_all([(body, job)])
        else:
            receipt = provider.submit(body, **job)
    assert receipt.node_name == "library"
    assert not receipt.unknown
    assert went_on_at[0] - cut_at[0] < 10  # this machine has other work, too
    wait_job(library, "cut", "completed")
    with running(tmp_path / "hq", config=config_of("hq")) as again:
        assert all_jobs(again.control) == []
