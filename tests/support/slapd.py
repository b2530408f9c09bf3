"""Debian's slapd on loopback, in a directory of the test's own: a tree of people and groups."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import NAMESPACE_DNS, UUID, uuid5

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from support.ports import own_port

SUFFIX = "dc=example,dc=org"
PEOPLE = f"ou=people,{SUFFIX}"
GROUPS = f"ou=groups,{SUFFIX}"
READER = f"cn=reader,{SUFFIX}"
PASSWORD = "a reader's secret"
ADMIN = f"cn=admin,{SUFFIX}"
ADMIN_PASSWORD = "an administrator's secret"
PROGRAMS = ("slapd", "slapadd", "ldapmodify")


def find(program: str) -> str | None:
    return shutil.which(program, path="/usr/sbin:/sbin:/usr/bin:/bin")


def person(uid: str, full_name: str = "", *, ou: str = PEOPLE, **more: str | Sequence[str]) -> str:
    """An entry of a person as LDIF, with an id that depends on the name alone."""
    lines = {
        "objectClass": ("inetOrgPerson", "extensibleObject"),
        "uid": uid,
        "cn": full_name or uid,
        "sn": full_name.rpartition(" ")[2] or uid,
        **more,
    }
    return _entry(f"uid={uid},{ou}", lines)


def group(name: str, members: Iterable[str], *, ou: str = GROUPS) -> str:
    """A group of DNs."""
    lines = {"objectClass": "groupOfNames", "cn": name, "member": tuple(members)}
    return _entry(f"cn={name},{ou}", lines)


def dn(uid: str, ou: str = PEOPLE) -> str:
    return f"uid={uid},{ou}"


def _entry(dn: str, attributes: dict) -> str:
    lines = [f"dn: {dn}", f"entryUUID: {uuid5(NAMESPACE_DNS, dn)}"]
    for name, values in attributes.items():
        lines += [f"{name}: {one}" for one in ([values] if isinstance(values, str) else values)]
    return "\n".join(lines) + "\n\n"


# What Active Directory says of people and groups, as far as it is asked; see MS-ADTS.
WINDOWS = "\n".join(
    f"attributetype ( 1.3.6.1.4.1.99999.1.{number} NAME '{name}' EQUALITY {rule} "
    f"SYNTAX 1.3.6.1.4.1.1466.115.121.1.{syntax} )"
    for number, (name, rule, syntax) in enumerate(
        [
            ("sAMAccountName", "caseIgnoreMatch", 15),
            ("objectGUID", "octetStringMatch", 40),
            ("userAccountControl", "integerMatch", 27),
            ("objectCategory", "caseIgnoreMatch", 15),
            ("memberOf", "distinguishedNameMatch", 12),
        ]
    )
) + (
    "\nobjectclass ( 1.3.6.1.4.1.99999.2.1 NAME 'user' SUP top AUXILIARY MAY ( sAMAccountName $ "
    "objectGUID $ userAccountControl $ objectCategory $ memberOf ) )"
)


def windows_person(name: str, guid: UUID, control: int = 512, **more) -> str:
    lines = {
        "objectClass": ("inetOrgPerson", "user"),
        "objectCategory": "person",
        "cn": name,
        "sn": name,
        "displayName": name,
        "sAMAccountName": name,
        "objectGUID:": base64.b64encode(guid.bytes_le).decode(),
        "userAccountControl": str(control),
        **more,
    }
    return _entry(f"cn={name},{PEOPLE}", lines)


def windows_group(name: str, *member_of: str) -> str:
    lines = {
        "objectClass": ("organizationalRole", "user"),
        "objectCategory": "group",
        "cn": name,
        "sAMAccountName": name,
        "memberOf": member_of,
    }
    return _entry(f"cn={name},{GROUPS}", lines)


_TREE = f"""dn: {SUFFIX}
objectClass: dcObject
objectClass: organization
dc: example
o: Example

dn: {PEOPLE}
objectClass: organizationalUnit
ou: people

dn: {GROUPS}
objectClass: organizationalUnit
ou: groups

dn: {READER}
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: {PASSWORD}

"""


class Slapd:
    """A running slapd: `clear` speaks STARTTLS, `tls` is LDAPS."""

    def __init__(
        self,
        folder: Path,
        entries: str = "",
        *,
        ports: tuple[int, int],
        schema: str = "",
        max_size: int = 500,
    ) -> None:
        self.folder = folder
        self.clear, self.tls = f"ldap://127.0.0.1:{ports[0]}", f"ldaps://127.0.0.1:{ports[1]}"
        self.ca_file = folder / "ca.pem"
        self.password_file = folder / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        self.password_file.chmod(0o600)
        self._process: subprocess.Popen | None = None
        (folder / "data").mkdir()
        _certificates(folder)
        (folder / "slapd.conf").write_text(
            "\n".join(
                [
                    *(f"include /etc/ldap/schema/{one}.schema" for one in _SCHEMAS),
                    schema,
                    f"pidfile {folder}/pid",
                    "modulepath /usr/lib/ldap",
                    "moduleload back_mdb",
                    f"TLSCertificateFile {folder}/server.pem",
                    f"TLSCertificateKeyFile {folder}/server.key",
                    "database mdb",
                    f'suffix "{SUFFIX}"',
                    f'rootdn "{ADMIN}"',
                    f"rootpw {ADMIN_PASSWORD.split()[-1]}",
                    f"directory {folder}/data",
                    "maxsize 268435456",
                    "dbnosync",
                    "index objectClass,uid,member eq",
                    # As every careful server: no more than this unless it comes in pages.
                    f"limits * size.soft={max_size} size.hard={max_size} size.prtotal=unlimited",
                    "access to attrs=userPassword by anonymous auth by * none",
                    f'access to * by dn.exact="{READER}" read by * none',
                    "",
                ]
            )
        )
        self._add(_TREE + entries)

    def _add(self, ldif: str) -> None:
        """Load entries while it does not run."""
        subprocess.run(
            [find("slapadd"), "-q", "-f", self.folder / "slapd.conf"],
            input=ldif.encode(),
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        urls = f"{self.clear}/ {self.tls}/"
        with (self.folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [find("slapd"), "-f", self.folder / "slapd.conf", "-h", urls, "-d", "0"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        deadline = time.monotonic() + 30
        for url in (self.clear, self.tls):
            address = ("127.0.0.1", int(url.rpartition(":")[2]))
            while True:
                try:
                    socket.create_connection(address, 1).close()
                    break
                except OSError:
                    assert self._process.poll() is None, (self.folder / "log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def change(self, ldif: str) -> None:
        """Change entries while it runs."""
        subprocess.run(
            [
                *(find("ldapmodify"), "-x", "-H", self.clear, "-D", ADMIN),
                *("-w", ADMIN_PASSWORD.split()[-1]),
            ],
            input=ldif.encode(),
            check=True,
            capture_output=True,
        )

    def add(self, ldif: str) -> None:
        """Add entries while it runs; their ids are the server's."""
        lines = [line for line in ldif.splitlines() if not line.startswith("entryUUID")]
        self.change("\n".join(lines).replace("\nobjectClass", "\nchangetype: add\nobjectClass", 1))

    def remove(self, *dns: str) -> None:
        self.change("".join(f"dn: {one}\nchangetype: delete\n\n" for one in dns))

    @property
    def source(self) -> dict:
        """The settings of a source that reads it."""
        return {
            "servers": [self.clear],
            "ca_file": str(self.ca_file),
            "bind_dn": READER,
            "password_file": str(self.password_file),
            "bases": [SUFFIX],
        }


_SCHEMAS = ("core", "cosine", "nis", "inetorgperson")


@contextmanager
def running(folder: Path, entries: str = "", **options):
    """A slapd with these entries; ended with the block."""
    with own_port() as clear, own_port() as tls:
        server = Slapd(folder, entries, ports=(clear, tls), **options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _certificates(folder: Path) -> None:
    """A CA, and a certificate of 127.0.0.1 from it."""
    now = datetime.datetime.now(datetime.UTC)
    span = (now - datetime.timedelta(hours=1), now + datetime.timedelta(days=1))
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])

    def certificate(name, public_key, extensions):
        made = (
            x509.CertificateBuilder(ca_name, name, public_key, x509.random_serial_number())
            .not_valid_before(span[0])
            .not_valid_after(span[1])
        )
        for one, is_critical in extensions:
            made = made.add_extension(one, critical=is_critical)
        signed = made.sign(ca_key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    basic = x509.BasicConstraints(ca=True, path_length=None)
    (folder / "ca.pem").write_bytes(certificate(ca_name, ca_key.public_key(), [(basic, True)]))
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    (folder / "server.pem").write_bytes(certificate(name, key.public_key(), [(local, False)]))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
