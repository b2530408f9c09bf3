"""Operations on users: added, changed, known by passwords, cards, PINs and certificates."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from spoold.accounts.authentication import Credential
from spoold.model.errors import OperationError
from spoold.model.principal import Role
from spoold.model.user import check_password, check_user_name
from support.asking import refused
from support.people import RIGHT


async def test_a_user_is_added_changed_shown_and_removed(desk):
    """Under the one form of the name; a password is never told again."""
    added = await desk.ask("user.add", name="EXAMPLE\\Ada", roles=["operator"], password=RIGHT)
    assert (added["name"], added["roles"], added["has_password"]) == (
        "ada",
        ["operator", "user"],
        True,
    )
    assert (await desk.services.logins.login("ada", RIGHT, "192.0.2.7")).roles == {
        Role.OPERATOR,
        Role.USER,
        Role.ANYBODY,
    }
    changed = await desk.ask("user.set", name="ADA", roles=["user"])
    assert (changed["guid"], changed["roles"], changed["has_password"]) == (
        added["guid"],
        ["user"],
        True,
    )
    changed = await desk.ask("user.set", name="ada", password="")
    assert not changed["has_password"]
    shown = await desk.ask("user.show", name="ada")
    assert shown == {**changed, "certificates": []}
    assert RIGHT not in f"{added}{shown}"
    assert (await desk.ask("user.list"))["users"] == [changed]
    assert (await desk.ask("user.remove", name="ada"))["name"] == "ada"
    assert (await desk.ask("user.list"))["users"] == []


async def test_users_are_listed_page_by_page(desk):
    """By name, each once."""
    for number in range(7):
        await desk.ask("user.add", name=f"user{number}")
    users, pages = await desk.ask_all("user.list", "users", limit=3)
    assert [one["name"] for one in users] == [f"user{number}" for number in range(7)]
    assert pages == 3


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"name": "a:b"}, "has a colon"),
        ({"name": "\u200b"}, "holds no name"),
        ({"name": "*"}, "stands for anybody"),
        ({"name": "a" * 256}, "longer than 255"),
        ({"name": "eve", "password": "short"}, "8 to 256 characters"),
        ({"name": "eve", "password": "x" * 257}, "8 to 256 characters"),
        ({"name": "eve", "password": "two\nlines of it"}, "control characters"),
        ({"name": "eve", "password": "a lone \ud800 surrogate"}, "control characters"),
        ({"name": "eve", "roles": ["provider"]}, "help-desk, accountant or user"),
        ({"name": "eve", "roles": ["root"]}, "Use admin"),
    ],
)
async def test_what_cannot_be_a_user_is_refused_with_advice(desk, args, told):
    """Nothing is kept of it, and no password is said back."""
    error = await refused(desk, "user.add", **args)
    assert error.code == "bad-request"
    assert told in str(error)
    assert args.get("password", "?no?") not in str(error)
    assert (await desk.ask("user.list"))["users"] == []


async def test_what_is_not_there_cannot_be_changed(desk):
    """And what is there is not added again."""
    for op in ("user.set", "user.remove", "user.show", "user.enrol", "user.revoke"):
        args = {"roles": ["user"]} if op == "user.set" else {}
        assert (await refused(desk, op, name="eve", **args)).code == "not-found"
    await desk.ask("user.add", name="ada")
    assert (await refused(desk, "user.add", name="Ada")).code == "conflict"
    assert (await refused(desk, "user.set", name="ada")).code == "bad-request"


async def test_a_certificate_names_the_user_by_key(desk):
    """Its key is handed out once; removing the user revokes it."""
    added = await desk.ask("user.add", name="ada", roles=["operator"])
    given = await desk.ask("user.enrol", name="ada", days=30)
    certificate = x509.load_pem_x509_certificate(given["certificate_pem"].encode())
    peer = desk.services.identity.identify(certificate.public_bytes(Encoding.DER))
    assert (peer.kind, str(peer.guid), peer.name) == ("user", added["guid"], "ada")
    assert given["guid"] == added["guid"]
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "ada"
    assert given["key_pem"].splitlines()[1] not in str(await desk.ask("journal.read"))
    (shown,) = (await desk.ask("user.show", name="ada"))["certificates"]
    assert shown == {
        "serial": given["serial"],
        "not_after_us": given["not_after_us"],
        "revoked": False,
    }
    assert (await desk.ask("user.remove", name="ada"))["serials"] == [given["serial"]]
    assert await desk.services.reader.revoked_serials() == [given["serial"]]


async def test_revoking_leaves_the_password(desk):
    """For a key that was lost."""
    await desk.ask("user.add", name="ada", password=RIGHT)
    given = await desk.ask("user.enrol", name="ada")
    assert (await desk.ask("user.revoke", name="ada"))["serials"] == [given["serial"]]
    assert (await refused(desk, "user.revoke", name="ada")).code == "not-possible"
    assert (await desk.services.logins.login("ada", RIGHT, "192.0.2.7")).name == "ada"


async def test_the_journal_tells_who_changed_whom_and_no_secret(desk):
    """The actor is whoever asked; neither password nor hash is in any record."""
    await desk.ask("user.add", name="ada", password=RIGHT)
    await desk.ask("user.set", name="ada", password="battery staple")
    records = (await desk.ask("journal.read"))["records"]
    told = [one for one in records if one["kind"] == "user-changed"]
    assert {one["actor"] for one in told} == {"uid:0"}
    for secret in (RIGHT, "staple", "argon2"):
        assert secret not in str(records)


async def test_what_is_known_of_a_user_is_set_and_kept(desk):
    """What is not named stays; texts and groups have one form."""
    for name in ("bob", "carl"):
        await desk.ask("user.add", name=name)
    added = await desk.ask(
        "user.add",
        name="ada",
        full_name="  Ada Lovelace ",
        email="ada@example.org",
        groups=["Staff", "chess", "STAFF"],
        overdraft=50_000,
        delegates=["carl", "EXAMPLE\\Bob"],
        default_account="faculty/physics",
    )
    assert added["groups"] == ["chess", "staff"]
    assert (added["full_name"], added["email"]) == ("Ada Lovelace", "ada@example.org")
    assert (added["delegates"], added["restricted"], added["overdraft"]) == (
        ["bob", "carl"],
        True,
        50_000,
    )
    changed = await desk.ask("user.set", name="ada", restricted=False, overdraft="default")
    assert changed == {
        **added,
        "restricted": False,
        "overdraft": "default",
        "changed_us": changed["changed_us"],
    }
    (bob,) = [one for one in await desk.services.reader.users("", 9) if one.name == "bob"]
    found = await desk.services.reader.delegators(bob.guid)
    assert [one.name for one in found] == ["ada"]
    assert (await desk.ask("user.set", name="ada", delegates=[]))["delegates"] == []
    assert await desk.services.reader.delegators(bob.guid) == []
    assert (await desk.ask("user.show", name="ada"))["groups"] == ["chess", "staff"]


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ({"full_name": "Ada\u202eevil"}, "bad-request"),
        ({"full_name": "two\nlines"}, "bad-request"),
        ({"full_name": "\ud800"}, "bad-request"),
        ({"full_name": "x" * 65536}, "bad-request"),
        ({"email": "nobody"}, "bad-request"),
        ({"email": "a@b, c@d"}, "bad-request"),
        ({"groups": [""]}, "bad-request"),
        ({"groups": ["x\0y"]}, "bad-request"),
        ({"groups": [f"{n:0255}" for n in range(400)]}, "bad-request"),
        ({"groups": ["g"] * 1000}, "bad-request"),
        ({"overdraft": -1}, "bad-request"),
        ({"overdraft": "much"}, "bad-request"),
        ({"delegates": ["eve"]}, "not-found"),
        ({"delegates": ["ada"]}, "bad-request"),
        ({"default_account": "a\u2028b"}, "bad-request"),
    ],
)
async def test_what_cannot_be_known_of_a_user_is_refused(desk, args, code):
    """With advice, and nothing is kept of it."""
    before = await desk.ask("user.add", name="ada")
    error = await refused(desk, "user.set", name="ada", **args)
    assert (error.code, bool(error.advice)) == (code, True)
    (kept,) = (await desk.ask("user.list"))["users"]
    assert kept == before


@pytest.mark.parametrize(
    "name",
    [
        "Zoë 'O\"Hara'; DROP TABLE",
        "../../etc/passwd",
        "<b>&amp;</b>",
        "\u0639\u0644\u06cc\u200c\u0631\u0636\u0627",
        "日本",
    ],
)
async def test_odd_names_are_names(desk, name):
    """Of people, groups and labels of cards: kept as they read."""
    added = await desk.ask("user.add", name="ada", full_name=name, groups=[name])
    added = await desk.ask("user.add-card", name="ada", card="1234", label=name[:40])
    assert (added["full_name"], added["groups"], added["cards"][0]["label"]) == (
        name,
        [name.casefold()],
        name[:40],
    )


async def test_cards_are_given_and_taken_away(desk):
    """By their number of the user's, or by what a reader says of them, whatever reads them."""
    await desk.ask("user.add", name="ada")
    await desk.ask("user.add", name="bob")
    given = await desk.ask(
        "user.add-card", name="ada", card="04:a1:b2:c3", converter="hex-reversed-to-decimal"
    )
    assert [(one["number"], one["ending"]) for one in given["cards"]] == [(1, "3748")]
    error = await refused(
        desk, "user.add-card", name="bob", card="03283263748", converter="decimal"
    )
    assert error.code == "conflict"
    again = await desk.ask("user.add-card", name="ada", card="55667788", label="blue")
    assert [one["label"] for one in again["cards"]] == ["", "blue"]
    renamed = await desk.ask("user.add-card", name="ada", card="5566-7788", label="red")
    assert [one["label"] for one in renamed["cards"]] == ["", "red"]
    error = await refused(desk, "user.add-card", name="bob", card="55667788")
    assert (error.code, "ada" in str(error)) == ("conflict", True)
    assert (
        await refused(desk, "user.remove-card", name="bob", card="55667788")
    ).code == "not-found"
    left = await desk.ask("user.remove-card", name="ada", card="55667788")
    assert [one["number"] for one in left["cards"]] == [1]
    assert (await desk.ask("user.remove-card", name="ada", number=1))["cards"] == []
    assert (await refused(desk, "user.remove-card", name="ada", number=1)).code == "not-found"
    assert (await refused(desk, "user.remove-card", name="ada")).code == "bad-request"


async def test_nobody_has_cards_without_end(desk):
    """A user has sixteen at most."""
    await desk.ask("user.add", name="ada")
    for number in range(16):
        await desk.ask("user.add-card", name="ada", card=f"card{number}")
    assert (
        await refused(desk, "user.add-card", name="ada", card="one more")
    ).code == "not-possible"


async def test_a_pin_is_made_told_once_and_taken_away(desk):
    """It is long enough that nobody guesses one, and different from all others."""
    pins: dict[str, None] = {}
    for number in range(12):
        await desk.ask("user.add", name=f"user{number}")
        answer = await desk.ask("user.pin", name=f"user{number}", generate=True)
        assert answer["has_pin"]
        assert answer["pin_stands"]
        pins[answer["pin"]] = None
    assert len(pins) == 12
    assert [len(pin) for pin in pins] == [6] + 9 * [7] + 2 * [8]
    told = f"{await desk.ask('journal.read', limit=500)}{await desk.ask('user.list')}"
    assert not any(pin in told for pin in pins)
    assert not (await desk.ask("user.pin", name="user1", pin=""))["has_pin"]


@pytest.mark.parametrize("pin", ["123", "12345", "7" * 8, "9876", "x234", "1" * 17, "12 34"])
async def test_what_everybody_tries_first_is_no_pin(desk, pin):
    """Nor what is too short; it is not said back."""
    await desk.ask("user.add", name="ada")
    error = await refused(desk, "user.pin", name="ada", pin=pin)
    assert error.code == "bad-request"
    assert pin not in str(error)


async def test_a_pin_of_somebody_else_is_not_given_twice(desk):
    """And whose it is, is not told."""
    await desk.ask("user.add", name="ada")
    await desk.ask("user.add", name="bob")
    await desk.ask("user.pin", name="ada", pin="7301948")
    error = await refused(desk, "user.pin", name="bob", pin="7301948")
    assert (error.code, "ada" in str(error)) == ("conflict", False)
    assert (await desk.ask("user.pin", name="ada", pin="7301948"))["has_pin"]


async def test_a_pin_that_is_short_for_so_many_people_counts_beside_a_card(desk):
    """Alone it finds nobody, and several may have it; that is said."""
    for name, card in (("ada", "04A1B2C3"), ("bob", "04A1B2C4")):
        await desk.ask("user.add", name=name)
        await desk.ask("user.add-card", name=name, card=card)
        answer = await desk.ask("user.pin", name=name, pin="730194")
        assert (answer["pin_stands"], answer["pin_digits_alone"]) == (
            (True, 6) if name == "ada" else (False, 7)
        )
    await desk.ask("user.pin", name="ada", pin="730194")  # as many people as there are by now
    login = desk.services.authentication.authenticate
    with pytest.raises(OperationError):
        await login(Credential(pin="730194"), "device:1")
    for name, card in (("ada", "04A1B2C3"), ("bob", "04A1B2C4")):
        found = await login(Credential(card=card, pin="730194"), "device:1")
        assert found.user.name == name


async def test_a_default_account_that_is_not_there_is_told(desk):
    """Until it is; and once more when it is removed or renamed, by who removes it."""
    added = await desk.ask("user.add", name="ada", default_account="works")
    assert "account works" in added["advice"][0]
    await desk.ask("account.add", name="works", code="77")
    assert (await desk.ask("user.show", name="ada"))["advice"] == []
    assert (await desk.ask("user.set", name="ada", default_account="77"))["advice"] == []
    await desk.ask("printer.add", name="erp", uri="file:///x", default_account="works")
    changed = await desk.ask("account.set", name="works", code="78")
    assert [("1 user" in one, "77" in one) for one in changed["advice"]] == [(True, True)]
    await desk.ask("user.set", name="ada", default_account="works")
    removed = await desk.ask("account.remove", name="works")
    assert ["(ada)" in removed["advice"][0], "erp" in removed["advice"][1]] == [True, True]
    assert (await desk.ask("user.list"))["users"][0]["advice"]
    (row,) = (await desk.ask("user.import", users=[{"name": "bob", "default_account": "none"}]))[
        "users"
    ]
    assert "account none" in row["notes"][0]


async def test_a_disabled_user_is_refused_at_the_door(desk):
    """By password at once; enabled, the user is as before."""
    await desk.ask("user.add", name="ada", password=RIGHT)
    login = desk.services.logins.login
    assert (await login("ada", RIGHT, "192.0.2.7")).name == "ada"
    assert (await desk.ask("user.set", name="ada", disabled=True))["disabled"]
    with pytest.raises(OperationError, match="disabled"):
        await login("ada", RIGHT, "192.0.2.7")
    assert not (await desk.ask("user.set", name="ada", disabled=False))["disabled"]
    assert (await login("ada", RIGHT, "192.0.2.7")).name == "ada"


def test_names_and_passwords_have_one_form():
    """Of a user as of a job's owner; a password as its characters are seen."""
    assert check_user_name(" Zoë@EXAMPLE.ORG ") == "zoë"
    assert check_password("Zoe\u0308's\u00a0word") == "Zoë's word"
