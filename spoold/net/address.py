"""Addresses as people write them: "0.0.0.0:9191", "[::]:9191", "name:9191"."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from spoold.model.errors import ConfigError

_IN_DNS = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?")
HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252}[A-Za-z0-9_.])?")
ADVICE = 'Write "0.0.0.0:9191", "[::]:9191" or "name:9191".'


@dataclass(frozen=True, slots=True)
class Address:
    """A host (an address without brackets, or a name) and a port; port 0 means any free one.

    Or a listening socket that systemd hands over: `socket_name` is its `FileDescriptorName=`.
    """

    host: str
    port: int
    socket_name: str = ""

    def __str__(self) -> str:
        if self.socket_name:
            return f"systemd:{self.socket_name}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def host_name(text: str) -> str:
    """A host name as the DNS and certificates have it.

    Raises:
        ValueError: it is none.
    """
    try:
        name = text.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise ValueError(f"{text!r} is no host name") from error
    if not _IN_DNS.fullmatch(name):
        raise ValueError(f"{text!r} is no host name")
    return name


def parse_address(text: str) -> Address:
    """The address that `text` names.

    Raises:
        ConfigError: it names none.
    """

    def refused(cause: str, advice: str = ADVICE) -> ConfigError:
        return ConfigError("read the address", repr(text), cause, advice)

    host, colon, digits = text.rpartition(":")
    if not colon:
        raise refused("there is no port")
    if not re.fullmatch(r"[0-9]{1,5}", digits) or int(digits) > 65535:
        raise refused(f"{digits!r} is no port", "A port is a number from 0 to 65535.")
    port = int(digits)
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        try:
            socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        except (OSError, ValueError):
            raise refused(f"{host!r} is no IPv6 address") from None
        return Address(host, port)
    if ":" in host:
        raise refused("an IPv6 address stands in brackets", f'Write "[{host}]:{port}".')
    if host in ("", "*"):
        raise refused(
            "there is no host",
            f'Write "0.0.0.0:{port}" for every IPv4 address, "[::]:{port}" for every IPv6 address.',
        )
    if re.fullmatch(r"[0-9.]+", host):
        try:
            socket.inet_pton(socket.AF_INET, host)
        except OSError:
            raise refused(f"{host!r} is no IPv4 address") from None
    elif not HOST_NAME.fullmatch(host):
        raise refused(f"{host!r} is no host name")
    return Address(host, port)
