"""The configuration: what is taken, what is refused and with which advice, and what changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import get_type_hints

import pytest

from spoold.daemon import config
from spoold.daemon.config import Config, EndsOn, RawListener
from spoold.model.errors import ConfigError
from spoold.net.address import Address
from spoold.spool.sqlite import RESERVE_BYTES

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_toml(text: str) -> Path:
        file = tmp_path / "spoold.toml"
        file.write_text(text)
        return file

    return write_toml


def test_defaults_are_an_application_server_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a file, the node listens on loopback and keeps its data below the folder."""
    monkeypatch.chdir(tmp_path)
    found = config.load(None, {})
    assert found.node.role == "application"
    assert found.node.name
    assert found.node.data_dir == tmp_path / "spoold-data"
    assert [str(one) for _, one in found.listen.every_address()] == [
        "127.0.0.1:9191",
        "127.0.0.1:9192",
        "127.0.0.1:9195",
    ]
    assert found.listen.ends_on == EndsOn("half-close")


def test_state_directory_of_systemd_is_the_default_data_dir(write: Write) -> None:
    """$STATE_DIRECTORY is used without a data_dir, and its first entry when there are several."""
    environ = {"STATE_DIRECTORY": "/var/lib/spoold:/var/lib/other"}
    assert config.load(None, environ).node.data_dir == Path("/var/lib/spoold")
    file = write('[node]\ndata_dir = "here"')
    assert config.load(file, environ).node.data_dir == file.parent / "here"


def test_everything_written_is_read(write: Write) -> None:
    """Addresses, quantities with units, networks and tables of tables become what is used."""
    found = config.load(
        write(
            """
            [node]
            name = "library"
            role = "application"
            [listen]
            clear = ["0.0.0.0:9191", "[::]:9191"]
            lpd = ["systemd:lpd", "eth0:515"]
            raw_printer = "frontdesk"
            [[listen.raw]]
            address = "[2001:db8::1]:9101"
            printer = "labels"
            ends_on = "idle 2s"
            [[listen.raw]]
            address = "127.0.0.1:0"
            printer = "labels"
            ends_on = "zpl"
            [limits]
            exempt = ["192.0.2.7", "2001:db8::/32"]
            document_bytes_max = "1.5 GiB"
            header_deadline_s = "500 ms"
            idle_deadline_s = 7
            [advertise]
            names = ["print.example.org"]
            endpoints = ["print.example.org:9195"]
            [[advertise.to]]
            networks = ["192.0.2.0/24"]
            endpoints = ["inside.example.org:9195"]
            [retention]
            records_s = "30 days"
            documents_s = 0
            [tls]
            certificate = "chain.pem"
            key = "/etc/spoold/key.pem"
            """
        ),
        {},
    )
    assert (found.node.name, found.node.role) == ("library", "application")
    assert found.listen.clear == (Address("0.0.0.0", 9191), Address("::", 9191))
    assert found.listen.lpd == (Address("", 0, "lpd"), Address("eth0", 515))
    assert [str(one) for one in found.listen.lpd] == ["systemd:lpd", "eth0:515"]
    assert found.listen.raw == (
        RawListener(
            address=Address("2001:db8::1", 9101), printer="labels", ends_on=EndsOn("idle", 2.0)
        ),
        RawListener(address=Address("127.0.0.1", 0), printer="labels", ends_on=EndsOn("zpl")),
    )
    assert found.limits.exempt == (ip_network("192.0.2.7/32"), ip_network("2001:db8::/32"))
    assert found.limits.document_bytes_max == 3 * 512 * 1024 * 1024
    assert (found.limits.header_deadline_s, found.limits.idle_deadline_s) == (0.5, 7.0)
    assert found.advertise.endpoints_for("192.0.2.77") == ("inside.example.org:9195",)
    assert found.advertise.endpoints_for("198.51.100.1") == ("print.example.org:9195",)
    assert found.advertise.endpoints_for("unix") == ("print.example.org:9195",)
    assert (found.retention.records_s, found.retention.documents_s) == (30 * 86400.0, 0.0)
    assert found.tls.certificate is not None
    assert found.tls.certificate.name == "chain.pem"
    assert found.tls.certificate.is_absolute()
    assert found.tls.key == Path("/etc/spoold/key.pem")


@pytest.mark.parametrize(
    ("text", "key", "advice"),
    [
        ("[lisen]", "lisen", "Did you mean 'listen'?"),
        ("[limits]\nidle_deadline = 3", "limits.idle_deadline", "'idle_deadline_s'"),
        ("[drain]\nzzz = 3", "drain.zzz", "Known here: deadline_s."),
        ('[limits]\nidle_deadline_s = "3 moons"', "limits.idle_deadline_s", '"1 min"'),
        ("[limits]\nidle_deadline_s = 0", "limits.idle_deadline_s", "Use 0.1 s to 365 days."),
        ("[limits]\nidle_deadline_s = nan", "limits.idle_deadline_s", "Use 0.1 s"),
        ("[limits]\nconnections_max = 1.5", "limits.connections_max", "fraction"),
        ("[limits]\nconnections_max = true", "limits.connections_max", "for example 1"),
        ('[limits]\nconnections_max = "10"', "limits.connections_max", "for example 1"),
        ('[limits]\nexempt = ["here"]', "limits.exempt[0]", "192.0.2.0/24"),
        ('[dnssd]\nenabled = "no"', "dnssd.enabled", "without quotes"),
        ("[conversion]\nmemory_bytes_max = 1", "conversion.memory_bytes_max", "Use 16 MiB"),
        (f"[limits]\nreserve_bytes = {RESERVE_BYTES - 1}", "limits.reserve_bytes", "Use 16 MiB"),
        ('[retention]\nrecords_s = "29 days"', "retention.records_s", "Use 30 days"),
        ("node = 3", "node", "Write a table"),
        ('[node]\nrole = "aplication"', "node.role", "Did you mean 'application'?"),
        ('[node]\nname = "a/b"', "node.name", "NODE/ID"),
        ('[node]\nname = ""', "node.name", "plain text"),
        ('[listen]\nclear = "127.0.0.1:9191"', "listen.clear", "Write a list"),
        ('[listen]\nclear = ["127.0.0.1"]', "listen.clear[0]", "name:9191"),
        ('[listen]\nclear = ["127.0.0.1:65536"]', "listen.clear[0]", "from 0 to 65535"),
        ('[listen]\nclear = ["::1:9191"]', "listen.clear[0]", "[::1]:9191"),
        ('[listen]\nlpd = ["127.0.0.1:9191"]', "listen.lpd[0]", "its own port"),
        ('[listen]\nends_on = "idle"', "listen.ends_on", '"idle 2s"'),
        ('[listen]\nends_on = "idle 2h"', "listen.ends_on", "0.1s to 1h"),
        ('[listen]\nraw_printer = "a b"', "listen.raw_printer", "Use letters"),
        ('[[listen.raw]]\naddress = "127.0.0.1:9101"', "listen.raw[0]", "Add printer."),
        ("[[listen.raw]]\nprinter = 1", "listen.raw[0].printer", "in quotes"),
        ('[advertise]\nendpoints = ["0.0.0.0:9195"]', "advertise.endpoints[0]", "clients see"),
        ('[advertise]\nnames = ["a b"]', "advertise.names[0]", "without a port"),
        ('[advertise]\nnames = ["hq:9195"]', "advertise.names[0]", "without a port"),
        ('[tls]\nkey = "key.pem"', "tls.key", "Add tls.certificate"),
        ("[limits]\njob_bytes_max = 1", "limits.job_bytes_max", "or that smaller"),
        ("[dispatch]\nbackoff_max_s = 1", "dispatch.backoff_first_s", "backoff_max_s larger"),
    ],
)
def test_what_cannot_be_is_refused_with_file_key_and_advice(
    write: Write, text: str, key: str, advice: str
) -> None:
    """A wrong key or value names the file and the key, and says what to write."""
    file = write(text)
    with pytest.raises(ConfigError) as refused:
        config.load(file, {})
    assert refused.value.subject == f"{file}: {key}"
    assert advice in refused.value.advice


def test_a_file_that_cannot_be_read_or_parsed_is_named(write: Write, tmp_path: Path) -> None:
    """A missing file, text that is not TOML and bytes that are not UTF-8 are all ConfigErrors."""
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "missing.toml", {})
    with pytest.raises(ConfigError, match=r"not TOML.*line 1"):
        config.load(write("a = [1,\n"[:6] + "= 2"), {})
    file = write("")
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not TOML"):
        config.load(file, {})


def test_every_default_passes_its_own_reader() -> None:
    """A default could be written in the file as it is, so that no schema contradicts itself."""
    defaults = config.load(None, {})
    for section in fields(Config):
        table = getattr(defaults, section.name)
        assert is_dataclass(table)
        hints = get_type_hints(type(table), include_extras=True)
        for one in fields(table):
            value = getattr(table, one.name)
            if isinstance(value, int | float | str):
                assert hints[one.name].__metadata__[0](value) == value, one.name


def test_difference_names_each_change_and_whether_it_needs_a_restart(write: Write) -> None:
    """SIGHUP can say what changed: a line a key, and when it takes effect."""
    old = config.load(write('[node]\nname = "a"'), {})
    assert config.difference(old, old) == []
    new = config.load(
        write(
            '[node]\nname = "a"\n[limits]\nidle_deadline_s = 5\n[listen]\nends_on = "idle 2s"\n'
            '[[listen.raw]]\naddress = "127.0.0.1:9101"\nprinter = "labels"\n'
        ),
        {},
    )
    assert config.difference(old, new) == [
        "listen.ends_on: half-close -> idle 2s (needs a restart)",
        "listen.raw: [] -> [127.0.0.1:9101 labels half-close] (needs a restart)",
        "limits.idle_deadline_s: 60.0 -> 5.0 (takes effect now)",
    ]


def test_sockets_of_systemd_are_used_where_no_address_is_written(write: Write) -> None:
    """A socket called as a port takes its place; what the file says goes before."""
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "lpd:clear"}
    found = config.load(write('[listen]\nclear = ["127.0.0.1:9000"]'), environ).listen
    assert found.clear == (Address("127.0.0.1", 9000),)
    assert found.lpd == (Address("", 0, "lpd"),)
    assert found.tls == (Address("127.0.0.1", 9192),)
    assert config.load(None, environ).listen.clear == (Address("", 0, "clear"),)
    assert config.load(None, {**environ, "LISTEN_PID": "1"}).listen.lpd == ()


def test_secrets_may_be_credentials(write: Write) -> None:
    """ "credential:NAME" is a file of the service manager; without one the unit is at fault."""
    file = write('[tls]\ncertificate = "credential:tls.crt"\nkey = "credential:tls.key"')
    found = config.load(file, {"CREDENTIALS_DIRECTORY": "/run/credentials/x"}).tls
    assert found.certificate == Path("/run/credentials/x/tls.crt")
    assert found.key == Path("/run/credentials/x/tls.key")
    with pytest.raises(ConfigError, match="Add LoadCredential="):
        config.load(file, {})
