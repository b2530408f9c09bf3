"""People who log in at a site that has no copy of them: whole daemons on loopback."""

from __future__ import annotations

import pytest
import trio

from spoold.accounts.guard import FREE_OF_MACHINE
from spoold.daemon.config import Upstream
from spoold.model.errors import OperationError
from spoold.model.node import LineState
from spoold.provider.course import Lost
from support.houses import give_away, joined
from support.panels import Hall, Panel
from support.waiting import wait_until

pytestmark = pytest.mark.slow

PATIENT = {"upstream": Upstream(question_deadline_s=10.0)}  # this machine has other work, too
CARD, PASSWORD = "04A1B2C3", "correct horse"


async def panel_of(house, name="panel") -> Panel:
    await wait_until(lambda: house.services.mfds.by_name(name))
    return Panel(Hall(house), house.services.mfds.by_name(name).guid, name)


async def furnish(start, folder, **settings):
    """The library copies the staff alone; Ada is none of them, and has a card and a password."""
    hq = await start("hq", **PATIENT)
    site = await start("library", "site", **PATIENT | settings)
    await joined(hq, site, groups=["staff"])
    await give_away(hq, site, folder)
    await hq.ask("user.add", name="ada", password=PASSWORD)
    await hq.ask("user.add-card", name="ada", card=CARD)
    for name in ("panel", "panel-2"):
        await hq.ask("device.enrol", name=name, printers=["desk"])
    return hq, site


@pytest.fixture
async def pair(start, tmp_path):
    return await furnish(start, tmp_path)


async def people_at(house) -> list[str]:
    return [one["name"] for one in (await house.ask("user.list"))["users"]]


@pytest.mark.parametrize("shown", [{"card": CARD}, {"name": "ada", "password": PASSWORD}])
async def test_a_guest_is_copied_when_it_logs_in(pair, shown):
    """And stays known when the line is gone; what is taken away at hq is taken away there."""
    hq, site = pair
    panel = await panel_of(site)
    assert await people_at(site) == []
    answer = await panel.login(**shown)
    assert answer["user"] == "ada"
    assert await people_at(site) == ["ada"]
    await panel.login(**shown)
    await hq.ask("user.set", name="ada", disabled=True)
    await wait_until(lambda: site.services.reader.user("ada"), holds=lambda ada: ada.disabled)
    assert (await panel.refusal("resume", session=panel.session)).code == "session-ended"
    await hq.ask("user.set", name="ada", disabled=False)
    await wait_until(lambda: site.services.reader.user("ada"), holds=lambda ada: not ada.disabled)
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)
    assert (await panel.login(**shown))["mode"] == "offline"


async def lost(*args):
    raise Lost("the line is gone")


async def test_a_guest_with_a_laptop_is_copied_too(pair, monkeypatch):
    """A login over IPP or in a browser; what nobody could be asked about is not remembered."""
    _, site = pair
    logins = site.services.logins
    with monkeypatch.context() as patch:
        patch.setattr(site.line, "call", lost)
        with pytest.raises(OperationError, match="wrong"):
            await logins.login("ada", PASSWORD, "192.0.2.7")
    with pytest.raises(OperationError, match="wrong"):
        await logins.login("ada", "no", "192.0.2.7")
    assert await people_at(site) == []
    principal = await logins.login("ada", PASSWORD, "192.0.2.7")
    assert (principal.name, principal.method) == ("ada", "basic")
    assert await people_at(site) == ["ada"]


async def test_nobody_is_copied_for_a_wrong_credential(pair):
    """It is as unknown as everywhere; a site that does not count tries has to wait all the same."""
    _, site = pair
    panel = await panel_of(site)
    for shown in ({"card": "99"}, {"name": "ada", "password": "no"}, {"card": CARD, "pin": "1"}):
        assert (await panel.refusal("login", **shown)).code == "unauthorized"
    assert await people_at(site) == []
    codes = []
    while len(codes) < 2 * FREE_OF_MACHINE and "busy" not in codes:
        with pytest.raises(OperationError) as caught:
            await visit(site, panel.principal.identity, card=f"99{len(codes)}")
        codes.append(caught.value.code)
    assert codes[-1] == "busy"
    with pytest.raises(OperationError, match="too many logins"):
        await visit(site, panel.principal.identity, card=CARD)
    other = await panel_of(site, "panel-2")
    assert (await other.login(card=CARD))["user"] == "ada"


async def test_what_a_site_shows_for_a_machine_keeps_nobody_out_elsewhere(pair):
    """A site that guesses in the name of another one's machine does not make that one wait."""
    hq, site = pair
    panel = await panel_of(hq)
    guid = hq.services.mfds.by_name("panel").guid
    guess = {"card": "99", "where": f"device:{guid}"}
    for _ in range(FREE_OF_MACHINE + 2):
        with pytest.raises(OperationError):
            await site.line.call("site.visit", guess, 30)
    with pytest.raises(OperationError, match="too many"):
        await site.line.call("site.visit", guess, 30)
    assert (await panel.login(card=CARD))["user"] == "ada"


async def test_many_guests_at_one_machine_are_no_failures(pair):
    """Each is unknown to the site at first, and nobody has to wait for that."""
    hq, site = pair
    panel = await panel_of(site)
    for number in range(FREE_OF_MACHINE + 3):
        name, card = f"guest{number}", f"77{number:02}"
        await hq.ask("user.add", name=name)
        await hq.ask("user.add-card", name=name, card=card)
        assert (await panel.login(card=card))["user"] == name


async def visit(site, where, **shown):
    return await site.line.call("site.visit", shown | {"where": where}, 10)


async def test_nobody_waits_for_a_slow_or_lost_upstream(start, tmp_path, monkeypatch):
    """After the deadline the person is unknown, as when the site is cut off."""
    hq, site = await furnish(start, tmp_path, upstream=Upstream(question_deadline_s=0.3))
    panel = await panel_of(site)

    async def never(*args, **more):
        await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(hq.services.authentication, "authenticate", never)
        with trio.fail_after(30):
            assert (await panel.refusal("login", card=CARD)).code == "unauthorized"
    await hq.stop()
    await wait_until(lambda: site.line.state is LineState.GONE)
    assert (await panel.refusal("login", card=CARD)).code == "unauthorized"


async def test_a_copy_that_is_begun_anew_has_its_guests(pair):
    """They are part of what the site copies, through restarts and anew."""
    _, site = pair
    panel = await panel_of(site)
    await panel.login(card=CARD)
    round_before = site.services.replica.state.round
    await site.ask("site.copy-anew")
    await wait_until(
        lambda: (
            site.services.replica.state.round > round_before
            and not site.services.replica.state.is_taking
        )
    )
    assert await people_at(site) == ["ada"]
