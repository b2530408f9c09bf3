"""`spoold printer discover`: what is said of the services that were found."""

from __future__ import annotations

import json

import pytest

from spoold import cli
from spoold.cli import discover
from spoold.codec.dnssd import IPP, IPPS, LPD, RAW, Found

GUID = "22dab4ba-ffe5-4da5-8dfb-4d1c55c0d779"


def service(kind=IPP, port=631, host="laser.local", addresses=("fe80::7", "192.0.2.7"), **txt):
    return Found(kind, "Laser\x1b[2J", host, port, addresses, {"ty": "Example 4000", **txt})


def printer(uri, guid="00000000-0000-4000-8000-000000000001"):
    return {"name": "upstairs", "uri": uri, "guid": guid}


@pytest.mark.parametrize(
    ("found", "uri"),
    [
        (service(), "ipp://192.0.2.7/ipp/print"),
        (service(), "ipp://laser.local:631/ipp/print"),
        (service(), "ipps://192.0.2.7/ipp/print"),
        (service(IPPS, 443, rp="x"), "ipps://192.0.2.7:443/x"),
        (service(RAW, 9100), "socket://LASER.local"),
        (service(LPD, 515, rp="lp"), "lpd://192.0.2.7/lp"),
    ],
)
def test_a_printer_that_is_here_already(found, uri):
    """By its place, whatever of its addresses the device URI names, and with TLS or without."""
    assert discover._row(found, [printer(uri)], False)["printer"] == "upstairs"


@pytest.mark.parametrize(
    "uri", ["ipp://192.0.2.7/other", "ipp://192.0.2.8/ipp/print", "socket://192.0.2.7", ""]
)
def test_a_printer_that_is_not_here(uri):
    """Another queue, machine or protocol is another place."""
    assert discover._row(service(), [printer(uri)], False)["printer"] == ""


def test_our_own_announcement():
    """What this spoold shares is known by its UUID."""
    row = discover._row(service(uuid=GUID), [printer("file:///x", GUID)], False)
    assert row["printer"] == "upstairs, shared from here"


def test_names_and_addresses():
    """The device URI has a name that can be looked up here, or else an address."""
    assert discover._row(service(), [], False)["uri"] == "ipp://192.0.2.7/ipp/print"
    assert discover._row(service(), [], True)["uri"] == "ipp://laser.local/ipp/print"
    wide = service(host="laser.example.org")
    assert discover._row(wide, [], False)["uri"] == "ipp://laser.example.org/ipp/print"
    assert discover._row(service(addresses=()), [], False)["uri"] == "ipp://laser.local/ipp/print"


def test_table_and_json(tmp_path, capsys):
    """A line for each way to reach a printer, the best first; nothing acts on the terminal."""
    found = [service(LPD, 515), service(), service(IPPS)]
    words = ["printer", "discover", "--control", str(tmp_path / "none")]
    discover.show(found, cli.parser().parse_args(words))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "MAKE", "AND", "MODEL", "DEVICE", "URI", "PRINTER"]
    assert [line.split()[-2] for line in lines[1:4]] == [
        "ipps://192.0.2.7/ipp/print",
        "ipp://192.0.2.7/ipp/print",
        "lpd://192.0.2.7/auto",
    ]
    assert all(line.isprintable() for line in lines)
    discover.show(found, cli.parser().parse_args([*words, "--json"]))
    (first, *_) = json.loads(capsys.readouterr().out)
    assert (first["make_and_model"], first["host"]) == ("Example 4000", "laser.local")


def test_a_network_that_cannot_be_searched(capsys):
    """It says why, and that it may work later."""
    assert cli.main(["printer", "discover", "--interface", "none-such"]) == 75
    assert "there is no interface with an address" in capsys.readouterr().err


def test_impossible_times_are_refused(capsys):
    """A time-out is a number of seconds."""
    with pytest.raises(SystemExit):
        cli.main(["printer", "discover", "--timeout", "soon"])
    assert "no time from" in capsys.readouterr().err
