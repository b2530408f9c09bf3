"""The node's identity on disk, and the deployment CA behind it."""

from __future__ import annotations

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spoold.daemon import authority as authorities
from spoold.daemon import identity
from spoold.daemon.authority import Authority
from spoold.daemon.identity import NodeIdentity
from spoold.model.errors import IdentityError

DAY_US = 86_400_000_000
START_US = 1_767_225_600_000_000  # 2026-01-01


class Clock:
    """A wall clock that a test sets."""

    def __init__(self) -> None:
        self.now_us = START_US

    def __call__(self) -> int:
        return self.now_us


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Callable[..., NodeIdentity]:
    def open_identity(*names: str) -> NodeIdentity:
        return identity.open_identity(tmp_path, node_name="library", names=names, wall_clock=clock)

    return open_identity


def certificate_of(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def der_of(pem: bytes) -> bytes:
    return certificate_of(pem).public_bytes(authorities.Encoding.DER)


def new_authority() -> Authority:
    return Authority(*authorities.make_ca(lambda: START_US), lambda: START_US)


def test_the_first_start_makes_an_identity(
    tmp_path: Path, opened: Callable[..., NodeIdentity]
) -> None:
    """GUID, CA and certificate are there afterwards, private, and the same at the next start."""
    first = opened("print.example.org")
    folder = tmp_path / "identity"
    files = {path.name for path in folder.iterdir()}
    assert files == {"ca.pem", "ca-key.pem", "node.pem"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in [*folder.iterdir(), tmp_path / "node-guid"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (tmp_path / "node-guid").read_text().strip() == str(first.guid)
    second = opened("print.example.org")
    assert (second.guid, second.chain_pem, second.key_pem) == (
        first.guid,
        first.chain_pem,
        first.key_pem,
    )
    assert second.authority.fingerprint == first.authority.fingerprint


def test_the_node_certificate_names_the_node(opened: Callable[..., NodeIdentity]) -> None:
    """It covers advertised and local names, says who the node is, and serves and connects."""
    node = opened("Print.example.org", "192.0.2.7", "bücher.example.org")
    found = certificate_of(node.chain_pem)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "print.example.org",
        "xn--bcher-kva.example.org",
        "localhost",
    }
    assert set(names.get_values_for_type(x509.IPAddress)) == {
        ip_address("192.0.2.7"),
        ip_address("127.0.0.1"),
        ip_address("::1"),
    }
    usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    peer = node.authority.identify(der_of(node.chain_pem))
    assert (peer.kind, peer.guid, peer.name) == ("node", node.guid, "library")
    assert peer.not_after_us == node.not_after_us == START_US + 365 * DAY_US


def test_the_ca_lasts_ten_years(opened: Callable[..., NodeIdentity]) -> None:
    """It may sign certificates and lists, and no CA below it."""
    [ca] = opened().authority.trusted
    assert ca.not_valid_after_utc == datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=3650)
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)


def test_the_node_certificate_is_renewed_in_time(
    opened: Callable[..., NodeIdentity], clock: Clock
) -> None:
    """It stays until 30 days before its end; then there is a new one of the same node."""
    first = opened("a.example.org")
    clock.now_us += 334 * DAY_US
    assert opened("a.example.org").chain_pem == first.chain_pem
    clock.now_us += 2 * DAY_US
    second = opened("a.example.org")
    assert second.not_after_us == clock.now_us + 365 * DAY_US
    assert second.guid == first.guid


def test_the_node_certificate_follows_the_names(opened: Callable[..., NodeIdentity]) -> None:
    """A name that it does not cover makes a new one; one that is no longer asked for does not."""
    first = opened("a.example.org")
    second = opened("a.example.org", "b.example.org")
    assert second.chain_pem != first.chain_pem
    assert opened("b.example.org").chain_pem == second.chain_pem


def test_a_certificate_of_a_clock_that_was_ahead_is_made_again(
    opened: Callable[..., NodeIdentity], clock: Clock
) -> None:
    """Else nobody would believe the node until that time comes."""
    opened("a.example.org")
    now_us = clock.now_us + 3 * DAY_US
    clock.now_us += 400 * DAY_US
    ahead = opened("a.example.org")
    clock.now_us = now_us
    again = opened("a.example.org")
    assert again.chain_pem != ahead.chain_pem
    assert again.not_after_us == now_us + 365 * DAY_US
    assert opened("a.example.org").chain_pem == again.chain_pem


def test_a_clock_that_went_back_renews_nothing(
    opened: Callable[..., NodeIdentity], clock: Clock
) -> None:
    """Before the day on which the CA was made a certificate is kept as it is: none would count."""
    first = opened("a.example.org")
    clock.now_us -= 10 * DAY_US
    assert opened("a.example.org", "b.example.org").chain_pem == first.chain_pem


def test_the_node_certificate_follows_the_ca(
    tmp_path: Path, opened: Callable[..., NodeIdentity]
) -> None:
    """In a rollover the node gets a certificate of the new CA; those of the old one are known."""
    before = opened()
    _, old_chain, old_serial = before.authority.enrol("provider", uuid4(), "till-7", 90)
    for name, new in zip(
        ("ca.pem", "ca-key.pem"), authorities.make_ca(lambda: START_US), strict=True
    ):
        path = tmp_path / "identity" / name
        path.write_bytes(new + path.read_bytes())
    after = opened()
    assert after.chain_pem != before.chain_pem
    assert after.authority.is_issuer(certificate_of(after.chain_pem))
    assert not after.authority.is_issuer(certificate_of(before.chain_pem))
    assert after.authority.identify(der_of(old_chain)).serial == old_serial
    assert after.authority.crl([]).count(b"BEGIN X509 CRL") == 2


def test_a_half_made_identity_is_made_again(
    tmp_path: Path, opened: Callable[..., NodeIdentity]
) -> None:
    """A first start that was cut short leaves nothing that the next one stumbles over."""
    (tmp_path / "identity.new").mkdir()
    (tmp_path / "identity.new" / "ca-key.pem").write_bytes(b"half a k")
    opened()
    assert not (tmp_path / "identity.new").exists()
    (tmp_path / "identity" / "node.pem.new").write_bytes(b"half a c")
    (tmp_path / "identity" / "node.pem").unlink()
    opened()
    assert sorted(path.name for path in (tmp_path / "identity").iterdir()) == [
        "ca-key.pem",
        "ca.pem",
        "node.pem",
    ]


def test_a_lost_guid_is_found_in_the_certificate(
    tmp_path: Path, opened: Callable[..., NodeIdentity]
) -> None:
    """Without its file the node is still the one that its certificate names."""
    guid = opened().guid
    (tmp_path / "node-guid").unlink()
    assert opened().guid == guid
    assert UUID((tmp_path / "node-guid").read_text().strip()) == guid


def test_a_copied_certificate_is_refused(
    tmp_path: Path, opened: Callable[..., NodeIdentity]
) -> None:
    """A node whose GUID is another one does not pose as the original."""
    opened()
    (tmp_path / "node-guid").write_text(str(uuid4()))
    with pytest.raises(IdentityError, match="it belongs to node"):
        opened()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("node-guid", "it holds no GUID"),
        ("identity/ca.pem", "deployment CA"),
        ("identity/ca-key.pem", "key of its first certificate is missing"),
        ("identity/node.pem", "node.pem"),
    ],
)
def test_damaged_files_are_named_and_kept(
    tmp_path: Path, opened: Callable[..., NodeIdentity], name: str, words: str
) -> None:
    """What cannot be read is an error with advice; nothing is replaced behind one's back."""
    opened()
    (tmp_path / name).write_bytes(b"rubbish")
    with pytest.raises(IdentityError, match=words) as caught:
        opened()
    assert caught.value.advice
    assert (tmp_path / name).read_bytes() == b"rubbish"


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_missing_files_are_named(
    tmp_path: Path, opened: Callable[..., NodeIdentity], name: str
) -> None:
    """A CA that lost a file is not made anew: its providers would be locked out."""
    opened()
    (tmp_path / "identity" / name).unlink()
    with pytest.raises(IdentityError, match=rf"{name}.*from a backup"):
        opened()


def test_a_file_that_cannot_be_read_or_written(
    tmp_path: Path, opened: Callable[..., NodeIdentity]
) -> None:
    """What the system refuses is an error that names the file and the user's rights."""
    (tmp_path / "node-guid").mkdir()
    with pytest.raises(IdentityError, match=r"node-guid.*daemon's user"):
        opened()


def test_loose_permissions_are_tightened(
    tmp_path: Path, opened: Callable[..., NodeIdentity]
) -> None:
    """A directory that others could read is closed to them at start."""
    opened()
    (tmp_path / "identity").chmod(0o755)
    opened()
    assert stat.S_IMODE((tmp_path / "identity").stat().st_mode) == 0o700


def test_an_enrolled_provider_is_recognised() -> None:
    """Kind, GUID, name, serial and end come back from its certificate, which serves nobody."""
    authority, guid = new_authority(), uuid4()
    _, chain, serial = authority.enrol("provider", guid, "Kasse 7", 90)
    peer = identity.identify(der_of(chain), authority.trusted)
    assert peer == identity.PeerIdentity(
        "provider", guid, "Kasse 7", serial, START_US + 90 * DAY_US
    )
    usages = certificate_of(chain).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usages) == [ExtendedKeyUsageOID.CLIENT_AUTH]


def test_a_long_name_is_cut_at_a_character() -> None:
    """A certificate holds 64 bytes of name; the GUID is what counts."""
    authority = new_authority()
    _, chain, _ = authority.enrol("provider", uuid4(), "ä" * 100, 90)
    assert authority.identify(der_of(chain)).name == "ä" * 32


def test_a_certificate_never_outlives_its_ca() -> None:
    """Days beyond the end of the CA are cut off."""
    authority = new_authority()
    _, chain, _ = authority.enrol("provider", uuid4(), "till-7", 100_000)
    found = certificate_of(chain).not_valid_after_utc
    assert found == authority.trusted[0].not_valid_after_utc


@pytest.mark.parametrize("days", [-2, 4000])
def test_nothing_is_issued_with_a_wrong_clock(days: int) -> None:
    """Before the CA was made, and after its end, enrolling is refused with advice."""
    authority = Authority(*authorities.make_ca(lambda: START_US), lambda: START_US + days * DAY_US)
    with pytest.raises(IdentityError, match="Set the clock"):
        authority.enrol("provider", uuid4(), "till-7", 90)


def test_strangers_are_not_recognised() -> None:
    """A certificate of another CA, one without our SAN, and rubbish are all refused."""
    authority, other = new_authority(), new_authority()
    _, chain, _ = other.enrol("provider", uuid4(), "till-7", 90)
    with pytest.raises(IdentityError, match="no CA of this deployment"):
        authority.identify(der_of(chain))
    with pytest.raises(IdentityError, match="its SAN has no"):
        authority.identify(authority.trusted[0].public_bytes(authorities.Encoding.DER))
    with pytest.raises(IdentityError, match="a client certificate"):
        authority.identify(b"rubbish")


@pytest.mark.parametrize("name", ["two words", "", "a" * 64, "ä" * 100, "http://example.org"])
def test_a_name_that_is_no_host_name_is_refused(
    opened: Callable[..., NodeIdentity], name: str
) -> None:
    """An advertised name that no certificate can hold is an error that shows it."""
    with pytest.raises(IdentityError, match="it is no host name") as caught:
        opened(name)
    assert repr(name) in str(caught.value)


def test_the_revocation_list_has_no_deadline() -> None:
    """It holds what was revoked, is signed by the CA, and is valid for ever."""
    authority = new_authority()
    _, _, serial = authority.enrol("provider", uuid4(), "till-7", 90)
    crl = x509.load_pem_x509_crl(authority.crl([serial, "ff", serial]))
    assert sorted(one.serial_number for one in crl) == [255, int(serial, 16)]
    assert crl.next_update_utc == datetime(9999, 12, 31, tzinfo=UTC)
    assert crl.last_update_utc == authority.trusted[0].not_valid_before_utc
    assert crl.issuer == authority.trusted[0].subject
    key = authority.trusted[0].public_key()
    assert isinstance(key, authorities.ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key)


def test_two_authorities_never_share_a_name() -> None:
    """Two anchors of a rollover are told apart by their subjects."""
    names = {
        new_authority().trusted[0].subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        for _ in range(5)
    }
    assert len(names) == 5


def test_a_chain_from_elsewhere_must_fit_its_key(tmp_path: Path) -> None:
    """A good pair is read as it is; what does not fit, or is no PEM, is named."""
    authority = new_authority()
    key_pem, chain_pem, _ = authority.enrol_node(uuid4(), "web", ["print.example.org"])
    other_key, _, _ = authority.enrol("provider", uuid4(), "other", 90)
    chain, key, other, rubbish = (tmp_path / n for n in ("chain", "key", "other", "rubbish"))
    chain.write_bytes(chain_pem + authority.ca_pem)
    key.write_bytes(key_pem)
    other.write_bytes(other_key)
    rubbish.write_bytes(b"rubbish")
    assert identity.read_chain(chain, key) == (chain_pem + authority.ca_pem, key_pem)
    with pytest.raises(IdentityError, match="does not belong to the key"):
        identity.read_chain(chain, other)
    with pytest.raises(IdentityError, match="no PEM certificates"):
        identity.read_chain(rubbish, key)
    with pytest.raises(IdentityError, match="no PEM key"):
        identity.read_chain(chain, rubbish)
    with pytest.raises(IdentityError, match="missing"):
        identity.read_chain(tmp_path / "missing", key)
    client_key, client_chain, _ = authority.enrol("provider", uuid4(), "other", 90)
    for path, pem in ((rubbish, client_chain), (other, client_key)):
        path.write_bytes(pem)
    with pytest.raises(IdentityError, match="for clients alone"):
        identity.read_chain(rubbish, other)
    locked = authorities.private_keys(key_pem)[0].private_bytes(
        authorities.Encoding.PEM,
        authorities.PrivateFormat.PKCS8,
        BestAvailableEncryption(b"secret"),
    )
    key.write_bytes(locked)
    with pytest.raises(IdentityError, match="without a password"):
        identity.read_chain(chain, key)


# -- keys of cards -------------------------------------------------------------------------------


def test_the_keys_of_cards_are_made_once_and_kept(tmp_path: Path) -> None:
    """Private to the daemon; a line more is a new key beside the old one."""
    (tmp_path / "identity").mkdir()
    first = identity.open_digests(tmp_path)
    file = tmp_path / "identity" / "card-keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert identity.open_digests(tmp_path).card("1234") == first.card("1234")
    file.write_text(file.read_text() + "ab" * 32 + "\n")
    both = identity.open_digests(tmp_path)
    assert first.card("1234") in both.cards("1234")
    assert both.card("1234") != first.card("1234")


@pytest.mark.parametrize("content", [b"", b"abc\n", b"\xff\xfe", b"ab" * 31])
def test_damaged_keys_of_cards_are_not_replaced(tmp_path: Path, content: bytes) -> None:
    """With a new one every card would have to be given again."""
    file = tmp_path / "identity" / "card-keys"
    file.parent.mkdir()
    file.write_bytes(content)
    with pytest.raises(IdentityError, match="Restore it from a backup"):
        identity.open_digests(tmp_path)
    assert file.read_bytes() == content


def test_a_key_of_cards_is_handed_over(tmp_path: Path) -> None:
    """As a credential of systemd; then none is made."""
    (tmp_path / "identity").mkdir()
    (tmp_path / "card-key").write_text("cd" * 32)
    handed = identity.open_digests(tmp_path, tmp_path)
    assert not (tmp_path / "identity" / "card-keys").exists()
    assert identity.open_digests(tmp_path).card("1") != handed.card("1")


def test_a_ca_that_is_handed_over_takes_the_place_of_the_own_one(
    tmp_path: Path, clock: Clock
) -> None:
    """The node is certified by it, and the disk holds no key of a CA; without it nothing starts."""
    handed, data = tmp_path / "handed", tmp_path / "data"
    handed.mkdir()
    data.mkdir()
    ca_pem, key_pem = authorities.make_ca(clock)
    (handed / "ca.pem").write_bytes(ca_pem)
    (handed / "ca-key.pem").write_bytes(key_pem)
    node = identity.open_identity(
        data, node_name="library", names=(), wall_clock=clock, handed=handed
    )
    assert node.authority.ca_pem == ca_pem
    assert node.authority.is_issuer(certificate_of(node.chain_pem))
    assert sorted(one.name for one in (data / "identity").iterdir()) == ["node.pem"]
    (handed / "ca-key.pem").unlink()
    with pytest.raises(IdentityError, match=r"ca\.pem.*LoadCredential="):
        identity.open_identity(data, node_name="library", names=(), wall_clock=clock, handed=handed)


def test_a_running_node_takes_another_certificate_when_it_is_time_to(
    opened: Callable[..., NodeIdentity], clock: Clock, tmp_path: Path
) -> None:
    """The same identity goes on with it, and so does the next start."""
    identity = opened("a.example.org")
    first = identity.chain_pem
    clock.now_us += 334 * DAY_US
    assert not identity.renew()
    assert identity.chain_pem == first
    clock.now_us += 2 * DAY_US
    assert identity.renew()
    assert identity.chain_pem != first
    assert identity.not_after_us == clock.now_us + 365 * DAY_US
    assert not identity.renew()
    again = opened("a.example.org")
    assert (again.chain_pem, again.key_pem) == (identity.chain_pem, identity.key_pem)
