"""`spoold provider agent --once` against a server that does not want the provider."""

from __future__ import annotations

from pathlib import Path

from spoold.cli import grammar
from support.commands import Run, Server


def test_a_certificate_that_was_revoked_is_a_refusal(
    run: Run, server: Server, tmp_path: Path
) -> None:
    """And no server that cannot be reached: to try again later would change nothing."""
    assert run(f"provider enrol till --out {tmp_path}").code == grammar.DONE
    bundle = tmp_path / "till.pem"
    parts = [(tmp_path / name).read_text() for name in ("till.key", "till.crt", "ca.crt")]
    bundle.write_text("".join(parts))
    bundle.chmod(0o600)
    address = server.address("mutual")
    command = f"provider agent --once --credentials {bundle} --state {tmp_path / 'state'}"
    assert run(f"{command} --server {address}").code == grammar.DONE
    assert run("provider revoke till").code == grammar.DONE
    said = run(f"{command} --server {address}")
    assert (said.code, "Look at the credentials" in said.err) == (grammar.REFUSED, True)
    assert run(f"{command} --server 127.0.0.1:1").code == grammar.UNREACHABLE
