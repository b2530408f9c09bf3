"""A printer that is `direct` prints without any server, and a server hears of it exactly once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from uuid import uuid4

import pytest

from spoold.cli.backend import script
from spoold.cli.grammar import DONE, REFUSED, UNREACHABLE
from support.documents import document
from support.pairs import PRINTER, pair_of
from support.peers import wait_until

pytestmark = pytest.mark.slow(6)

REPORTED = "job-reported"  # a report was committed, and not answered yet
SPOOLD = [sys.executable, "-m", "spoold"]


class Sink:
    """A device of port 9100; `printed` is what came, connection by connection."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.uri = f"socket://127.0.0.1:{self._listener.getsockname()[1]}"
        self.printed: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with sock:
                pieces = []
                while piece := sock.recv(65536):
                    pieces.append(piece)
                if pieces:
                    self.printed.append(b"".join(pieces))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)


@pytest.fixture(scope="module")
def device():
    sink = Sink()
    yield sink
    sink.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory, device):
    folder = tmp_path_factory.mktemp("pair")
    with pair_of(folder, device.uri, charging="shadow", when_unreachable="direct") as found:
        found.hq.call("user.add", name="ada")
        found.hq.call("price.set", rates=[{"price": 500}])
        yield found


def test_a_job_is_printed_without_a_server_and_reported_once(pair, device, tmp_path):
    """Both servers dead, another process each time, and the answer to the report is lost once."""
    state, letter = tmp_path / "state", tmp_path / "letter.pdf"
    letter.write_bytes(document("pdfwrite"))
    uuid = str(uuid4())

    def submit(*more: str) -> subprocess.CompletedProcess:
        words = [*pair.options, "--state", str(state), "-P", PRINTER, "--user", "ada"]
        return subprocess.run(
            [*SPOOLD, "submit", *words, "--wait", "1", *more, str(letter)],
            capture_output=True,
            text=True,
            timeout=60,
        )

    def agent() -> int:
        done = subprocess.run(
            [*SPOOLD, "provider", "agent", "--once", "--server", pair.hq_endpoint,
             "--credentials", str(pair.pem), "--state", str(state)],
            capture_output=True,
            text=True,
            timeout=60,
        )  # fmt: skip
        assert done.returncode in (DONE, REFUSED, UNREACHABLE), done.stderr
        return done.returncode

    assert agent() == DONE  # told in advance
    pair.kill("hq", "site")
    for _ in range(2):  # asked again by whoever does not trust the first answer
        said = submit("--uuid", uuid)
        assert said.returncode == DONE, said.stderr
        assert f"{uuid} was printed on {device.uri} directly" in said.stdout
    assert device.printed == [letter.read_bytes()]
    assert agent() == UNREACHABLE
    hq = pair.restart("hq", f"{REPORTED}:1")
    assert agent() == UNREACHABLE  # it was committed, and the answer never came
    assert hq.process.wait(60) == -signal.SIGKILL
    hq = pair.restart("hq")
    assert agent() == DONE
    assert list((state / "jobs").iterdir()) == []
    job = hq.call("job.show", job=uuid)
    assert job["state"] == "completed"
    assert job["reasons"] == ["job-completed-successfully", "job-printed-directly"]
    assert (job["owner"], job["owner_known"], job["intake"]) == ("ada", "asserted", "report")
    told = [one["what"] for one in hq.call("job.explain", job=uuid)["story"]]
    assert any("its provider's report" in one for one in told)
    [charge] = hq.call("account.charges", job=job["id"])["charges"]
    assert "not-reserved" in charge["flags"]
    assert agent() == DONE
    assert len(hq.call("account.charges", job=job["id"])["charges"]) == 1
    assert device.printed == [letter.read_bytes()]
    pair.restart("site")


def test_cups_prints_without_a_server_where_the_printer_says_so(pair, device, tmp_path):
    """Job after job: with a server, without one, and with one again, which hears of the second."""
    state, program = tmp_path / "state", tmp_path / "spoold-backend"
    device.printed.clear()
    program.write_text(script(Path(sys.executable), pair.pem, state))
    program.chmod(0o700)

    def send(number: int, printer: str = PRINTER) -> subprocess.CompletedProcess:
        uuid = f"job-uuid=urn:uuid:00000000-0000-4000-8000-{number:012}"
        return subprocess.run(
            [program, str(number), "ada", f"cups-{number}", "1", uuid],
            env={
                **os.environ,
                "DEVICE_URI": f"spoold://{pair.hq_endpoint}/{printer}?patience=0&contimeout=1",
            },
            input=f"job {number}\n".encode(),
            capture_output=True,
            timeout=60,
        )

    assert send(1).returncode == 0
    wait_until(lambda: device.printed == [b"job 1\n"])
    pair.kill("hq", "site")
    said = send(2)
    assert said.returncode == 0, said.stderr
    assert b"INFO: It was printed on socket://" in said.stderr
    assert send(2).returncode == 0  # CUPS was restarted before it heard so
    assert device.printed == [b"job 1\n", b"job 2\n"]
    assert send(3, "default").returncode == 7  # another printer: its jobs wait in CUPS
    hq, _ = pair.restart("hq"), pair.restart("site")
    assert send(4).returncode == 0
    wait_until(lambda: len(device.printed) == 3)
    [job] = [one for one in hq.call("job.list", limit=100)["jobs"] if one["title"] == "cups-2"]
    assert job["state"] == "completed"
    assert "job-printed-directly" in job["reasons"]
    assert not list((state / "jobs").iterdir())
    shutil.rmtree(state)
