"""Operations as JSON over HTTPS: what is answered to whom, and the document that describes it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from spoold.codec import frame
from spoold.daemon import operations
from spoold.daemon.operations.table import Argument, Operation, read_arguments
from spoold.intake.exchange import Exchange
from spoold.model.errors import OperationError, SpoolError, SpoolFull, StoreFailed
from spoold.model.mfd import SessionEnd
from spoold.model.principal import Port, Principal, Role
from spoold.release.news import Mode
from spoold.web import mfd_api
from spoold.web.mfd_api import BODY_BYTES_MAX, DOCUMENT, STATUSES, MfdApi, read_json
from spoold.web.openapi import document
from support.json_schema import is_valid

PANEL = Principal("device:1", Port.TLS, frozenset({Role.DEVICE, Role.ANYBODY}), "panel")
NOBODY = Principal("address:192.0.2.7", Port.TLS, address="192.0.2.7")


class Asked(SimpleNamespace):
    """An exchange whose request is here and whose answer is kept."""

    def __init__(self, path, body=b"", principal=PANEL, method="POST", **headers):
        headers = {"content-type": "application/json", **headers}
        request = SimpleNamespace(path=path, method=method, header=headers.get)
        super().__init__(request=request, principal=principal, status=0, headers={}, sent=b"")
        self._parts = [body[n : n + 1000] for n in range(0, len(body), 1000)]

    async def read(self):
        return self._parts.pop(0) if self._parts else b""

    async def respond(self, status, headers, body=b""):
        assert not self.status
        self.status, self.headers, self.sent = status, dict(headers), body

    async def begin(self, status, headers):
        assert not self.status
        self.status, self.headers = status, dict(headers)

    async def send(self, data):
        self.sent += data

    async def end(self, data=b""):
        self.sent += data

    @property
    def json(self):
        return json.loads(self.sent)


class Room:
    """A router that does what it is told."""

    def __init__(self):
        self.error = None
        self.events = ()

    async def call(self, principal, op, args, send_event):
        for name, sent in self.events:
            await send_event(name, sent)
        if self.error is not None:
            raise self.error
        return {"op": op, **args}


def operation(name, *arguments):
    return Operation(f"mfd.{name}", arguments, frozenset(), frozenset(), None, "Summary.")


@pytest.fixture
def room():
    return Room()


@pytest.fixture
def api(room):
    return MfdApi(room, [operation("jobs", Argument("count", (int,))), operation("follow")], "1")


async def test_arguments_go_in_and_the_result_comes_out(api):
    """Nothing in the body is no arguments."""
    asked = Asked("/mfd/v1/jobs", b'{"count": 3}')
    await api.serve(asked)
    assert (asked.status, asked.json) == (200, {"op": "mfd.jobs", "count": 3})
    assert asked.headers["Content-Type"] == "application/json"
    empty = Asked("/mfd/v1/jobs")
    await api.serve(empty)
    assert empty.json == {"op": "mfd.jobs"}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"path": "/mfd/v1/nothing"}, 404, "not-found"),
        ({"path": "/mfd/v1/mfd.jobs"}, 404, "not-found"),
        ({"method": "GET"}, 405, "bad-request"),
        ({"method": "DELETE"}, 405, "bad-request"),
        ({"principal": NOBODY}, 401, "unauthorized"),
        ({"principal": replace(NOBODY, port=Port.CLEAR)}, 403, "forbidden"),
        ({"content-type": "text/plain"}, 400, "bad-request"),
        ({"content-encoding": "gzip"}, 400, "bad-request"),
        ({"body": b"[]"}, 400, "bad-request"),
        ({"body": b'{"a": 1, "a": 2}'}, 400, "bad-request"),
        ({"body": b'{"a": NaN}'}, 400, "bad-request"),
        ({"body": b'{"a": "\\ud800"}'}, 400, "bad-request"),
        ({"body": b'{"a": "\xff"}'}, 400, "bad-request"),
        ({"body": b"[" * BODY_BYTES_MAX}, 400, "bad-request"),
        ({"body": b'{"a": ' + b"9" * 10_000 + b"}"}, 400, "bad-request"),
        ({"body": b'"' + b"x" * BODY_BYTES_MAX}, 413, "too-large"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(api, change, status, code):
    """By a status for programs that know HTTP, and a code for those that know spoold."""
    asked = Asked(**{"path": "/mfd/v1/jobs", **change})
    await api.serve(asked)
    assert (asked.status, asked.json["error"]["code"]) == (status, code)
    assert set(asked.json["error"]) == {"code", "message", "advice"}
    assert ("WWW-Authenticate" in asked.headers) == (status == 401)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationError("session-ended", "over."), 410, "session-ended"),
        (OperationError("account-limit-reached", "no."), 402, "account-limit-reached"),
        (OperationError("busy", "later."), 503, "busy"),
        (OperationError("a-new-code", "what?"), 500, "a-new-code"),
        (SpoolFull("commit to", "the spool", "ENOSPC", "Free some."), 507, "spool-area-full"),
        (SpoolError("read", "/var/lib/secret", "EIO", "Look."), 500, "internal-error"),
    ],
)
async def test_a_refusal_has_a_status_by_its_code(api, room, error, status, code):
    """What the disk says stays here."""
    room.error = error
    asked = Asked("/mfd/v1/jobs")
    await api.serve(asked)
    assert (asked.status, asked.json["error"]["code"]) == (status, code)
    assert b"secret" not in asked.sent
    assert ("Retry-After" in asked.headers) == (code == "busy")


async def test_a_failed_store_ends_more_than_the_request(api, room):
    """Nothing is answered after a sync that failed."""
    room.error = StoreFailed("commit to", "the spool", "EIO", "Check the disk.")
    asked = Asked("/mfd/v1/jobs")
    with pytest.raises(StoreFailed):
        await api.serve(asked)
    assert not asked.status


async def test_events_stream_and_end_with_the_result(api, room):
    """One event is one line of data, whatever is in it."""
    room.events = (("job-state", {"title": "two\nlines\r\ndata: x", "n": 1}), ("balance", {}))
    asked = Asked("/mfd/v1/follow")
    await api.serve(asked)
    assert (asked.status, asked.headers["Content-Type"]) == (200, "text/event-stream")
    blocks = asked.sent.decode().removesuffix("\n\n").split("\n\n")
    assert [block.split("\n")[0] for block in blocks] == [
        "event: job-state",
        "event: balance",
        "event: end",
    ]
    assert all(len(block.split("\n")) == 2 for block in blocks)
    assert json.loads(blocks[0].split("\n")[1].removeprefix("data: "))["n"] == 1


async def test_what_goes_wrong_in_a_stream_is_its_last_event(api, room):
    """Before the first event it is an answer as any other."""
    room.error = OperationError("session-ended", "over.")
    early = Asked("/mfd/v1/follow")
    await api.serve(early)
    assert early.status == 410
    room.events = (("balance", {}),)
    late = Asked("/mfd/v1/follow")
    await api.serve(late)
    assert late.status == 200
    assert b'event: error\ndata: {"code": "session-ended"' in late.sent


async def test_a_silent_stream_shows_that_it_lives(monkeypatch):
    """A comment now and then, so that a client notices a server that has gone."""
    monkeypatch.setattr(mfd_api, "KEEP_ALIVE_S", 0.01)

    class Silent:
        async def call(self, principal, op, args, send_event):
            await send_event("balance", {})
            await trio.sleep(0.1)
            return {}

    asked = Asked("/mfd/v1/follow")
    await MfdApi(Silent(), [operation("follow")], "1").serve(asked)
    assert asked.sent.count(b"\n\n:\n\n") >= 1


async def test_a_client_that_has_gone_ends_its_stream(api, room):
    """As one error, which ends the connection."""
    room.events = (("balance", {}),)

    class Gone(Asked):
        async def send(self, data):
            raise trio.BrokenResourceError

    with pytest.raises(trio.BrokenResourceError):
        await api.serve(Gone("/mfd/v1/follow"))


async def test_the_document_is_for_everybody(api):
    """It names each operation, and how to come in."""
    asked = Asked(DOCUMENT, principal=NOBODY, method="GET")
    await api.serve(asked)
    assert set(asked.json["paths"]) == {"/mfd/v1/jobs", "/mfd/v1/follow"}
    assert set(asked.json["components"]["securitySchemes"]) == {"token", "certificate"}
    wrong = Asked(DOCUMENT, principal=NOBODY)
    await api.serve(wrong)
    assert wrong.status == 405


def test_the_exchange_of_intake_is_what_is_asked_for_here():
    """The names that this test stands in for."""
    for name in ("read", "respond", "begin", "send", "end"):
        assert callable(getattr(Exchange, name))


# -- the document and the table ----------------------------------------------------------------

OPERATIONS = [
    one
    for room in vars(operations).values()
    for one in getattr(room, "OPERATIONS", ())
    if one.name.startswith("mfd.")
]
# Every kind of argument there is, also those that no operation has now.
EVERYTHING = operation(
    "everything",
    Argument("filter", (dict,), keys=(Argument("owner", most=5), Argument("n", (int,), most=3))),
    Argument("needed", (dict,), required=True, keys=(Argument("a", required=True),)),
    Argument("options", (dict,), most=1, each=Argument("", most=2)),
    Argument("either", (int, str), least=1, most=4),
    Argument("kind", choices=("fair", "fifo")),
    Argument("rows", (list,), most=2, each=Argument("", (dict,), keys=(Argument("b", (bool,)),))),
    Argument("maybe", (str, type(None)), required=True),
)
DOCUMENTED = document(
    [*OPERATIONS, EVERYTHING],
    prefix="/mfd/v1/",
    version="1",
    statuses={},
    streams=frozenset({"mfd.follow"}),
)


def posted(one):
    return DOCUMENTED["paths"]["/mfd/v1/" + one.name.removeprefix("mfd.")]["post"]


def schema_of(one):
    return posted(one)["requestBody"]["content"]["application/json"]["schema"]


def values(argument):
    """What somebody may send as this argument: right, nearly right, and wrong."""
    least, most = argument.least, min(argument.most_of(str), 2000)
    texts = st.sampled_from(
        ["", "x" * max(least - 1, 0), "x" * least, "x" * most, "x" * (most + 1), *argument.choices]
    )
    edges = {least - 1, least, argument.most_of(int), argument.most_of(int) + 1, -1}
    numbers = st.sampled_from(sorted(edges))
    inner = st.none() | texts | numbers | st.booleans()
    if argument.each is not None:
        lists = st.lists(values(argument.each), max_size=3)
        maps = st.dictionaries(st.sampled_from("ab"), values(argument.each), max_size=2)
    else:
        lists, maps = st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner)
    if argument.keys:
        maps |= arguments(argument.keys)
    return inner | lists | maps | st.floats(allow_nan=False)


def right(argument):
    """A value that the argument takes."""
    kind = argument.types[0]
    if argument.choices:
        return st.sampled_from(argument.choices)
    if kind is str:
        return st.just("x" * argument.least)
    if kind is int:
        return st.just(argument.least)
    if kind is bool:
        return st.booleans()
    if kind is list:
        element = right(argument.each) if argument.each is not None else st.none()
        return st.lists(element, min_size=argument.least, max_size=argument.least + 1)
    if argument.keys:
        needed = {one.name: right(one) for one in argument.keys if one.required}
        others = {one.name: right(one) for one in argument.keys if not one.required}
        return st.fixed_dictionaries(needed, optional=others)
    return st.just({"a": "x"} if argument.least else {})


def arguments(known):
    """A map of arguments: all right, or one of them wrong, missing, or known to nobody."""
    needed = {argument.name: right(argument) for argument in known if argument.required}
    others = {argument.name: right(argument) for argument in known if not argument.required}
    base = st.fixed_dictionaries(needed, optional=others)
    changes = [st.tuples(st.just("unknown"), st.none() | st.text(max_size=2))]
    changes += [st.tuples(st.just(argument.name), values(argument)) for argument in known]
    changed = st.builds(lambda whole, one: {**whole, one[0]: one[1]}, base, st.one_of(changes))
    missing = base.map(lambda whole: dict(list(whole.items())[1:]))
    return base | changed | changed | missing


@pytest.mark.slow
@pytest.mark.parametrize("one", [*OPERATIONS, EVERYTHING], ids=lambda one: one.name)
def test_the_document_promises_what_the_table_takes(one):
    """Whatever is sent: the schema lets it pass if, and only if, the operation reads it."""
    schema = schema_of(one)
    assert list(schema["properties"]) == [argument.name for argument in one.arguments]

    @settings(max_examples=150, deadline=None)
    @given(arguments(one.arguments))
    def check(sent):
        try:
            read_arguments(one.arguments, sent)
            is_read = True
        except OperationError:
            is_read = False
        assert is_valid(schema, sent) == is_read

    check()


def test_every_operation_of_mfds_is_described():
    """With a summary, what it takes and what it answers."""
    assert len(DOCUMENTED["paths"]) == len(OPERATIONS) + 1 >= 13
    for one in OPERATIONS:
        assert posted(one)["summary"]
        assert one.answers or one.name == "mfd.logout"


@pytest.mark.parametrize("body", [b"", b"{}", b' {"a": [1, {"b": null}], "c": "\xc3\xa4"} '])
def test_json_is_read(body):
    """A map of anything that JSON has."""
    assert isinstance(read_json(body), dict)


def test_frames_md_names_all_that_mfds_can_say_and_hear():
    """Every operation, argument, field of an answer, status and reason is in its section."""
    text = Path(frame.__file__).with_name("FRAMES.md").read_text("utf-8")
    section = text.partition("\n## 10. MFDs\n")[2]

    def words(known):
        for one in known:
            yield one.name
            yield from words(one.keys)
            if one.each is not None:
                yield from words(one.each.keys)

    wanted = {one.name for one in OPERATIONS}
    for one in OPERATIONS:
        wanted |= set(words(one.arguments)) | set(words(one.answers))
    wanted |= {one.value for one in (*SessionEnd, *Mode)}
    missing = [name for name in wanted if name and f"`{name}`" not in section]
    assert missing == []
    for code, status in STATUSES.items():
        assert status == 500 or (f"{status} `" in section and f"`{code}`" in section)
