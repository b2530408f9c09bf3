"""Naming converters for printers: what is taken, and what is refused with advice."""

from __future__ import annotations

from dataclasses import replace

import pytest

from spoold.cli import main
from spoold.cli.printer_showing import conversion_text
from spoold.cli.printers import conversion
from spoold.daemon.operations.conversions import check_conversions
from spoold.model.conversion import Conversion
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal, Role

PCL = "application/vnd.hp-pcl"
PDF_TO_PCL = {"from": "application/pdf", "to": "application/vnd.hp-PCL", "command": ["cat", "-"]}


async def add(desk, **more):
    given = {"uri": "file:///tmp", "formats": [PCL], "conversions": [PDF_TO_PCL], **more}
    return await desk.ask("printer.add", name="laser", **given)


async def test_a_printer_with_a_converter(desk):
    """It is shown as it was given, stored as the model has it, and can be taken away."""
    shown = await add(desk)
    assert shown["conversions"] == [{**PDF_TO_PCL, "to": PCL}]
    (printer,) = await desk.spool.reader.printers()
    assert printer.conversions == (Conversion("application/pdf", PCL, ("cat", "-")),)
    assert printer.accepted_formats == (PCL, "application/pdf")
    assert printer.conversion_for("Application/PDF") == printer.conversions[0]
    assert printer.conversion_for("application/vnd.hp-PCL") is None
    assert printer.conversion_for("image/urf") is None
    changed = await desk.ask("printer.set", name="laser", conversions=[])
    assert changed["conversions"] == []


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ({"formats": []}, "Name what it takes: --format application/vnd.hp-pcl"),
        ({"formats": [PCL, "application/pdf"]}, "Leave the conversion out"),
        ({"conversions": [{**PDF_TO_PCL, "to": "image/urf"}]}, "--format image/urf"),
        ({"conversions": [{**PDF_TO_PCL, "from": "PDF file"}]}, "Use a media type"),
        ({"conversions": [{**PDF_TO_PCL, "command": ["no-such-program"]}]}, "Install it"),
        ({"conversions": [{**PDF_TO_PCL, "command": []}]}, "1 to 64 elements"),
        ({"conversions": [{**PDF_TO_PCL, "command": ["a\0b"]}]}, "Name one, as gs"),
        ({"conversions": [{"from": "a/b", "to": PCL}]}, "The program and its arguments"),
        ({"conversions": None, "options": {"conversions": "rm"}}, "--convert"),
    ],
)
async def test_what_cannot_be_is_refused(desk, wrong, advice):
    """The formats must go together, and the program must be there."""
    with pytest.raises(OperationError) as caught:
        await add(desk, **wrong)
    assert caught.value.code == "bad-request"
    assert advice in caught.value.advice
    assert await desk.spool.reader.printers() == []


async def test_the_formats_of_a_printer_keep_fitting(desk):
    """Formats cannot be changed below a converter."""
    await add(desk)
    with pytest.raises(OperationError):
        await desk.ask("printer.set", name="laser", formats=["image/urf"])


async def test_programs_are_named_on_this_machine_alone(desk):
    """Whoever comes over the network names no programs; what is there may stay."""
    await add(desk)
    (printer,) = await desk.spool.reader.printers()
    far = Principal("user:1", Port.TLS, frozenset({Role.ADMIN}))
    check_conversions(replace(printer, info="x"), far, printer)
    with pytest.raises(OperationError) as caught:
        check_conversions(printer, far)
    assert caught.value.code == "forbidden"


def test_words_of_the_command_line():
    """FROM -> TO: PROGRAM ..., parted into words here and never by a shell."""
    text = "application/pdf -> application/vnd.hp-pcl: gs -o - 'a b' $HOME ; rm"
    found = conversion(text)
    assert found["from"] == "application/pdf"
    assert found["command"] == ["gs", "-o", "-", "a b", "$HOME", ";", "rm"]
    assert conversion(conversion_text(found)) == found
    assert conversion("") == {}


@pytest.mark.parametrize("text", ["gs", "a/b: gs", "a/b -> c/d:", "a/b -> c/d: gs 'x"])
def test_impossible_words(text, capsys):
    """The command line says how it is written."""
    with pytest.raises(SystemExit):
        main(["printer", "set", "laser", "--convert", text])
    assert "--convert" in capsys.readouterr().err
