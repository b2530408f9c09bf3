"""A D-Bus with an Avahi on it, as far as `ippeveprinter` asks for one; nothing is announced.

In: a directory for the bus's socket. Out: the address for DBUS_SYSTEM_BUS_ADDRESS. Every call is
answered at once (D-Bus Specification, "Message Protocol"; avahi-common/dbus.h): the server runs,
groups of services are taken, and stay where they are.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

METHOD_CALL, METHOD_RETURN = 1, 2
MEMBER, REPLY_SERIAL, SIGNATURE = 3, 5, 8
NO_REPLY_EXPECTED = 1
RUNNING = 2  # AvahiServerState, AvahiEntryGroupState: established
# Signature and value of the answers that are not empty.
ANSWERS = {
    "Hello": ("s", ":1.1"),
    "NameHasOwner": ("b", 1),
    "StartServiceByName": ("u", 2),
    "GetAPIVersion": ("u", 515),
    "GetVersionString": ("s", "avahi 0.8"),
    "GetHostName": ("s", "localhost"),
    "GetHostNameFqdn": ("s", "localhost"),
    "GetDomainName": ("s", "local"),
    "GetState": ("i", RUNNING),
    "EntryGroupNew": ("o", "/group"),
}


def _padding(length: int, boundary: int) -> bytes:
    return bytes(-length % boundary)


def _packed(signature: str, value: str | int) -> bytes:
    if isinstance(value, int):
        return struct.pack("<i" if signature == "i" else "<I", value)
    text = value.encode()
    return struct.pack("<I", len(text)) + text + b"\0"


def _member(fields: bytes) -> str:
    """The name of the method among a message's header fields: an array of (byte, variant)."""
    at = 0
    while at < len(fields):
        at += -at % 8
        code, kind = fields[at], chr(fields[at + 2])
        at += 4
        if kind == "g":
            at += 2 + fields[at]
            continue
        at += -at % 4
        (number,) = struct.unpack_from("<I", fields, at)
        at += 4
        if kind == "u":
            continue
        if code == MEMBER:
            return fields[at : at + number].decode()
        at += number + 1
    return ""


def _reply(serial: int, own_serial: int, member: str) -> bytes:
    signature, value = ANSWERS.get(member, ("", ""))
    body = _packed(signature, value) if signature else b""
    fields = bytes((REPLY_SERIAL, 1)) + b"u\0" + struct.pack("<I", serial)
    if signature:
        fields += bytes((SIGNATURE, 1)) + b"g\0" + bytes((1,)) + signature.encode() + b"\0"
    head = b"l" + bytes((METHOD_RETURN, 0, 1)) + struct.pack("<II", len(body), own_serial)
    message = head + struct.pack("<I", len(fields)) + fields
    return message + _padding(len(message), 8) + body


def _serve(connection: socket.socket) -> None:
    with connection, suppress(OSError, EOFError):
        stream = connection.makefile("rb")
        stream.read(1)
        while (line := stream.readline()) != b"BEGIN\r\n":
            if not line:
                return
            said = b"OK 0123456789abcdef0123456789abcdef" if b"AUTH" in line else b"ERROR"
            connection.sendall(said + b"\r\n")
        number = 0
        while head := stream.read(16):
            _, kind, flags, _, body_length, serial, fields_length = struct.unpack("<4B3I", head)
            fields = stream.read(fields_length)
            stream.read(len(_padding(fields_length, 8)) + body_length)
            if kind == METHOD_CALL and not flags & NO_REPLY_EXPECTED:
                number += 1
                connection.sendall(_reply(serial, number, _member(fields)))


@contextmanager
def avahi(folder: Path) -> Iterator[str]:
    """The address of a bus that ends with the block."""
    path = folder / "bus"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=_serve, args=(connection,), daemon=True).start()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield f"unix:path={path}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(30)
