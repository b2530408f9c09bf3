"""Who may call what, and what becomes of wrong arguments."""

from __future__ import annotations

import itertools
from dataclasses import replace

import msgpack
import pytest

from spoold.daemon.operations.table import DOORS, Argument, Operation, read_arguments
from spoold.model.errors import OperationError
from spoold.model.principal import Port, Principal, Role

# Where somebody shows who they are: the local socket, a login, a certificate.
KNOWN = (Port.CONTROL, Port.TLS, Port.MUTUAL)
STAFF = set(itertools.product((Role.ADMIN, Role.OPERATOR, Role.HELP_DESK), KNOWN))
OPERATORS = set(itertools.product((Role.ADMIN, Role.OPERATOR), KNOWN))
# Objects and credentials are made and changed on this machine alone.
ADMINS = {(Role.ADMIN, Port.CONTROL)}
KNOWN_ADMINS = {pair for pair in STAFF if pair[0] is Role.ADMIN}
LOCAL_STAFF = {pair for pair in STAFF if pair[1] is Port.CONTROL}
USERS = {(Role.USER, Port.TLS), (Role.USER, Port.MUTUAL)}
CLIENTS = USERS | {
    (Role.PROVIDER, Port.MUTUAL),
    (Role.ANYBODY, Port.CLEAR),
    (Role.ANYBODY, Port.TLS),
}
# An MFD shows a token or a certificate; nobody else stands for the people at it.
DEVICES = {(Role.DEVICE, Port.TLS), (Role.DEVICE, Port.MUTUAL)}
# A site shows its certificate; a node that has none yet may ask for one, and nothing else.
LINES = {(Role.SITE, Port.MUTUAL)}
JOINERS = LINES | {(Role.JOINER, Port.JOIN)}
# Who handles money, and who looks at it.
MONEY = KNOWN_ADMINS | set(itertools.product((Role.ACCOUNTANT,), KNOWN))
EXPECTED = {
    "account.add": MONEY,
    "account.adjust": MONEY,
    "account.allow": MONEY,
    "account.allowances": MONEY | STAFF,
    "account.charges": MONEY | STAFF,
    "account.list": MONEY | STAFF,
    "account.mine": USERS,
    "account.my-statement": USERS,
    "account.refund": MONEY,
    "account.remove": MONEY,
    "account.set": MONEY,
    "account.show": MONEY | STAFF,
    "account.statement": MONEY | STAFF,
    "account.terms": MONEY,
    "backup.make": ADMINS,
    "daemon.reload": ADMINS,
    "device.enrol": ADMINS,
    "device.enrolled": STAFF,
    "device.list": STAFF,
    "device.revoke": ADMINS,
    "device.set": ADMINS,
    "device.show": STAFF,
    "job.cancel": OPERATORS | CLIENTS,
    "job.cancel-many": OPERATORS | CLIENTS,
    "job.elsewhere": STAFF,
    "job.explain": STAFF,
    "job.follow": STAFF | CLIENTS,
    "job.hold": OPERATORS | USERS,
    "job.list": STAFF | USERS,
    "job.move": OPERATORS,
    "job.promote": OPERATORS,
    "job.release": OPERATORS | USERS,
    "job.report": {(Role.PROVIDER, Port.MUTUAL)},
    "job.resubmit": OPERATORS | USERS,
    "job.retry": OPERATORS | USERS,
    "job.schedule-after": OPERATORS,
    "job.set": OPERATORS | USERS,
    "job.settle": OPERATORS,
    "job.show": STAFF | CLIENTS,
    "journal.audit": KNOWN_ADMINS,
    "handed.cancel": LINES | {(Role.PROVIDER, Port.MUTUAL)},
    "handed.follow": LINES | {(Role.PROVIDER, Port.MUTUAL)},
    "journal.cursor": OPERATORS,
    "journal.cursors": STAFF,
    "journal.follow": OPERATORS,
    "journal.quarantine": OPERATORS,
    "journal.quarantined": OPERATORS,
    "journal.read": OPERATORS,
    "journal.retry": ADMINS,
    "journal.status": STAFF,
    "mfd.accounts": DEVICES,
    "mfd.associate": DEVICES,
    "mfd.authorize": DEVICES,
    "mfd.change": DEVICES,
    "mfd.delete": DEVICES,
    "mfd.follow": DEVICES,
    "mfd.jobs": DEVICES,
    "mfd.login": DEVICES,
    "mfd.logout": DEVICES,
    "mfd.release": DEVICES,
    "mfd.report": DEVICES,
    "mfd.resume": DEVICES,
    "node.ca": STAFF,
    "node.follow": STAFF | {(Role.PROVIDER, Port.MUTUAL)},
    "node.show": STAFF,
    "price.list": MONEY | STAFF,
    "price.set": MONEY,
    "price.show": MONEY | STAFF,
    "price.test": MONEY | STAFF,
    "printer.accept": OPERATORS,
    "printer.add": ADMINS,
    "printer.cancel-current": OPERATORS,
    "printer.describe": KNOWN_ADMINS,
    "printer.direct": {(Role.PROVIDER, Port.MUTUAL)},
    "printer.hold-new-jobs": OPERATORS,
    "printer.list": STAFF,
    "printer.pause": OPERATORS,
    "printer.purge": OPERATORS,
    "printer.redirect": OPERATORS,
    "printer.rehome": ADMINS,
    "printer.reject": OPERATORS,
    "printer.release-held-new-jobs": OPERATORS,
    "printer.remove": ADMINS,
    "printer.resume": OPERATORS,
    "printer.set": ADMINS,
    "printer.show": STAFF,
    "printer.suspend-current": OPERATORS,
    "provider.enrol": ADMINS,
    "provider.list": STAFF,
    "provider.revoke": ADMINS,
    "release.change": USERS,
    "release.delete": USERS,
    "release.held": STAFF | USERS,
    "release.release": USERS,
    "site.approve": ADMINS,
    "site.begin-anew": ADMINS,
    "site.ca": JOINERS,
    "site.change": LINES,
    "site.clock": LINES,
    "site.copy": LOCAL_STAFF,
    "site.copy-anew": ADMINS,
    "site.delete": LINES,
    "site.document": LINES,
    "site.done": LINES,
    "site.wanted": LINES,
    "site.gave": LINES,
    "site.errands": LINES,
    "site.did": LINES,
    "site.emergency": STAFF,
    "site.enter": ADMINS,
    "site.follow": LINES,
    "site.handed": LINES,
    "site.hash": LINES,
    "site.held": LINES,
    "site.hello": LINES,
    "site.history": STAFF,
    "site.holdings": MONEY,
    "site.invite": ADMINS,
    "site.jobs": LINES,
    "site.join": JOINERS,
    "site.line": LOCAL_STAFF,
    "site.list": LOCAL_STAFF,
    "site.objects": LINES,
    "site.overrides": STAFF,
    "site.password": LINES,
    "site.policies": MONEY,
    "site.records": LINES,
    "site.release": LINES,
    "site.repair": ADMINS,
    "site.revoke": ADMINS,
    "site.rights": LINES,
    "site.unfinished": LINES,
    "site.forgot": LINES,
    "site.standing": LINES,
    "site.set-emergency": ADMINS,
    "site.set-policy": ADMINS,
    "site.settled": LINES,
    "site.settle": ADMINS,
    "site.show": LOCAL_STAFF,
    "site.stand": LINES,
    "site.states": LINES,
    "site.sync": OPERATORS,
    "site.took": LINES,
    "site.visit": LINES,
    "source.add": ADMINS,
    "source.list": LOCAL_STAFF,
    "source.remove": ADMINS,
    "source.set": ADMINS,
    "source.show": LOCAL_STAFF,
    "status": STAFF | CLIENTS,
    "usage.sums": MONEY | STAFF,
    "user.add": ADMINS,
    "user.add-card": ADMINS,
    "user.enrol": ADMINS,
    "user.list": LOCAL_STAFF,
    "user.erase": ADMINS,
    "user.find-card": LOCAL_STAFF,
    "user.import": ADMINS,
    "user.pin": ADMINS,
    "user.remove": ADMINS,
    "user.remove-card": ADMINS,
    "user.revoke": ADMINS,
    "user.set": ADMINS,
    "user.show": LOCAL_STAFF,
    "user.sync": ADMINS,
}


def person(role: Role, port: Port) -> Principal:
    return Principal("address:192.0.2.7", port, frozenset({role}), address="192.0.2.7")


async def refusal(desk, principal, op, **args) -> OperationError:
    with pytest.raises(OperationError) as caught:
        await desk.ask(op, principal, **args)
    return caught.value


async def test_exactly_the_listed_pairs_pass(desk):
    """Every role at every port, for every operation of the table: what is not listed is denied.

    The arguments are wrong on purpose: whoever may call is told so, nobody else learns anything.
    """
    passed: dict[str, set[tuple[Role, Port]]] = {}
    for op, role, port in itertools.product(desk.table.operations, Role, Port):
        error = await refusal(desk, person(role, port), op, nonsense=1)
        assert error.code in ("bad-request", "forbidden")
        if error.code == "bad-request":
            passed.setdefault(op, set()).add((role, port))
    assert passed == EXPECTED


async def test_a_login_opens_what_the_roles_of_the_user_open(desk):
    """And what anybody may on that port; no more with the same roles where nobody logs in."""
    for role in (Role.ADMIN, Role.OPERATOR, Role.HELP_DESK, Role.USER):
        await desk.ask("user.add", name=role.value, roles=[role.value], password="correct horse")
        known = await desk.services.logins.login(role.value, "correct horse", "192.0.2.7")
        wanted = {(one, Port.TLS) for one in (role, Role.USER, Role.ANYBODY)}
        for op, pairs in EXPECTED.items():
            error = await refusal(desk, known, op, nonsense=1)
            assert (error.code == "bad-request") == bool(pairs & wanted), (role, op)
            error = await refusal(desk, replace(known, port=Port.CLEAR), op, nonsense=1)
            assert (error.code == "bad-request") == ((Role.ANYBODY, Port.CLEAR) in pairs)


async def test_a_principal_without_roles_may_do_nothing(desk):
    """A local user who is not in the group reaches the socket and no operation."""
    nobody = Principal("uid:1000", Port.CONTROL, frozenset(), "guest")
    for op in desk.table.operations:
        assert (await refusal(desk, nobody, op)).code == "forbidden"


async def test_a_refusal_says_what_would_do(desk):
    """`forbidden` names the doors and the roles that open them."""
    error = await refusal(desk, person(Role.ANYBODY, Port.CLEAR), "job.release", job=1)
    assert error.advice == (
        "It can be called on the control socket as admin or operator, or on the port for client "
        "certificates or the TLS port as admin, operator or user."
    )
    error = await refusal(desk, person(Role.OPERATOR, Port.TLS), "user.add", name="eve")
    assert error.advice == "It can be called on the control socket as admin."


async def test_a_role_does_not_count_at_a_door_that_cannot_show_it(desk):
    """An administrator who comes in by the clear port is anybody there."""
    both = Principal(
        "address:192.0.2.7", Port.CLEAR, frozenset({Role.ADMIN, Role.ANYBODY}), address="192.0.2.7"
    )
    printer = await desk.spool.add_printer()
    job = await desk.spool.add_job(printer, owner="ada", title="secret")
    shown = await desk.ask("job.show", both, job=job.job_id)
    assert set(shown) == {"id", "uuid", "state", "reasons"}
    assert (await refusal(desk, both, "job.hold", job=job.job_id)).code == "forbidden"


async def test_an_unknown_operation_is_answered_with_the_near_one(desk):
    """Only operations that the caller may call are suggested."""
    admin = Principal("uid:0", Port.CONTROL, frozenset({Role.ADMIN}))
    error = await refusal(desk, admin, "job.relase")
    assert (error.code, error.advice) == ("not-found", "Did you mean job.release?")
    error = await refusal(desk, person(Role.ANYBODY, Port.CLEAR), "job.relase")
    assert error.code == "not-found"
    assert "release" not in error.advice


async def test_every_operation_says_what_it_is(desk):
    """A summary for each, and a door for each."""
    for operation in desk.table.operations.values():
        assert operation.summary
        assert operation.pairs


def test_every_role_has_a_door():
    """A role that no door knows could never be used."""
    assert set(DOORS) == set(Role)


def test_an_operation_at_no_door_of_its_roles_lets_nobody_in():
    """Roles and ports are not multiplied blindly: a provider has no place on the clear port."""

    async def handler(call):
        return {}

    operation = Operation("x", (), frozenset({Role.PROVIDER}), frozenset({Port.CLEAR}), handler)
    assert operation.pairs == frozenset()


KNOWN = (
    Argument("name", required=True, most=5),
    Argument("count", (int,), default=7, least=1, most=9),
    Argument("on", (bool,)),
    Argument("kind", choices=("fair", "fifo")),
    Argument("names", (list,), most=2, each=Argument("", most=3)),
    Argument("filter", (dict,), keys=(Argument("owner"),)),
    Argument("either", (int, str)),
)


def test_defaults_stand_in_for_what_is_not_given_and_for_nil():
    """A nil argument is one that was not given."""
    values = read_arguments(KNOWN, {"name": "a", "count": None, "filter": {}})
    assert values == {
        "name": "a",
        "count": 7,
        "on": None,
        "kind": None,
        "names": None,
        "filter": {"owner": None},
        "either": None,
    }


@pytest.mark.parametrize(
    ("given", "message", "advice"),
    [
        ({}, "the argument name is missing.", ""),
        ({"name": 1}, "name is a whole number.", "Give a text."),
        ({"name": "toolong"}, "name is 7 characters long.", "It can be 0 to 5 characters long."),
        ({"name": "a", "count": True}, "count is true or false.", "Give a whole number."),
        ({"name": "a", "count": 0}, "count is 0.", "It can be 1 to 9."),
        ({"name": "a", "count": 1 << 60}, f"count is {1 << 60}.", "It can be 1 to 9."),
        ({"name": "a", "count": 1.0}, "count is something else.", "Give a whole number."),
        ({"name": "a", "on": "yes"}, "on is a text.", "Give true or false."),
        (
            {"name": "a", "kind": "fif"},
            "kind is 'fif'.",
            "Use fair or fifo. Did you mean fifo?",
        ),
        ({"name": "a", "names": ["ab", "abcd"]}, "names[1] is 4 characters long.", None),
        ({"name": "a", "names": ["", "", ""]}, "names is 3 elements long.", None),
        (
            {"name": "a", "filter": {"ownr": "x"}},
            "there is no argument filter.ownr.",
            "Did you mean owner?",
        ),
        ({"name": "a", "either": []}, "either is a list.", "Give a whole number or a text."),
        ({"nam": "a"}, "there is no argument nam.", "Did you mean name?"),
        ({"name": "a", b"x": 1}, "there is no argument b'x'.", None),
    ],
)
def test_a_wrong_argument_is_refused_with_advice(given, message, advice):
    """The message says which argument and why, the advice what to give instead."""
    with pytest.raises(OperationError) as caught:
        read_arguments(KNOWN, given)
    assert (caught.value.code, caught.value.message) == ("bad-request", message)
    if advice is not None:
        assert caught.value.advice == advice


async def test_answers_are_plain(desk):
    """What listings and looks answer packs into one message, and is JSON's kind of values."""
    printer = await desk.spool.add_printer()
    for number in range(3):
        await desk.spool.add_job(printer, owner="ada", title=f"job {number}")
    await desk.ask("user.add", name="ada")
    for op, args in {
        "job.list": {},
        "job.show": {"job": 1},
        "job.explain": {"job": 1},
        "printer.list": {},
        "printer.show": {"name": "default"},
        "device.enrol": {"name": "panel", "printers": ["default"], "credential": "token"},
        "device.enrolled": {},
        "device.list": {},
        "device.show": {"device": "default"},
        "provider.list": {},
        "user.list": {},
        "user.show": {"name": "ada"},
        "node.show": {},
        "node.ca": {},
        "status": {},
        "journal.read": {},
        "journal.cursors": {},
        "daemon.reload": {},
    }.items():
        answer = await desk.ask(op, **args)
        assert len(msgpack.packb(answer)) < 65536
        assert_plain(answer)


def assert_plain(value):
    assert type(value) in (str, int, float, bool, list, dict, type(None)), repr(value)
    if isinstance(value, dict):
        for key, one in value.items():
            assert type(key) is str
            assert_plain(one)
    elif isinstance(value, list):
        for one in value:
            assert_plain(one)
