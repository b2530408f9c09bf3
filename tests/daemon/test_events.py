"""Log events: the catalogue is that of the code, and no secret ever gets into one."""

from __future__ import annotations

import ast
import base64
import re
import socket
import ssl
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from spoold.codec import ipp
from spoold.codec.ipp_names import Operation
from spoold.daemon.events import EVENTS
from spoold.model.errors import OperationError
from spoold.provider.blocking import BlockingProvider
from support.load import ipp_request
from support.peers import wait_until
from support.process import CONFIG, running

PACKAGE = Path(__file__).parents[2] / "spoold"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
CALLBACKS = {"_on_refused", "note_refused"}  # they carry an event to whoever logs it


def is_log(call: ast.Call) -> bool:
    name = call.func
    return (
        isinstance(name, ast.Attribute)
        and name.attr in LEVELS
        and isinstance(name.value, ast.Name)
        and name.value.id == "log"
    )


def handed_on(tree: ast.AST) -> set[str]:
    """The functions of a file that log the name that they are given."""
    found = set(CALLBACKS)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            names = {one.arg for one in function.args.args}
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and is_log(call):
                    first = call.args[0]
                    if isinstance(first, ast.Name) and first.id in names:
                        found.add(function.name)
    return found


def events_of(path: Path) -> set[str]:
    """Every name of an event that stands in a file."""
    text = path.read_text(encoding="utf-8")
    if not any(word in text for word in ("log.", *CALLBACKS)):
        return set()
    tree = ast.parse(text)
    carriers = handed_on(tree)
    found = set()
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not call.args:
            continue
        called = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if is_log(call) or called in carriers:
            for one in ast.walk(call.args[0]):
                if isinstance(one, ast.Constant) and isinstance(one.value, str):
                    found.add(one.value)
    return found


def test_the_catalogue_is_that_of_the_code():
    """A new event is written down with its meaning; one that is gone is taken out."""
    said = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "simulate", "provider", "demo"):
            said |= dict.fromkeys(events_of(path), path.name)
    missing = {name: file for name, file in said.items() if name not in EVENTS}
    assert missing == {}, "write these into spoold/daemon/events.py"
    assert set(EVENTS) - set(said) == set(), "nothing says these any more"


def test_events_are_past_tense_keywords_with_a_sentence():
    """Names that do not change are worth being short and alike."""
    for name, meaning in EVENTS.items():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name), name
        assert meaning[0].isupper(), name
        assert meaning.endswith("."), name
        assert len(meaning) < 100, name


# Each stands where a secret, or somebody's document, does.
PASSWORD = "Canary-of-a-password-7f3a"
GUESS = "Canary-of-a-guess-91bc"
TOKEN = "Canary-of-a-token-5e2d"
PIN = "72819354"
CARD = "04CA9A81B2"
TEXT = "Canary-of-a-document-c0de"
URI = "Canary-of-an-address-44aa"
COMMUNITY = "Canary-of-a-community-88ff"
CANARIES = (PASSWORD, GUESS, TOKEN, PIN, CARD, TEXT, URI, COMMUNITY, "PRIVATE KEY")
WITH_TLS = CONFIG.replace("tls = []", 'tls = ["127.0.0.1:0"]\nlpd = ["127.0.0.1:0"]').replace(
    "mutual = []", 'mutual = ["127.0.0.1:0"]'
)


def log_in(daemon, authorization: str) -> int:
    context = ssl.create_default_context(cadata=daemon.call("node.ca")["pem"])
    port = int(daemon.ports["tls"].rpartition(":")[2])
    connection = HTTPSConnection("localhost", port, context=context, timeout=30)
    try:
        connection.request("GET", "/healthz", headers={"Authorization": authorization})
        return connection.getresponse().status
    finally:
        connection.close()


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def send(port: str, *pieces: bytes) -> None:
    """Send pieces to a port of the daemon, and hear what it says, if anything."""
    with socket.create_connection(("127.0.0.1", int(port.rpartition(":")[2])), 30) as sender:
        sender.settimeout(30)
        try:
            for piece in pieces:
                sender.sendall(piece)
            sender.shutdown(socket.SHUT_WR)
            while sender.recv(4096):
                pass
        except OSError:
            pass  # a reset is an answer, too


def print_everywhere(daemon) -> None:
    """A document that nobody may read in a log, on every way in, whole and broken."""
    text = TEXT.encode()
    clear, tls = daemon.ports["clear"], daemon.ports["tls"]
    pjl = b'\x1b%-12345X@PJL JOB NAME="a" PASSWORD="' + text + b'"\r\n@PJL ENTER LANGUAGE=PCL\r\n'
    send(clear, b"%!PS " + text)
    send(clear, pjl + text)
    send(clear, b"\x00SPOOLD1" + b"\x00\x00\x00\x40" + text)
    send(clear, b"GET /" + text + b" HTTP/1.1\r\nX: y\r\nX : " + text + b"\r\n\r\n")
    send(tls, text)
    send(daemon.ports["mutual"], text)
    send(daemon.ports["lpd"], b"\x02default\n", b"\x03%d dfA001x\n" % len(text), text + b"\x00")
    send(daemon.ports["lpd"], b"\x02nowhere\n" + text)
    connection = HTTPConnection("127.0.0.1", daemon.port, timeout=30)
    request = ipp_request(Operation.PRINT_JOB, ipp.name_("job-name", "a"))
    for body in (request + b"%!PS " + text, request + b"\x1f\x8b" + text, b"\x02\x00" + text):
        connection.request("POST", "/ipp/print", body, {"Content-Type": "application/ipp"})
        connection.getresponse().read()
    connection.close()
    with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
        provider.submit(text * 100, printer="default", title="a")


def is_trouble(line: str, printer: str) -> bool:
    return '"device_unreachable"' in line and f'"printer": "{printer}"' in line


@pytest.mark.slow
def test_no_secret_and_no_document_is_ever_logged(tmp_path):
    """With every event logged: passwords, PINs, cards, tokens, keys, addresses' logins, bytes."""
    with running(tmp_path, config=WITH_TLS, log_level="debug") as daemon:
        daemon.call("user.add", name="olga", password=PASSWORD, roles=["operator"])
        daemon.call("user.pin", name="olga", pin=PIN)
        daemon.call("user.add-card", name="olga", card=CARD)
        daemon.call("provider.enrol", name="mainframe", may_assert=["*"])
        daemon.call("user.enrol", name="olga")
        assert log_in(daemon, basic("olga", PASSWORD)) == 200
        assert log_in(daemon, basic("olga", GUESS)) == 401
        assert log_in(daemon, f"Bearer {TOKEN}") == 401
        added = set()
        for name, uri, options in (
            ("odd", f"ipp://user:{URI}@127.0.0.1:1/ipp/print", {}),
            ("gone", f"socket://127.0.0.1:1/?password={URI}", {}),
            ("dead", "socket://127.0.0.1:2", {"snmp_community": COMMUNITY}),
        ):
            try:
                daemon.call("printer.add", name=name, uri=uri, options=options)
            except OperationError:
                assert name != "dead"
                continue  # refused is safe, too
            added.add(name)
            with BlockingProvider([f"127.0.0.1:{daemon.port}"]) as provider:
                provider.submit(TEXT.encode(), printer=name, title="a")
        print_everywhere(daemon)
        for name in added:
            assert wait_until(lambda name=name: any(is_trouble(x, name) for x in daemon.log))
        assert daemon.end() == 0
        said = "".join(daemon.log) + (tmp_path / "stderr").read_text()
    assert '"job_accepted"' in said
    assert '"login_refused"' in said
    found = [canary for canary in CANARIES if canary.lower() in said.lower()]
    assert found == [], [line for line in daemon.log if any(one in line for one in found)]


def secrets_of(folder: Path) -> set[str]:
    """What lies in a node's identity: keys of cards and of its copy, and private keys as text."""
    found = set()
    for path in (folder / "data" / "identity").iterdir():
        lines = path.read_text().split("\n")
        if not path.name.endswith("ca.pem"):
            found |= {line for line in lines if len(line) >= 40 and "-----" not in line}
    return found


@pytest.mark.slow
def test_no_secret_of_a_site_is_ever_logged(tmp_path):
    """On neither side: tokens of invitations, what is copied, asked for and granted, and keys."""
    for name in ("hq", "library"):
        (tmp_path / name).mkdir()
    at_site = WITH_TLS.replace("[node]", '[node]\nrole = "site"')
    with (
        running(tmp_path / "hq", config=WITH_TLS, log_level="debug") as hq,
        running(tmp_path / "library", config=at_site, log_level="debug") as site,
    ):
        print_everywhere(site)
        hq.call("user.add", name="olga", password=PASSWORD, roles=["operator"])
        hq.call("user.pin", name="olga", pin=PIN)
        hq.call("user.add-card", name="olga", card=CARD)
        hq.call("price.set", rates=[{"price": 500}], replace=True)
        hq.call("account.adjust", name="user:olga", amount=900_000, purse="paid-in", reason="desk")
        token = hq.call("site.invite", name="library", is_approved=True)["token"]
        forged = token[:-12] + "canarycanary"
        with pytest.raises(OperationError):
            site.call("site.enter", server=hq.ports["mutual"], token=forged)
        site.call("site.enter", server=hq.ports["mutual"], token=token)
        assert wait_until(lambda: site.call("site.copy")["is_whole"], 30)
        assert wait_until(lambda: hq.call("site.holdings", name="library")["rights"], 30)
        assert site.call("user.find-card", card=CARD)
        assert log_in(site, basic("olga", PASSWORD)) == 200
        assert log_in(site, basic("olga", GUESS)) == 401
        assert site.end() == hq.end() == 0
        folders = (tmp_path / "hq", tmp_path / "library")
        said = "".join([*hq.log, *site.log, *((one / "stderr").read_text() for one in folders)])
        keys = set().union(*(secrets_of(one) for one in folders))
    assert '"site_line_changed"' in said
    assert len(keys) > 6
    for canary in (*CANARIES, token, forged, token[-20:], *keys):
        assert canary.lower() not in said.lower(), canary
