"""From a client to the paper, with a converter between: the real daemon and the real programs."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from spoold.model.conversion import RECIPES
from support.documents import PDF, document
from support.peers import Jobs, finished, wait_until
from support.process import Daemon, config_with, running, send_raw

pytestmark = pytest.mark.slow

PCL = "application/vnd.hp-pcl"
CONFIG = config_with() + 'raw_printer = "laser"\n[conversion]\ndeadline_s = 20\n'
PRINT = """{
    OPERATION Print-Job
    GROUP operation-attributes-tag
    ATTR charset attributes-charset utf-8
    ATTR naturalLanguage attributes-natural-language en
    ATTR uri printer-uri $uri
    ATTR name requesting-user-name desk
    ATTR mimeMediaType document-format application/pdf
    GROUP job-attributes-tag
    ATTR integer copies 2
    FILE $filename
    STATUS successful-ok
    EXPECT job-id
}
"""


def conversion(*command: str) -> list[dict]:
    return [{"from": PDF, "to": PCL, "command": list(command)}]


def add_laser(daemon: Daemon, folder: Path, *command: str) -> Path:
    """A printer that takes only PCL, and converts PDF with `command`; the tray of its paper."""
    tray = folder / "tray"
    tray.mkdir()
    daemon.call(
        "printer.add",
        name="laser",
        uri=tray.as_uri(),
        formats=[PCL],
        conversions=conversion(*command),
    )
    return tray


def ipptool(*arguments: str) -> str:
    """What it says; every test of it must pass."""
    command = ["ipptool", "-tv", "-T", "10", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def daemon(tmp_path):
    with running(tmp_path, config=CONFIG) as daemon:
        yield daemon


def test_a_pdf_prints_as_pcl(daemon, tmp_path):
    """A raw stream and a job by IPP come out as PCL, and the story says who made it."""
    tray = add_laser(daemon, tmp_path, *RECIPES[PDF, PCL])
    jobs = Jobs(daemon)
    pdf = tmp_path / "report.pdf"
    pdf.write_bytes(document("pdfwrite"))
    assert send_raw(daemon.port, pdf.read_bytes())
    job = jobs.one_finished()
    assert (job["state"], job["format"]) == ("completed", PDF)
    evidence = job["attempts_list"][-1]["evidence"]
    assert (evidence["converted_to"], evidence["converted_by"]) == (PCL, "gs")
    (page,) = tray.iterdir()
    assert page.read_bytes().startswith(b"\x1bE")
    assert evidence["converted_bytes"] == page.stat().st_size
    page.unlink()

    (tmp_path / "print.test").write_text(PRINT)
    uri = f"ipp://127.0.0.1:{daemon.port}/printers/laser"
    ipptool("-f", str(pdf), uri, str(tmp_path / "print.test"))
    wait_until(lambda: [one for one in jobs.new() if one["state"] == "completed"][1:])
    (page,) = tray.iterdir()
    assert b"\x1b&l2X" in page.read_bytes()


def test_clients_are_offered_what_is_converted(daemon, tmp_path):
    """document-format-supported has the printer's own formats and those that become one."""
    add_laser(daemon, tmp_path, *RECIPES[PDF, PCL])
    uri = f"ipp://127.0.0.1:{daemon.port}/printers/laser"
    told = ipptool(uri, "get-printer-attributes.test")
    (line,) = [one for one in told.splitlines() if "document-format-supported" in one]
    assert set(line.partition(" = ")[2].split(",")) == {"application/octet-stream", PCL, PDF}


def test_what_cannot_be_converted_is_held(daemon, tmp_path):
    """The job waits with the converter's last words; with one that works it prints."""
    tray = add_laser(daemon, tmp_path, *RECIPES[PDF, PCL])
    jobs = Jobs(daemon)
    assert send_raw(daemon.port, b"%PDF-1.4\nno such thing\n%%EOF\n")
    job = wait_until(lambda: [one for one in jobs.new() if one["state"] == "pending-held"])[0]
    assert job["reasons"] == ["document-format-error"]
    assert job["message"].startswith("gs made nothing: ")
    assert "No pages will be processed" in job["message"]
    assert list(tray.iterdir()) == []
    daemon.call("printer.set", name="laser", conversions=conversion("cat", "{input}"))
    daemon.call("job.release", job=str(job["id"]))
    assert finished(daemon, job["id"])["state"] == "completed"
    (page,) = tray.iterdir()
    assert page.read_bytes().startswith(b"%PDF")


def test_without_a_converter_it_is_held_as_it_is(daemon, tmp_path):
    """Conversion is off by default, and can be taken away."""
    add_laser(daemon, tmp_path, "cat")
    daemon.call("printer.set", name="laser", conversions=[])
    jobs = Jobs(daemon)
    assert send_raw(daemon.port, document("pdfwrite"))
    job = wait_until(lambda: [one for one in jobs.new() if one["state"] == "pending-held"])[0]
    assert job["reasons"] == ["unsupported-document-format"]


def processes(word: str) -> list[str]:
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    return [line for line in listed.stdout.splitlines() if word in line]


def test_a_killed_spoold_leaves_nothing_behind(tmp_path):
    """kill -9 in the middle of a conversion ends the converter; the next spoold prints the job."""
    converting = tmp_path / "data" / "converting"
    with running(tmp_path, config=CONFIG) as daemon:
        tray = add_laser(daemon, tmp_path, "sh", "-c", "touch a; sleep 64.75 & sleep 64.75")
        assert send_raw(daemon.port, document("pdfwrite"))
        wait_until(lambda: len(processes("sleep 64.75")) >= 3)
        assert list(converting.iterdir())
        daemon.end(signal.SIGKILL)
        wait_until(lambda: not processes("sleep 64.75"))
    with running(tmp_path, config=CONFIG) as daemon:
        (job,) = daemon.call("job.list")["jobs"]
        assert job["state"] == "pending"
        assert len(list(converting.iterdir())) <= 1  # of the attempt that is on its way again
        daemon.call("printer.set", name="laser", conversions=conversion(*RECIPES[PDF, PCL]))
        daemon.call("job.hold", job=str(job["id"]))
        daemon.call("job.release", job=str(job["id"]))
        assert finished(daemon, job["id"])["state"] == "completed"
        (page,) = tray.iterdir()
        assert page.read_bytes().startswith(b"\x1bE")
        assert daemon.end() == 0
    assert not processes("sleep 64.75")
    assert list(converting.iterdir()) == []


def test_a_stop_is_no_fault_of_the_document(tmp_path):
    """A spoold that is told to stop ends the conversion, and the job waits as before."""
    with running(tmp_path, config=CONFIG + "[drain]\ndeadline_s = 0\n") as daemon:
        add_laser(daemon, tmp_path, "sh", "-c", "sleep 65.75")
        assert send_raw(daemon.port, document("pdfwrite"))
        wait_until(lambda: processes("sleep 65.75"))
        assert daemon.end() == 0
    assert not processes("sleep 65.75")
    with running(tmp_path, config=CONFIG) as daemon:
        (job,) = daemon.call("job.list")["jobs"]
        assert (job["state"], job["attempts"]) == ("pending", 0)
