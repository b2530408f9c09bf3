"""Who this node is: its GUID, its certificate and the deployment's CA, as files.

In: the data directory, the names under which clients reach the node, a wall clock. Out: a
`NodeIdentity`, made at the first start. Files: `node-guid`, and in `identity/` (0700) `ca.pem` (the
anchors, the one that signs first), `ca-key.pem` (their keys), `node.pem` (key and certificate, so
that both change at once), `card-keys` (of the hashes of cards and PINs) and, at a site,
`replica-key` (of what is copied there); each 0600, and written whole and synced or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spoold.accounts.vault import KEY_BYTES, Vault
from spoold.daemon import authority as authorities
from spoold.daemon.authority import Authority, Clock, PeerIdentity, identify
from spoold.model.card import Digests
from spoold.model.errors import IdentityError
from spoold.spool.directories import sync_directory

__all__ = [
    "Authority",
    "NodeIdentity",
    "PeerIdentity",
    "identify",
    "node_guid",
    "open_digests",
    "open_identity",
    "open_vault",
    "read_chain",
]

RENEWED_BEFORE = timedelta(days=30)
OWN_FILES = "The daemon's user must own it and be able to read and write it."
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(slots=True)
class NodeIdentity:
    """`names` are those under which it serves; `chain_pem` and `key_pem` change when it renews."""

    guid: UUID
    authority: Authority
    chain_pem: bytes
    key_pem: bytes
    not_after_us: int
    names: tuple[str, ...]
    _current: Callable[[], tuple[x509.Certificate, bytes]] = field(repr=False)

    def renew(self) -> bool:
        """Take another certificate when it is time to; whether there is another one.

        Raises:
            IdentityError: it is time to, and it cannot be made or kept; the one before stays.
        """
        certificate, key_pem = self._current()
        chain_pem = certificate.public_bytes(Encoding.PEM)
        if chain_pem == self.chain_pem:
            return False
        self.chain_pem, self.key_pem = chain_pem, key_pem
        self.not_after_us = authorities.microseconds(certificate.not_valid_after_utc)
        return True


def node_guid(data_dir: Path, given: UUID | None = None) -> UUID:
    """The GUID of this node; as `given` or made, and durable, when there is none yet.

    Raises:
        IdentityError: the file is damaged, of another node, or cannot be read or written.
    """
    path = data_dir / "node-guid"
    with _explained("read or write", path):
        try:
            found = UUID(path.read_text("ascii").strip())
            if given not in (None, found):
                raise IdentityError(
                    "use",
                    str(path),
                    f"this is node {found}, and the configuration names {given}",
                    "Take node.guid out of the configuration, or use another data directory.",
                )
            return found
        except FileNotFoundError:
            pass
        except ValueError as error:
            raise IdentityError(
                "read",
                str(path),
                "it holds no GUID",
                "Restore it from a backup, or write the GUID of this node's certificate into it.",
            ) from error
        guid = given or uuid4()
        node_file = data_dir / "identity" / "node.pem"
        if node_file.exists():  # the file was lost, the node is still the same
            guid = _read_node(node_file)[2]
        write_file(path, f"{guid}\n".encode("ascii"))
        return guid


def open_identity(
    data_dir: Path,
    *,
    node_name: str,
    names: Iterable[str],
    wall_clock: Clock,
    handed: Path | None = None,
    given: UUID | None = None,
) -> NodeIdentity:
    """The identity of this node, complete and durable; made at the first start.

    The node's certificate covers `names` (host names and addresses) and the local ones. It is
    renewed when it does not, when another CA signs today, or in the last 30 days of its life, also
    by `renew` while the daemon runs; but not while the clock is behind the day on which it was
    made. A CA in `handed`, as `ca.pem` and `ca-key.pem`, takes the place of the one in the data
    directory.

    Raises:
        IdentityError: something is missing, damaged or of another node; nothing was replaced.
    """
    guid = node_guid(data_dir, given)
    folder = data_dir / "identity"
    ca_file, key_file, node_file = (folder / n for n in ("ca.pem", "ca-key.pem", "node.pem"))
    wanted = [*dict.fromkeys([*names, *LOCAL_NAMES])]
    with _explained("open", folder):
        if handed is not None and (handed / "ca-key.pem").exists():
            ca_file, key_file = handed / "ca.pem", handed / "ca-key.pem"
            folder.mkdir(mode=0o700, exist_ok=True)
        elif not folder.exists():
            _make_authority(folder, wall_clock)
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
        for file in (ca_file, key_file):
            if not file.exists():
                raise IdentityError(
                    "open",
                    str(file),
                    "this part of the deployment's CA is missing",
                    "If it came as a credential, hand it over again (LoadCredential= of the unit, "
                    "ca.pem and ca-key.pem); if not, restore the directory from a backup.",
                )
        authority = Authority(ca_file.read_bytes(), key_file.read_bytes(), wall_clock)

    def current() -> tuple[x509.Certificate, bytes]:
        return _certificate_of(node_file, guid, node_name, wanted, authority, wall_clock)

    certificate, key_pem = current()
    return NodeIdentity(
        guid=guid,
        authority=authority,
        chain_pem=certificate.public_bytes(Encoding.PEM),
        key_pem=key_pem,
        not_after_us=authorities.microseconds(certificate.not_valid_after_utc),
        names=tuple(wanted),
        _current=current,
    )


def _certificate_of(
    file: Path,
    guid: UUID,
    name: str,
    wanted: Sequence[str],
    authority: Authority,
    wall_clock: Clock,
) -> tuple[x509.Certificate, bytes]:
    """The certificate and key (PEM) of this node as `file` keeps them, made anew when it is due."""
    with _explained("open", file):
        if file.exists():
            certificate, key_pem, owner = _read_node(file)
            if owner != guid:
                raise IdentityError(
                    "use",
                    str(file),
                    f"it belongs to node {owner}, and this is node {guid}",
                    "A copied data directory cannot run beside its original.",
                )
            if not _is_due(certificate, authority, wanted, authorities.moment(wall_clock())):
                return certificate, key_pem
        key_pem, chain_pem, _ = authority.enrol_node(guid, name, wanted)
        write_file(file, key_pem + chain_pem)
        certificate, key_pem, _ = _read_node(file)
        return certificate, key_pem


def open_digests(data_dir: Path, handed: Path | None = None) -> Digests:
    """The keys of the hashes of cards and PINs, durable; made when there are none yet.

    `identity/card-keys` holds one to a line, in hexadecimal: new hashes are made with the last one.
    A file `card-key` in `handed` takes its place.

    Raises:
        IdentityError: the file is damaged, or cannot be read or written; nothing was replaced.
    """
    path = data_dir / "identity" / "card-keys"
    if handed is not None and (handed / "card-key").exists():
        path = handed / "card-key"
    with _explained("open", path):
        if not path.exists():
            write_file(path, os.urandom(Digests.KEY_BYTES).hex().encode("ascii") + b"\n")
        lines = path.read_text("ascii", "replace").split()
    try:
        return Digests([bytes.fromhex(line) for line in lines])
    except ValueError as error:
        raise IdentityError(
            "read",
            str(path),
            "it holds no keys of 64 hexadecimal digits",
            "Restore it from a backup; with a new key every card and PIN has to be given again.",
        ) from error


def open_vault(data_dir: Path, handed: Path | None = None) -> Vault:
    """What seals the secrets that a site copies: `identity/replica-key`, made when there is none.

    A file `replica-key` in `handed` takes its place. A key that is lost costs a new copy.

    Raises:
        IdentityError: the file is damaged, or cannot be read or written; nothing was replaced.
    """
    path = data_dir / "identity" / "replica-key"
    if handed is not None and (handed / "replica-key").exists():
        path = handed / "replica-key"
    with _explained("open", path):
        if not path.exists():
            write_file(path, os.urandom(KEY_BYTES).hex().encode("ascii") + b"\n")
        text = path.read_text("ascii", "replace").strip()
    try:
        key = bytes.fromhex(text)
        if len(key) != KEY_BYTES:
            raise ValueError("another length")
    except ValueError as error:
        raise IdentityError(
            "read",
            str(path),
            "it holds no key of 64 hexadecimal digits",
            "Move it away: another one is made, and the copy taken anew.",
        ) from error
    return Vault(key)


def read_chain(certificate: Path, key: Path) -> tuple[bytes, bytes]:
    """A certificate chain and its key from elsewhere, for 9192; they fit each other.

    Raises:
        IdentityError: a file cannot be read, is no PEM, they do not fit, or are for no server.
    """
    advice = "[tls] certificate and key are PEM files that the daemon's user can read."
    with _explained("read", certificate, advice):
        chain_pem = certificate.read_bytes()
    with _explained("read", key, advice):
        key_pem = key.read_bytes()
    try:
        chain = x509.load_pem_x509_certificates(chain_pem)
    except ValueError as error:
        raise IdentityError(
            "read", str(certificate), "it holds no PEM certificates", "The server's comes first."
        ) from error
    try:
        [found] = authorities.private_keys(key_pem)
    except (ValueError, TypeError) as error:
        raise IdentityError(
            "read",
            str(key),
            error if isinstance(error, TypeError) else "it holds no PEM key",
            "Write the key as PEM without a password, readable by the daemon alone.",
        ) from error
    if authorities.public_bytes_of(found) != authorities.public_bytes_of(chain[0]):
        raise IdentityError(
            "use",
            str(certificate),
            f"its first certificate does not belong to the key {key}",
            "The server's certificate comes first, then the intermediate ones.",
        )
    if not authorities.may_serve(chain[0]):
        raise IdentityError(
            "use",
            str(certificate),
            "its first certificate is for clients alone",
            "Have one made for a server (extended key usage serverAuth).",
        )
    return chain_pem, key_pem


def _make_authority(folder: Path, wall_clock: Clock) -> None:
    """`folder` holds a new CA; it appears whole, or not at all."""
    new = folder.with_name(folder.name + ".new")
    if new.exists():  # a start that was cut short; nothing was ever issued from it
        shutil.rmtree(new)
    new.mkdir(mode=0o700)
    ca_pem, key_pem = authorities.make_ca(wall_clock)
    write_file(new / "ca-key.pem", key_pem)
    write_file(new / "ca.pem", ca_pem)
    new.rename(folder)
    sync_directory(folder.parent)


def _is_due(
    certificate: x509.Certificate, authority: Authority, wanted: Sequence[str], now: datetime
) -> bool:
    if now < certificate.not_valid_before_utc:  # it was made while the clock was ahead
        return authority.is_valid_at(now)
    if now > certificate.not_valid_after_utc - RENEWED_BEFORE or not authority.is_issuer(
        certificate
    ):
        return True
    held = authorities.alternative_names(certificate)
    return any(authorities.general_name(name) not in held for name in wanted)


def _read_node(path: Path) -> tuple[x509.Certificate, bytes, UUID]:
    """Certificate, key as PEM, and GUID of the node."""
    pem = path.read_bytes()
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        kind, guid = authorities.subject_of(certificate)
        [key] = authorities.private_keys(pem)
        if kind != "node":
            raise ValueError(f"it is the certificate of a {kind}")
        if authorities.public_bytes_of(key) != authorities.public_bytes_of(certificate):
            raise ValueError("key and certificate do not belong together")
    except (ValueError, TypeError) as error:
        raise IdentityError(
            "read", str(path), error, "Move the file away; it is made anew at the next start."
        ) from error
    return certificate, authorities.key_pem_of(key), guid


@contextlib.contextmanager
def _explained(operation: str, path: Path, advice: str = OWN_FILES) -> Iterator[None]:
    """What the system refuses inside is an IdentityError about `path`."""
    try:
        yield
    except OSError as error:
        raise IdentityError(
            operation,
            str(error.filename or path),
            error.strerror,
            advice,
        ) from error


def write_file(path: Path, data: bytes) -> None:
    """`path` holds `data` and nothing else, durably, and only its owner can read it."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    new.rename(path)
    sync_directory(path.parent)
