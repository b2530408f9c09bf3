"""The real process, killed while an IPP printer has its jobs: each comes out, and only once.

The printer is a process of its own and goes on while spoold is dead, as printers do.
"""

from __future__ import annotations

import re
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from uuid import uuid4

import pytest

from spoold.provider.blocking import BlockingProvider
from spoold.provider.receipt import SubmitError
from support.forking import Forked
from support.process import Daemon, all_jobs, running

JOBS = 4
WAITING = {"pending", "processing", "processing-stopped"}
OPTIONS = {"poll_first_s": 0.02, "poll_max_s": 0.1, "incoming_s": 0.3, "counter_wait_s": 0.1}
# Each job passes the mark, the note of its number, the note of its document, and its end.
CRASH_POINTS = [
    ("attempt-after-mark", 1),
    ("attempt-after-mark", 3),
    ("attempt-after-note", 1),
    ("attempt-after-note", 2),
    ("attempt-after-note", 5),
    ("attempt-after-note", 6),
    ("attempt-before-end", 1),
    ("attempt-before-end", 4),
]


class Paper:
    """A simulated IPP printer as a process, and the job-uuids of what it has printed."""

    def __init__(self, *faults: str) -> None:
        words = [word for fault in faults for word in ("--fault", fault)]
        self.process = Forked("simulate", "printer", "--ipp", 0, *words)
        self.printed: Counter[str] = Counter()
        self.uri = self.process.stdout.readline().decode().split()[-1]
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if found := re.search(r"\[([0-9a-f-]{36})/", line.decode()):
                self.printed[found[1]] += 1

    def end(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self._reader.join()
        self.process.stdout.close()


@contextmanager
def paper(*faults: str):
    printer = Paper(*faults)
    try:
        yield printer
    finally:
        printer.end()


def submit(daemon: Daemon, uuids) -> set[str]:
    """Hand the jobs over until the daemon dies; those that it acknowledged."""
    acknowledged = set()
    try:
        with BlockingProvider(
            [f"127.0.0.1:{daemon.port}"],
            connect_timeout_s=10,
            answer_timeout_s=20,
            doubt_timeout_s=0.5,
            unreachable_timeout_s=0.5,
        ) as provider:
            for uuid in uuids:
                body = b"one\ftwo\f" + b"x" * 5000
                provider.submit(body, printer="lobby", job_uuid=uuid, format="text/plain")
                acknowledged.add(str(uuid))
    except (OSError, SubmitError):
        daemon.process.wait(30)  # it fails for no other reason than the kill
    return acknowledged


def wait_until_printed(daemon: Daemon) -> list[dict]:
    for _ in range(1000):
        jobs = all_jobs(daemon.control)
        if not any(job["state"] in WAITING for job in jobs):
            return jobs
        time.sleep(0.02)
    raise AssertionError(f"still waiting: {jobs[:3]} {daemon.log[-5:]}")


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), CRASH_POINTS)
def test_killed_while_the_printer_has_a_job_nothing_is_printed_twice(tmp_path, point, count):
    """After the restart every acknowledged job is completed, and one copy of it was printed."""
    uuids = [uuid4() for _ in range(JOBS)]
    with paper("slow=10") as printer:
        with running(tmp_path, f"{point}:{count}") as daemon:
            daemon.call("printer.add", name="lobby", uri=printer.uri, options=OPTIONS)
            acknowledged = submit(daemon, uuids)
            daemon.process.wait(30)
            assert daemon.process.returncode == -signal.SIGKILL, "the point was never reached"
        assert acknowledged
        with running(tmp_path) as daemon:
            jobs = wait_until_printed(daemon)
            assert daemon.end() == 0
        assert {job["uuid"] for job in jobs} >= acknowledged
        assert {job["state"] for job in jobs} == {"completed"}
        assert printer.printed == {job["uuid"]: 1 for job in jobs}


@pytest.mark.slow
def test_stopped_and_started_again_and_again_nothing_is_printed_twice(tmp_path):
    """An orderly stop leaves to the next start what the printer has; no job is in doubt."""
    config = (
        "[node]\ndata_dir = 'data'\n[listen]\nclear = ['127.0.0.1:0']\ntls = []\nmutual = []\n"
        "[drain]\ndeadline_s = 0.05\n"
    )
    uuids = [uuid4() for _ in range(JOBS)]
    with paper("slow=100") as printer:
        with running(tmp_path, config=config) as daemon:
            daemon.call("printer.add", name="lobby", uri=printer.uri, options=OPTIONS)
            assert len(submit(daemon, uuids)) == JOBS
            assert daemon.end() == 0
        for _ in range(3):
            with running(tmp_path, config=config) as daemon:
                time.sleep(0.15)
                assert daemon.end() == 0
        with running(tmp_path, config=config) as daemon:
            jobs = wait_until_printed(daemon)
            assert daemon.end() == 0
        assert {job["state"] for job in jobs} == {"completed"}
        assert printer.printed == {str(uuid): 1 for uuid in uuids}
