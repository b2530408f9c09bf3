"""Who comes in by which door, with which credential, and how long that lasts."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog

from spoold.codec import frame
from spoold.codec.frame import Answer, FrameReader, Refusal
from spoold.daemon.operations import build_table
from spoold.model.principal import Port, Role
from spoold.provider.blocking import ControlClient
from support.commands import Server
from support.peers import wait_until

pytestmark = pytest.mark.slow

GRANTED = (Role.ADMIN, Role.OPERATOR, Role.HELP_DESK, Role.USER)


class Connection:
    """Frames over any socket: asks, and says with which code it was answered."""

    def __init__(self, sock: socket.socket, **hello) -> None:
        sock.settimeout(10)
        self.sock = sock
        self._reader = FrameReader()
        self._items: list = []
        self._id = 1
        said = {"versions": [1], "kind": "cli", **hello}
        sock.sendall(frame.MAGIC + frame.request(1, "hello", said))
        welcome = self._receive()
        if isinstance(welcome, Refusal):
            raise PermissionError(welcome.code)

    def _receive(self):
        """The next answer, or refusal."""
        while True:
            while self._items:
                item = self._items.pop(0)
                if isinstance(item, Answer | Refusal):
                    return item
            data = self.sock.recv(65536)
            if not data:
                raise ConnectionResetError
            self._items += self._reader.feed(data)

    def ask(self, op: str, **args):
        self._id += 1
        self.sock.sendall(frame.request(self._id, op, args))
        return self._receive()

    def code(self, op: str, **args) -> str:
        """ "" for a result."""
        answer = self.ask(op, **args)
        return answer.code if isinstance(answer, Refusal) else ""

    def is_cut(self) -> bool:
        try:
            self.code("status")
        except OSError:
            return True
        return False


class House:
    """A daemon, its administrator, and the credentials that were given out."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.services = server.running.services
        self.operations = build_table(self.services).operations.values()
        (folder / "ca.pem").write_text(self.admin("node.ca")["pem"])
        self._open: list[socket.socket] = []

    def admin(self, op: str, **args):
        with ControlClient(self.server.running.control) as client:
            return client.call(op, args)

    def given(self, kind: str, name: str, **args) -> tuple[Path, Path]:
        """Files of the certificate and key of somebody who is enrolled now."""
        return self.kept(name, self.admin(f"{kind}.enrol", name=name, **args))

    def kept(self, name: str, answer: dict) -> tuple[Path, Path]:
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_text(answer["certificate_pem"])
        key.write_text(answer["key_pem"])
        return certificate, key

    def connect(
        self, label: str, files: tuple[Path, Path] | None = None, **hello
    ) -> Connection:
        return Connection(self.socket(label, files), **hello)

    def socket(self, label: str, files: tuple[Path, Path] | None = None) -> socket.socket:
        host, port = self.server.running.ports[label]
        sock = socket.create_connection((host, port), 10)
        self._open.append(sock)
        if label != "clear":
            context = ssl.create_default_context(cafile=self.folder / "ca.pem")
            if files:
                context.load_cert_chain(*files)
            sock = context.wrap_socket(sock, server_hostname="localhost")
            self._open.append(sock)
        return sock

    def token(self, name: str) -> str:
        """A new token of the MFD `name`."""
        answer = self.admin("device.enrol", name=name, printers=["default"], credential="token")
        return answer["token"]

    def post(
        self,
        label: str,
        path: str,
        body: bytes = b"{}",
        files: tuple[Path, Path] | None = None,
        **headers: str,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a POST of JSON."""
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = self.socket(label, files)
        headers = {key.replace("_", "-"): value for key, value in headers.items()}
        connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        told = {key.lower(): value for key, value in answer.getheaders()}
        return answer.status, told, answer.read()

    def refuses(self, files: tuple[Path, Path]) -> bool:
        """Whether nobody comes in on 9195 with this certificate."""
        try:
            self.connect("mutual", files)
        except OSError:
            return True
        return False

    def control(self) -> Connection:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(self.server.running.control))
        self._open.append(sock)
        return Connection(sock)

    def close(self) -> None:
        for sock in self._open:
            sock.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    try:
        with Server(tmp_path_factory.mktemp("spoold")) as running:
            yield running
    finally:
        structlog.reset_defaults()


@pytest.fixture
def house(server: Server, tmp_path: Path) -> Iterator[House]:
    opened = House(server, tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def user(house: House) -> Callable[..., str]:
    """Adds a user with these roles, under a name of its own."""

    def add(*roles: Role, **args) -> str:
        name = f"user-{uuid4().hex[:8]}"
        house.admin("user.add", name=name, roles=[one.value for one in roles], **args)
        return name

    return add


def passed(house: House, connection: Connection) -> set[str]:
    """What may be called: the arguments are wrong, and whoever may call is told so."""
    codes = {one.name: connection.code(one.name, nonsense=1) for one in house.operations}
    assert set(codes.values()) <= {"bad-request", "forbidden"}
    return {name for name, code in codes.items() if code == "bad-request"}


def expected(house: House, port: Port, *roles: Role) -> set[str]:
    pairs = {(role, port) for role in roles}
    return {one.name for one in house.operations if one.pairs & pairs}


def test_each_credential_opens_what_the_table_says(house, user):
    """None, the local socket, a provider's certificate, a user's with each role: nothing beside."""
    anybody = (Role.ANYBODY,)
    assert passed(house, house.connect("clear")) == expected(house, Port.CLEAR, *anybody)
    assert passed(house, house.connect("tls")) == expected(house, Port.TLS, *anybody)
    assert passed(house, house.control()) == expected(house, Port.CONTROL, Role.ADMIN)
    provider = house.connect("mutual", house.given("provider", "till", may_assert=["*"]))
    assert passed(house, provider) == expected(house, Port.MUTUAL, Role.PROVIDER)
    device = house.given("device", "panel-1", printers=["default"])
    assert passed(house, house.connect("mutual", device)) == expected(
        house, Port.MUTUAL, Role.DEVICE
    )
    token = house.connect("tls", token=house.token("panel-1"))
    assert passed(house, token) == expected(house, Port.TLS, Role.DEVICE, Role.ANYBODY)
    for role in GRANTED:
        connection = house.connect("mutual", house.given("user", user(role)))
        opened = passed(house, connection)
        assert opened == expected(house, Port.MUTUAL, role, Role.USER)
        assert ("printer.pause" in opened) == (role in (Role.ADMIN, Role.OPERATOR))
        assert "user.add" not in opened
        # A certificate counts at the port that asks for it, and nowhere else.
        elsewhere = house.connect("tls", (house.folder / "till.crt", house.folder / "till.key"))
        assert "job.list" not in passed(house, elsewhere)


def test_a_user_who_is_removed_is_out_at_once(house, user):
    """The open connection ends, no new one begins, and the certificate stays refused."""
    name = user(Role.OPERATOR)
    files = house.given("user", name)
    connection = house.connect("mutual", files)
    assert connection.code("job.list") == ""
    house.admin("user.remove", name=name)
    assert connection.is_cut()
    assert house.refuses(files)
    house.admin("user.add", name=name, roles=["operator"])
    assert house.refuses(files)
    assert house.connect("mutual", house.given("user", name)).code("job.list") == ""


def test_other_roles_count_at_once_and_another_password_cuts_nothing(house, user):
    """Whoever is an operator no longer loses the connection that was one."""
    name = user(Role.OPERATOR)
    files = house.given("user", name)
    connection = house.connect("mutual", files)
    house.admin("user.set", name=name, password="correct horse")
    assert connection.code("printer.list") == ""
    house.admin("user.set", name=name, roles=["user"])
    assert connection.is_cut()
    connection = house.connect("mutual", files)
    assert connection.code("printer.list") == "forbidden"
    assert connection.code("job.list") == ""


def ask_https(house: House, name: str, password: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to a request with a login."""
    host, port = house.server.running.ports["tls"]
    context = ssl.create_default_context(cafile=house.folder / "ca.pem")
    context.check_hostname = False
    connection = http.client.HTTPSConnection(host, port, timeout=20, context=context)
    with contextlib.closing(connection):
        pair = base64.b64encode(f"{name}:{password}".encode()).decode()
        connection.request("GET", "/healthz", headers={"Authorization": f"Basic {pair}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}


def test_a_login_over_https_is_right_wrong_or_too_many(house, user):
    """200, 401 with a challenge, 503 when guessing has to wait; who is removed is out at once."""
    name = user(Role.USER, password="pass: wörd:")
    assert ask_https(house, name, "pass: wörd:")[0] == 200
    status, headers = ask_https(house, name, "pass")
    assert (status, headers["www-authenticate"]) == (401, 'Basic realm="spoold", charset="UTF-8"')
    while (answer := ask_https(house, name, f"guess {uuid4()}"))[0] == 401:
        pass
    status, headers = answer
    assert (status, headers["retry-after"]) == (503, "2")
    assert ask_https(house, name, "pass: wörd:")[0] == 200
    house.admin("user.remove", name=name)
    assert ask_https(house, name, "pass: wörd:")[0] in (401, 503)


def test_a_revoked_key_opens_nothing_and_the_password_still_does(house, user):
    """The connection that it opened ends."""
    name = user(Role.USER, password="correct horse")
    files = house.given("user", name)
    connection = house.connect("mutual", files)
    house.admin("user.revoke", name=name)
    assert connection.is_cut()
    assert house.refuses(files)
    assert house.admin("user.show", name=name)["has_password"]


def test_a_certificate_of_nobody_is_refused_and_recorded(house):
    """The deployment's CA has signed it, and still no user has that key."""
    key, certificate, _ = house.services.identity.enrol("user", uuid4(), "eve", 30)
    answer = {"key_pem": key.decode(), "certificate_pem": certificate.decode()}
    files = house.kept("eve", answer)

    def refused() -> int:
        records = house.admin("journal.read", limit=500)["records"]
        return sum(one["kind"] == "certificate-refused" for one in records)

    before = refused()
    # A flood of refusals is a record a second.
    wait_until(lambda: house.refuses(files) and refused() > before)
