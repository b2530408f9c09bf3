"""The demo: the whole way of three jobs, told in one terminal."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from spoold.daemon import demo_stage
from spoold.daemon.demo_nodes import Node
from spoold.daemon.demo_stage import Stage
from spoold.model.errors import ConfigError


@pytest.mark.slow(4)
def test_the_demo_prints_every_job_and_stops_on_ctrl_c(tmp_path: Path) -> None:
    """Three jobs come out, the advice names real ports and paths, and nothing is left behind."""
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    words = [sys.executable, "-m", "spoold", "demo"]
    lines: list[str] = []
    with subprocess.Popen(
        words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            for row in demo.stdout:
                lines.append(row.rstrip())
                if "Ctrl-C" in row:
                    break
            found = dict(
                row.removeprefix("  export ").split("=", 1) for row in lines if "export" in row
            )
            look = subprocess.run(
                [sys.executable, "-m", "spoold", "job", "list", "--json"],
                env={**environ, **found},
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            )
            demo.send_signal(signal.SIGINT)
            assert demo.wait(60) == 0
        finally:
            demo.kill()
    assert look.stdout.count('"state": "completed"') == 3
    told = "\n".join(lines)
    assert told.count("(job-completed-successfully)") == 3
    assert told.count("in the tray") == 3
    assert "> job 3: pending (" in told  # it waited for the busy printer
    assert "Traceback" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow(9)
def test_the_demo_of_an_outage_finds_both_sides_alike(tmp_path: Path) -> None:
    """A building that is cut off goes on; in the end both servers have the same, and all of it."""
    done = subprocess.run(
        [sys.executable, "-m", "spoold", "demo", "--outage", "2s", "--once"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for told in (
        "the next release was committed",
        "library counts hq as gone",
        "bob logs in by card and PIN",
        "none failed",
        "records went up in",
        "eve logs in by card and PIN",
        "nobody had to lend a hand",
    ):
        assert told in done.stdout
    assert "WRONG" not in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow(2)
def test_a_demo_whose_daemon_does_not_start_says_why_in_a_line() -> None:
    """What the daemon said of it, and no traceback."""

    class Coup:
        def __init__(self, stage: Stage) -> None:
            self._king = Node(stage.folder, "hq", "king")

        async def run(self) -> bool:
            async with trio.open_nursery() as nursery:
                await nursery.start(self._king.run)
            return True

        async def stop(self) -> None: ...

    with pytest.raises(ConfigError, match=r"start the node hq: .*node\.role"):
        demo_stage.run(Coup, lambda words: "")


@pytest.mark.slow(4)
def test_a_demo_that_is_killed_leaves_no_daemons(tmp_path: Path) -> None:
    """They end with it: nobody would find them, and their ports stay taken."""
    words = [sys.executable, "-m", "spoold", "demo", "--outage", "2s", "--once"]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        daemons: list[int] = []
        for row in demo.stdout:
            daemons += [os.pidfd_open(int(one)) for one in re.findall(r" process (\d+)$", row)]
            if len(daemons) == 2:
                break
        demo.kill()
    for one in daemons:
        ended, _, _ = select.select([one], [], [], 20)
        os.close(one)
        assert ended
