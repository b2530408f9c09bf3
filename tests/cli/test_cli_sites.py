"""`spoold site …` at an application server, and `spoold firewall`."""

from __future__ import annotations

from pathlib import Path

import pytest

from spoold.cli import grammar
from support.commands import Run

SITE = """
[node]
role = "site"
[listen]
clear = ["127.0.0.1:9191", "192.0.2.1:9191"]
tls = ["[::]:9192"]
mutual = []
[[listen.raw]]
address = "0.0.0.0:9101"
printer = "labels"
[dnssd]
enabled = false
[upstream]
servers = ["hq-1.example.org:9195", "192.0.2.7:9195"]
"""


def test_a_site_is_invited_listed_and_the_invitation_taken_back(run: Run) -> None:
    """The token alone is on stdout, for the other machine; what to do with it on stderr."""
    said = run("site invite annex --ttl 15m")
    assert said.code == 0
    assert said.out.startswith("spj-")
    assert said.out.count("\n") == 1
    assert "spoold site join HOST:9195 --token TOKEN" in said.err
    assert "spoold site approve annex" in said.err
    listed = [one for one in run("site list --json").json if one["name"] == "annex"]
    assert [one["state"] for one in listed] == ["invited"]
    assert "annex" in run("site list").out
    for verb in ("show", "approve"):
        assert "annex is invited, and has not joined" in run(f"site {verb} annex").err
    assert "The invitation of annex is taken back." in run("site revoke annex").out
    assert "annex" not in run("site list").out


def test_the_token_stands_nowhere(run: Run, server) -> None:
    """Not in the listing, not in the journal, not in a file of the spool."""
    token = run("site invite library --approved").out.strip()
    assert token not in run("journal --from 1 --json").out
    files = [path for path in server.running.control.parent.rglob("*") if path.is_file()]
    assert not any(token.encode() in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("site approve nowhere", "there is no site nowhere"),
        ("site revoke nowhere", "there is no site nowhere"),
        ("site show nowhere", "there is no site nowhere"),
        ("site show", "this node is an application server"),
        ("site join hq.example.org:9195 --token spj-x", "this node is an application server"),
        ("site invite 'a b'", "cannot name a site"),
        ("provider enrol 'a b'", "provider name 'a b'"),
        ("device enrol 'a b' --token", "MFD name 'a b'"),
        ("site invite annex --printer nowhere", "there is no printer"),
        ("site invite annex --ttl 1s", "It can be 60 to"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(run: Run, command: str, told: str) -> None:
    """And nobody is invited by halves."""
    said = run(command)
    assert (said.code, told in said.err) == (grammar.REFUSED, True), said.err


def test_a_firewall_lets_through_what_the_configuration_binds(run: Run, tmp_path: Path) -> None:
    """Inbound what is bound beyond this machine, outbound the line; for a site no more."""
    file = tmp_path / "spoold.toml"
    file.write_text(SITE)
    found = run(f"firewall --config {file} --json").json
    assert [(one["direction"], one["host"], one["port"]) for one in found] == [
        ("in", "192.0.2.1", 9191),
        ("in", "", 9192),
        ("in", "", 9101),
        ("out", "hq-1.example.org", 9195),
        ("out", "192.0.2.7", 9195),
    ]
    said = run(f"firewall --config {file}")
    assert "nothing has to be let in from its application servers" in said.out
    rules = run(f"firewall --config {file} --nft").out.splitlines()
    assert rules[0].startswith(
        'add rule inet filter input ip daddr 192.0.2.1 tcp dport 9191 accept comment "'
    )
    assert rules[-1].startswith("add rule inet filter output ip daddr 192.0.2.7 tcp dport 9195")
    assert len(rules) == len(found)


def test_a_firewall_needs_nothing_for_a_node_that_keeps_to_itself(run: Run) -> None:
    """The defaults bind loopback alone."""
    assert "nothing by TCP" in run("firewall").out


def test_a_firewall_lets_a_site_out_that_has_only_joined(run: Run, tmp_path: Path) -> None:
    """Where to is not in its configuration: to the port that everybody has."""
    file = tmp_path / "spoold.toml"
    file.write_text('[node]\nrole = "site"\n[dnssd]\nenabled = false\n')
    [rule] = run(f"firewall --config {file} --json").json
    assert (rule["direction"], rule["host"], rule["port"]) == ("out", "", 9195)


def test_a_wrong_configuration_is_refused(run: Run, tmp_path: Path) -> None:
    """An upstream without a site is a mistake that is told."""
    file = tmp_path / "spoold.toml"
    file.write_text('[upstream]\nservers = ["hq.example.org:9195"]\n')
    said = run(f"firewall --config {file}")
    assert said.code == grammar.REFUSED
    assert 'role = "site"' in said.err
