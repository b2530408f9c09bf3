"""Under a real systemd as PID 1: from the start to the stop, and what comes in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from support.machine import KNOCK, PYTHON, Machine

pytestmark = pytest.mark.slow(3)

CONFIG = "/etc/spoold/spoold.toml"
SOCKETS = [f"spoold-{name}.socket" for name in ("control", "clear", "tls", "mutual")]

# Prints jobs by raw streams for a while, longer on a slow machine, and says which of them were
# acknowledged: by a FIN.
LOAD = """
import socket, sys, threading, time
until = time.monotonic() + float(sys.argv[1])
done = []
uel = "\\x1b%-12345X"
def send(number):
    count = 0
    while time.monotonic() < until or len(done) <= 50 and time.monotonic() < until + 30:
        count += 1
        name = f"load-{number}-{count}"
        try:
            with socket.create_connection(("127.0.0.1", 9191), 30) as link:
                job = f'{uel}@PJL\\r\\n@PJL JOB NAME="{name}"\\r\\n@PJL ENTER LANGUAGE=PCL\\r\\n'
                job += "x" * 20000 + f"{uel}@PJL EOJ\\r\\n{uel}"
                link.sendall(job.encode())
                link.shutdown(socket.SHUT_WR)
                while link.recv(100):
                    pass
            print(name, flush=True)
            done.append(name)
        except OSError:
            pass
        time.sleep(0.05)
threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
[one.start() for one in threads]
[one.join() for one in threads]
"""


# A raw printer that takes a bit at a time, with pauses; says when it begins, and how much it got.
PRINTER = """
import socket, sys, time
link, _ = socket.create_server(("127.0.0.1", 9777)).accept()
size = 0
while data := link.recv(65536):
    if not size:
        print("begun", flush=True)
    size += len(data)
    time.sleep(float(sys.argv[1]))
link.close()
print(size)
"""


def wait(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def titles(host: Machine) -> set[str]:
    return {job["title"] for job in host.spoold("job", "list", "--all")}


def test_a_node_starts_and_tells_systemd(host: Machine) -> None:
    """Active is ready: every port listens, and events are in the journal with their fields."""
    assert host.say("systemctl", "is-active", "spoold", *SOCKETS).split() == ["active"] * 5
    assert host.spoold("status")["printers"]
    found = host.logged("SPOOLD_EVENT=listening", "SPOOLD_PORT=clear")[-1]
    assert found["SYSLOG_IDENTIFIER"] == "spoold"
    assert found["PRIORITY"] == "6"
    assert found["_SYSTEMD_UNIT"] == "spoold.service"
    assert json.loads(found["MESSAGE"])["event"] == "listening"


def test_units_have_no_complaints(host: Machine) -> None:
    """systemd-analyze verify says nothing of any unit."""
    units = host.say("sh", "-c", "ls /usr/lib/systemd/system/spoold*").split()
    done = host.run("systemd-analyze", "verify", "--man=no", *units, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_daemon_may_do_little(host: Machine) -> None:
    """No capability, no new privileges, a filter on system calls, and another view of the disk."""
    pid = host.show("spoold", "MainPID")
    status = dict(
        line.split(":\t", 1) for line in host.say("cat", f"/proc/{pid}/status").splitlines()
    )
    assert {status[key] for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert host.say("stat", "--format=%U", f"/proc/{pid}") == "spoold"
    mounts = host.say("cat", f"/proc/{pid}/mounts").splitlines()
    assert any(line.split()[1] == "/" and "ro" in line.split()[3].split(",") for line in mounts)
    limits = host.say("cat", f"/proc/{pid}/limits")
    assert "Max core file size        0 " in limits


def test_sockets_start_it(host: Machine) -> None:
    """A command, or a client of any port, starts a daemon that does not run."""
    host.run("systemctl", "stop", "spoold.service")
    assert host.say("systemctl", "is-active", *SOCKETS).split() == ["active"] * 4
    assert host.spoold("status")["printers"]
    host.run("systemctl", "stop", "spoold.service")
    assert host.say(PYTHON, "-I", "-c", KNOCK, "1").startswith("refused 0 cut 0")


def test_a_restart_refuses_no_connection(host: Machine) -> None:
    """Clients that come during restarts wait; none of them is refused."""
    with host.python(KNOCK, "6") as knocking:
        for _ in range(3):
            time.sleep(0.5)
            host.run("systemctl", "restart", "spoold")
        words = knocking.communicate(timeout=60)[0].split()
    assert words[:2] == ["refused", "0"], words
    assert int(words[5]) > 10  # answered


def test_reload_tells_what_changed_or_why_not(host: Machine) -> None:
    """A good file is taken over; with a bad one `systemctl reload` fails, and the node goes on."""
    before = host.say("cat", CONFIG)
    pid = host.show("spoold", "MainPID")
    try:
        host.write(CONFIG, "[limits]\nidle_deadline_s = 33\n")
        host.run("systemctl", "reload", "spoold")
        assert "idle_deadline_s" in host.logged("SPOOLD_EVENT=configuration_changed")[-1]["MESSAGE"]
        host.write(CONFIG, "[limits]\nidle_dedline_s = 33\n")
        assert host.run("systemctl", "reload", "spoold", check=False).returncode != 0
        failed = host.logged("SPOOLD_EVENT=reload_failed")[-1]
        assert "Did you mean 'idle_deadline_s'?" in failed["SPOOLD_REASON"]
        assert failed["PRIORITY"] == "3"
        assert host.say("systemctl", "is-active", "spoold") == "active"
    finally:
        host.write(CONFIG, before)
    host.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", "spoold")
    changed = "SPOOLD_EVENT=configuration_changed"
    wait(lambda: len(host.logged(changed)) > 1, "a reload by signal")
    assert host.show("spoold", "MainPID") == pid


def test_a_configuration_that_cannot_be_used_does_not_loop(host: Machine) -> None:
    """It ends with 78 and advice, and stays ended; clients that knock do not start it for ever."""
    before = host.say("cat", CONFIG)
    try:
        host.write(CONFIG, '[listen]\nclear = ["0.0.0.0:9191"]\n')
        assert host.run("systemctl", "restart", "spoold", check=False).returncode != 0
        time.sleep(2)
        assert host.show("spoold", "Result") == "exit-code"
        assert host.show("spoold", "ExecMainStatus") == "78"
        assert host.show("spoold", "NRestarts") == "0"
        said = host.logged("SPOOLD_EVENT=stopped")[-1]["SPOOLD_REASON"]
        assert "Disable that .socket unit" in said
        host.run(PYTHON, "-I", "-c", "import socket; socket.create_connection(('127.0.0.1', 9191))")
        knocked = "spoold-clear.socket"
        wait(lambda: host.show(knocked, "ActiveState") == "failed", "the end of the starts", 180)
        ended = host.show("spoold", "ExecMainExitTimestampMonotonic")
        time.sleep(2)
        assert host.show("spoold", "ExecMainExitTimestampMonotonic") == ended
    finally:
        host.write(CONFIG, before)
    host.run("systemctl", "reset-failed")
    host.run("systemctl", "start", "spoold")
    assert host.say("systemctl", "is-active", "spoold", *SOCKETS).split() == ["active"] * 5


def test_a_daemon_that_hangs_or_dies_loses_no_acknowledged_job(host: Machine) -> None:
    """Stopped under load, the watchdog ends it; then it is killed. What it said yes to is there."""
    host.drop_in("[Service]\nWatchdogSec=2\n")
    host.run("systemctl", "restart", "spoold")
    try:
        with host.python(LOAD, "9") as loading:
            time.sleep(2)
            host.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "spoold")
            wait(lambda: host.show("spoold", "NRestarts") == "1", "a restart by the watchdog")
            wait(lambda: host.show("spoold", "ActiveState") == "active", "it runs again")
            time.sleep(1)
            host.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "spoold")
            wait(lambda: host.show("spoold", "NRestarts") == "2", "a restart after a kill")
            acknowledged = set(loading.communicate(timeout=120)[0].split())
    finally:
        host.drop_in("")
    assert len(acknowledged) > 50
    assert acknowledged <= titles(host)
    told = [one["MESSAGE"] for one in host.logged("_SYSTEMD_UNIT=spoold.service")]
    assert any("Fatal Python error: Aborted" in str(one) for one in told)
    wait(lambda: not host.spoold("job", "list", "--state", "unfinished"), "all are printed", 60)


def test_a_slow_printer_does_not_alarm_the_watchdog(host: Machine) -> None:
    """While a printer takes its time the watchdog is content."""
    host.drop_in("[Service]\nWatchdogSec=2\n")
    host.run("systemctl", "restart", "spoold")
    try:
        with host.python(PRINTER, "0.3") as printer:
            host.run("spoold", "printer", "add", "slow", "socket://127.0.0.1:9777")
            host.run("sh", "-c", "head -c 1000000 /dev/zero | spoold submit -P slow -")
            assert printer.communicate(timeout=60)[0].split() == ["begun", "1000000"]
            assert host.show("spoold", "NRestarts") == "0"
            assert host.show("spoold", "ActiveState") == "active"
    finally:
        host.drop_in("")


CERTIFICATE = """
import datetime, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as s
from cryptography.hazmat.primitives.asymmetric import ec
key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=corporate")
now = datetime.datetime.now(datetime.UTC)
made = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(7).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=9))
    .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    .sign(key, hashes.SHA256()))
open(sys.argv[1] + ".crt", "wb").write(made.public_bytes(s.Encoding.PEM))
open(sys.argv[1] + ".key", "wb").write(
    key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
"""
SERVED = """
import ssl
from cryptography import x509
pem = ssl.get_server_certificate(("127.0.0.1", 9192))
print(x509.load_pem_x509_certificate(pem.encode()).subject.rfc4514_string())
"""


def test_secrets_come_as_credentials(host: Machine) -> None:
    """Key and certificate of 9192 and the CA, readable by root alone on the disk, are used."""
    before = host.say("cat", CONFIG)
    private = "/etc/spoold/private"
    host.run("install", "-d", "-m", "0700", private)
    host.run(PYTHON, "-I", "-c", CERTIFICATE, f"{private}/tls")
    host.run(PYTHON, "-I", "-c", CERTIFICATE, f"{private}/ca")
    fingerprint = host.spoold("node", "ca")["fingerprint"]
    host.drop_in(
        "[Service]\n"
        f"LoadCredential=tls.crt:{private}/tls.crt\nLoadCredential=tls.key:{private}/tls.key\n"
        f"LoadCredential=ca.pem:{private}/ca.crt\nLoadCredential=ca-key.pem:{private}/ca.key\n"
    )
    try:
        host.write(
            CONFIG,
            '[node]\ndata_dir = "/var/lib/spoold"\n'
            '[tls]\ncertificate = "credential:tls.crt"\nkey = "credential:tls.key"\n',
        )
        host.run("systemctl", "restart", "spoold")
        assert host.say(PYTHON, "-I", "-c", SERVED) == "CN=corporate"
        corporate = host.spoold("node", "ca")["fingerprint"]
        assert corporate != fingerprint
        # They are in no backup; who restores is told, and the node goes on with them.
        backups = "/var/backups/spoold"
        assert "ca-key.pem, ca.pem, tls.crt, tls.key." in host.say("spoold", "backup", backups)
        host.run("systemctl", "stop", "spoold*")
        restoring = ("restore", backups, "--config", CONFIG, "--replace")
        said = host.say("runuser", "-u", "spoold", "--", "spoold", *restoring)
        assert "the credentials ca-key.pem, ca.pem" in said
        host.run("systemctl", "start", "spoold")
        assert host.spoold("node", "ca")["fingerprint"] == corporate
    finally:
        host.drop_in("")
        host.write(CONFIG, before)
    host.run("systemctl", "restart", "spoold")
    assert host.spoold("node", "ca")["fingerprint"] == fingerprint


def test_members_of_the_group_may_give_commands(host: Machine) -> None:
    """As root may; others may not. Who it was is known where the unit lets that be seen."""
    host.run("useradd", "--groups", "spoold", "ada")
    host.run("useradd", "bob")
    as_ada = ("runuser", "-u", "ada", "--", "spoold", "printer", "set", "default", "--info")
    host.run(*as_ada, "by somebody")
    refused = host.run("runuser", "-u", "bob", "--", "spoold", "printer", "list", check=False)
    assert refused.returncode != 0
    example = "/usr/share/doc/spoold/examples/local-users.conf"
    host.drop_in(host.say("cat", example))
    try:
        host.run("systemctl", "restart", "spoold")
        host.run(*as_ada, "by ada")
    finally:
        host.drop_in("")
        host.run("systemctl", "restart", "spoold")
    changes = [
        json.loads(line)
        for line in host.say("spoold", "journal", "--json").splitlines()
        if "printer-changed" in line
    ]
    actors = {one["payload"]["info"]: one["actor"] for one in changes}
    assert actors["by ada"] == f"uid:{host.say('id', '--user', 'ada')}"
    assert actors["by somebody"] == "uid:65534"


def test_several_nodes_run_on_one_machine(host: Machine) -> None:
    """A node of its own name has its own configuration, data, control socket and ports."""
    host.write(
        "/etc/spoold/annex.toml",
        '[node]\nname = "annex"\n[listen]\nclear = ["127.0.0.1:9291"]\ntls = []\nmutual = []\n',
    )
    host.run("systemctl", "start", "spoold@annex")
    control = "/run/spoold-annex/control"
    assert host.spoold("node", "show", "--control", control)["name"] == "annex"
    assert host.spoold("node", "show")["name"] != "annex"
    host.run("systemctl", "reload", "spoold@annex")
    assert host.say("stat", "--format=%U %a", "/var/lib/spoold-annex") == "spoold 700"
    host.run("systemctl", "stop", "spoold@annex")
    assert host.show("spoold@annex", "Result") == "success"


def test_stopping_lets_a_delivery_finish(host: Machine) -> None:
    """A printer in the midst of a document gets the rest of it; all of it ends in time."""
    with host.python(PRINTER, "0.03") as printer:
        host.run("spoold", "printer", "add", "busy", "socket://127.0.0.1:9777")
        host.run("sh", "-c", "head -c 6000000 /dev/zero | spoold submit -P busy -")
        assert printer.stdout.readline() == "begun\n"
        began = time.monotonic()
        host.run("systemctl", "stop", "spoold*")
        assert 0.5 < time.monotonic() - began < 45
        assert printer.communicate(timeout=30)[0].strip() == "6000000"
    assert host.show("spoold", "Result") == "success"
    assert {host.show(one, "ActiveState") for one in SOCKETS} == {"inactive"}
    host.start()
    [job] = host.spoold("job", "list", "--printer", "busy")
    assert job["state"] == "completed"
