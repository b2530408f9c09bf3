"""The worker: asks a directory over LDAP (RFC 4511), and does nothing else.

Started by `ldap`, with its question on standard input and its answers on standard output; see
`ldap` for why it is a process of its own. It ends with its answer, and a little after its deadline
in any case.
"""

from __future__ import annotations

import resource
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import bonsai
import msgpack

PAGE_ENTRIES = 500
QUESTION_BYTES_MAX = 1 << 20
MEMORY_BYTES_MAX = 2 << 30
SUBTREE = 2
GRACE_S = 5.0


class _Failed(Exception):
    """Why no answer can be had: what an operator reads, and what they can do.

    Without advice another server may do better.
    """

    def __init__(self, cause: str, advice: str = "") -> None:
        super().__init__(cause)
        self.cause, self.advice = cause, advice


def main() -> None:
    _confine()
    question = msgpack.unpackb(sys.stdin.buffer.read(QUESTION_BYTES_MAX))
    signal.setitimer(signal.ITIMER_REAL, float(question["deadline_s"]) + GRACE_S)
    try:
        connection = _connect(question, question["bind_dn"], question["password"])
        _tell({"connected": True})
        if "check" in question:
            _tell({"right": _check(connection, question), "done": True})
            return
        for what in ("people", "groups"):
            for page in _pages(connection, question[what], what):
                _tell({what: msgpack.packb(page)})
        _tell({"done": True})
    except _Failed as failed:
        _tell({"cause": failed.cause, "advice": failed.advice})


def _confine() -> None:
    """A password is in this memory: it goes into no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MEMORY_BYTES_MAX if hard == resource.RLIM_INFINITY else min(hard, MEMORY_BYTES_MAX)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _tell(message: dict[str, Any]) -> None:
    data = msgpack.packb(message)
    sys.stdout.buffer.write(struct.pack("!I", len(data)) + data)
    sys.stdout.buffer.flush()


def _connect(question: dict[str, Any], dn: str, password: str) -> Any:
    server = question["server"]
    is_clear = server.startswith("ldap:")
    client = bonsai.LDAPClient(server, tls=is_clear and question["start_tls"])
    client.set_cert_policy("demand")
    client.set_ca_cert(question["ca_file"])
    client.set_raw_attributes(["objectGUID"])
    if dn:
        client.set_credentials("SIMPLE", dn, password)
    try:
        return client.connect(timeout=float(question["connect_s"]))
    except bonsai.AuthenticationError as error:
        if dn != question["bind_dn"]:
            raise
        raise _Failed(
            f"{server} refuses the login of {dn}: {_words(error)}",
            "Correct bind_dn, or the password in password_file.",
        ) from None
    except bonsai.LDAPError as error:
        raise _Failed(f"{server}: {_words(error)}") from None


def _check(connection: Any, question: dict[str, Any]) -> bool:
    """Whether the one entry that is asked for lets somebody in with this password."""
    asked = question["check"]
    found = [dn for page in _pages(connection, asked, "a person") for dn, _ in page]
    if len(set(found)) != 1 or not asked["password"]:
        return False  # without a password a bind would be an anonymous one (RFC 4513 5.1.2)
    try:
        _connect(question, found[0], asked["password"])
    except bonsai.AuthenticationError:
        return False
    return True


def _words(error: Exception) -> str:
    """What went wrong, without the numbers."""
    words = str(error).partition(" (0x")[0].removesuffix(" (unknown error code)")
    return words.rstrip(". ") or type(error).__name__


def _pages(connection: Any, asked: dict[str, Any], what: str) -> Iterator[list[Any]]:
    for base in asked["bases"]:
        try:
            found = connection.paged_search(
                base, SUBTREE, asked["filter"], asked["attributes"], page_size=PAGE_ENTRIES
            )
            page: list[Any] = []
            for entry in found:
                page.append([str(entry.dn), {key.lower(): _values(entry[key]) for key in entry}])
                if len(page) == PAGE_ENTRIES:
                    yield page
                    page = []
            yield page
        except bonsai.LDAPError as error:
            raise _Failed(
                f"the search for {what} below {base} failed: {_words(error)}",
                "Look at bases and filters, and at what bind_dn may read.",
            ) from None


def _values(values: Any) -> list[str]:
    """The values as texts; a GUID in the form in which directories show it, other bytes not."""
    found = []
    for one in values if isinstance(values, list) else [values]:
        if isinstance(one, str):
            found.append(one)
        elif isinstance(one, (bytes, bytearray)) and len(one) == 16:
            found.append(str(UUID(bytes_le=bytes(one))))
        elif isinstance(one, int):
            found.append(str(one))
    return found


if __name__ == "__main__":
    main()
