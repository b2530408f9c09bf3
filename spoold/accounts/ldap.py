"""Asking a directory for its people and groups, in a process of its own.

libldap connects and shakes hands while it holds the interpreter: a server that says nothing would
stop a daemon that has it inside. So a worker (`ldap_worker`, with bonsai) asks, and is killed when
its time is over. It reads no ldap.conf, gets its password through a pipe, and is started anew for
each round.
"""

from __future__ import annotations

import importlib.util
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import UUID

import msgpack
import trio

from spoold.accounts.directory import ACCOUNT_CONTROL, Entry
from spoold.model.errors import SpooldError
from spoold.model.source import Flavour, Source
from spoold.net.credentials import is_private, resolve

VERIFY_S = 15.0  # somebody stands at a machine, or their client waits
NO_ATTRIBUTES = "1.1"  # RFC 4511 4.5.1.8
CONNECT_S = 10.0  # for a server to connect, shake hands and let us in
PASSWORD_BYTES_MAX = 4096
MESSAGE_BYTES_MAX = 64 << 20
ANSWER_BYTES_MAX = 1 << 30
RECEIVE_BYTES = 1 << 18
END_S = 5.0
_LENGTH = struct.Struct("!I")


class DirectoryError(SpooldError):
    """A directory cannot be asked, or its answer is none. Nothing was changed."""


@dataclass(slots=True)
class Snapshot:
    """All entries of a source, in pages as the worker packed them: until somebody reads them they
    are a few bytes objects, and nothing that Python's collector has to look through.
    """

    people: list[bytes] = field(default_factory=list)
    groups: list[bytes] = field(default_factory=list)
    is_right: bool = False  # a password that was to be checked


def entries(pages: Iterable[bytes]) -> Iterator[Entry]:
    """The entries in pages of a snapshot."""
    for page in pages:
        for dn, values in msgpack.unpackb(page):
            yield Entry(dn, {name: tuple(one) for name, one in values.items()})


class AsksDirectory(Protocol):
    """What a round needs: everything of a source, or a DirectoryError."""

    async def __call__(self, source: Source) -> Snapshot: ...


async def ask(source: Source) -> Snapshot:
    """Everything that the first server that answers has of people and groups.

    Raises:
        DirectoryError: with advice.
    """
    of_people = {source.attribute(one) for one in ("id", "name", "full_name", "email")}
    of_people |= {source.attribute(one) for one in ("member_of", "card", "account")}
    if source.flavour is Flavour.ACTIVE_DIRECTORY:
        of_people.add(ACCOUNT_CONTROL)
    of_groups = {source.attribute(one) for one in ("group", "member", "member_of")}
    wanted = {
        "people": {
            "bases": list(source.bases),
            "filter": source.asked_of_people,
            "attributes": sorted(of_people - {""}),
        },
        "groups": {
            "bases": list(source.group_bases or source.bases),
            "filter": source.asked_of_groups,
            "attributes": sorted(of_groups - {""}),
        },
    }
    return await _consult(source, wanted, source.deadline_s)


async def verify(source: Source, id_: str, password: str) -> bool:
    """Whether the directory lets the person with this id in with this password.

    Raises:
        DirectoryError: it cannot be asked.
    """
    if "\0" in password:
        return False  # libldap would take it to end there
    attribute = source.attribute("id")
    is_guid = attribute.lower() == "objectguid"
    check = {
        "bases": list(source.bases),
        "filter": f"(&{source.asked_of_people}({attribute}={_asserted(id_, is_guid=is_guid)}))",
        "attributes": [NO_ATTRIBUTES],
        "password": password,
    }
    return (await _consult(source, {"check": check}, VERIFY_S)).is_right


def _asserted(id_: str, *, is_guid: bool) -> str:
    """An id in a filter: every octet by its number (RFC 4515 3); a GUID of Windows as it lies."""
    raw = UUID(id_).bytes_le if is_guid else id_.encode("utf-8")
    return "".join(f"\\{octet:02x}" for octet in raw)


async def _consult(source: Source, wanted: dict[str, Any], deadline_s: float) -> Snapshot:
    """What the first server that answers says.

    Raises:
        DirectoryError: with advice.
    """
    if importlib.util.find_spec("bonsai") is None:
        raise _failed(source, "this spoold is without LDAP", "Install it: pip install spoold[ldap]")
    password = await trio.to_thread.run_sync(_password, source)
    silent = []
    with trio.move_on_after(deadline_s):
        for server in source.servers:
            try:
                return await _answer(source, _question(source, server, password, wanted))
            except _NoServer as error:
                silent.append(str(error))
            except trio.TooSlowError:
                silent.append(f"{server}: no answer within {CONNECT_S:g} s")
        raise _failed(
            source,
            f"no server answers as it should: {', '.join(silent)}",
            "Look at the names, the network, and whether ca_file vouches for the certificate.",
        )
    raise _failed(
        source,
        f"it has not answered within {deadline_s:g} s",
        "Ask for less with people_filter, or give it more with deadline_s.",
    )


class _NoServer(Exception):
    """This server does not do; another one may."""


def _failed(source: Source, cause: str, advice: str) -> DirectoryError:
    return DirectoryError("ask", f"the source {source.name}", cause, advice)


def _password(source: Source) -> str:
    """The first line of the password's file, read anew each time: it may have been changed."""
    if not source.password_file:
        return ""
    try:
        path = resolve(source.password_file)
        with path.open("rb") as file:
            if not is_private(path, os.fstat(file.fileno())):
                raise _failed(source, f"others can read {path}", f"chmod 600 {path}")
            line = file.read(PASSWORD_BYTES_MAX).partition(b"\n")[0].rstrip(b"\r")
        password = line.decode("utf-8")
    except OSError as error:
        cause = f"{source.password_file}: {error.strerror}"
        raise _failed(source, cause, "Let the daemon's user read it.") from error
    except UnicodeDecodeError:
        cause = f"{source.password_file} is not UTF-8"
        raise _failed(source, cause, "Write the password as UTF-8 text.") from None
    if not password:  # a simple bind without a password would be an anonymous one (RFC 4513 5.1.2)
        cause = f"{source.password_file} is empty"
        raise _failed(source, cause, "Its first line is the password.")
    return password


def _question(source: Source, server: str, password: str, wanted: dict[str, Any]) -> bytes:
    """All that the worker needs to know.

    Raises:
        DirectoryError: the file of `ca_file` is not to be had.
    """
    try:
        ca_file = resolve(source.trusts)
    except OSError as error:
        raise _failed(source, f"{source.trusts}: {error.strerror}", "Name a file.") from error
    packed: bytes = msgpack.packb(
        {
            "server": server,
            "connect_s": CONNECT_S,
            "start_tls": source.start_tls,
            "ca_file": str(ca_file),
            "bind_dn": source.bind_dn,
            "password": password,
            "deadline_s": source.deadline_s,
            **wanted,
        }
    )
    return packed


async def _answer(source: Source, question: bytes) -> Snapshot:
    # Fixed words only: nothing of a source reaches this line.
    process = await trio.lowlevel.open_process(
        [sys.executable, "-I", "-m", "spoold.accounts.ldap_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"LC_ALL": "C.UTF-8", "LDAPNOINIT": "1"},
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        try:
            async with process.stdin as pipe:
                await pipe.send_all(question)
        except trio.BrokenResourceError:
            pass  # it ended early: what it wrote, or did not, says more
        with trio.fail_after(CONNECT_S) as connecting:
            return await _read(source, process.stdout, connecting)
    finally:
        process.kill()
        with trio.move_on_after(END_S, shield=True):
            await process.wait()
        with trio.move_on_after(END_S, shield=True):
            await process.stdout.aclose()


async def _read(
    source: Source, pipe: trio.abc.ReceiveStream, connecting: trio.CancelScope
) -> Snapshot:
    """What the worker says. Once it is connected, only the deadline of the whole counts."""
    snapshot, data, total = Snapshot(), bytearray(), 0
    while True:
        while len(data) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data)
            if length > MESSAGE_BYTES_MAX:
                raise _failed(source, "a page of its answer is too large", "Ask for less.")
            if len(data) < _LENGTH.size + length:
                break
            message = bytes(data[_LENGTH.size : _LENGTH.size + length])
            del data[: _LENGTH.size + length]
            connecting.deadline = math.inf
            if _take(source, snapshot, message):
                return snapshot
        received = await pipe.receive_some(RECEIVE_BYTES)
        total += len(received)
        if not received:
            raise _failed(source, "its answer broke off", "See the log of the directory.")
        if total > ANSWER_BYTES_MAX:
            raise _failed(source, "its answer is too large", "Ask for less: people_filter.")
        data += received


def _take(source: Source, snapshot: Snapshot, message: bytes) -> bool:
    """Take up a message of the worker; true at the end.

    Raises:
        DirectoryError, _NoServer: it says why there is no answer.
    """
    said = msgpack.unpackb(message)
    if "cause" in said:
        if not said["advice"]:
            raise _NoServer(said["cause"].rstrip("."))
        raise _failed(source, said["cause"], said["advice"])
    for key, pages in (("people", snapshot.people), ("groups", snapshot.groups)):
        if key in said:
            pages.append(said[key])
    snapshot.is_right = said.get("right") is True
    return "done" in said
