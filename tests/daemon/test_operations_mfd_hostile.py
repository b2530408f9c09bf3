"""Hostile texts in the operations of MFDs do no harm."""

from __future__ import annotations

import json
from uuid import UUID

import pytest

from spoold.daemon.operations.held_jobs import JOB_ID_MAX
from spoold.model.errors import OperationError
from support.chain import verified
from support.desks import PASSWORD, add_job
from support.panels import Panel

HOSTILE = (
    "\0",
    "a\r\nSet-Cookie: x=y",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe\u2066",
    "'; DROP TABLE job; --\"`$(id)",
    "../../../../etc/passwd",
    "C:\\..\\" + "%s%n{0}{self}",
    "\N{ZERO WIDTH JOINER}\N{COMBINING LONG STROKE OVERLAY}" * 100,
    "A" * 65536,
    "\N{PILE OF POO}" * 16384,
)


def texts_in(arguments, path=()):
    """The paths of all arguments that may be texts."""
    for argument in arguments:
        here = (*path, argument.name)
        if str in argument.types:
            yield here
        if dict in argument.types:
            yield from texts_in(argument.keys, here)
        if list in argument.types and argument.each is not None and argument.each.keys:
            yield from texts_in(argument.each.keys, (*here, 0))


def with_text(args, path, text):
    """The arguments, with `text` at a path."""
    copied = json.loads(json.dumps(args))
    target = copied
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = text
    return copied


async def said(asked):
    """What an operation answers: its result as JSON, or its refusal in words."""
    try:
        return json.dumps(await asked)
    except OperationError as error:
        return f"{error.code} {error}"


@pytest.mark.slow
async def test_hostile_texts_do_no_harm_in_any_operation(desk, safe, here, tmp_path):
    """Each text of each operation: taken or refused, in plain words, and the node goes on."""
    job_id = await add_job(desk, safe)
    whole = {
        "login": {"name": "ada", "password": PASSWORD, "card": "1", "pin": "1"},
        "associate": {"name": "ada", "password": PASSWORD, "card": "1", "pin": "1"},
        "jobs": {"printer": "safe"},
        "release": {"jobs": [JOB_ID_MAX], "printer": "safe", "account": "", "sides": "one-sided"},
        "change": {"job": job_id, "printer": "safe", "sides": "one-sided", "color": "auto"},
        "delete": {"jobs": [JOB_ID_MAX]},
        "authorize": {"work": "copy", "key": "k", "account": "", "printer": "safe"},
        "report": {
            "work": "copy",
            "key": "k",
            "printer": "safe",
            "lines": [{"impressions": 1, "media": "", "color": "color", "sides": "one-sided"}],
        },
    }
    before = sorted(path for path in tmp_path.rglob("*") if "spool.db" not in path.name)
    tried = 0
    for operation in desk.table.operations.values():
        name = operation.name.removeprefix("mfd.")
        if name == operation.name:
            continue
        args = dict(whole.get(name, {}))
        if any(one.name == "session" for one in operation.arguments):
            args["session"] = here.session
        for path in texts_in(operation.arguments):
            for text in HOSTILE:
                answer = await said(here.ask(name, **with_text(args, path, text)))
                assert answer.isprintable(), (name, path)
                assert "internal-error" not in answer
                tried += 1
        if name == "logout":
            await here.login(name="ada", password=PASSWORD)
    assert tried > 100
    after = sorted(path for path in tmp_path.rglob("*") if "spool.db" not in path.name)
    assert after == before
    assert (await here.at("resume"))["user"] == "ada"
    assert await verified(desk.spool.reader) == desk.spool.journal.head


async def test_hostile_titles_and_names_are_only_shown(desk, safe, here):
    """A job's title is what its sender says; it stays a text."""
    for text in HOSTILE:
        await add_job(desk, safe, title=text[:255])
    shown = (await here.at("jobs"))["jobs"]
    assert [one["title"] for one in shown] == [text[:255] for text in HOSTILE]
    results = (await here.at("delete", jobs=[one["id"] for one in shown]))["results"]
    assert all(one["state"] == "canceled" for one in results)


async def test_the_guid_of_an_mfd_alone_opens_nothing(desk, here):
    """An MFD that nobody has enrolled is refused whatever session it names."""
    stranger = Panel(desk, UUID(int=1), "panel")
    for op in ("login", "resume", "jobs"):
        args = {} if op == "login" else {"session": here.session}
        assert (await stranger.refusal(op, **args)).code == "forbidden"
