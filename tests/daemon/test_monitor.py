"""A daemon tells how it is, to load balancers, to Prometheus and to its operators."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from http.client import HTTPSConnection
from pathlib import Path

import pytest
import trio

from spoold.daemon import monitor
from spoold.daemon.config import Dispatch, Health, RawListener
from spoold.net.address import Address
from spoold.provider.client import Provider
from support.houses import ANYWHERE, joined
from support.process import CONFIG, running, send_raw
from support.waiting import wait_until

SECURE = CONFIG.replace("tls = []", 'tls = ["127.0.0.1:0"]')


def get_secure(daemon, path, login=""):
    """The same on the TLS port, with a login."""
    context = ssl.create_default_context(cadata=daemon.call("node.ca")["pem"])
    port = int(daemon.ports["tls"].rpartition(":")[2])
    connection = HTTPSConnection("localhost", port, context=context, timeout=30)
    pair = base64.b64encode(login.encode()).decode()
    try:
        connection.request("GET", path, headers={"Authorization": f"Basic {pair}"} if login else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def get(port, path):
    """(status, body) of a GET on the clear port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def cpu_s(daemon) -> float:
    """What the daemon has used of the processor."""
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.slow
def test_a_daemon_tells_how_it_is(tmp_path):
    """Health answers at once after the start; metrics count what happens; polling is cheap."""
    # The machine may have other work, which would be told.
    calm = CONFIG + "[health]\nloop_lag_s = 60\ncommit_s = 60\n"
    with running(tmp_path, config=calm) as daemon:
        for path in ("/livez", "/readyz", "/healthz"):
            status, body = get(daemon.port, path)
            assert status == 200
            checks = json.loads(body).get("checks", {})
            checks.pop("disk", None)  # that of this machine may be rather full
            assert set(checks.values()) <= {"ok"}
        assert send_raw(daemon.port, b"%!PS\n")
        text = get(daemon.port, "/metrics")[1].decode()
        assert 'spoold_jobs_accepted_total{printer="default"} 1.0' in text
        assert "spoold_commit_seconds_bucket" in text
        assert "process_open_fds" in text
        before_s = cpu_s(daemon)
        for _ in range(100):
            assert get(daemon.port, "/healthz")[0] == 200
        assert cpu_s(daemon) - before_s < 2
        assert daemon.end() == 0


@pytest.mark.slow
def test_a_full_disk_takes_a_node_out_of_service(tmp_path):
    """It lives, and is not ready: load balancers send jobs elsewhere."""
    with running(tmp_path, config=CONFIG + "[limits]\nreserve_bytes = 1000000000000\n") as daemon:
        assert get(daemon.port, "/livez")[0] == 200
        for path in ("/readyz", "/healthz"):
            status, body = get(daemon.port, path)
            assert status == 503
            assert json.loads(body)["checks"]["disk"] == "failed"
        (check,) = [one for one in daemon.call("status")["checks"] if one["part"] == "disk"]
        assert "new jobs are refused" in check["text"]
        assert "Free space" in check["advice"]


@pytest.mark.slow
def test_numbers_are_for_staff_and_for_networks_that_are_named(tmp_path):
    """With nobody named: refused in the clear, asked for a login over TLS, given to staff."""
    with running(tmp_path, config=SECURE + "[metrics]\nallow = []\n") as daemon:
        daemon.call("user.add", name="olga", password="secret-of-olga", roles=["help-desk"])
        daemon.call("user.add", name="peter", password="secret-of-peter", roles=[])
        assert get(daemon.port, "/metrics")[0] == 403
        assert get_secure(daemon, "/metrics")[0] == 401
        assert get_secure(daemon, "/metrics", "peter:secret-of-peter")[0] == 401
        status, text = get_secure(daemon, "/metrics", "olga:secret-of-olga")
        assert status == 200
        assert b"spoold_journal_position" in text
        assert b"free_bytes" not in get_secure(daemon, "/healthz", "peter:secret-of-peter")[1]
        detail = json.loads(get_secure(daemon, "/healthz", "olga:secret-of-olga")[1])
        assert any("free_bytes" in check for check in detail["checks"])


@pytest.mark.slow
def test_the_service_manager_shows_how_the_node_is(tmp_path, monkeypatch):
    """In one line, from the first look on."""
    where = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(where))
        manager.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(where))
        with running(tmp_path):
            while not (said := manager.recv(4096)).startswith(b"STATUS="):
                pass
    assert said.startswith(b"STATUS=printers: 1, jobs: 0 waiting, 0 printing")


@pytest.mark.slow
async def test_cards_whose_key_is_gone_are_told(start, tmp_path):
    """Nobody gets in by them, which nothing else says; with its key put back all is well."""
    hq = await start("hq")
    await hq.ask("user.add", name="ada")
    await hq.ask("user.add-card", name="ada", card="04A1B2C3")
    await hq.stop()
    keys, aside = tmp_path / "hq" / "identity" / "card-keys", tmp_path / "aside"
    keys.rename(aside)
    hq = await start("hq")
    [people] = [one for one in hq.services.checks() if one.part == "people"]
    assert (people.verdict, "1 card or PIN was" in people.text) == ("warning", True)
    assert "identity/card-keys" in people.advice
    await hq.stop()
    aside.rename(keys)
    hq = await start("hq")
    assert {one.verdict for one in hq.services.checks() if one.part == "people"} == {"ok"}


@pytest.mark.slow
async def test_a_printer_that_fails_is_told_with_since_when(start, monkeypatch):
    """However often it is tried meanwhile, it has failed since the first time. One that only the
    configuration knows is told before that.
    """
    monkeypatch.setattr(monitor, "LOOK_S", 0.2)
    monkeypatch.setattr(monitor, "KEYS_S", 0.2)
    monkeypatch.setattr(monitor, "SHARE", 1.0)  # what counts slowly counts seldom
    hq = await start(
        "hq",
        listen={"raw": (RawListener(address=Address("127.0.0.1", 0), printer="dead"),)},
        health=Health(printer_stopped_s=1.0),
        dispatch=Dispatch(backoff_first_s=0.1, backoff_max_s=0.5),
    )

    async def checked(words):
        """The text of the check that says these words."""
        with trio.fail_after(30):
            while True:
                checks = (await hq.ask("status"))["checks"]
                for check in checks:
                    if check["verdict"] == "warning" and words in check["text"]:
                        return check["text"]
                await trio.sleep(0.05)

    text = await checked("printers that are not there")
    assert text.endswith("and refuses them: dead")
    await hq.ask("provider.enrol", name="till-7", days=1)
    await checked("provider till-7 has 1.0 days left")
    await hq.ask("printer.add", name="dead", uri="socket://127.0.0.1:1", options={})
    host, port = hq.running.ports["clear"]
    async with Provider([f"{host}:{port}"], learns_endpoints=False) as provider:
        await provider.submit(b"page", printer="dead", title="a")
    text = await checked("print nothing")
    assert text == "1 of 2 printers print nothing: dead (connecting-to-device)"

    async def stopped_now():
        return (await hq.ask("status"))["stopped"]

    # What waits was counted before, or will be at the next look.
    (stopped,) = await wait_until(stopped_now, holds=lambda found: found[0]["waiting"] == 1)
    assert stopped["name"] == "dead"
    assert time.time() - stopped["since_us"] / 1e6 > 1
    assert "power" in stopped["advice"]
    status, _ = await trio.to_thread.run_sync(get, port, "/healthz")
    assert status == 200


@pytest.mark.slow
async def test_a_site_and_its_application_server_tell_how_far_they_are(start, monkeypatch):
    """What has not gone up, how old the copy is, what the site may spend, how late the loop is."""
    monkeypatch.setattr(monitor, "LOOK_S", 0.2)
    monkeypatch.setattr(monitor, "SHARE", 1.0)  # what counts slowly counts seldom
    hq = await start("hq")
    site = await start("library", "site", listen={"clear": ANYWHERE})
    await hq.ask("price.set", rates=[{"price": 500}], replace=True)
    await hq.ask("user.add", name="ada")
    paid = {"name": "user:ada", "amount": 200_000, "purse": "paid-in", "reason": "cash desk"}
    await hq.ask("account.adjust", **paid)
    await joined(hq, site)
    annex = '{site="library"}'
    at_hq = {
        f"spoold_rights_holders{annex}": 1.0,
        f"spoold_rights_granted{annex}": 5.0,
        f"spoold_site_lag_records{annex}": 0.0,
        "spoold_records_quarantined": 0.0,
    }
    at_site = {
        f"spoold_rights_holders{annex}": 1.0,
        f"spoold_rights_granted{annex}": 5.0,
        "spoold_uplink_lag_records": 0.0,
    }
    lag = "spoold_loop_lag_seconds_count"
    with trio.fail_after(30):
        for house, wanted in ((hq, at_hq), (site, at_site)):
            found = {lag: 0.0}
            while not (wanted.items() <= found.items() and found[lag]):
                await trio.sleep(0.1)
                found = await scraped(house)
            assert found[f"spoold_rights_end_seconds{annex}"] > time.time() + 86_400
    assert 0 <= found["spoold_copy_age_seconds"] < 30


async def scraped(house):
    """What `/metrics` says, by name and labels."""
    _, port = house.running.ports["clear"]
    _, told = await trio.to_thread.run_sync(get, port, "/metrics")
    lines = told.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}
