"""The file of a provider's credentials: what must be in it, and who must not read it."""

from __future__ import annotations

import time
from uuid import uuid4

import pytest

from spoold.daemon import authority
from spoold.daemon.authority import Authority
from spoold.model.errors import ConfigError, IdentityError
from spoold.provider.credentials import FILE_BYTES_MAX, read_bundle


def enrolled() -> tuple[bytes, bytes, bytes]:
    """The key and certificate of a provider, and the CA behind it, all new."""

    def now_us():
        return time.time_ns() // 1000

    issuer = Authority(*authority.make_ca(now_us), now_us)
    key, chain, _ = issuer.enrol("provider", uuid4(), "cups", 30)
    return key, chain, issuer.ca_pem


@pytest.fixture(scope="module")
def pems():
    return enrolled()


@pytest.fixture
def write(tmp_path):
    def write_file(*pieces: bytes, mode: int = 0o600) -> str:
        path = tmp_path / "cups.pem"
        path.write_bytes(b"".join(pieces))
        path.chmod(mode)
        return str(path)

    return write_file


def test_key_certificate_and_ca_in_one_file(write, pems):
    """The first certificate is ours, those behind it are trusted; words between them are not."""
    key, chain, ca = pems
    bundle = read_bundle(write(b"# key\n", key, b"\n# ours\n", chain, ca))
    assert bundle.key_pem.strip() == key.strip()
    assert bundle.chain_pem.strip() == chain.strip()
    assert bundle.trusted_pem.strip() == ca.strip()
    assert bundle.context().cert_store_stats()["x509_ca"] == 1
    assert "PRIVATE" not in repr(bundle)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_file_that_others_may_touch_is_not_used(write, pems, mode):
    """Read or written, by the group or by everybody."""
    with pytest.raises(ConfigError, match=r"others may.*chmod 600"):
        read_bundle(write(*pems, mode=mode))


def test_a_file_that_is_none(tmp_path):
    """Missing, or a directory."""
    with pytest.raises(ConfigError, match="No such file"):
        read_bundle(str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="Is a directory"):
        read_bundle(str(tmp_path))


def test_a_file_without_all_that_is_needed(write, pems):
    """It says what it found, and how to make it."""
    key, chain, ca = pems
    for pieces in ((chain, ca), (key,), (key, key, chain), (b"",), (key[:-40], chain)):
        with pytest.raises(ConfigError, match=r"private keys and .*cat NAME.key"):
            read_bundle(write(*pieces))
    with pytest.raises(ConfigError, match="bytes long"):
        read_bundle(write(key, chain, b"\n" * FILE_BYTES_MAX))


def test_a_key_of_another_certificate_is_refused(write, pems):
    """Found where the credentials are installed, not at the first job."""
    _, chain, ca = pems
    key, _, _ = enrolled()
    with pytest.raises(IdentityError):
        read_bundle(write(key, chain, ca)).context()
