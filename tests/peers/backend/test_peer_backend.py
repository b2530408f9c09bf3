"""Queues of a real CUPS that print through our backend: one job, whatever goes away meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from support.backends import LARGE_BYTES
from support.documents import document, large_pdf
from support.peers import Jobs, finished, incoming, printed_files, wait_until
from support.ports import own_port
from support.process import all_jobs

pytestmark = pytest.mark.slow


# --- handing over ----------------------------------------------------------------------------


def test_lpinfo_lists_the_backend(printing):
    """CUPS asks it what it can do."""
    assert "network spoold" in printing.run("lpinfo", "-v").splitlines()


def test_a_job_prints_byte_for_byte_with_all_that_cups_knows_of_it(
    daemon, site, printing, queue, pdf
):
    """Title, owner, copies and options arrive; the options of CUPS's own do not."""
    jobs = Jobs(daemon)
    options = ("-t", "Größe 10 %", "-n", "3", "-o", "sides=two-sided-long-edge", "-o", "media=a4")
    number = printing.print(queue(), *options, "-U", "cashier", pdf)
    assert printing.wait(number, "completed")
    job = jobs.one_finished()
    assert (job["title"], job["owner"], job["owner_known"]) == ("Größe 10 %", "cashier", "asserted")
    assert (job["copies"], job["format"], job["owner_by"]) == (3, "application/pdf", "cups")
    assert job["attributes"] == {"sides": "two-sided-long-edge", "media": "a4"}
    assert printed_files(site.folder / "spoold", job) == [document("pdfwrite")]


def test_what_filters_make_carries_its_copies(daemon, site, printing, queue, tmp_path):
    """A queue with a PostScript driver: the stream is for a printer, and nobody copies it again."""
    jobs = Jobs(daemon)
    name = queue("", "-m", "drv:///sample.drv/generic.ppd")
    text = tmp_path / "text"
    text.write_text("A line.\n" * 20)
    number = printing.print(
        name, "-n", "2", "-o", "number-up=2", "-o", "sides=two-sided-short-edge", text
    )
    assert printing.wait(number, "completed")
    job = jobs.one_finished()
    assert (job["copies"], job["format"]) == (1, "application/postscript")
    assert "number-up" not in job["attributes"]
    assert job["attributes"]["sides"] == "two-sided-short-edge"
    (printed,) = printed_files(site.folder / "spoold", job)
    assert printed.startswith(b"%!PS")


def test_two_files_are_one_job(daemon, site, printing, queue, pdf, tmp_path):
    """CUPS puts the files of a job for a raw queue one behind the other."""
    jobs = Jobs(daemon)
    other = tmp_path / "other.ps"
    other.write_bytes(document("enscript"))
    number = printing.print(queue(), pdf, other)
    assert printing.wait(number, "completed")
    job = jobs.one_finished()
    assert printed_files(site.folder / "spoold", job) == [pdf.read_bytes() + other.read_bytes()]


def test_60_mb_arrive_whole(daemon, site, printing, queue, tmp_path):
    """From a file, with what CUPS shows of the progress."""
    jobs = Jobs(daemon)
    body = large_pdf(LARGE_BYTES)
    path = tmp_path / "large.pdf"
    path.write_bytes(body)
    number = printing.print(queue(), path)
    assert printing.wait(number, "completed")
    job = jobs.one_finished()
    assert printed_files(site.folder / "spoold", job) == [body]


def test_over_the_clear_port_the_owner_is_a_claim(daemon, site, printing, queue, pdf):
    """Port 9191 by another number: the URI says that there is no TLS."""
    jobs = Jobs(daemon)
    number = printing.print(
        queue(uri=f"spoold://127.0.0.1:{site.clear}/default?tls=no"), "-U", "cashier", pdf
    )
    assert printing.wait(number, "completed")
    job = jobs.one_finished()
    assert (job["owner"], job["owner_known"]) == ("cashier", "claimed")


def test_fail_over_when_the_first_server_is_down(daemon, site, printing, queue, pdf):
    """Two servers in one device URI; CUPS wants the colon of the first written as %3A."""
    jobs = Jobs(daemon)
    uri = f"spoold://127.0.0.1%3A{site.nobody},localhost:{site.mutual}/default"
    number = printing.print(queue(uri=uri), pdf)
    assert printing.wait(number, "completed")
    assert printed_files(site.folder / "spoold", jobs.one_finished()) == [document("pdfwrite")]


def test_a_class_goes_on_to_its_next_member(daemon, site, printing, queue, pdf):
    """A member whose server is away gives its job back after 5 s."""
    jobs = Jobs(daemon)
    away = queue(uri=f"spoold://127.0.0.1:{site.nobody}/default")
    here = queue()
    printing.run("lpadmin", "-p", away, "-c", "members")
    printing.run("lpadmin", "-p", here, "-c", "members")
    printing.run("cupsenable", "members")
    printing.run("cupsaccept", "members")
    numbers = [printing.print("members", pdf) for _ in range(2)]
    for number in numbers:
        assert printing.wait(number, "completed")
    wait_until(lambda: len(jobs.new()) == 2)
    assert {job["state"] for job in (finished(daemon, one["id"]) for one in jobs.new())} == {
        "completed"
    }


# --- servers that are away -------------------------------------------------------------------


def test_a_job_waits_for_a_server_that_is_away_and_prints_once(site, printing, queue, pdf):
    """CUPS shows why; the queue is never stopped, and nobody has to do anything."""
    name = queue()
    number = printing.print(name, pdf)

    def is_told() -> bool:
        told = printing.job(number)
        message = told.get("job-printer-state-message", "")
        reasons = told.get("job-printer-state-reasons", "")
        return "Trying again" in message and "connecting-to-device" in reasons

    wait_until(is_told)
    assert printing.job(number)["job-state"] == "processing"
    with site.start() as daemon:
        jobs = Jobs(daemon)
        assert printing.wait(number, "completed")
        job = jobs.one_finished()
        assert printed_files(site.folder / "spoold", job) == [document("pdfwrite")]
        assert len(jobs.new()) == 1
        assert daemon.end() == 0
    assert "enabled" in printing.run("lpstat", "-p", name)


def test_a_job_goes_back_to_cups_where_the_uri_asks_for_it(site, printing, queue, pdf):
    """`contimeout` with `away=retry`: CUPS holds the job for a while, and tries it again."""
    number = printing.print(queue("?contimeout=1&away=retry"), pdf)
    wait_until(lambda: f"[Job {number}] Backend returned status 6" in printing.log())
    with site.start() as daemon:
        jobs = Jobs(daemon)
        assert printing.wait(number, "completed")
        jobs.one_finished()
        assert daemon.end() == 0


def test_a_server_that_dies_in_the_middle_of_an_upload_gets_one_job(
    site, printing, queue, tmp_path
):
    """It is killed, starts again, and the backend goes on where it was."""
    path = tmp_path / "cut.pdf"
    path.write_bytes(large_pdf(LARGE_BYTES))
    with site.start() as daemon:
        number = printing.print(queue(), path)
        wait_until(lambda: incoming(site.folder / "spoold") > 1_000_000)
        daemon.end(signal.SIGKILL)
    assert printing.job(number)["job-state"] == "processing"
    with site.start() as daemon:
        assert printing.wait(number, "completed")
        (job,) = [one for one in all_jobs(daemon.control) if one["title"] == path.name]
        job = finished(daemon, job["id"])
        assert printed_files(site.folder / "spoold", job) == [path.read_bytes()]
        assert daemon.end() == 0


def test_a_printer_that_takes_no_jobs_is_waited_for(daemon, site, printing, queue, pdf):
    """Not accepting is a state that passes, too."""
    daemon.call("printer.add", name="shut", uri=f"file://{site.folder}/shut", accepting=False)
    try:
        number = printing.print(queue(printer="shut"), pdf)
        message = "job-printer-state-message"
        wait_until(lambda: "takes no jobs" in printing.job(number).get(message, ""))
        daemon.call("printer.set", name="shut", accepting=True)
        assert printing.wait(number, "completed")
    finally:
        daemon.call("printer.set", name="shut", accepting=True)


# --- one job, however often CUPS tries ----------------------------------------------------------


def test_a_cups_that_was_killed_submits_no_second_job(daemon, printing, queue, pdf):
    """It starts again and runs the job again; spoold has it already, and it prints once."""
    jobs = Jobs(daemon)
    number = printing.print(queue("?hold=yes&waitjob=yes"), pdf)
    job = jobs.one()
    wait_until(lambda: "cups-waiting-for-job-completed" in printing.log())
    printing.stop(signal.SIGKILL)
    printing.start()
    wait_until(lambda: f"[Job {number}] Accepted, as before: job {job['id']} at" in printing.log())
    daemon.call("job.release", job=job["id"])
    assert printing.wait(number, "completed")
    assert [one["id"] for one in jobs.new()] == [job["id"]]


def test_a_cups_that_stops_leaves_the_job_to_the_server_that_has_it(daemon, printing, queue, pdf):
    """A CUPS that waits for paper and is stopped takes the job for done: it is not sent again."""
    jobs = Jobs(daemon)
    number = printing.print(queue("?waitjob=yes&hold=yes"), pdf)
    job = jobs.one()
    wait_until(lambda: "pending-held" in printing.job(number).get("job-printer-state-message", ""))
    printing.stop()
    printing.start()
    daemon.call("job.release", job=job["id"])
    assert finished(daemon, job["id"])["state"] == "completed"
    assert len(jobs.new()) == 1


def test_a_cups_that_stops_while_the_server_is_away_starts_again_with_the_job(
    site, printing, queue, pdf
):
    """The job is its own until a server has it, and then it is one job."""
    number = printing.print(queue(), pdf)
    wait_until(lambda: "Trying again" in printing.job(number).get("job-printer-state-message", ""))
    printing.stop()
    printing.start()
    with site.start() as daemon:
        jobs = Jobs(daemon)
        assert printing.wait(number, "completed")
        assert jobs.one_finished()["state"] == "completed"
        assert daemon.end() == 0


def test_restarting_a_finished_job_prints_it_again(daemon, printing, queue, pdf):
    """Whoever restarts a job wants it a second time."""
    jobs = Jobs(daemon)
    number = printing.print(queue(), pdf)
    assert printing.wait(number, "completed")
    first = jobs.one_finished()
    printing.run("lp", "-i", number, "-H", "restart")
    wait_until(lambda: len(jobs.new()) == 2)
    assert printing.wait(number, "completed")
    second = next(one for one in jobs.new() if one["id"] != first["id"])
    assert second["digest"] == first["digest"]


# --- waiting for the end --------------------------------------------------------------------


def test_cups_waits_for_paper_where_the_uri_asks_for_it(daemon, printing, queue, pdf):
    """`waitjob=yes`: the job of CUPS ends with the job of spoold, not before."""
    jobs = Jobs(daemon)
    number = printing.print(queue("?waitjob=yes&hold=yes"), pdf)
    job = jobs.one()
    wait_until(lambda: "pending-held" in printing.job(number).get("job-printer-state-message", ""))
    assert printing.job(number)["job-state"] == "processing"
    daemon.call("job.release", job=job["id"])
    assert printing.wait(number, "completed")


def test_cups_learns_how_many_pages_came_out(daemon, site, printing, queue, pdf):
    """A printer that counts them over PJL tells spoold, spoold tells CUPS."""
    with own_port() as port:
        command = [sys.executable, "-m", "spoold", "simulate", "printer", "--raw", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as device:
        try:
            assert str(port) in device.stdout.readline()
            daemon.call(
                *("printer.add",), name="counting", uri=f"socket://127.0.0.1:{port}",
                options={"pjl": "on"},
            )  # fmt: skip
            number = printing.print(queue("?waitjob=yes", printer="counting"), pdf)
            job = printing.wait(number, "completed")
        finally:
            device.kill()
    assert int(job["job-media-sheets-completed"]) >= 1


def test_a_job_that_spoold_cancels_is_canceled_in_cups(daemon, printing, queue, pdf):
    """Somebody at the server ends it while CUPS waits."""
    jobs = Jobs(daemon)
    number = printing.print(queue("?waitjob=yes&hold=yes"), pdf)
    daemon.call("job.cancel", job=jobs.one()["id"])
    assert printing.wait(number, "canceled")


# --- cancel ---------------------------------------------------------------------------------


def test_a_job_canceled_while_its_server_is_away_never_prints(site, printing, queue, pdf):
    """The backend ends at once, and leaves nothing behind that could send it later."""
    name = queue()
    number = printing.print(name, pdf)
    wait_until(lambda: "Trying again" in printing.job(number).get("job-printer-state-message", ""))
    printing.run("cancel", number)
    wait_until(lambda: "processing" not in printing.run("lpstat", "-p", name))
    assert printing.job(number)["job-state"] == "canceled"
    with site.start() as daemon:
        assert Jobs(daemon).new() == []
        assert daemon.end() == 0


def test_a_job_canceled_in_cups_is_canceled_at_the_server(daemon, printing, queue, pdf):
    """While CUPS waits for it, the job there ends with the one here."""
    jobs = Jobs(daemon)
    number = printing.print(queue("?waitjob=yes&hold=yes"), pdf)
    job = jobs.one()
    wait_until(lambda: "pending-held" in printing.job(number).get("job-printer-state-message", ""))
    printing.run("cancel", number)
    job = finished(daemon, job["id"])
    assert (job["state"], job["reasons"]) == ("canceled", ["job-canceled-by-user"])


def test_a_job_that_cups_moves_is_canceled_here_and_prints_there(
    daemon, site, printing, queue, pdf
):
    """`lpmove` of a job whose backend waits: the other queue's printer gets it, once."""
    daemon.call("printer.add", name="annex", uri=f"file://{site.folder}/annex")
    jobs = Jobs(daemon)
    number = printing.print(queue("?waitjob=yes&hold=yes"), pdf)
    first = jobs.one()
    wait_until(lambda: "pending-held" in printing.job(number).get("job-printer-state-message", ""))
    printing.run("lpmove", number, queue(printer="annex"))
    assert printing.wait(number, "completed")
    assert finished(daemon, first["id"])["state"] == "canceled"
    (second,) = [one for one in jobs.new() if one["id"] != first["id"]]
    assert finished(daemon, second["id"])["state"] == "completed"
    assert len(list((site.folder / "annex").iterdir())) == 1
