"""Pages are counted right in what real programs make, whatever the format."""

from __future__ import annotations

import random

import pytest

from spoold.codec.pages.contents import Reason, Sides
from spoold.counting.counter import Counter
from support.producers import PRODUCERS, made

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", PRODUCERS)
async def test_documents_of_known_length(name):
    """One page, an odd and an even number of them, and more than a dozen: as many as were made."""
    producer = PRODUCERS[name]
    async with Counter() as counter:
        for pages in (1,) if producer.one_page else (1, 3, 4, 13):
            contents = await counter.count(made(name, pages))
            assert (contents.pages, contents.reason) == (pages, None)
            assert contents.format == producer.format
            assert contents.is_exact == producer.is_exact
            if producer.is_two_sided:
                assert contents.sides is Sides.LONG_EDGE
                assert contents.sheets_of_one_copy == (pages + 1) // 2
            else:
                assert contents.sheets_of_one_copy == pages


@pytest.mark.parametrize(
    "name", ["gs-pdfwrite", "gs-pwgraster-rgb", "gs-urf-rgb", "gs-pxlcolor", "cairo-pdf"]
)
async def test_every_second_page_has_colour(name):
    """The producers make page 2, 4, … red."""
    async with Counter() as counter:
        contents = await counter.count(made(name, 5), colour=True)
    assert (contents.pages, contents.colour_pages) == (5, 2)


@pytest.mark.parametrize("name", ["gs-ljet4", "gs-pxlmono", "gs-pwgraster", "gs-tiffg4"])
async def test_a_format_without_colour_has_no_colour_pages(name):
    """Known at the first look."""
    async with Counter() as counter:
        contents = await counter.count(made(name, 4))
    assert contents.colour_pages == 0


@pytest.mark.parametrize(
    "name", ["gs-pdfwrite", "gs-ljet4", "gs-pxlmono", "gs-pwgraster", "gs-urf"]
)
async def test_the_paper_is_a4(name):
    """The size is a sheet's, not what points or pixels make of it."""
    async with Counter() as counter:
        contents = await counter.count(made(name, 3))
    assert contents.media == {(21000, 29700): 3}


def broken(data: bytes, chance: random.Random) -> bytes:
    """The document with a few bytes changed, a piece cut out, or one repeated."""
    mutant = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(mutant))
        end = at + chance.choice((1, 2, 4, 16, 256, 4096))
        match chance.randrange(4):
            case 0:
                mutant[at : at + 4] = chance.randbytes(4)
            case 1:
                del mutant[at:end]
            case 2:
                mutant[at:at] = mutant[at:end]
            case 3:
                mutant = mutant[:end]
    return bytes(mutant)


@pytest.mark.parametrize("name", PRODUCERS)
async def test_broken_documents_are_counted_or_unknown(name):
    """Never zero, within the deadline, and the worker goes on with the next one."""
    chance = random.Random(name)
    async with Counter(deadline_s=10, colour_s=0.2) as counter:
        for number in range(20):
            mutant = broken(made(name, 3), chance)
            contents = await counter.count(mutant, media_type=PRODUCERS[name].format, colour=True)
            assert (contents.pages is None) == (contents.reason is not None), number
            assert contents.pages is None or contents.pages > 0
            assert contents.reason not in (Reason.TOO_SLOW, Reason.COUNTER_DIED), number
