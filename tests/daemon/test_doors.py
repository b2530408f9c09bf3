"""Who comes in by which door, with which credential, and how long that lasts."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from spoold.codec import frame
from spoold.codec.frame import Answer, FrameReader, Refusal
from spoold.daemon.operations import build_table
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Role
from spoold.provider.blocking import BlockingProvider, ControlClient
from support.commands import Server
from support.peers import wait_until

pytestmark = pytest.mark.slow

GRANTED = (Role.ADMIN, Role.OPERATOR, Role.HELP_DESK, Role.USER)


class Connection:
    """Frames over any socket: asks, and says with which code it was answered."""

    def __init__(self, sock: socket.socket, **hello) -> None:
        sock.settimeout(30)
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

    def connect(self, label: str, files: tuple[Path, Path] | None = None, **hello) -> Connection:
        return Connection(self.socket(label, files), **hello)

    def socket(self, label: str, files: tuple[Path, Path] | None = None) -> socket.socket:
        host, port = self.server.running.ports[label]
        sock = socket.create_connection((host, port), 30)
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
        connection = http.client.HTTPConnection("localhost", timeout=60)
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
    with Server(tmp_path_factory.mktemp("spoold")) as running:
        yield running


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
    assert passed(house, token) == expected(house, Port.TLS, Role.DEVICE)
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
    connection = http.client.HTTPSConnection(host, port, timeout=60, context=context)
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
    guid = uuid4()
    key, certificate, serial = house.services.identity.enrol("user", guid, "eve", 30)
    answer = {"key_pem": key.decode(), "certificate_pem": certificate.decode()}
    files = house.kept("eve", answer)

    def is_recorded() -> bool:
        """Which one it was, so that it can be found."""
        records = house.admin("journal.read", limit=500)["records"]
        shown = [one["personal"] for one in records if one["kind"] == "certificate-refused"]
        who = f"user {guid}, serial {serial}, SHA-256 "
        return any((one or {}).get("certificate", "").startswith(who) for one in shown)

    # A flood of refusals is a record a second.
    wait_until(lambda: house.refuses(files) and is_recorded())


# -- MFDs --------------------------------------------------------------------------------------


def test_a_token_counts_over_tls_alone_and_only_while_it_is_the_mfds(house):
    """A wrong one, one in the clear and one beside a certificate open nothing."""
    token = house.token("panel-2")
    assert house.connect("tls", token=token).code("mfd.login") == "bad-request"
    assert house.connect("tls").code("mfd.login") == "forbidden"
    provider = house.given("provider", "till-2", may_assert=["*"])
    for label, files, shown, code in (
        ("tls", None, token[:-1] + "x", "unauthorized"),
        ("tls", None, "", "unauthorized"),
        ("tls", None, "x" * 8000, "unauthorized"),
        ("tls", None, 7, "bad-request"),
        ("clear", None, token, "forbidden"),
        ("mutual", provider, token, "forbidden"),
    ):
        with pytest.raises(PermissionError, match=code):
            house.connect(label, files, token=shown)


def test_an_mfd_that_is_called_like_a_user_is_not_the_user(house, user):
    """Neither sees nor cancels that user's jobs, and submits nothing as proven."""
    name = user(Role.USER)
    host, port = house.server.running.ports["clear"]
    with BlockingProvider([f"{host}:{port}"]) as provider:
        job = provider.submit(b"page", printer="default", user=name, hold=True)
    by_token = house.connect("tls", token=house.token(name))
    by_certificate = house.connect("mutual", house.given("device", name, printers=["default"]))
    for connection in (by_token, by_certificate):
        for op, args in {
            "job.list": {},
            "job.show": {"job": job.job_id},
            "job.cancel": {"job": job.job_id},
            "job.cancel-many": {"printer": "default", "mine": True},
            "release.held": {},
            "release.release": {"jobs": [job.job_id]},
        }.items():
            assert connection.code(op, **args) == "forbidden", op
    assert house.admin("job.show", job=job.job_id)["state"] == "pending-held"


def test_a_new_token_ends_what_the_old_one_opened(house):
    """The certificate of the same MFD stays good."""
    by_certificate = house.connect("mutual", house.given("device", "panel-3", printers=["default"]))
    old = house.token("panel-3")
    by_token = house.connect("tls", token=old)
    new = house.token("panel-3")
    assert by_token.is_cut()
    with pytest.raises(PermissionError):
        house.connect("tls", token=old)
    assert house.connect("tls", token=new).code("mfd.login") == "bad-request"
    assert by_certificate.code("mfd.login") == "bad-request"


def test_a_revoked_mfd_is_out_at_once_by_every_door(house, user):
    """Both connections end, nobody is logged in there, and nothing brings it back."""
    name = user(Role.USER, password="correct horse")
    files = house.given("device", "panel-4", printers=["default"])
    token = house.token("panel-4")
    by_certificate, by_token = house.connect("mutual", files), house.connect("tls", token=token)
    session = by_token.ask("mfd.login", name=name, password="correct horse").result["session"]
    assert by_certificate.code("mfd.resume", session=session) == ""
    house.admin("device.revoke", name="panel-4")
    assert by_certificate.is_cut()
    assert by_token.is_cut()
    assert house.refuses(files)
    with pytest.raises(PermissionError):
        house.connect("tls", token=token)
    status, told, body = house.post("tls", "/mfd/v1/login", Authorization=f"Bearer {token}")
    assert (status, json.loads(body)["error"]["code"]) == (401, "unauthorized")
    assert told["www-authenticate"].startswith("Bearer ")
    with pytest.raises(OperationError, match="revoked"):
        house.token("panel-4")


def test_over_https_each_operation_is_for_mfds_alone(house, user):
    """By token on 9192 and by certificate on 9195; no other port, credential or role."""
    authorization = f"Bearer {house.token('panel-5')}"
    device = house.given("device", "panel-5", printers=["default"])
    provider = house.given("provider", "till-5", may_assert=["*"])
    name = user(Role.ADMIN, password="correct horse")
    somebody = house.given("user", name)
    basic = base64.b64encode(f"{name}:correct horse".encode()).decode()
    operations = [one.name.removeprefix("mfd.") for one in house.operations]
    operations = [name for name in operations if "." not in name and name != "status"]
    assert "login" in operations
    for one in operations:
        path, wrong = f"/mfd/v1/{one}", b'{"nonsense": 1}'
        statuses = [
            house.post("tls", path, wrong, Authorization=authorization)[0],
            house.post("mutual", path, wrong, device)[0],
            house.post("tls", path, wrong)[0],
            house.post("tls", path, wrong, Authorization=f"Basic {basic}")[0],
            house.post("clear", path, wrong)[0],
            house.post("clear", path, wrong, Authorization=authorization)[0],
            house.post("mutual", path, wrong, provider)[0],
            house.post("mutual", path, wrong, somebody)[0],
        ]
        assert statuses == [400, 400, 401, 401, 403, 403, 403, 403], one


def test_a_session_is_followed_over_https_to_its_end(house, user):
    """Server-sent events on one connection, while another one ends the session."""
    name = user(Role.USER, password="correct horse")
    authorization = {"Authorization": f"Bearer {house.token('panel-7')}"}
    shown = json.dumps({"name": name, "password": "correct horse"}).encode()
    status, _, body = house.post("tls", "/mfd/v1/login", shown, **authorization)
    assert status == 200
    session = json.dumps({"session": json.loads(body)["session"]}).encode()
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = house.socket("tls")
    headers = {"Content-Type": "application/json", **authorization}
    connection.request("POST", "/mfd/v1/follow", session, headers)
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == "text/event-stream"
    assert answer.readline() == b"event: node-mode\n"
    assert house.post("tls", "/mfd/v1/logout", session, **authorization)[0] == 200
    assert b'event: end\ndata: {"reason": "logout"}\n\n' in answer.read()
    assert house.post("tls", "/mfd/v1/resume", session, **authorization)[0] == 410


def test_what_no_mfd_may_ask_has_no_path(house):
    """The table has more than MFDs are told of, and nothing of it is there."""
    token = f"Bearer {house.token('panel-6')}"
    for path in ("/mfd/v1/job.list", "/mfd/v1/", "/mfd/v2/login", "/mfd/v1/login/x", "/mfd/"):
        status, _, body = house.post("tls", path, Authorization=token)
        assert (status, b"not-found" in body) == (404, True)
