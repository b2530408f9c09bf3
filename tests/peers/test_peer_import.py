"""Moving over from CUPS: what a real cupsd has written, imported into a running spoold."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from support.cups import cups
from support.documents import document
from support.peers import finished, wait_until
from support.process import config_with, running, send_raw

pytestmark = pytest.mark.slow

CONFIG = config_with() + 'raw_printer = "archive"\n'


@pytest.fixture(scope="module")
def server_root(tmp_path_factory):
    """The files of a CUPS that people have set up with its own commands, and then stopped."""
    folder = tmp_path_factory.mktemp("cups")
    with cups("MaxJobs 100") as running_cups:
        add, run = running_cups.add, running_cups.run
        add(
            *("desk", "socket://192.0.2.7:9101/?waiteof=false&contimeout=20"),
            *("-D", "Front # desk # 2", "-L", "Größe 3", "-o", "sides-default=two-sided-long-edge"),
            *("-o", "job-sheets-default=standard,none", "-o", "media-default=a4"),
        )
        add("ps", "lpd://192.0.2.8/raw?reserve=rfc1179", "-m", "drv:///sample.drv/generic.ppd")
        run("lpadmin", "-p", "ps", "-o", "PageSize=A4", "-o", "Duplex=DuplexNoTumble")
        add("pcl", "socket://192.0.2.9", "-m", "drv:///sample.drv/generpcl.ppd")
        run(
            "lpadmin",
            "-p",
            "pcl",
            "-u",
            "allow:alice,@staff",
            "-o",
            "printer-error-policy=abort-job",
        )
        add("archive", f"file://{folder}/archive/last.prn")
        add("null", "file:///dev/null")
        add("secret", "ipp://desk:geheim@192.0.2.10/ipp/print?encryption=required")
        run("cupsdisable", "-r", "toner # at noon", "desk")
        run("cupsreject", "ps")
        for member in ("desk", "null", "ps"):
            run("lpadmin", "-p", member, "-c", "floor")
        run("cupsaccept", "floor")
        run("lpadmin", "-d", "ps")
        run("lpoptions", "-p", "ps", "-o", "Duplex=DuplexTumble", "-o", "fit-to-page=true")
        run("lpoptions", "-p", "ps/draft", "-o", "print-quality=3")
        running_cups.stop()
        shutil.copytree(running_cups.root / "ppd", folder / "ppd")
        for name in ("printers.conf", "classes.conf", "cupsd.conf"):
            shutil.copy(running_cups.root / name, folder)
        # Of root, the file stands beside the others; of anybody else, at home.
        shutil.copy(running_cups.root / ".cups" / "lpoptions", folder)
    (folder / "archive").mkdir()
    return folder


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spoold")
    with running(folder, config=CONFIG) as daemon:
        yield daemon
        assert daemon.end() == 0


@pytest.fixture
def run(daemon, server_root):
    def run_import(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "spoold", "import", "cups", str(server_root), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "SPOOLD_CONTROL": str(daemon.control)},
        )

    return run_import


def actions(done: subprocess.CompletedProcess) -> dict[str, str]:
    return {one["name"]: one["action"] for one in json.loads(done.stdout)["queues"]}


def test_moving_over(daemon, server_root, run):
    """A dry run says what would be done, the import does it, and another one changes nothing."""
    before = [one["name"] for one in daemon.call("printer.list")["printers"]]
    wanted = {
        "archive": "add", "desk": "add", "floor": "add", "null": "refused", "pcl": "add",
        "ps": "add", "secret": "refused",
    }  # fmt: skip
    done = run("--dry-run", "--json")
    assert (done.returncode, actions(done)) == (1, wanted), done.stderr
    assert [one["name"] for one in daemon.call("printer.list")["printers"]] == before

    done = run()
    assert done.returncode == 1, done.stderr
    assert "null (file:///dev/null): not taken over" in done.stdout
    assert "geheim" not in done.stdout
    assert "JobSheets standard none: there are no banner pages" in done.stdout
    assert "AllowUser @staff, AllowUser alice" in done.stdout
    assert "ps/draft: a queue has no instances" in done.stdout
    assert "The default printer was ps" in done.stdout
    assert "MaxJobs 100" in done.stdout
    position = daemon.call("journal.cursors")["head"]

    done = run("--json")
    again = {name: "unchanged" if word == "add" else word for name, word in wanted.items()}
    assert (done.returncode, actions(done)) == (1, again), done.stdout
    assert daemon.call("journal.cursors")["head"] == position


@pytest.mark.usefixtures("imported")
def test_printers_are_what_the_queues_were(daemon):
    """Names, places, states, defaults, options of the device; what the PPD knew is offered."""
    desk = daemon.call("printer.show", name="desk")
    assert (desk["uri"], desk["options"]) == (
        "socket://192.0.2.7:9101",
        {"silence": "acknowledged"},
    )
    assert (desk["info"], desk["location"]) == ("Front # desk # 2", "Größe 3")
    assert (desk["paused"], desk["pause_reason"]) == (True, "toner # at noon")
    assert desk["offer"] == {
        "sides-default": "two-sided-long-edge",
        "media-default": "iso_a4_210x297mm",
    }
    ps = daemon.call("printer.show", name="ps")
    assert (ps["accepting"], ps["options"]) == (False, {"reserve": "rfc1179"})
    assert ps["formats"] == ["application/postscript"]
    assert ps["offer"]["printer-make-and-model"] == "Generic PostScript Printer"
    assert ps["offer"]["media-default"] == "iso_a4_210x297mm"
    assert ps["offer"]["sides-default"] == "two-sided-short-edge"
    assert "iso_a3_297x420mm" in ps["offer"]["media-supported"]
    pcl = daemon.call("printer.show", name="pcl")
    assert pcl["formats"] == ["application/vnd.hp-pcl"]
    assert pcl["accepting"] is False
    assert pcl["offer"]["print-color-mode-supported"] == ["monochrome"]
    assert pcl["offer"]["printer-resolution-supported"] == ["300x300dpi", "600x600dpi"]
    assert daemon.call("printer.show", name="floor")["members"] == ["desk", "ps"]


@pytest.mark.usefixtures("imported")
def test_a_printer_that_was_taken_over_prints(daemon, server_root):
    """A queue that wrote into a file: each job is one of its own now."""
    assert send_raw(daemon.port, document("enscript"))
    (job,) = wait_until(lambda: daemon.call("job.list")["jobs"])
    assert finished(daemon, job["id"])["state"] == "completed"
    (printed,) = (server_root / "archive").iterdir()
    assert printed.read_bytes() == document("enscript")


@pytest.mark.usefixtures("imported")
def test_what_differs_is_told_and_stays(daemon, run):
    """Somebody has changed a printer here since: the import is no way to change it back."""
    daemon.call("printer.set", name="ps", location="Annex", accepting=True)
    try:
        done = run("--json")
        assert actions(done)["ps"] == "conflict"
        (ps,) = [one for one in json.loads(done.stdout)["queues"] if one["name"] == "ps"]
        assert sorted(ps["why"]) == ["accepting", "location"]
        assert daemon.call("printer.show", name="ps")["location"] == "Annex"
    finally:
        daemon.call("printer.set", name="ps", location="", accepting=False)


@pytest.fixture(scope="module")
def imported(daemon, server_root):
    subprocess.run(
        [sys.executable, "-m", "spoold", "import", "cups", str(server_root)],
        capture_output=True,
        timeout=60,
        env={**os.environ, "SPOOLD_CONTROL": str(daemon.control)},
    )
