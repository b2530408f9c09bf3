"""An upload that the application server's death cuts goes on at the site, and is printed once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spoold.cli.backend import script
from spoold.provider.blocking import BlockingProvider
from support.nodes import job_of, wait_job
from support.pairs import PRINTER, Pair, pair_of
from support.peers import incoming, wait_until

pytestmark = pytest.mark.slow(3)

LARGE = b"%!PS\n" + bytes(24_000_000)
GOES_ON_S = 10.0  # 0.1 to 0.2 s on a machine that has nothing else to do; 1 s is promised


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pair")
    (folder / "paper").mkdir()
    with pair_of(folder, (folder / "paper").as_uri()) as found:
        yield found


def settle(pair: Pair, title: str) -> None:
    """The application server comes back: one job, on paper once, and nothing waits anywhere."""
    paper = pair.folders["hq"].parent / "paper"
    printed = wait_job(pair.site, title, "completed")
    hq = pair.restart("hq")

    def states() -> list[str]:
        found = hq.call("job.elsewhere", site="library", limit=500)["jobs"]
        return [one["state"] for one in found if one["uuid"] == printed["uuid"]]

    wait_until(lambda: states() == ["completed"])
    assert job_of(hq, title) is None  # it is the site's job alone
    [file] = list(paper.iterdir())
    assert file.read_bytes() == LARGE
    file.unlink()


@pytest.mark.parametrize("is_trio", [False, True], ids=["blocking", "trio"])
def test_a_provider_goes_on_where_the_welcome_said(pair, is_trio, record_property):
    """It was given one address; from the cut to bytes at the next endpoint is well under 1 s."""
    cut_at: list[float] = []
    went_on_at: list[float] = []

    def progress(sent: int, size: int) -> None:
        if not cut_at and sent > size // 3:
            pair.kill("hq")
            cut_at.append(time.monotonic())
        elif cut_at and not went_on_at and sent < size // 3:
            went_on_at.append(time.monotonic())

    title = f"cut-{is_trio}"
    job = {"printer": PRINTER, "title": title, "user": "ada", "progress": progress}
    with BlockingProvider([pair.hq_endpoint], tls=pair.tls) as provider:
        if is_trio:
            [receipt] = provider.submit_all([(LARGE, job)])
        else:
            receipt = provider.submit(LARGE, **job)
    assert receipt.node_name == "library"
    assert not receipt.unknown
    took_s = went_on_at[0] - cut_at[0]
    record_property("took_s", took_s)
    assert took_s < GOES_ON_S
    settle(pair, title)


def submit(pair: Pair, title: str, file: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "spoold", "submit", *pair.options, "-P", PRINTER, "--title", title,
         str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


def backend(pair: Pair, title: str, file: Path) -> subprocess.Popen:
    program = file.parent / "spoold-backend"
    program.write_text(script(Path(sys.executable), pair.pem))
    program.chmod(0o700)
    return subprocess.Popen(
        [program, "7", "ada", title, "1", "job-uuid=urn:uuid:0b6f2f6e-9f0d-4f6e-8a34-5c1f1f6f0e11",
         str(file)],
        env={**os.environ, "DEVICE_URI": f"spoold://{pair.hq_endpoint}/{PRINTER}"},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.parametrize("begin", [submit, backend])
def test_a_command_goes_on_where_the_welcome_said(
    pair: Pair,
    tmp_path: Path,
    begin: Callable[[Pair, str, Path], subprocess.Popen],
    record_property: Callable[[str, object], None],
) -> None:
    """`spoold submit` and the CUPS backend know one address each, and end well."""
    file = tmp_path / "large.ps"
    file.write_bytes(LARGE)
    title = f"cut-{begin.__name__}"
    kept, before = (incoming(pair.folders[name]) for name in ("hq", "library"))
    with begin(pair, title, file) as process:
        try:
            wait_until(lambda: incoming(pair.folders["hq"]) > kept)
            pair.hq.process.send_signal(signal.SIGSTOP)
            assert job_of(pair.site, title) is None
            cut_at = time.monotonic()
            pair.kill("hq")
            wait_until(lambda: incoming(pair.folders["library"]) > before or process.poll() == 0)
            took_s = time.monotonic() - cut_at
            assert process.wait(60) == 0, process.stderr.read()
        finally:
            process.kill()
    record_property("took_s", took_s)
    assert took_s < GOES_ON_S
    settle(pair, title)
