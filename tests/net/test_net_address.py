"""Addresses, as configuration files and commands write them."""

from __future__ import annotations

import pytest

from spoold.model.errors import ConfigError
from spoold.net.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("0.0.0.0:9191", "0.0.0.0", 9191),
        ("[::]:9191", "::", 9191),
        ("[fe80::1%eth0]:515", "fe80::1%eth0", 515),
        ("print.example.org:9191", "print.example.org", 9191),
        ("localhost:0", "localhost", 0),
        ("print_server-2:65535", "print_server-2", 65535),
    ],
)
def test_good_addresses(text: str, host: str, port: int) -> None:
    """An address is read, and written again as it was."""
    assert parse_address(text) == Address(host, port)
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no port"),
        ("9191", "no port"),
        ("localhost", "no port"),
        (":9191", r"0\.0\.0\.0:9191"),
        ("*:9191", r"\[::\]:9191"),
        ("::1:9191", r'Write "\[::1\]:9191"'),
        ("[::1]", "no port"),
        ("[::g]:1", "no IPv6 address"),
        ("[127.0.0.1]:1", "no IPv6 address"),
        ("[]:1", "no IPv6 address"),
        ("256.0.0.1:1", "no IPv4 address"),
        ("10.1:1", "no IPv4 address"),
        ("host:65536", "from 0 to 65535"),
        ("host:-1", "from 0 to 65535"),
        ("host:", "is no port"),
        ("host:ipp", "is no port"),
        ("host:٣", "is no port"),
        ("ho st:1", "no host name"),
        ("-host:1", "no host name"),
        ("http://host:1", "brackets"),
        ("a" * 300 + ":1", "no host name"),
    ],
)
def test_bad_addresses(text: str, words: str) -> None:
    """What is no address is refused with the text that was read and with advice."""
    with pytest.raises(ConfigError, match=words) as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)
    assert caught.value.advice
