"""The provider without async, and the client of the control socket."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial

import pytest
import trio
import trio.testing

from spoold.model.errors import OperationError
from spoold.provider.blocking import BlockingProvider, ControlClient
from spoold.provider.client import Provider
from spoold.provider.direct import DirectProvider
from spoold.provider.receipt import SubmitRefused, Unreachable
from support.serving import LARGE


async def test_the_blocking_face(one, two, tmp_path):
    """Scripts hand jobs over without async, several at once too, with fail-over."""
    path = tmp_path / "document"
    path.write_bytes(LARGE)
    one.close()

    def script():
        with BlockingProvider([one.endpoint, two.endpoint]) as client:
            first = client.submit(path, printer="default", title="file")
            with pytest.raises(SubmitRefused):
                client.submit(b"x", printer="nowhere")
            rest = client.submit_all(
                [(b"%d" % n, {"printer": "default", "title": str(n)}) for n in range(5)]
                + [(tmp_path / "missing", {"printer": "default"})]
            )
        return first, rest

    first, rest = await trio.to_thread.run_sync(script)
    assert first.endpoint == two.endpoint
    assert isinstance(rest.pop(), FileNotFoundError)
    assert {receipt.endpoint for receipt in rest} == {two.endpoint}
    assert await two.bodies() == {"file": LARGE} | {str(n): b"%d" % n for n in range(5)}


class Interrupted(Exception):
    """What a signal's handler would say."""


async def test_an_interrupted_upload_without_async_is_forgotten_by_the_server(one, provider_of):
    """What the check raises comes out at once, and no bytes stay behind for a resume."""
    sent = 0

    def progress(done, size):
        nonlocal sent
        sent = done
        check()  # a server that reads fast enough is never waited for

    def check():
        if sent > 500_000:
            raise Interrupted

    with provider_of(one, check=check) as client:
        with pytest.raises(Interrupted):
            await trio.to_thread.run_sync(
                partial(client.submit, LARGE * 8, printer="default", progress=progress)
            )
        sent = 0
    incoming = one.spool.data_dir / "incoming"
    with trio.fail_after(30):
        while list(incoming.iterdir()):
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert await one.count() == 0


async def test_servers_by_name_and_by_path_without_async(one, tmp_path):
    """A name is looked up in a thread; a local socket may have a path of any length."""
    path = tmp_path / ("long" * 30) / "frames"
    path.parent.mkdir()
    one.open_unix(path)
    for endpoint in (one.endpoint.replace("127.0.0.1", "localhost"), f"unix:{path}"):
        with DirectProvider([endpoint]) as client:
            receipt = await trio.to_thread.run_sync(partial(client.submit, b"x", printer="default"))
        assert receipt.endpoint == endpoint
    nobody = DirectProvider([f"unix:{path}s"], unreachable_timeout_s=0)
    with nobody as client, pytest.raises(Unreachable, match="No such file"):
        await trio.to_thread.run_sync(partial(client.submit, b"x", printer="default"))


@pytest.mark.slow
async def test_a_waiting_call_without_async_answers_pings(one, provider_of):
    """The server looks every 0.2 s whether we live; more than three of them later we still do."""
    ends_at = trio.current_time() + 1

    def check():
        if time.monotonic() - begun_at > 1:
            raise Interrupted

    begun_at = time.monotonic()
    with provider_of(one, ping_s=0.2, check=check) as client, pytest.raises(Interrupted):
        await trio.to_thread.run_sync(client.call, "wait", {}, lambda name, args: None)
    assert trio.current_time() >= ends_at


def test_handing_over_one_job_loads_no_trio():
    """A program that lives for one job, as a CUPS backend does, starts three times as fast."""
    program = (
        "import sys, spoold.provider.direct, spoold.provider.cups_delivery;"
        "sys.exit(bool({'trio', 'asyncio', 'structlog', 'cryptography'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


async def test_the_control_client(one, tmp_path):
    """Calls, refusals, streams (also left early) over the local socket, whatever its path."""
    path = tmp_path / ("long" * 30) / "control"
    path.parent.mkdir()
    one.open_unix(path)

    def command():
        with ControlClient(path) as client:
            assert client.welcome["node_name"] == "one"
            assert client.call("echo", {"n": 1}) == {"n": 1}
            with pytest.raises(OperationError, match="Try echo"):
                client.call("nonsense", {})
            for event in client.stream("wait", {}):
                assert event.name == "waiting"
                break
            states = [event.args["state"] for event in client.stream("job.follow", {})]
            assert client.call("echo", {}) == {}
            return states

    assert await trio.to_thread.run_sync(command) == ["pending", "processing", "completed"]
    async with Provider([f"unix:{path}"]) as client:
        await client.submit(b"local", printer="default")


def test_the_control_client_says_when_nobody_is_there(tmp_path):
    """No daemon, and a socket that is none, are errors with advice."""
    with pytest.raises(Unreachable, match="spoold serve"):
        ControlClient(tmp_path / "control")


def test_the_control_client_starts_fast():
    """Commands do not pay for what they do not use."""
    program = (
        "import sys, spoold.provider.blocking;"
        "sys.exit(bool({'trio', 'ssl', 'blake3', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
