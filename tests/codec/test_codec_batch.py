"""Batches of records: whole, in order, or refused; whatever the bytes."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spoold.codec import batch, frame
from spoold.codec import record as codec
from spoold.codec.record import GENESIS, SALT_BYTES, Encoded
from spoold.model.errors import RemoteProtocolError
from spoold.model.record import RECORD_BYTES_MAX


def records(count: int, first: int = 1, previous: bytes = GENESIS, size: int = 10, name="ada"):
    found = []
    for position in range(first, first + count):
        one = codec.encode(
            previous, position, "job-accepted", 1, "node", 5, None,
            {"job": position, "fill": bytes(size)}, {"name": name}, bytes(SALT_BYTES),
        )  # fmt: skip
        found.append(one)
        previous = one.hash
    return found


def over_the_wire(args):
    """What the other end reads of a message with these arguments."""
    (item,) = frame.FrameReader().feed(frame.request(1, "site.records", args))
    return item.args


def test_a_batch_comes_out_as_it_went_in():
    """Bytes, order and meaning of every record survive the way."""
    sent = records(7)
    got = list(batch.read(over_the_wire(batch.write(1, GENESIS, sent))))
    facts = [batch.understand(position, one) for position, one in enumerate(got, 1)]
    assert got == sent
    assert [one.position for one in facts] == list(range(1, 8))
    assert {one.personal["name"] for one in facts} == {"ada"}


@pytest.mark.parametrize("size", [10, 300, 5000, 30_000])
def test_as_many_as_fit_make_a_message(size):
    """A batch is never larger than a message of frames, and never empty."""
    sent = records(600, size=size)
    chosen = batch.fitting(sent)
    assert 1 <= len(chosen) <= batch.BATCH_RECORDS_MAX
    assert len(frame.request(1, "site.records", batch.write(1, GENESIS, chosen))) < 65536
    assert chosen == sent[: len(chosen)]


def test_one_record_of_the_largest_size_fits():
    """What a journal can hold can be sent."""
    (one,) = records(1, size=RECORD_BYTES_MAX - 200)
    assert over_the_wire(batch.write(1, GENESIS, batch.fitting([one])))["count"] == 1


def broken(change):
    args = batch.write(1, GENESIS, records(4))
    change(args)
    return args


@pytest.mark.parametrize(
    "change",
    [
        lambda args: args["records"].pop(),
        lambda args: args["records"].reverse(),
        lambda args: args["records"].pop(1),
        lambda args: args.update(count=3),
        lambda args: args.update(hash=bytes(32)),
        lambda args: args.update(previous=b"\1" * 32),
        lambda args: args.update(previous=b"short"),
        lambda args: args.update(first=0),
        lambda args: args.update(first=True),
        lambda args: args.update(first=batch.POSITION_MAX - 2),  # it would end in another chain
        lambda args: args.update(records=[]),
        lambda args: args.update(records=[[1, 2, 3, 4]]),
        lambda args: args["records"][2].pop(),
        lambda args: args["records"][2].__setitem__(1, b"other"),
        lambda args: args["records"][2].__setitem__(0, b"other"),
        lambda args: args["records"][0].__setitem__(1, bytes(40_000)),
    ],
)
def test_what_is_no_batch_is_refused(change):
    """A missing, moved, changed or oversized record, a wrong end, a wrong begin."""
    with pytest.raises(RemoteProtocolError):
        list(batch.read(broken(change)))


def test_a_record_that_says_nothing_is_kept():
    """Its place in the chain holds; only what it says cannot be used."""
    header, payload = b"\xc1", b"not msgpack"
    odd = Encoded(header, payload, None, codec.link(GENESIS, header, payload))
    (got,) = batch.read(batch.write(1, GENESIS, [odd]))
    assert got == odd
    with pytest.raises(RemoteProtocolError):
        batch.understand(1, got)


def test_a_record_that_stands_elsewhere_is_not_believed():
    """The position in its header is that of its place."""
    moved = records(1, first=9)
    (got,) = batch.read(batch.write(1, GENESIS, moved))
    with pytest.raises(RemoteProtocolError, match="elsewhere"):
        batch.understand(1, got)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.binary(max_size=40)
    | st.text("aé", max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=8), inner),
    max_leaves=12,
)  # fmt: skip


FIELDS = ("first", "previous", "records", "count", "hash", "else")


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, VALUES)))
def test_whatever_is_read_raises_nothing_else(args):
    """Hostile arguments are the peer's fault, never ours."""
    try:
        list(batch.read(args))
    except RemoteProtocolError:
        pass


@given(st.binary(max_size=60), st.binary(max_size=60), st.none() | st.binary(max_size=60))
def test_whatever_a_record_holds_is_kept_or_refused(header, payload, personal):
    """Bytes of any shape in a chain that holds are kept."""
    one = Encoded(header, payload, personal, codec.link(GENESIS, header, payload))
    (got,) = batch.read(over_the_wire(batch.write(1, GENESIS, [one])))
    assert got == one
    try:
        batch.understand(1, got)
    except RemoteProtocolError:
        return
    assert msgpack.unpackb(header)[0] == 1
