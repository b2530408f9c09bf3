"""The copy of a site, with whole daemons on loopback: also when it is alone."""

from __future__ import annotations

from operator import not_

import pytest

from spoold.accounts.authentication import Credential
from spoold.model.errors import OperationError
from support.houses import House, joined
from support.waiting import wait_until

pytestmark = pytest.mark.slow


async def log_in(house: House, **shown) -> str:
    login = await house.services.authentication.authenticate(Credential(**shown), "device:1")
    return login.user.name


async def refused(house: House, **shown) -> bool:
    try:
        await log_in(house, **shown)
    except OperationError:
        return True
    return False


async def copied(site: House) -> None:
    """The site has a whole copy."""
    await wait_until(lambda: site.services.replica.current_us)


async def test_people_log_in_at_a_site_from_its_copy_also_when_it_is_alone(start):
    """Card, PIN, password; a lost card is refused within a second; a restart loses nothing."""
    hq, site = await start("hq"), await start("library", "site")
    await hq.ask("user.add", name="ada", password="correct horse")
    await hq.ask("user.add-card", name="ada", card="04A1B2C3")
    await hq.ask("user.pin", name="ada", pin="482913")
    await joined(hq, site)
    await copied(site)
    for shown in (
        {"card": "04A1B2C3"},
        {"pin": "482913"},
        {"name": "ada", "password": "correct horse"},
    ):
        assert await log_in(site, **shown) == "ada"

    await hq.ask("user.add-card", name="ada", card="04A1B2C4")
    await wait_until(lambda: refused(site, card="04A1B2C4"), holds=not_)
    await hq.ask("user.remove-card", name="ada", card="04A1B2C3")
    await wait_until(lambda: refused(site, card="04A1B2C3"))
    with pytest.raises(OperationError) as caught:
        await site.ask("user.set", name="ada", disabled=True)
    assert (caught.value.code, caught.value.message) == ("not-possible", "it belongs to hq.")
    shown = await hq.ask("site.show", name="library")
    assert shown["copy_is_whole"]
    status = await site.ask("status")
    assert status["copy"]["upstream"] == "hq"
    assert status["copy"]["age_s"] < 60
    assert (await site.ask("site.copy"))["objects"]["user"] == 1

    await hq.stop()
    await site.stop()
    site = await start("library", "site")
    assert await log_in(site, card="04A1B2C4") == "ada"
    assert await log_in(site, name="ada", password="correct horse") == "ada"
    assert (await site.ask("status"))["copy"]["is_whole"]


async def test_who_may_do_less_upstream_is_logged_out_at_the_site(start):
    """An MFD of the copy comes in by its token, and a disabled user's session there ends."""
    hq, site = await start("hq"), await start("library", "site")
    await hq.ask("user.add", name="ada")
    await hq.ask("user.add-card", name="ada", card="04A1B2C3")
    made = await hq.ask("device.enrol", name="panel", credential="token", printers=["default"])
    await joined(hq, site)
    await copied(site)
    services = site.services
    mfd = services.mfds.by_token(made["token"])
    assert mfd is not None
    assert mfd.name == "panel"
    login = await services.authentication.authenticate(Credential(card="04A1B2C3"), mfd.identity)
    _, session = await services.sessions.begin(mfd, login.user, login.method)
    await hq.ask("user.set", name="ada", disabled=True)
    await wait_until(lambda: not services.sessions.is_open(session))
    assert await refused(site, card="04A1B2C3")
    await hq.ask("device.revoke", name="panel")
    await wait_until(lambda: services.mfds.by_token(made["token"]) is None)


async def test_a_lost_key_of_the_vault_costs_a_new_copy_and_nothing_else(start, tmp_path):
    """Without its key a site takes everything anew, and people log in as before."""
    hq, site = await start("hq"), await start("library", "site")
    await hq.ask("user.add", name="ada", password="correct horse")
    await joined(hq, site)
    await copied(site)
    await site.stop()
    (tmp_path / "library" / "identity" / "replica-key").unlink()
    site = await start("library", "site")
    await wait_until(lambda: site.services.replica.state.round == 2)
    assert await log_in(site, name="ada", password="correct horse") == "ada"


async def test_another_scope_is_another_copy_at_once(start):
    """Who is in none of the groups that a site gets to know goes, and comes again."""
    hq, site = await start("hq"), await start("library", "site")
    await hq.ask("user.add", name="ada", groups=["staff"])
    await hq.ask("user.add", name="bob")
    for house in (hq, site):
        await house.ask("printer.add", name="desk", uri="socket://127.0.0.1:9")
    await joined(hq, site)
    await copied(site)

    async def known() -> set[str]:
        return {one["name"] for one in (await site.ask("user.list"))["users"]}

    assert await known() == {"ada", "bob"}
    for groups, there in ((["staff"], {"ada"}), ([], {"ada", "bob"})):
        await hq.ask("site.approve", name="library", groups=groups)
        await wait_until(known, holds=there.__eq__)
    [made_way] = (await site.ask("site.copy"))["conflicts"]
    assert (made_way["kind"], made_way["name"]) == ("printer", "desk")  # both had one
