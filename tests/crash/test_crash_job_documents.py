"""The real process, killed while jobs of several documents come in and print.

A job that was acknowledged as whole has all its documents afterwards, and each of them comes out
once and in its place, or is what its job is in doubt about.
"""

from __future__ import annotations

import http.client
import signal
import threading

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Tag
from support.load import ask_ipp
from support.peers import wait_until
from support.process import Daemon, all_jobs, running

DOCUMENTS = 3
JOBS = 6
# A job takes a commit for each of its documents and one before; then two for each that is printed.
CRASH_POINTS = [
    ("commit-before", 9),
    ("commit-after", 13),
    ("commit-before", 30),
    ("commit-after", 41),
    ("document-after-rename", 4),
    ("attempt-before-mark", 2),
    ("attempt-after-mark", 5),
    ("attempt-before-end", 1),
    ("attempt-before-end", 2),
    ("attempt-before-end", 6),
]


class Client:
    """Makes jobs of several documents; `whole` are those that were acknowledged to their end."""

    def __init__(self) -> None:
        self.whole: dict[int, list[bytes]] = {}

    def print_all(self, daemon: Daemon) -> None:
        try:
            for number in range(JOBS):
                self.print_one(daemon, number)
        except (OSError, http.client.HTTPException):
            daemon.process.wait(30)  # it fails for no other reason than the kill

    def print_one(self, daemon: Daemon, number: int) -> None:
        made = ask_ipp(daemon, Operation.CREATE_JOB)
        job_id = made.group(Tag.JOB).first("job-id")
        bodies = [
            f"job {number}, document {k}\n".encode() * (1, 10_000)[(number + k) % 2]
            for k in range(1, DOCUMENTS + 1)
        ]
        for k, body in enumerate(bodies, 1):
            last = ipp.boolean("last-document", k == DOCUMENTS)
            attributes = (ipp.integer("job-id", job_id), last)
            answer = ask_ipp(daemon, Operation.SEND_DOCUMENT, *attributes, body=body)
            assert answer.code == Status.SUCCESSFUL_OK
        self.whole[job_id] = bodies


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), CRASH_POINTS)
def test_killed_between_documents_each_comes_out_once(tmp_path, point, count):
    """The printer makes a file of each: none is missing, none is there a second time."""
    client = Client()
    with running(tmp_path, f"{point}:{count}") as daemon:
        thread = threading.Thread(target=client.print_all, args=(daemon,))
        thread.start()
        thread.join()
        assert daemon.process.wait(30) == -signal.SIGKILL, "the point was never reached"
    with running(tmp_path) as daemon:

        def is_settled() -> bool:
            jobs = {job["id"]: job for job in all_jobs(daemon.control)}
            return all(jobs[job_id]["state"] == "completed" for job_id in client.whole)

        wait_until(is_settled)
        jobs = {job["id"]: job for job in all_jobs(daemon.control)}
        printed = tmp_path / "data" / "printed"
        for job_id, bodies in client.whole.items():
            paths = sorted(printed.glob(f"*{jobs[job_id]['uuid']}*"))
            assert [path.read_bytes() for path in paths] == bodies
            shown = daemon.call("job.show", job=job_id)["attempts_list"]
            delivered = [one["document"] for one in shown if one["outcome"] == "delivered"]
            assert delivered == [1, 2, 3]
        for job in jobs.values():  # one that was cut off is open, and waits for its sender
            if job["id"] not in client.whole:
                assert job["state"] in ("pending-held", "completed")
                assert job["state"] == "completed" or job["reasons"] == ["job-incoming"]
        assert daemon.end() == 0
