"""Names, titles, accounts and cards that act, hide or never end: in at every door, out nowhere.

A real daemon takes them by raw PJL, LPD, IPP, frames, MFDs over frames and HTTPS, CSV, a file of
objects, and commands. Each is taken or refused; then all that is told of them, for people and
programs, is looked at.
"""

from __future__ import annotations

import csv
import http.client
import json
import re
import socket
import ssl
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from spoold import cli
from spoold.codec import ipp
from spoold.codec.ipp import Tag
from spoold.codec.ipp_names import Operation
from spoold.model.errors import OperationError
from spoold.simulate.mfd import Mfd
from support.commands import Run, Said
from support.ipp_node import answer_of, decoded, post, request
from support.process import Daemon, config_with, running, send_raw

pytestmark = pytest.mark.slow

HOSTILE = {
    "control": "a\x1b[2J\x07\rb\nspoold: all is well\x9b31m\x7f",
    "bidi": "\u202egnp.exe\u2066 \u2028next\u200b",
    "quotes": "'\"`$(reboot)`;|&<b>\\%s{0}",
    "path": "../../etc/passwd\x00/..\\con",
    "formula": '=HYPERLINK("http://192.0.2.1","x")',
    "at": "@SUM(1+1)*cmd|' /C calc'!A0",
    "wide": "\uff1d1+1",
    "label": 'x"} 1\nspoold_up{a="',
    "long": "x" * 65_536,
    "many": "\u0301" * 300,
}
CONFIG = config_with("tls", "lpd", name="crash")
METRIC = re.compile(
    r'[a-z_]+(\{[a-z_]+="([^"\\\n]|\\.)*"(,[a-z_]+="([^"\\\n]|\\.)*")*\})? [-+.e0-9Inf]+'
)


class House:
    """A daemon of its own process, and ways into it."""

    def __init__(self, daemon: Daemon, token: str, run: Run, folder: Path) -> None:
        self.daemon = daemon
        self.token = token
        self.run = run
        self.folder = folder

    def port(self, label: str) -> int:
        return int(self.daemon.ports[label].rpartition(":")[2])

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.daemon.call("node.ca")["pem"])
        context.check_hostname = False
        return context


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("hostile")
    with running(folder, config=CONFIG, log_level="debug", module="support.quick") as found:
        yield found


@pytest.fixture(scope="module")
def token(daemon: Daemon) -> str:
    """Of an MFD, where Ada's jobs wait and cost something."""
    daemon.call("printer.set", name="default", release="hold", charging="on")
    daemon.call("user.add", name="ada", full_name="Ada", restricted=False)
    daemon.call("user.add-card", name="ada", card="04A1B2C3")
    rates = [{"work": "print", "price": 500}, {"work": "copy", "price": 1000}]
    daemon.call("price.set", rates=rates)
    enrolled = daemon.call("device.enrol", name="panel", printers=["default"], credential="token")
    return str(enrolled["token"])


@pytest.fixture
def run(daemon: Daemon, monkeypatch, capsys) -> Run:
    monkeypatch.setenv("SPOOLD_CONTROL", str(daemon.control))
    monkeypatch.setenv("SPOOLD_SERVER", daemon.ports["clear"])

    def run_command(command: str, *more: str) -> Said:
        capsys.readouterr()
        try:
            code = cli.main([*command.split(), *more])
        except SystemExit as error:
            code = int(str(error.code))
        return Said(code, *capsys.readouterr())

    return run_command


@pytest.fixture
def house(daemon: Daemon, token: str, run: Run, tmp_path: Path) -> House:
    return House(daemon, token, run, tmp_path)


# -- doors ---------------------------------------------------------------------------------------


def by_raw(house: House, text: str) -> None:
    said = text.encode("utf-8", "surrogateescape")
    lines = [b'JOB NAME="%b"', b'SET USERNAME="%b"', b'SET SPOOLD-ACCOUNT="%b"', b"COMMENT %b"]
    pjl = b"".join(b"@PJL " + line.replace(b"%b", said) + b"\r\n" for line in lines)
    send_raw(
        house.port("clear"),
        b"\x1b%-12345X" + pjl + b"@PJL ENTER LANGUAGE=PCL\r\nhi\f\x1b%-12345X",
    )


def by_lpd(house: House, text: str) -> None:
    """RFC 1179: a control file with the text in each of its lines."""
    said = text.encode("utf-8", "surrogateescape")
    control = b"".join(letter + said + b"\n" for letter in (b"H", b"P", b"J", b"N"))
    control += b"ldfA001host\n"
    with socket.create_connection(("127.0.0.1", house.port("lpd")), 30) as sender:
        sender.settimeout(30)
        try:
            for line, body in (
                (b"\x02default\n", None),
                (b"\x02%d cfA001host\n" % len(control), control),
                (b"\x035 dfA001host\n", b"page\f"),
            ):
                sender.sendall(line)
                if sender.recv(1) != b"\0":
                    return
                if body is not None:
                    sender.sendall(body + b"\0")
                    if sender.recv(1) != b"\0":
                        return
        except OSError:
            pass  # let go of


async def by_ipp(house: House, text: str) -> None:
    said = text[:1000]  # the codec itself lets no name be longer than its length says
    attributes = [
        ipp.name_("job-name", said),
        ipp.name_("document-name", said),
        ipp.mime("document-format", "text/plain"),
    ]
    job = [ipp.group(Tag.JOB, [ipp.name_("job-account-id", said)])]
    body = request(Operation.PRINT_JOB, *attributes, groups=job, user=said) + b"page\f"
    async with await trio.open_tcp_stream("127.0.0.1", house.port("clear")) as stream:
        await stream.send_all(post(body))
        with trio.fail_after(60):
            status, _, answer = await answer_of(Receiving(stream))
        assert status in (200, 400, 413)
        if status == 200:
            decoded(answer)


class Receiving:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream

    async def receive_some(self) -> bytes:
        return bytes(await self._stream.receive_some(65_536))


def by_submit(house: House, text: str) -> None:
    letter = house.folder / "letter.txt"
    letter.write_text("Dear reader\f")
    words = ("--title", text, "--user", text, "-o", f"job-account-id={text}")
    house.run("submit", *words, str(letter))
    house.run("submit", "--title", text, "--user", "ada", str(letter))


async def by_mfd(house: House, text: str) -> None:
    port, name = house.port("tls"), f"panel-{abs(hash(text))}"
    made = house.daemon.call("device.enrol", name=name, printers=["default"], credential="token")
    async with Mfd([f"127.0.0.1:{port}"], house, token=made["token"]).opened() as mfd:
        shown = ({"card": text}, {"pin": text}, {"name": text, "password": text})
        for credential in (*shown, {"card": text, "pin": text}):
            with pytest.raises(OperationError):
                await mfd.login(**credential)
        with pytest.raises(OperationError):
            await mfd.associate(text, name=text, password=text)
        await mfd.login(card="04A1B2C3")
        asked = {"session": mfd.session, "work": "copy", "pages": 1}
        for more in ({"key": text}, {"key": "k", "account": text}, {"key": "k", "media": text}):
            with suppress(OperationError):
                await mfd.call("authorize", {**asked, **more})
        await mfd.logout()


def by_https(house: House, text: str) -> None:
    for body in ({"card": text}, {"name": text, "password": text}, {text: text}):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", house.port("tls"), context=house.context(), timeout=20
        )
        headers = {"Authorization": f"Bearer {house.token}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/mfd/v1/login", json.dumps(body).encode(), headers)
            answer = connection.getresponse()
            assert 400 <= answer.status < 500 or answer.status == 503
            told = answer.read()
            if answer.getheader("Content-Type", "").startswith("application/json"):
                assert "error" in json.loads(told)
        except (ConnectionError, http.client.RemoteDisconnected):
            pass  # more than it takes
        finally:
            connection.close()


def by_csv(house: House, text: str) -> None:
    quoted = '"' + text.replace('"', '""') + '"'
    people = house.folder / "people.csv"
    head = "name,full_name,email,groups,cards,default_account\n"
    for row in (f"{quoted},x,,,,", f"csv,{quoted},,{quoted},,{quoted}", f"csv,,{quoted},,,"):
        people.write_bytes((head + row + "\n").encode("utf-8", "surrogateescape"))
        house.run("user import", str(people))


def by_apply(house: House, text: str) -> None:
    name = json.dumps(text)
    objects = house.folder / "objects.toml"
    for table, key in (
        (f"[user.{name}]", "groups = []"),
        ("[user.toml]", f"full_name = {name}"),
        (f"[account.{name}]", "groups = ['*']"),
        ("[printer.default]", f"info = {name}"),
    ):
        objects.write_text(f"{table}\n{key}\n", "utf-8")
        house.run("apply --yes", str(objects))


def by_command(house: House, text: str) -> None:
    run = house.run
    run("user add --no-password", text)
    run("user set ada --full-name", text)
    run("user set ada --default-account", text)
    run("user set ada --group", text)
    run("user card add ada 1234567 --label", text)
    run("user show", text)
    run("account add", text)
    run("account adjust user:ada 1 --reason", text)
    run("printer set default --location", text)
    run("printer add", text, "file:///tmp")
    run("printer pause default --reason", text)
    run("printer resume default")
    run("device enrol --printer default --token", text)
    run("provider enrol --may-assert", text, "--out", str(house.folder), "till")
    run("job list --title", text)


DOORS = {
    "raw": by_raw,
    "lpd": by_lpd,
    "ipp": by_ipp,
    "submit": by_submit,
    "mfd": by_mfd,
    "https": by_https,
    "csv": by_csv,
    "apply": by_apply,
    "command": by_command,
}

# -- what is told --------------------------------------------------------------------------------

TOLD = (
    "status",
    "job list",
    "job held ada",
    "job explain {job}",
    "user list",
    "user show ada",
    "account list",
    "account show user:ada",
    "account statement user:ada",
    "printer list",
    "printer show default",
    "device list",
    "provider list",
    "usage --by user",
    "usage --by account",
    "journal --from 1",
    "journal --audit",
)
SHEETS = ("account statement user:ada --csv", "usage --by user --csv", "usage --by account --csv")


def acts(text: str) -> list[str]:
    """The characters that act on a terminal, or hide in it."""
    kinds = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return [c for c in text if c != "\n" and unicodedata.category(c) in kinds]


@pytest.mark.parametrize("door", DOORS)
async def test_what_is_hostile_is_taken_or_refused(house: House, door: str) -> None:
    """And the daemon serves on; nothing that was not expected is in its log."""
    for text in HOSTILE.values():
        made = DOORS[door](house, text)
        if made is not None:
            await made
        assert house.run("status --json").json["state"] == "up"
    assert [line for line in house.daemon.log if "Traceback" in line] == []


@pytest.mark.parametrize("command", TOLD)
def test_nothing_that_is_told_acts_on_a_terminal(house: House, command: str) -> None:
    """Tables and stories; JSON holds it as it came, and stays JSON."""
    jobs = house.run("job list --json").json
    assert len(jobs) > 20, "the doors were open before"
    for job in jobs[:: max(1, len(jobs) // 12)] if "{job}" in command else jobs[:1]:
        said = house.run(command.format(job=job["id"]))
        assert said.code in (0, 1), said.err
        assert acts(said.out + said.err) == []
        if "--audit" not in command or said.out:
            told = house.run(command.format(job=job["id"]) + " --json").out
            for line in told.splitlines() if command.startswith("journal") else [told]:
                json.loads(line)


@pytest.mark.parametrize("command", SHEETS)
def test_no_spreadsheet_calculates_what_somebody_wrote(house: House, command: str) -> None:
    """A cell that would begin a formula is a text."""
    house.run("account adjust user:ada 1 --reason", HOSTILE["formula"])
    said = house.run(command)
    assert said.code == 0
    rows = list(csv.reader(said.out.splitlines()))
    assert len({len(row) for row in rows}) == 1
    for row in rows:
        for cell in row:
            begins = unicodedata.normalize("NFKC", cell).lstrip()[:1]
            assert begins not in ("=", "@", "+") or re.fullmatch(r"[-+]?[0-9.]+", cell), cell


def test_log_lines_are_lines(house: House) -> None:
    """Of JSON, with nothing in them that acts."""
    assert len(house.daemon.log) > 100
    for line in house.daemon.log:
        json.loads(line)
        assert acts(line) == []


def test_metrics_are_metrics(house: House) -> None:
    """No name ends a label or a line."""
    connection = http.client.HTTPConnection("127.0.0.1", house.port("clear"), timeout=60)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode("utf-8").splitlines()
    connection.close()
    assert len(lines) > 50
    for line in lines:
        assert line.startswith("#") or METRIC.fullmatch(line), line
        assert acts(line) == []
