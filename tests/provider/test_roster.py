"""Which endpoints a provider may use: its own for good, others as long as they are named."""

from __future__ import annotations

import pytest

from spoold.provider.endpoint import APPLICATION, Endpoint, Roster

HQ, HQ_2, LIBRARY, ANNEX = "hq-1:9195", "hq-2:9195", "library:9195", "annex:9195"


@pytest.fixture
def roster():
    return Roster([Endpoint.parse(HQ)], 4)


def listed(roster):
    return [str(one) for one in roster.listed()]


def test_its_own_come_first_then_others_as_the_welcome_says(roster):
    """In the order of the welcome, whichever of them it was given itself."""
    roster.hear(HQ, APPLICATION, [HQ_2, HQ, LIBRARY])
    assert listed(roster) == [HQ, HQ_2, LIBRARY]
    roster.hear(HQ, APPLICATION, [LIBRARY, HQ_2])
    assert listed(roster) == [HQ, LIBRARY, HQ_2]


def test_what_is_not_named_any_more_goes(roster):
    """A site was revoked, an application server moved; what the user gave stays."""
    roster.hear(HQ, APPLICATION, [HQ, HQ_2, LIBRARY])
    roster.hear(HQ, APPLICATION, [HQ_2])
    assert listed(roster) == [HQ, HQ_2]
    roster.hear(HQ, APPLICATION, [])
    assert listed(roster) == [HQ]


def test_a_site_speaks_for_itself(roster):
    """It takes nobody away, and what it says is over when an application server speaks again."""
    roster.hear(HQ, APPLICATION, [HQ_2, LIBRARY])
    roster.hear(LIBRARY, "site", [LIBRARY, ANNEX])
    assert listed(roster) == [HQ, HQ_2, LIBRARY, ANNEX]
    roster.hear(LIBRARY, "site", [LIBRARY])
    assert listed(roster) == [HQ, HQ_2, LIBRARY]
    roster.hear(LIBRARY, "site", [ANNEX])
    roster.hear(HQ, APPLICATION, [HQ_2])
    assert listed(roster) == [HQ, HQ_2]


def test_who_belongs_together_is_said_by_an_application_server(roster):
    """It, and whom it names; a site brings in nobody, and who was given may be of anywhere."""
    assert roster.kin_of(HQ) == set()
    roster.hear(HQ_2, APPLICATION, [LIBRARY])
    roster.hear(LIBRARY, "site", [ANNEX])
    assert roster.kin_of(LIBRARY) == roster.kin_of(HQ_2) == {HQ_2, LIBRARY}
    assert roster.kin_of(ANNEX) == roster.kin_of(HQ) == set()


def test_nonsense_and_too_many_are_left_out(roster):
    """A server's mistake is no reason to print less."""
    roster.hear(HQ, APPLICATION, [7, "nonsense", "host:0", *(f"h{n}:1" for n in range(9))])
    assert listed(roster) == [HQ, "h0:1", "h1:1", "h2:1"]
    for told in (None, "x", {}):
        roster.hear(HQ, APPLICATION, told)
        assert listed(roster) == [HQ]
