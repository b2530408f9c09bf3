"""Whom TLS lets in, and whom a client believes: certificates, revocation, versions."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from uuid import uuid4

import pytest
import trio
import trio.testing
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from spoold.daemon import authority as authorities
from spoold.daemon.authority import Authority
from spoold.model.errors import IdentityError
from spoold.net import tls
from spoold.net.connect import TcpNetwork
from spoold.net.tls import TlsStream
from support.tls import (
    AUTHORITY,
    DAY_US,
    NODE_CHAIN,
    NODE_KEY,
    NOW_US,
    VERSIONS,
    Client,
    clear_context,
    enrolled,
    make_authority,
    mutual_context,
    refusal,
    serving,
)


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_enrolled_client_is_let_in(
    listener: socket.socket, version: ssl.TLSVersion
) -> None:
    """Its certificate is known afterwards, and says who it is."""
    client, serial = enrolled()
    client.version = version

    async def serve(stream: TlsStream) -> None:
        await stream.handshake(5)
        der = stream.peer_certificate_der()
        assert der is not None
        peer = AUTHORITY.identify(der)
        assert (peer.kind, peer.name, peer.serial) == ("provider", "till-7", serial)
        await stream.finish()

    async with serving(listener, mutual_context("1"), serve) as port:
        stream = await TcpNetwork().connect_tls(
            "127.0.0.1", port, client.context(), server_hostname="localhost", timeout_s=5
        )
        assert await stream.receive_some() == b""
        await stream.finish()


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_without_a_certificate_hears_so(version: ssl.TLSVersion) -> None:
    """The alert names the missing certificate (TLS 1.2 has no word for it)."""
    why, alert = await refusal(Client(), mutual_context(), version)
    assert "peer did not return a certificate" in why
    assert (
        alert
        == {
            ssl.TLSVersion.TLSv1_2: "SSLV3_ALERT_HANDSHAKE_FAILURE",
            ssl.TLSVersion.TLSv1_3: "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        }[version]
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_client_of_another_ca_hears_so(version: ssl.TLSVersion) -> None:
    """A certificate that another CA signed is answered by unknown_ca."""
    client, _ = enrolled(make_authority())
    why, alert = await refusal(client, mutual_context(), version)
    assert "unable to get local issuer certificate" in why
    assert alert == "TLSV1_ALERT_UNKNOWN_CA"


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_expired_client_hears_so(version: ssl.TLSVersion) -> None:
    """A certificate whose days are over is answered by certificate_expired."""
    old = make_authority(NOW_US - 100 * DAY_US)
    client, _ = enrolled(old)
    why, alert = await refusal(client, mutual_context(authority=old), version)
    assert "certificate has expired" in why
    assert alert == "SSLV3_ALERT_CERTIFICATE_EXPIRED"


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_revoked_client_hears_so(version: ssl.TLSVersion) -> None:
    """A revoked serial is answered by certificate_revoked; its neighbour is let in."""
    client, serial = enrolled()
    neighbour, _ = enrolled()
    context = mutual_context(serial, "ff")
    why, alert = await refusal(client, context, version)
    assert "certificate revoked" in why
    assert alert == "SSLV3_ALERT_CERTIFICATE_REVOKED"
    assert await refusal(neighbour, context, version) == ("", "")


async def test_a_server_certificate_is_no_client_certificate() -> None:
    """A certificate that was made for serving alone does not open the mutual port."""
    server_only = authorities.x509.ExtendedKeyUsage([authorities.ExtendedKeyUsageOID.SERVER_AUTH])
    key = authorities.ec.generate_private_key(authorities.ec.SECP256R1())
    ca, ca_key = AUTHORITY._signers[0]
    certificate = (
        authorities.x509.CertificateBuilder()
        .subject_name(authorities._common_name("web"))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(77)
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(ca.not_valid_after_utc)
        .add_extension(server_only, critical=False)
        .add_extension(authorities._authority_key(ca), critical=False)
        .sign(ca_key, authorities.hashes.SHA256())
    )
    chain = certificate.public_bytes(authorities.Encoding.PEM)
    client = Client(authorities.key_pem_of(key), chain)
    why, alert = await refusal(client, mutual_context(), ssl.TLSVersion.TLSv1_3)
    assert "unsuitable certificate purpose" in why
    assert alert == "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"


async def test_both_anchors_of_a_rollover_are_believed_and_revoked() -> None:
    """While two CAs are trusted, certificates of both open the port, and both can be revoked."""
    ca_pem, key_pem = authorities.make_ca(lambda: NOW_US)
    new_pem, new_key_pem = authorities.make_ca(lambda: NOW_US)
    before = Authority(ca_pem, key_pem, lambda: NOW_US)
    after = Authority(new_pem + ca_pem, new_key_pem + key_pem, lambda: NOW_US)
    old_client, old_serial = enrolled(before)
    new_client, new_serial = enrolled(after)
    version = ssl.TLSVersion.TLSv1_3
    for client, serial in ((old_client, old_serial), (new_client, new_serial)):
        assert await refusal(client, mutual_context(authority=after), version) == ("", "")
        why, _ = await refusal(client, mutual_context(serial, authority=after), version)
        assert "certificate revoked" in why


async def test_our_own_client_hears_the_alert_at_its_first_read(listener: socket.socket) -> None:
    """Under TLS 1.3 a refused client learns of it when it reads, in words."""
    client, serial = enrolled()

    async def serve(stream: TlsStream) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.handshake(5)

    async with serving(listener, mutual_context(serial), serve) as port:
        stream = await TcpNetwork().connect_tls("localhost", port, client.context(), timeout_s=30)
        with pytest.raises(trio.BrokenResourceError, match="peer says: certificate revoked"):
            await stream.receive_some()
        stream.abort()


async def test_a_server_that_is_not_ours_is_refused(listener: socket.socket) -> None:
    """Connecting checks who the server is, and says what is wrong with it."""
    stranger = make_authority()
    key, chain, _ = stranger.enrol_node(uuid4(), "stranger", ["localhost"])

    async def serve(stream: TlsStream) -> None:
        with pytest.raises(trio.BrokenResourceError, match="peer says: unknown ca"):
            await stream.handshake(5)

    async with serving(listener, tls.server_context(chain, key), serve) as port:
        with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
            await TcpNetwork().connect_tls("localhost", port, Client().context(), timeout_s=30)


@pytest.mark.parametrize("version", VERSIONS)
def test_no_session_passes_a_revocation_by(version: ssl.TLSVersion) -> None:
    """Behind a revocation, which makes a new context, each client shows its certificate again."""
    client, _ = enrolled()
    client.version = version
    client_side = client.context()
    session: ssl.SSLSession | None = None
    for _ in range(2):
        server_side = mutual_context()
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        ours = server_side.wrap_bio(to_server, to_client, server_side=True)
        theirs = client_side.wrap_bio(
            to_client, to_server, server_hostname="localhost", session=session
        )
        for _ in range(4):
            for side in (theirs, ours):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    pass
        with pytest.raises(ssl.SSLWantReadError):
            theirs.read()
        assert not theirs.session_reused
        session = theirs.session if theirs.session and theirs.session.id else None
        if version == ssl.TLSVersion.TLSv1_3:
            assert not (session and session.has_ticket)


def test_weak_tls_is_off() -> None:
    """Old versions, ciphers without AEAD, renegotiation and compression are not offered."""
    for context in (clear_context(), mutual_context(), tls.client_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert all(cipher["aead"] for cipher in context.get_ciphers())
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION


def test_unusable_certificates_are_explained() -> None:
    """A key that does not fit, or text that is no PEM, is an error with advice."""
    other_key, _, _ = AUTHORITY.enrol("provider", uuid4(), "other", 1)
    for chain, key in ((NODE_CHAIN, other_key), (b"rubbish", NODE_KEY), (NODE_CHAIN, b"")):
        with pytest.raises(IdentityError, match="TLS certificate"):
            tls.server_context(chain, key)
    rsa_key = rsa.generate_private_key(65537, 2048).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    for other in (other_key, rsa_key):
        with pytest.raises(IdentityError, match="the key is not that of the certificate"):
            tls.server_context(NODE_CHAIN, other)
    with pytest.raises(IdentityError, match="CA certificates"):
        tls.server_context(NODE_CHAIN, NODE_KEY, client_ca_pem=b"rubbish")


async def test_a_device_certificate_can_be_pinned(listener: socket.socket) -> None:
    """Without verification the certificate is taken, and can be compared with a known one."""

    async def serve(stream: TlsStream) -> None:
        await stream.handshake(5)
        await stream.finish()

    async with serving(listener, clear_context(), serve) as port:
        stream = await TcpNetwork().connect_tls(
            "127.0.0.1", port, tls.client_context(is_verified=False), timeout_s=5
        )
        assert stream.peer_certificate_der() == ssl.PEM_cert_to_DER_cert(NODE_CHAIN.decode())
        await stream.finish()


async def test_certificates_are_read_again_when_they_change(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    """A good file is taken, a bad one is reported and the old context stays."""
    key_file, chain_file = tmp_path / "key.pem", tmp_path / "chain.pem"

    def write(key: bytes, chain: bytes) -> None:
        key_file.write_bytes(key)
        chain_file.write_bytes(chain)

    def build() -> ssl.SSLContext:
        return tls.server_context(chain_file.read_bytes(), key_file.read_bytes())

    write(NODE_KEY, NODE_CHAIN)
    live = tls.LiveContext(build, [key_file, chain_file])
    first = live.current
    reports: list[IdentityError | None] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(live.run, reports.append)
        await trio.sleep(31)
        assert (live.current, reports) == (first, [])
        write(b"half wri", NODE_CHAIN)
        await trio.sleep(60)
        assert live.current is first
        assert len(reports) == 1
        assert isinstance(reports[0], IdentityError)
        write(*AUTHORITY.enrol_node(uuid4(), "node", ["localhost"])[:2])
        await trio.sleep(30)
        assert live.current is not first
        assert reports[1:] == [None]
        second = live.current
        live.rebuild()
        assert live.current is not second
        nursery.cancel_scope.cancel()
