"""What the checks of a machine and a node find, and what they leave alone."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spoold.daemon import authority, check, check_machine, check_node
from spoold.daemon.check import Subject, Verdict
from spoold.daemon.check_node import Device
from spoold.daemon.config import Config, DnsSd, Limits, Listen, Node, Tls
from spoold.daemon.identity import open_identity
from spoold.daemon.lock import READY, STAGING
from spoold.net import credentials
from spoold.net.address import Address
from support.ports import own_port


@pytest.fixture
def data_dir(tmp_path):
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def subject(data_dir):
    return Subject(replace(Config(), node=Node("library", "application", data_dir)), False)


def configured(subject, **sections):
    return replace(subject, config=replace(subject.config, **sections))


def only(findings, what):
    """The finding about one thing."""
    (found,) = [one for one in findings if one.what == what]
    return found


def test_a_wrong_configuration_is_told_and_the_rest_is_still_looked_at(tmp_path):
    """File, key and advice; then everything else by the defaults."""
    file = tmp_path / "spoold.toml"
    file.write_text("[listen]\nclaer = []\n")
    findings = list(check.check(str(file), None, [check_machine.check_limits]))
    assert [one.what for one in findings] == ["configuration", "files"]
    assert findings[0].verdict is Verdict.FAILED
    assert "claer" in findings[0].text
    assert "'clear'" in findings[0].advice
    assert "with the defaults" in findings[0].advice


def test_a_disk_is_tried_and_left_as_it_was(subject, data_dir, monkeypatch):
    """Free space and the time of a sync; nothing remains of the trial."""
    monkeypatch.setattr(check_machine, "VOLATILE", frozenset())  # tests may write to memory
    findings = list(check_machine.check_disk(subject))
    assert only(findings, "disk").verdict in Verdict
    assert "4 KiB synced in" in only(findings, "sync").text
    assert list(data_dir.iterdir()) == []
    full = configured(subject, limits=Limits(reserve_bytes=1 << 60))
    found = only(check_machine.check_disk(full), "disk")
    assert found.verdict is Verdict.FAILED
    assert "jobs are refused" in found.text


def test_memory_is_no_disk(subject, small_disk, monkeypatch):
    """What does not survive a power cut is not fit to acknowledge by."""
    there = configured(subject, node=replace(subject.config.node, data_dir=small_disk / "new"))
    found = only(check_machine.check_disk(there), "sync")
    assert found.verdict is Verdict.FAILED
    assert "memory (tmpfs)" in found.text
    monkeypatch.setenv("LD_PRELOAD", "/usr/lib/libeatmydata.so")
    assert only(check_machine.check_disk(subject), "sync").verdict is Verdict.FAILED


def test_a_clock_behind_the_spool_is_wrong(subject, data_dir):
    """A daemon has already seen a later time."""
    assert only(check_machine.check_clock(subject), "clock").verdict is not Verdict.FAILED
    (data_dir / "clock").write_text(f"{int((time.time() + 3600) * 1e6)}\n")
    found = only(check_machine.check_clock(subject), "clock")
    assert found.verdict is Verdict.FAILED
    assert "behind" in found.text


def test_few_open_files_are_told(subject, monkeypatch):
    """Twice as many as connections, and some; but not to root, whose limits the daemon has not."""
    many = configured(subject, limits=Limits(connections_max=1_000_000))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert only(check_machine.check_limits(many), "files").verdict is Verdict.WARNING
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "LimitNOFILE=" in only(check_machine.check_limits(many), "files").text
    few = configured(subject, limits=Limits(connections_max=10))
    assert only(check_machine.check_limits(few), "files").verdict is Verdict.OK


def test_a_port_that_is_taken_is_told_unless_by_the_daemon(subject):
    """The one that runs here has its ports for good reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = Listen(
            clear=(Address("127.0.0.1", taken.getsockname()[1]), Address("127.0.0.1", 0)),
            tls=(Address("", 0, "tls"),),
            mutual=(Address("192.0.2.1", 9195),),
        )
        there = configured(subject, listen=listen)
        verdicts = [one.verdict for one in check_node.check_ports(there)]
        assert verdicts == [Verdict.FAILED, Verdict.OK, Verdict.OK, Verdict.FAILED]
        running = replace(there, is_running=True)
        assert next(iter(check_node.check_ports(running))).verdict is Verdict.OK


def test_an_interface_that_is_not_there_is_told(subject):
    """Whatever is named is looked for, loopback too; without a name there is nothing to see."""
    named = configured(subject, dnssd=DnsSd(interfaces=("lo", "nothing0")))
    there, missing = check_node.check_interfaces(named)
    assert (there.verdict, missing.verdict) == (Verdict.OK, Verdict.WARNING)
    assert "127.0.0.1" in there.text
    assert "nothing0" in missing.text
    assert not list(check_node.check_interfaces(subject))
    silent = configured(subject, dnssd=DnsSd(enabled=False, interfaces=("nothing0",)))
    assert not list(check_node.check_interfaces(silent))


def test_a_data_directory_for_all_to_read_is_told(subject, data_dir):
    """Jobs and keys lie there; and one that is still to come is none to worry about."""
    assert only(check_node.check_data_dir(subject), "data").verdict is Verdict.OK
    data_dir.chmod(0o755)
    assert only(check_node.check_data_dir(subject), "data").verdict is Verdict.WARNING
    data_dir.rmdir()
    assert only(check_node.check_data_dir(subject), "data").verdict is Verdict.OK


def test_a_spool_that_does_not_open_is_told(subject, data_dir):
    """Newer than this program, no spool at all, or half restored."""
    db = sqlite3.connect(data_dir / "spool.db")
    db.execute("PRAGMA user_version = 9999")
    db.close()
    found = only(check_node.check_data_dir(subject), "spool")
    assert (found.verdict, "newer" in found.text) == (Verdict.FAILED, True)
    (data_dir / "spool.db").write_bytes(b"no database" * 1000)
    assert only(check_node.check_data_dir(subject), "spool").verdict is Verdict.FAILED
    (data_dir / STAGING).mkdir()
    (data_dir / STAGING / READY).write_text("{}")
    assert only(check_node.check_data_dir(subject), "restore").verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("years", "verdict"), [(0, Verdict.OK), (20, Verdict.FAILED), (-1, Verdict.FAILED)]
)
def test_certificates_tell_their_days(subject, data_dir, years, verdict):
    """Made now; made so long ago that they have ended; or made by a clock that was ahead."""
    made_us = int((time.time() - years * 366 * 86_400) * 1e6)
    open_identity(data_dir, node_name="library", names=(), wall_clock=lambda: made_us)
    found = [one for one in check_node.check_certificates(subject) if "node.pem" in one.text]
    assert [one.verdict for one in found] == [verdict]


def test_certificates_that_may_not_be_looked_at_are_told(subject, monkeypatch):
    """As for somebody who is not the daemon's user; everything else is looked at."""

    def exists(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", exists)
    (told,) = check_node.check_certificates(subject)
    assert (told.verdict, "Permission denied" in told.text) == (Verdict.WARNING, True)


def test_a_key_that_does_not_fit_is_told(subject, tmp_path):
    """A corporate certificate is tried as the daemon would."""
    ca_pem, _ = authority.make_ca(lambda: time.time_ns() // 1000)
    _, key_pem = authority.make_ca(lambda: time.time_ns() // 1000)
    certificate, key = tmp_path / "web.pem", tmp_path / "web.key"
    certificate.write_bytes(ca_pem)
    key.write_bytes(key_pem)
    there = configured(subject, tls=Tls(certificate, key))
    assert Verdict.FAILED in [one.verdict for one in check_node.check_certificates(there)]
    there = configured(subject, tls=Tls(tmp_path / "none.pem", key))
    (told,) = [one for one in check_node.check_certificates(there) if "none.pem" in one.text]
    assert "[tls] certificate and key" in told.advice


def test_a_certificate_of_systemd_is_looked_at_while_the_service_runs(tmp_path, monkeypatch):
    """Given by hand, the command has no credentials: it reads those of the unit, or says so."""
    monkeypatch.delenv(credentials.VARIABLE, raising=False)
    monkeypatch.setattr(credentials, "OF_UNIT", tmp_path / "handed")
    file = tmp_path / "spoold.toml"
    file.write_text(
        '[node]\ndata_dir = "data"\n'
        '[tls]\ncertificate = "credential:tls.crt"\nkey = "credential:tls.key"\n'
    )

    def found():
        findings = list(check.check(str(file), None, [check_node.check_certificates]))
        assert only(findings, "configuration").verdict is Verdict.OK
        return findings[-1]

    assert found().verdict is Verdict.WARNING
    assert "tls.crt is what systemd hands over" in found().text
    (tmp_path / "handed").mkdir()
    (tmp_path / "handed" / "tls.crt").write_text("rubbish")
    assert found().verdict is Verdict.FAILED


def test_printers_are_asked_for_a_connection(tmp_path):
    """One that answers, one that does not, one that writes files, and one nobody can look up."""
    with socket.create_server(("127.0.0.1", 0)) as printer:
        port = printer.getsockname()[1]
        with own_port() as dead:
            findings = list(
                check_node.check_printers(
                    [
                        Device("well", f"socket://127.0.0.1:{port}"),
                        Device("dead", f"ipp://user:secret@127.0.0.1:{dead}/ipp/print"),
                        Device("files", tmp_path.as_uri()),
                        Device("odd", "socket://no-such-name.invalid:9100"),
                    ]
                )
            )
    assert findings[0].text == "2 of 4 devices answer"
    assert [one.verdict for one in findings[1:]] == [Verdict.FAILED] * 2
    assert "secret" not in str(findings)
    assert all(one.advice for one in findings[1:])


def test_whether_the_clock_is_kept_is_read_and_never_set():
    """adjtimex(2) without a mode: no rights are needed for it."""
    assert check_machine._is_synchronised() in (True, False, None)


def test_the_nearest_folder_stands_for_one_that_is_still_to_come(tmp_path):
    """That is where it will lie."""
    assert check_machine.existing(tmp_path / "a" / "b") == tmp_path
    assert check_machine.existing(Path(os.sep)) == Path(os.sep)
