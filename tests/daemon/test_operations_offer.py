"""What a printer offers its clients: words and plain values, judged and kept."""

from __future__ import annotations

import pytest

from spoold.daemon.operations.offer import merged_offer, read_value
from spoold.model.errors import OperationError

URI = "socket://192.0.2.9"


@pytest.mark.parametrize(
    ("name", "words", "value"),
    [
        ("sides-supported", "one-sided, two-sided-long-edge", ["one-sided", "two-sided-long-edge"]),
        ("sides-default", "one-sided", "one-sided"),
        ("color-supported", "on", True),
        ("pages-per-minute", "30", 30),
        ("finishings-supported", "3,4", [3, 4]),
        ("finishings-supported", 3, [3]),
        ("copies-supported", "1-99", "1-99"),
        ("printer-resolution-supported", "300dpi,600x1200dpi", ["300dpi", "600x1200dpi"]),
        ("printer-make-and-model", "Acme, Inc. 9000", "Acme, Inc. 9000"),
        ("printer-organization", "Library, ground floor", ["Library, ground floor"]),
        ("media-col-default", '{"media-left-margin": 0}', {"media-left-margin": 0}),
        ("media-col-ready", [{"media-left-margin": 0}], [{"media-left-margin": 0}]),
    ],
)
def test_words_become_what_the_attribute_is(name, words, value):
    """Each name says what its words mean; a single value stands for a list of one."""
    assert read_value(name, words) == value


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("pages-per-minute", "thirty", "a whole number"),
        ("pages-per-minute", True, "a whole number"),
        ("color-supported", "perhaps", "true or false"),
        ("copies-supported", "9-1", "a range as 1-99"),
        ("printer-resolution-default", "600", "a resolution as 600dpi or 600x1200dpi"),
        ("media-col-default", "{", "a collection, as JSON"),
        ("media-col-default", '{"no-such-member": 1}', "a collection, as JSON"),
        ("sides-default", ["one-sided", "two-sided-long-edge"], "a keyword"),
        ("sides-default", "x" * 256, "a keyword"),
        ("media-supported", ["a"] * 513, "a keyword, or several with commas"),
        ("media-col-database", [{"media-size": {"x-dimension": [[1]]}}], "a collection"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(name, value, advice):
    """The refusal says what the attribute is, and nothing is kept."""
    with pytest.raises(OperationError) as refusal:
        merged_offer({}, {name: value})
    assert refusal.value.code == "bad-request"
    assert advice in refusal.value.advice


def test_a_slip_in_a_name_is_asked_about():
    """What nobody would read is not kept."""
    with pytest.raises(OperationError, match="Did you mean sides-default") as refusal:
        merged_offer({}, {"side-default": "one-sided"})
    assert refusal.value.code == "bad-request"


def test_a_default_is_one_of_the_supported():
    """Whoever takes the default gets something that the printer has."""
    offer = merged_offer({}, {"sides-supported": "one-sided", "sides-default": "one-sided"})
    with pytest.raises(OperationError, match="sides-supported does not have"):
        merged_offer(offer, {"sides-default": "two-sided-long-edge"})
    with pytest.raises(OperationError, match="sides-supported does not have"):
        merged_offer(offer, {"sides-supported": "two-sided-long-edge"})
    both = {"sides-supported": "two-sided-long-edge", "sides-default": "two-sided-long-edge"}
    assert merged_offer(offer, both)["sides-supported"] == ["two-sided-long-edge"]


def test_an_offer_is_bounded():
    """A printer's record and its answer hold what it offers, so that is not endless."""
    names = [f"custom_{number}_{'x' * 100}_1x1mm" for number in range(200)]
    with pytest.raises(OperationError, match="larger than"):
        merged_offer({}, {"media-supported": names})


async def test_an_offer_is_kept_changed_and_taken_away(desk):
    """`offer` is the printer's and `options` are the driver's; what is not named stays."""
    offered = {"sides-supported": "one-sided", "media-default": "iso_a4_210x297mm"}
    shown = await desk.ask(
        "printer.add", name="a", uri=URI, options={"pjl": "on"}, offer=offered, shared=True
    )
    assert shown["options"] == {"pjl": "on"}
    assert shown["offer"] == {
        "sides-supported": ["one-sided"],
        "media-default": "iso_a4_210x297mm",
    }
    shown = await desk.ask("printer.set", name="a", offer={"media-default": ""}, info="Till")
    assert shown["offer"] == {"sides-supported": ["one-sided"]}
    shown = await desk.ask("printer.show", name="a")
    assert (shown["offer"], shown["shared"]) == ({"sides-supported": ["one-sided"]}, True)
    (stored,) = await desk.spool.reader.printers()
    assert stored.options == {"sides-supported": ["one-sided"]}
    assert stored.changed_us > 0


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("geo_location", "geo:48.2,16.4", "48.2,16.4"),
        ("more_info", "https://intranet.example.org/printers/a", "javascript:alert(1)"),
        ("organization", "Library", "x\x1b[2J"),
        ("organizational_unit", "Maps", "x\ny"),
    ],
)
async def test_where_a_printer_is_and_whose(desk, field, good, bad):
    """Texts that can be printed, and URIs that lead where they say; an empty one takes it away."""
    shown = await desk.ask("printer.add", name="a", uri=URI, **{field: good})
    assert shown[field] == good
    with pytest.raises(OperationError) as refusal:
        await desk.ask("printer.set", name="a", **{field: bad})
    assert refusal.value.code == "bad-request"
    assert (await desk.ask("printer.set", name="a", **{field: ""}))[field] == ""
