"""Which versions of the line work together, and what the refusal says."""

from __future__ import annotations

import pytest

from spoold.model.errors import OperationError
from spoold.model.node import LINE_VERSIONS, common_version


@pytest.mark.parametrize(
    ("site", "server", "spoken"),
    [
        ((3, 2), (3, 2), 3),
        ((3, 2), (2, 1), 2),  # the site was updated first
        ((2, 1), (3, 2), 2),  # the application server was
        ((1,), (2, 1), 1),
        ((1,), (1,), 1),
    ],
)
def test_a_version_and_the_one_before_work_together(site, server, spoken):
    """Either side can be updated first."""
    assert common_version(site, server) == spoken


@pytest.mark.parametrize(
    ("site", "server", "behind"),
    [
        ((1,), (3, 2), "Update the site"),
        ((4, 3), (2, 1), "Update the application server"),
        ((), (1,), "Update the site"),
    ],
)
def test_anything_else_is_refused_with_what_to_update(site, server, behind):
    """Two versions apart is too far, and the older side is named."""
    with pytest.raises(OperationError) as caught:
        common_version(site, server)
    assert caught.value.code == "version-not-supported"
    assert caught.value.advice.startswith(behind)


def test_this_program_offers_at_most_two_versions():
    """Its own, and the one before it."""
    assert list(LINE_VERSIONS) == sorted(LINE_VERSIONS, reverse=True)
    assert len(LINE_VERSIONS) <= 2
    assert LINE_VERSIONS[0] - LINE_VERSIONS[-1] <= 1
