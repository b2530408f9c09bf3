"""Two real daemons, one handing jobs on to the other: killed anywhere, each job is printed once."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from uuid import uuid4

import pytest

from spoold.provider.blocking import BlockingProvider
from support.nodes import config_of, credentials, job_of, lead_to, wait_job
from support.peers import wait_until
from support.ports import own_port
from support.process import Daemon, running

pytestmark = pytest.mark.slow

LARGE = b"%!PS\n" + b"0123456789abcdef" * 400_000


def submit(daemon: Daemon, title: str, body: bytes = b"%!PS\nshowpage\n", **more):
    with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
        return provider.submit(body, printer="far", title=title, user="ada", **more)


@pytest.fixture
def port():
    """The head office's own."""
    with own_port() as found:
        yield found


@pytest.fixture
def pair(tmp_path, port):
    """A branch whose printer `far` leads to the printer `default` of the head office."""
    (tmp_path / "hq").mkdir()
    (tmp_path / "branch").mkdir()
    with ExitStack() as stack:
        hq = stack.enter_context(running(tmp_path / "hq", config=config_of("hq", port)))
        branch = stack.enter_context(running(tmp_path / "branch", config=config_of("branch")))
        lead_to(branch, hq, credentials(hq, tmp_path))
        yield hq, branch


def printed(folder) -> list[bytes]:
    return [one.read_bytes() for one in sorted((folder / "data" / "printed").iterdir())]


def test_a_job_goes_on_to_its_owner_and_ends_here_as_it_ends_there(pair, tmp_path):
    """The first node says where its job is, whose it is goes along, and both are completed."""
    hq, branch = pair
    receipt = submit(branch, "letter", copies=2, priority=70)
    job = wait_job(branch, "letter", "completed")
    there = job_of(hq, "letter")
    assert there["uuid"] == job["uuid"] == str(receipt.job_uuid)
    assert (there["owner"], there["priority"], there["copies"]) == ("ada", 70, 2)
    assert there["created_us"] == job["created_us"]
    assert there["submitter"] == job["submitter"]
    assert "hq has it as job" in job["message"]
    assert len(printed(tmp_path / "hq")) == 1
    assert printed(tmp_path / "branch") == []


def test_what_keeps_a_job_at_its_owner_shows_here_and_a_cancel_goes_there(pair):
    """A held job there is `queued-in-device` here; canceled here it is canceled there."""
    hq, branch = pair
    hq.call("printer.pause", name="default")
    submit(branch, "draft")
    there = wait_job(hq, "draft", "pending")
    job = wait_job(branch, "draft", "processing")
    hq.call("job.hold", job=str(there["id"]))
    wait_until(lambda: "pending-held" in job_of(branch, "draft")["message"])
    assert "queued-in-device" in job_of(branch, "draft")["reasons"]
    branch.call("job.cancel", job=str(job["id"]))
    wait_job(branch, "draft", "canceled")
    assert job_of(hq, "draft")["state"] == "canceled"


def test_a_cancel_at_the_owner_is_one_here(pair):
    """Whoever looks at the first node sees that the job was canceled where it was."""
    hq, branch = pair
    hq.call("printer.pause", name="default")
    submit(branch, "poster")
    there = wait_job(hq, "poster", "pending")
    wait_job(branch, "poster", "processing")
    hq.call("job.cancel", job=str(there["id"]))
    assert "hq" in wait_job(branch, "poster", "canceled")["message"]


def test_a_job_waits_while_its_owner_is_away(pair, port, tmp_path):
    """Nothing is refused here because the other node is down; it goes on when that is back."""
    hq, branch = pair
    hq.end()
    submit(branch, "patient")
    wait_until(lambda: branch.call("printer.show", name="far")["failures"])
    with running(tmp_path / "hq", config=config_of("hq", port)):
        wait_job(branch, "patient", "completed")
    assert len(printed(tmp_path / "hq")) == 1


def test_only_those_who_may_speak_for_anybody_hand_on_jobs(tmp_path, pair):
    """A provider that may speak for one person hands on nothing: the job waits, and says why."""
    hq, branch = pair
    hq.call("provider.revoke", name="branch")
    given = hq.call("provider.enrol", name="till", may_assert=["ada"])
    file = tmp_path / "branch.pem"
    file.write_text(given["key_pem"] + given["certificate_pem"] + given["ca_pem"])
    submit(branch, "forged")
    shown = wait_until(
        lambda: [
            one for one in [branch.call("printer.show", name="far")] if "hand on" in one["message"]
        ]
    )
    assert shown[0]["reasons"] == ["forbidden"]
    assert job_of(hq, "forged") is None


# Where each process is killed, while a job is handed on.
POINTS = [
    ("branch", "handed-on-end", 1),
    ("branch", "handed-on-before-end", 1),
    ("branch", "attempt-after-mark", 1),
    ("hq", "document-after-rename", 1),
    ("hq", "commit-before", 2),
    ("hq", "commit-after", 2),
    ("hq", "commit-after", 3),
]


@pytest.mark.parametrize(("who", "point", "count"), POINTS)
def test_killed_while_a_job_is_handed_on_it_is_printed_once(tmp_path, port, who, point, count):
    """Whichever node dies, wherever: one job there, one on paper, completed at both."""
    folders = {name: tmp_path / name for name in ("hq", "branch")}
    for folder in folders.values():
        folder.mkdir()
    at = {who: f"{point}:{count}"}
    configs = {"hq": config_of("hq", port), "branch": config_of("branch")}
    with ExitStack() as stack:
        with running(folders["hq"], config=configs["hq"]) as hq:
            file = credentials(hq, tmp_path)
            with running(folders["branch"], config=configs["branch"]) as branch:
                lead_to(branch, hq, file)
                branch.end()
            hq.end()
        nodes = {
            name: stack.enter_context(running(folders[name], at.get(name, ""), config=config))
            for name, config in configs.items()
        }
        uuid = uuid4()
        submit(nodes["branch"], "once", LARGE, job_uuid=uuid)
        wait_until(lambda: nodes[who].process.poll() is not None)
        assert nodes[who].process.returncode == -signal.SIGKILL
        nodes[who] = stack.enter_context(running(folders[who], config=configs[who]))
        wait_job(nodes["branch"], "once", "completed")
        assert job_of(nodes["hq"], "once")["uuid"] == str(uuid)
    assert printed(folders["hq"]) == [LARGE]
