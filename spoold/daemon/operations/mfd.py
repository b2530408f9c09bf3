"""People at MFDs: `mfd.login`, `.associate`, `.resume`, `.logout` and `.follow`.

An MFD is the caller, by its certificate or token; the person is whoever the session stands for.
Its id comes with every request: a request that was meant for one person is never done for another
who logged in since. See `codec/FRAMES.md`, section 10.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from spoold.accounts.authentication import ALL, Credential, Method
from spoold.daemon.operations.access import DEVICES, KNOWN
from spoold.daemon.operations.devices import printer_names
from spoold.daemon.operations.standing import standing_of
from spoold.daemon.operations.table import WHOLE_MAX, Argument, Call, Operation
from spoold.model import card as cards
from spoold.model.errors import OperationError
from spoold.model.mfd import SECRET_CHARACTERS_MAX, Mfd, Session, SessionEnd
from spoold.model.printer import Printer
from spoold.model.text import plain
from spoold.model.user import User
from spoold.release.news import Mode

CREDENTIAL_CHARACTERS_MAX = 512

SESSION = Argument(
    "session",
    required=True,
    least=1,
    most=SECRET_CHARACTERS_MAX,
    summary="The session's id, as login gave it.",
)
PRINTER = Argument(
    "printer", most=127, summary="One of the MFD's printers; without it the first of them."
)


async def at_session(call: Call) -> tuple[Mfd, Session, User]:
    """The MFD that asks, and the session and person that it asks for; this counts as use.

    Raises:
        OperationError: `session-ended`, or `forbidden`.
    """
    mfd = call.services.mfds.of(call.principal)
    session, user = await call.services.sessions.find(mfd, call.args["session"])
    return mfd, session, user


async def printer_of(call: Call, mfd: Mfd) -> Printer:
    """The printer that was named, of those that the MFD may release on.

    Raises:
        OperationError: `forbidden`: it is none of them; `not-found`: all are removed.
    """
    known = await call.services.catalogue.look()
    names = printer_names(known, mfd.printers)
    name = call.args["printer"] or (names[0] if names else "")
    if not name:
        raise OperationError(
            "not-found", "this MFD has no printer any more.", "See `spoold device set`."
        )
    if name not in names:
        raise OperationError(
            "forbidden",
            f"this MFD does not release on {plain(name[:60])!r}.",
            f"It does on {', '.join(names)}.",
        )
    return known.by_name[name]


async def session_map(call: Call, mfd: Mfd, session: Session, user: User) -> dict[str, Any]:
    """Who is logged in, and what the MFD needs to know for that."""
    services = call.services
    known = await services.catalogue.look()
    return {
        "user": user.name,
        "full_name": user.full_name,
        "method": session.method,
        "restricted": user.restricted,
        **(await standing_of(services, user.guid))._asdict(),
        "started_us": session.started_us,
        "idle_s": mfd.settings.idle_s,
        "printers": printer_names(known, mfd.printers),
        "mode": services.news.mode.value,
    }


def _credential(call: Call, mfd: Mfd) -> Credential:
    """What was shown, the card's number converted as this MFD's reader needs it."""
    args = call.args
    number = args["card"]
    if number:
        number = cards.convert(mfd.settings.converter or cards.PLAIN, number)
    return Credential(number, args["pin"], args["name"], args["password"])


def _methods(mfd: Mfd) -> frozenset[Method]:
    return frozenset(Method(one) for one in mfd.settings.methods) or ALL


async def login(call: Call) -> dict[str, Any]:
    """A session for who shows a card, a PIN, both, or name and password."""
    services = call.services
    mfd = services.mfds.of(call.principal)
    shown = _credential(call, mfd)
    authenticate = partial(services.authentication.authenticate, shown, mfd.identity, _methods(mfd))
    try:
        login = await authenticate()
    except OperationError as error:
        visitors = services.visitors if error.code == "unauthorized" else None
        if visitors is None or not await visitors.fetch(shown, mfd.identity):
            raise
        services.authentication.take_back(shown, mfd.identity)
        login = await authenticate()
    return await _begin(call, mfd, login.user, login.method.value)


async def associate(call: Call) -> dict[str, Any]:
    """Make a card that nobody has the card of who proves who they are; then as `login`."""
    services = call.services
    mfd = services.mfds.of(call.principal)
    methods = _methods(mfd)
    if methods.isdisjoint({Method.CARD, Method.CARD_AND_PIN}):
        raise OperationError(
            "forbidden", "nobody logs in by card here.", "See `spoold device set`."
        )
    login = await services.authentication.associate(
        _credential(call, mfd), mfd.identity, services.wall_clock()
    )
    return await _begin(call, mfd, login.user, login.method.value)


async def _begin(call: Call, mfd: Mfd, user: User, method: str) -> dict[str, Any]:
    id_, session = await call.services.sessions.begin(mfd, user, method)
    return {"session": id_, **await session_map(call, mfd, session, user)}


async def resume(call: Call) -> dict[str, Any]:
    """Whether the session is still there, and whose it is; this keeps it from ending unused."""
    mfd, session, user = await at_session(call)
    return await session_map(call, mfd, session, user)


async def logout(call: Call) -> dict[str, Any]:
    """The session is over. One that is over already stays so: this can be asked again."""
    services = call.services
    mfd = services.mfds.of(call.principal)
    session = await services.sessions.find_any(mfd, call.args["session"])
    await services.sessions.end(session, SessionEnd.LOGOUT, mfd.identity)
    return {}


async def follow(call: Call) -> dict[str, Any]:
    """What happens to the session, until it is over; following is no use of it.

    Events: `node-mode` (`mode`), `balance`, `job-state` (as `job.follow`), `jobs-changed` when
    there was too much to tell. The result says why it ended.
    """
    services = call.services
    mfd = services.mfds.of(call.principal)
    session = await services.sessions.find_any(mfd, call.args["session"])
    user = await services.reader.user_by_guid(session.person)
    if user is None or not services.sessions.is_open(session):
        raise OperationError("session-ended", "nobody is logged in.", "Log in again.")
    with services.news.following(session, user.name) as follower:
        while True:
            await follower.wait()
            mode, follower.mode = follower.mode, None
            if mode is not None:
                await call.send_event("node-mode", {"mode": mode.value})
            if follower.end is not None:
                return {"reason": follower.end.value}
            if mode is Mode.STOPPING:
                return {"reason": "stopping"}
            is_behind, follower.is_behind = follower.is_behind, False
            if is_behind:
                await call.send_event("jobs-changed", {})
            is_changed, follower.is_balance_changed = follower.is_balance_changed, False
            if is_changed:
                has = await standing_of(services, user.guid)
                await call.send_event("balance", has._asdict())
            jobs, follower.jobs = follower.jobs, {}
            for moved in jobs.values():
                await call.send_event(
                    "job-state",
                    {
                        "job_id": moved.job_id,
                        "job_uuid": str(moved.uuid),
                        "state": moved.new.value,
                        "reasons": list(moved.reasons),
                    },
                )


def _credentials(*, is_card_needed: bool) -> tuple[Argument, ...]:
    most = CREDENTIAL_CHARACTERS_MAX
    return (
        Argument(
            "card",
            default="",
            required=is_card_needed,
            least=int(is_card_needed),
            most=most,
            summary="The card's number, as the reader tells it.",
        ),
        Argument("pin", default="", most=most),
        Argument("name", default="", most=most, summary="A user's name, with the password."),
        Argument("password", default="", most=most),
    )


_STANDING = (
    Argument("user", required=True),
    Argument("full_name", required=True),
    Argument("method", required=True, summary="How the person logged in."),
    Argument("restricted", (bool,), required=True, summary="May not spend below the limit."),
    Argument(
        "balance", (int,), required=True, least=-WHOLE_MAX, summary="In 1/10,000 of the currency."
    ),
    Argument(
        "available",
        (int,),
        least=-WHOLE_MAX,
        summary="What can be spent; null: without a limit.",
    ),
    Argument("currency", required=True, summary="As EUR; empty where it has no name."),
    Argument("started_us", (int,), required=True, summary="UTC, in microseconds."),
    Argument("idle_s", (int,), required=True, summary="The session ends after so long unused."),
    Argument("printers", (list,), required=True, each=Argument("")),
    Argument("mode", required=True, choices=tuple(Mode)),
)
_BEGUN = (
    Argument("session", required=True, summary="Its id, for every request to come: a secret."),
    *_STANDING,
)

OPERATIONS = (
    Operation(
        "mfd.login",
        _credentials(is_card_needed=False),
        DEVICES,
        KNOWN,
        login,
        "Begin the session of a person at this MFD.",
        _BEGUN,
    ),
    Operation(
        "mfd.associate",
        _credentials(is_card_needed=True),
        DEVICES,
        KNOWN,
        associate,
        "Give a new card to a person, and begin the session.",
        _BEGUN,
    ),
    Operation(
        "mfd.resume",
        (SESSION,),
        DEVICES,
        KNOWN,
        resume,
        "Whose the session is; it goes on.",
        _STANDING,
    ),
    Operation("mfd.logout", (SESSION,), DEVICES, KNOWN, logout, "End the session."),
    Operation(
        "mfd.follow",
        (SESSION,),
        DEVICES,
        KNOWN,
        follow,
        "What happens to the session, its person's jobs and balance, until it ends.",
        (Argument("reason", required=True, summary="Why it ended."),),
    ),
)
