"""The real process, killed between Create-Job and the end of Send-Document, by IPP clients.

What Create-Job was answered is there afterwards, open or whole; a document that was acknowledged
prints, once; one that was not is sent again, by its client, to the same job.
"""

from __future__ import annotations

import http.client
import os
import signal
import threading
from uuid import uuid4

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation, Status
from spoold.codec.ipp_values import Tag
from support.load import ask_ipp
from support.peers import wait_until
from support.process import Daemon, all_jobs, running

# The daemon's own start takes some commits; each job takes one for each of its two steps.
CRASH_POINTS = [
    ("commit-before", 8),
    ("commit-before", 14),
    ("commit-before", 27),
    ("commit-after", 8),
    ("commit-after", 15),
    ("commit-after", 28),
    ("document-before-sync", 2),
    ("document-before-rename", 3),
    ("document-after-rename", 1),
    ("document-after-rename", 4),
]


class Client:
    """Makes jobs, and brings their documents. What it was told survives the daemon."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.made: dict[str, int] = {}
        self.sent: set[str] = set()

    def print_all(self, daemon: Daemon, count: int) -> None:
        try:
            for number in range(count):
                uuid = str(uuid4())
                size = (10, 4_000, 400_000)[number % 3]
                self.bodies[uuid] = f"%!PS {uuid}\n".encode() + os.urandom(size)
                self.make(daemon, uuid)
                self.send(daemon, uuid)
        except (OSError, http.client.HTTPException):
            daemon.process.wait(30)  # it fails for no other reason than the kill

    def make(self, daemon: Daemon, uuid: str) -> None:
        own = (ipp.uri("spoold-job-uuid", f"urn:uuid:{uuid}"), ipp.name_("job-name", uuid))
        answer = ask_ipp(daemon, Operation.CREATE_JOB, *own)
        assert answer.code == Status.SUCCESSFUL_OK
        job_id = answer.group(Tag.JOB).first("job-id")
        assert self.made.setdefault(uuid, job_id) == job_id

    def send(self, daemon: Daemon, uuid: str) -> int:
        """The status of the answer."""
        target = (
            ipp.integer("job-id", self.made[uuid]),
            ipp.boolean("last-document", True),
        )
        answer = ask_ipp(daemon, Operation.SEND_DOCUMENT, *target, body=self.bodies[uuid])
        if answer.code == Status.SUCCESSFUL_OK:
            self.sent.add(uuid)
        return answer.code


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), CRASH_POINTS)
def test_killed_between_the_two_steps_a_job_is_open_or_whole(tmp_path, point, count):
    """Every job that was made is there under its number, and comes out once."""
    clients = [Client(), Client()]
    with running(tmp_path, f"{point}:{count}") as daemon:
        threads = [
            threading.Thread(target=client.print_all, args=(daemon, 8)) for client in clients
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert daemon.process.wait(30) == -signal.SIGKILL, "the point was never reached"
    with running(tmp_path) as daemon:
        bodies: dict[str, bytes] = {}
        for client in clients:
            jobs = {job["title"]: job for job in all_jobs(daemon.control)}
            for uuid in client.sent:
                assert jobs[uuid]["size"] == len(client.bodies[uuid])
            for uuid in client.bodies:
                client.make(daemon, uuid)
                if uuid not in client.sent:
                    # Lost, or only its answer: then it is known that the job is whole.
                    assert client.send(daemon, uuid) in (
                        Status.SUCCESSFUL_OK,
                        Status.CLIENT_ERROR_NOT_POSSIBLE,
                    )
            bodies |= client.bodies
        printed = tmp_path / "data" / "printed"
        wait_until(lambda: all(job["state"] == "completed" for job in all_jobs(daemon.control)))
        jobs = all_jobs(daemon.control)
        assert sorted(job["title"] for job in jobs) == sorted(bodies)
        numbers = {uuid: id_ for client in clients for uuid, id_ in client.made.items()}
        assert {job["title"]: job["id"] for job in jobs} == numbers
        found = [path.read_bytes() for path in printed.iterdir() if path.is_file()]
        assert sorted(found) == sorted(bodies.values())
        assert daemon.end() == 0


@pytest.mark.slow
def test_an_open_job_waits_over_a_restart(tmp_path):
    """It is open as it was, and prints when its document comes."""
    client = Client()
    client.bodies = {str(uuid4()): b"%!PS late"}
    (uuid,) = client.bodies
    with running(tmp_path) as daemon:
        client.make(daemon, uuid)
        assert daemon.end() == 0
    with running(tmp_path) as daemon:
        (job,) = all_jobs(daemon.control)
        assert (job["state"], job["reasons"]) == ("pending-held", ["job-incoming"])
        assert client.send(daemon, uuid) == Status.SUCCESSFUL_OK
        wait_until(lambda: all_jobs(daemon.control)[0]["state"] == "completed")
        assert daemon.end() == 0
