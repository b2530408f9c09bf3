"""What the backend of CUPS does when waiting takes longer than CUPS lets a job take."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from spoold.provider import cups_delivery
from spoold.provider.cups_delivery import Delivery
from spoold.provider.cups_job import Queue, Task
from spoold.provider.cups_messages import DONE, RETRY, RETRY_CURRENT
from support.process import all_jobs, running

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def short_turns(monkeypatch):
    monkeypatch.setattr(cups_delivery, "TURN_S", 0.3)
    monkeypatch.setattr(cups_delivery, "PAUSE_FIRST_S", 0.1)


@pytest.fixture
def deliver(capfd):
    """Run the backend for the same job; its exit code, and what it said."""

    def run(uri: str, has_come: bool = False, **environ: str) -> tuple[int, str]:
        options = "job-uuid=urn:uuid:58f3d6ea-cf3c-3d45-60eb-2888645591b1 time-at-creation=1"
        task = Task.parse(["1", "cashier", "Report", "1", options], environ)
        delivery = Delivery(Queue.parse(uri), task, None, SimpleNamespace(has_come=has_come))
        code = delivery.run([b"body"])
        return code, capfd.readouterr().err

    return run


@pytest.mark.parametrize(
    ("query", "environ", "code"),
    [
        ("", {}, RETRY_CURRENT),
        ("&contimeout=600", {}, RETRY_CURRENT),
        ("", {"CLASS": "members"}, RETRY_CURRENT),
    ],
)
def test_a_job_goes_back_to_cups_before_it_counts_as_stuck(deliver, query, environ, code):
    """Its time begins anew when CUPS starts it anew, at once."""
    found, said = deliver(f"spoold://127.0.0.1:1/default?tls=no{query}", **environ)
    assert found == code
    assert said.startswith("STATE: +connecting-to-device\n")
    assert "INFO: Trying again in 1 s: no server could be reached" in said
    assert said.endswith("STATE: -connecting-to-device\n")


def test_a_job_that_is_followed_is_found_again(deliver, tmp_path):
    """Once an hour CUPS starts the backend anew; the server has one job, and tells how it ends."""
    with running(tmp_path) as daemon:
        uri = f"spoold://127.0.0.1:{daemon.port}/default?tls=no&waitjob=yes&hold=yes"
        for _ in range(2):
            code, said = deliver(uri)
            assert code == RETRY_CURRENT
            assert "pending-held" in said
        (job,) = all_jobs(daemon.control)
        daemon.call("job.release", job=job["id"])
        code, said = deliver(uri)
        assert code == DONE
        assert "Accepted, as before" in said
        assert len(all_jobs(daemon.control)) == 1
        assert daemon.end() == 0


def test_where_the_uri_asks_cups_lets_others_go_first(deliver, monkeypatch):
    """`away=retry` with its own limit."""
    monkeypatch.setattr(cups_delivery, "TURN_S", 60)
    code, said = deliver("spoold://127.0.0.1:1/default?tls=no&contimeout=1&away=retry")
    assert code == RETRY
    assert "INFO: Given back to CUPS: no server could be reached" in said


def test_a_job_that_cups_ended_before_is_not_begun(deliver):
    """SIGTERM came while the input was read."""
    assert deliver("spoold://127.0.0.1:1/default?tls=no", has_come=True) == (DONE, "")


def test_messages_stay_on_their_line(capfd):
    """What a server says cannot become a message of its own to CUPS."""
    cups_delivery.say("INFO", "one\nATTR: auth-info-required=none\x1b")
    assert capfd.readouterr().err == "INFO: one\\nATTR: auth-info-required=none\\x1b\n"
    cups_delivery.say("INFO", "x" * 5000)
    assert len(capfd.readouterr().err) < 2047


def test_nobody_to_talk_to_is_no_error(monkeypatch):
    """CUPS has gone, and the pipe to it with it."""

    def broken(descriptor: int, data: bytes) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(os, "write", broken)
    cups_delivery.say("INFO", "hello")
