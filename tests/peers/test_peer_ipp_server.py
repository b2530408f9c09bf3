"""CUPS as a client of the IPP server: its daemon prints through it, its programs work with it."""

from __future__ import annotations

import os
import pty
import re
import subprocess

import pytest

from support.cups import cups
from support.documents import document
from support.peers import finished, printed_files, wait_until
from support.process import all_jobs, config_with

pytestmark = pytest.mark.slow

CONFIG = config_with("tls")
PASSWORD = "correct-horse-7"


@pytest.fixture(scope="module")
def cupsd():
    with cups() as running:
        yield running


@pytest.fixture
def printer(daemon, request):
    """A printer of its own for each test."""
    name = re.sub(r"[^a-z]", "-", request.node.name)[5:].strip("-")
    daemon.call("printer.add", name=name, uri=f"file:{daemon.control.parent}/printed")
    return name


@pytest.fixture
def run(daemon, tmp_path):
    """Run a program of CUPS towards the daemon; returns what it says."""

    def call(program, *arguments, code=0):
        done = subprocess.run(
            [program, "-h", f"127.0.0.1:{daemon.port}", *arguments],
            env={**os.environ, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # no terminal: nobody can be asked for a password
        )
        assert done.returncode == code, (program, done.stdout, done.stderr)
        return done.stdout + done.stderr

    return call


@pytest.fixture
def pdf(tmp_path):
    path = tmp_path / "report.pdf"
    path.write_bytes(document("pdfwrite"))
    return str(path)


def the_job(daemon, printer):
    (job,) = daemon.call("job.list", printer=printer)["jobs"]
    return job


# --- cupsd -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ipp", "ipps"])
def test_a_raw_queue_of_cups_prints_through_ipp(daemon, folder, cupsd, printer, pdf, scheme):
    """Byte for byte, with title and owner; CUPS hears that it was printed."""
    port = daemon.port if scheme == "ipp" else daemon.ports["tls"].rpartition(":")[2]
    queue = printer
    cupsd.add(queue, f"{scheme}://127.0.0.1:{port}/printers/{printer}", "-m", "raw")
    number = cupsd.print(queue, "-t", "Weekly report", "-n", "2", pdf)
    cupsd.wait(number, "completed", 30)
    job = finished(daemon, the_job(daemon, printer)["id"])
    assert (job["state"], job["intake"], job["format"]) == ("completed", "ipp", "application/pdf")
    assert (job["title"], job["copies"]) == ("Weekly report", 2)
    assert printed_files(folder, job)[0] == document("pdfwrite")


def test_cups_takes_the_printer_for_a_driverless_one(daemon, cupsd, printer):
    """`lpadmin -m everywhere` makes a queue of it, with its media and its formats."""
    uri = f"ipp://127.0.0.1:{daemon.port}/printers/{printer}"
    cupsd.run("lpadmin", "-p", "driverless", "-E", "-v", uri, "-m", "everywhere")

    def media():  # cupsd asks the printer when lpadmin has ended
        options = cupsd.run("lpoptions", "-p", "driverless", "-l", check=False)
        return re.search(r"^PageSize/.*\*A4", options, re.MULTILINE)

    wait_until(media)
    assert "ColorModel/" in cupsd.run("lpoptions", "-p", "driverless", "-l")
    ppd = (cupsd.root / "ppd" / "driverless.ppd").read_text()
    assert "application/vnd.cups-pdf application/pdf" in ppd


def test_a_driverless_queue_prints_a_pdf(daemon, folder, cupsd, printer, pdf):
    """Through the filters of CUPS a PDF arrives as one, once."""
    uri = f"ipp://127.0.0.1:{daemon.port}/printers/{printer}"
    cupsd.run("lpadmin", "-p", printer, "-E", "-v", uri, "-m", "everywhere")
    number = cupsd.print(printer, pdf)
    cupsd.wait(number, "completed", 60)
    job = finished(daemon, the_job(daemon, printer)["id"])
    assert job["format"] == "application/pdf"
    (printed,) = printed_files(folder, job)
    assert printed.startswith(b"%PDF-")


def test_a_job_that_cups_cancels_is_canceled(daemon, cupsd, printer, pdf):
    """The queue's backend takes it back from the paused printer."""
    daemon.call("printer.pause", name=printer)
    cupsd.add(printer, f"ipp://127.0.0.1:{daemon.port}/printers/{printer}", "-m", "raw")
    number = cupsd.print(printer, pdf)
    # Earlier its backend may not know yet what the job is called here.
    waiting = "cups-waiting-for-job-completed"
    wait_until(lambda: waiting in cupsd.job(number).get("job-printer-state-reasons", ""))
    job = the_job(daemon, printer)
    cupsd.run("cancel", f"{printer}-{number}")
    assert finished(daemon, job["id"])["state"] == "canceled"


# --- its programs, without a cupsd ------------------------------------------------------------


def test_lp_prints_several_files_in_their_order(daemon, folder, run, printer, tmp_path):
    """`lp a b c` is one job of three documents; each comes out once, as it was."""
    bodies = [b"first\n", b"%!PS second\n", b"third\n"]
    paths = [tmp_path / name for name in ("a.txt", "b.ps", "c.txt")]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    said = run("lp", "-d", printer, *map(str, paths))
    number = int(re.search(rf"request id is {printer}-(\d+) \(3 file", said)[1])
    job = finished(daemon, number)
    assert (job["state"], job["documents"]) == ("completed", 3)
    assert printed_files(folder, job) == bodies
    shown = daemon.call("job.show", job=number)
    assert [one["document"] for one in shown["attempts_list"]] == [1, 2, 3]


def test_lp_prints_and_lpstat_shows(daemon, folder, run, printer, pdf):
    """`lp -h`, then `lpstat`, `lpq` and the job's attributes, as with any server."""
    daemon.call("printer.pause", name=printer)
    said = run("lp", "-d", printer, "-t", "Größe", "-n", "2", "-q", "70", pdf)
    number = int(re.search(rf"request id is {printer}-(\d+) \(1 file", said)[1])
    job = daemon.call("job.show", job=number)
    assert (job["title"], job["copies"], job["priority"]) == ("Größe", 2, 70)
    assert f"{printer}-{number}" in run("lpstat", "-o")
    assert f"printer {printer} disabled" in run("lpstat", "-p", printer)
    status = run("lpstat", "-t")
    assert "scheduler is running" in status
    assert "system default destination: default" in status
    assert re.search(rf"1st +\S+ +{number} +Größe", run("lpq", "-P", printer))
    daemon.call("printer.resume", name=printer)
    job = finished(daemon, number)
    assert printed_files(folder, job)[0] == document("pdfwrite")
    wait_until(lambda: f"{printer}-{number}" in run("lpstat", "-W", "completed", "-o", printer))


def test_lp_holds_until_a_time_and_releases(daemon, run, printer, pdf):
    """`lp -H`: indefinitely, or until a time of day."""
    run("lp", "-d", printer, "-H", "hold", pdf)
    run("lp", "-d", printer, "-H", "23:59", pdf)
    jobs = daemon.call("job.list", printer=printer)["jobs"]
    assert [job["state"] for job in jobs] == ["pending-held", "pending-held"]


def test_the_sender_cancels_its_job(daemon, run, printer, pdf):
    """`cancel` from the computer that sent it needs no login; twice is an error."""
    daemon.call("printer.pause", name=printer)
    run("lp", "-d", printer, pdf)
    number = the_job(daemon, printer)["id"]
    run("cancel", f"{printer}-{number}")
    assert daemon.call("job.show", job=number)["state"] == "canceled"
    assert "not" in run("cancel", f"{printer}-{number}", code=1)


def test_lp_to_an_unknown_printer_says_so(daemon, run, pdf):
    """And makes no job."""
    before = len(all_jobs(daemon.control))
    assert "does not exist" in run("lp", "-d", "nowhere", pdf, code=1)
    assert len(all_jobs(daemon.control)) == before


def test_lpmove_needs_a_login_and_moves_with_one(daemon, run, printer, pdf, tmp_path):
    """Without a password it is refused; an operator's is asked for over TLS, and does."""
    daemon.call("printer.pause", name=printer)
    run("lp", "-d", printer, "-H", "hold", pdf)
    number = the_job(daemon, printer)["id"]
    assert "Unauthorized" in run("lpmove", f"{printer}-{number}", "default", code=1)
    daemon.call("user.add", name="op", roles=["operator"], password=PASSWORD)
    (tmp_path / ".cups").mkdir()
    (tmp_path / ".cups" / "client.conf").write_text("User op\n")
    child, terminal = pty.fork()
    if not child:
        os.environ.update(HOME=str(tmp_path), LC_ALL="C.UTF-8")
        server = f"127.0.0.1:{daemon.port}"
        os.execvp("lpmove", ["lpmove", "-h", server, f"{printer}-{number}", "default"])
    said = b""
    try:
        while b"assword" not in said:
            said += os.read(terminal, 1024)
        os.write(terminal, PASSWORD.encode() + b"\n")
        while data := os.read(terminal, 1024):
            said += data
    except OSError:
        pass  # it has ended
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    assert daemon.call("job.show", job=number)["printer"] == "default"
