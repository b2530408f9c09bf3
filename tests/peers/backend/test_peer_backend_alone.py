"""Our backend, run as cupsd runs it, step by step."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from uuid import uuid4

import pytest

from support.backends import LARGE_BYTES
from support.documents import document, large_pdf
from support.peers import Jobs, incoming, printed_files, wait_until

pytestmark = pytest.mark.slow


# --- run as cupsd runs it, step by step ---------------------------------------------------------


@pytest.fixture
def start(site, printing):
    """`start(number, files...)` starts the backend for a job; without files it reads its input."""
    started: list[subprocess.Popen] = []

    def run(number: int, *files: Path) -> subprocess.Popen:
        options = f"job-uuid=urn:uuid:{uuid4()} time-at-creation={number}"
        process = subprocess.Popen(
            [printing.backends / "spoold", str(number), "cashier", "Report", "1", options, *files],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"DEVICE_URI": site.uri(), "PRINTER": "q", "PATH": "/usr/bin:/bin"},
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait(30)
        process.stdin.close()
        process.stderr.close()


def test_filters_can_go_on_writing_after_a_cancel(daemon, start):
    """The input is read to its end, and thrown away: a filter may have to eject a page."""
    jobs = Jobs(daemon)
    body = large_pdf(LARGE_BYTES)
    process = start(1)
    process.stdin.write(body[: len(body) // 2])
    process.send_signal(signal.SIGTERM)
    process.stdin.write(body[len(body) // 2 :])
    process.stdin.close()
    assert process.wait(30) == 0
    assert jobs.new() == []


def test_large_input_arrives_whole(daemon, site, start):
    """What filters make may be large: it waits in a file without a name."""
    jobs = Jobs(daemon)
    body = large_pdf(LARGE_BYTES)
    _, said = start(2).communicate(body, timeout=30)
    assert b"INFO: Accepted: job" in said
    job = jobs.one_finished()
    assert printed_files(site.folder / "spoold", job) == [body]


def test_without_any_input_there_is_no_job(daemon, start):
    """Filters that failed leave nothing to print; CUPS knows of that already."""
    jobs = Jobs(daemon)
    process = start(3)
    _, said = process.communicate(b"", timeout=30)
    assert process.returncode == 0
    assert b"INFO: There is nothing to print." in said
    assert jobs.new() == []


def test_a_cancel_in_the_middle_of_an_upload_ends_at_once(daemon, site, start, tmp_path):
    """The server does not even read; what it got before is no job when it does again."""
    path = tmp_path / "large.pdf"
    path.write_bytes(large_pdf(LARGE_BYTES))
    jobs = Jobs(daemon)
    assert start(4, path).wait(30) == 0  # the way is open
    (first,) = jobs.new()
    process = start(5, path)
    wait_until(lambda: incoming(site.folder / "spoold") > 1_000_000)
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    wait_until(lambda: daemon.call("status")["connections"]["mutual"] == 0)
    assert [job["id"] for job in jobs.new()] == [first["id"]]


def test_a_backend_whose_cups_is_gone_gives_up(site, printing, start, pdf, tmp_path):
    """Nobody waits for it any more; the next CUPS starts another one for the job."""
    script = 'DEVICE_URI=$1; export DEVICE_URI; "$2" 7 u t 1 "" "$3" 2>"$4" & echo $!; sleep 0.5'
    log = tmp_path / "log"
    parent = subprocess.run(
        ["/bin/sh", "-c", script, "sh", site.uri(), printing.backends / "spoold", pdf, log],
        capture_output=True,
        timeout=60,
    )
    process = Path("/proc", parent.stdout.decode().strip())
    wait_until(lambda: not process.exists())
    assert "Trying again" in log.read_text()


# --- refusals -------------------------------------------------------------------------------


def test_a_revoked_certificate_holds_the_job_for_authentication(daemon, site, printing, queue, pdf):
    """New credentials, and the job that is resumed prints."""
    jobs = Jobs(daemon)
    site.put_backend(printing, site.enrol(daemon, "revoked", "*"))
    daemon.call("provider.revoke", name="revoked")
    try:
        number = printing.print(queue(), pdf)
        held = printing.wait(number, "pending-held")
        assert "cups-held-for-authentication" in held["job-state-reasons"]
        assert jobs.new() == []
    finally:
        site.put_backend(printing, site.folder / "cups.pem")
    printing.run("lp", "-i", number, "-H", "resume")
    assert printing.wait(number, "completed")
    assert len(jobs.new()) == 1


def test_a_user_that_the_provider_may_not_speak_for_is_held(daemon, site, printing, queue, pdf):
    """The certificate is good, but not for everybody's jobs."""
    jobs = Jobs(daemon)
    site.put_backend(printing, site.enrol(daemon, "till", "cashier"))
    try:
        name = queue()
        number = printing.print(name, "-U", "somebody", pdf)
        held = printing.wait(number, "pending-held")
        assert "cups-held-for-authentication" in held["job-state-reasons"]
        assert "may not submit jobs for" in held["job-printer-state-message"]
        assert printing.wait(printing.print(name, "-U", "cashier", pdf), "completed")
    finally:
        site.put_backend(printing, site.folder / "cups.pem")
    assert [job["owner"] for job in jobs.new()] == ["cashier"]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("spoold://127.0.0.1:{0}/nowhere", "there is no printer"),
        ("spoold://127.0.0.1:{0}/default?nonsense=1", "there is no option nonsense"),
        ("spoold://127.0.0.1:{0}", "it names no printer"),
    ],
)
def test_a_wrong_queue_stops_and_keeps_its_jobs(daemon, site, printing, queue, pdf, uri, message):
    """Set right, it prints what waits."""
    jobs = Jobs(daemon)
    name = queue(uri=uri.format(site.mutual))
    number = printing.print(name, pdf)
    wait_until(lambda: "disabled" in printing.run("lpstat", "-p", name))
    assert printing.job(number)["job-state"] == "pending"
    assert message in printing.log()
    printing.run("lpadmin", "-p", name, "-v", site.uri())
    printing.run("cupsenable", name)
    assert printing.wait(number, "completed")
    assert len(jobs.new()) == 1


def test_credentials_that_others_may_read_are_not_used(daemon, site, printing, queue, pdf):
    """The queue stops and says what to do."""
    open_pem = site.folder / "open.pem"
    open_pem.write_bytes((site.folder / "cups.pem").read_bytes())
    open_pem.chmod(0o644)
    site.put_backend(printing, open_pem)
    name = queue()
    number = printing.print(name, pdf)
    wait_until(lambda: "disabled" in printing.run("lpstat", "-p", name))
    assert f"Run: chmod 600 {open_pem}" in printing.log()
    open_pem.chmod(0o600)
    printing.run("cupsenable", name)
    try:
        assert printing.wait(number, "completed")
    finally:
        site.put_backend(printing, site.folder / "cups.pem")


def test_other_bytes_for_the_same_job_are_held_for_a_person(daemon, site, printing, queue, pdf):
    """What filters make anew is not what the server has: neither printed twice nor dropped."""
    jobs = Jobs(daemon)
    name = queue("?waitjob=yes&hold=yes")
    number = printing.print(name, pdf)
    job = jobs.one()
    wait_until(lambda: "pending-held" in printing.job(number).get("job-printer-state-message", ""))
    printing.stop(signal.SIGKILL)
    (spooled,) = (printing.root / "spool").glob(f"d{number:05}-*")
    spooled.write_bytes(document("enscript"))
    printing.start()
    held = printing.wait(number, "pending-held")
    assert f"as job {job['id']}, which is pending-held" in held["job-printer-state-message"]
    assert len(jobs.new()) == 1
    daemon.call("job.cancel", job=job["id"])
    printing.run("cancel", number)
