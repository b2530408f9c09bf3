"""Subscriptions and their events by IPP (RFC 3995, 3996): pulled by `ippget`, never pushed.

In: what a requester wants to hear of. Out: subscriptions with leases, and the notices that came
since. A notice says what became of a job by its number; it names nobody. Only who made a
subscription, and staff, may use or end it. Subscriptions live in memory: after a restart their
numbers are not found, and who pulls events subscribes again, as after the end of a lease.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from spoold.codec import ipp
from spoold.codec.ipp_model import selected
from spoold.codec.ipp_names import JobState, Operation, PrinterState, Status
from spoold.codec.ipp_values import Attribute, Group, Range, Tag
from spoold.intake.ipp_events import (
    EVENT_LIFE_S,
    EVENTS,
    EVENTS_DEFAULT,
    EVENTS_MAX,
    LEASE_MAX_S,
    LEASE_S,
    SECOND_US,
    Notice,
    Subscription,
)
from spoold.intake.ipp_request import Ask, Refusal, Reply, bad
from spoold.intake.ipp_server import Server
from spoold.model.errors import OperationError

Handler = Callable[[Server, Ask], Awaitable[Reply | None]]

GET_INTERVAL_S: Final = 10
USER_DATA_MAX: Final = 63
SCHEME: Final = "ippget"

# What every printer says of subscriptions.
ATTRIBUTES: Final = (
    ipp.keyword("notify-events-default", *EVENTS_DEFAULT),
    ipp.keyword("notify-events-supported", *EVENTS),
    ipp.integer("notify-lease-duration-default", LEASE_S),
    ipp.range_("notify-lease-duration-supported", Range(0, LEASE_MAX_S)),
    ipp.integer("notify-max-events-supported", EVENTS_MAX),
    ipp.keyword("notify-pull-method-supported", SCHEME),
    ipp.integer("ippget-event-life", EVENT_LIFE_S),
)


async def create_printer_subscriptions(server: Server, ask: Ask) -> Reply:
    target = ask.target()
    printer_id = None if target.printer is None else server.printer(ask).id
    return _create(server, ask, printer_id, None)


async def create_job_subscriptions(server: Server, ask: Ask) -> Reply:
    job_id = ask.integer("notify-job-id", 1) or ask.job_id()
    job = await server.job(job_id)
    if job.state.is_final:
        raise Refusal(Status.CLIENT_ERROR_NOT_POSSIBLE, f"job {job_id} has ended.")
    return _create(server, ask, None, job_id)


def _create(server: Server, ask: Ask, printer_id: int | None, job_id: int | None) -> Reply:
    wanted = [group for group in ask.groups if group.tag == Tag.SUBSCRIPTION]
    if not wanted:
        raise bad("there is no subscription in the request.")
    answers: list[bytes] = []
    made = 0
    for group in wanted:
        try:
            one = _subscribe(server, ask, group, printer_id, job_id)
        except Refusal as refusal:
            answers.append(_status(refusal.status))
        except OperationError:
            answers.append(_status(Status.CLIENT_ERROR_TOO_MANY_SUBSCRIPTIONS))
        else:
            made += 1
            found = [ipp.integer("notify-subscription-id", one.id)]
            if job_id is None:
                found.append(ipp.integer("notify-lease-duration", one.lease_s))
            answers.append(ipp.encode_group(Tag.SUBSCRIPTION, found))
    status = Status.SUCCESSFUL_OK
    if made < len(wanted):
        status = Status.SUCCESSFUL_OK_IGNORED_SUBSCRIPTIONS
        if not made:
            status = Status.CLIENT_ERROR_IGNORED_ALL_SUBSCRIPTIONS
    return Reply(status, b"".join(answers))


def _status(status: Status) -> bytes:
    return ipp.encode_group(Tag.SUBSCRIPTION, [ipp.enum_("notify-status-code", status)])


def _subscribe(
    server: Server, ask: Ask, group: Group, printer_id: int | None, job_id: int | None
) -> Subscription:
    """Raises Refusal or OperationError: this one cannot be."""
    if group.get("notify-recipient-uri") is not None:
        raise Refusal(Status.CLIENT_ERROR_URI_SCHEME_NOT_SUPPORTED, "events are not pushed.")
    if group.first("notify-pull-method") != SCHEME:
        raise bad("notify-pull-method must be ippget.")
    attribute = group.get("notify-events")
    events = list(EVENTS_DEFAULT) if attribute is None else attribute.all
    known = [event for event in events if event in EVENTS]
    if not known or len(events) > EVENTS_MAX:
        raise Refusal(
            Status.CLIENT_ERROR_ATTRIBUTES_OR_VALUES_NOT_SUPPORTED, "there are no such events."
        )
    lease_s = group.first("notify-lease-duration", LEASE_S)
    user_data = group.first("notify-user-data", b"")
    if not isinstance(lease_s, int) or lease_s < 0:
        raise bad("notify-lease-duration is no number of seconds.")
    if not isinstance(user_data, bytes) or len(user_data) > USER_DATA_MAX:
        raise bad(f"notify-user-data are at most {USER_DATA_MAX} octets.")
    return server.events.subscribe(
        ask.principal.identity,
        ask.known_as,
        printer_id,
        job_id,
        known,
        lease_s,
        user_data,
    )


def _found(server: Server, ask: Ask, subscription_id: int | None) -> Subscription:
    """The subscription that the requester may use.

    Raises:
        Refusal: there is none.
        OperationError: it is somebody else's.
    """
    if subscription_id is None:
        raise bad("notify-subscription-id is missing.")
    one = server.events.get(subscription_id)
    if one is None:
        message = f"there is no subscription {subscription_id}."
        raise Refusal(Status.CLIENT_ERROR_NOT_FOUND, message)
    if one.identity != ask.principal.identity and not server.node.is_staff(ask.principal):
        raise OperationError("forbidden", f"subscription {one.id} is somebody else's.")
    return one


def _attributes(server: Server, ask: Ask, one: Subscription) -> dict[str, Attribute]:
    place = server.place(ask)
    found = [
        ipp.integer("notify-subscription-id", one.id),
        ipp.uri("notify-subscription-uuid", f"urn:uuid:{one.uuid}"),
        ipp.integer("notify-sequence-number", one.sequence),
        ipp.keyword("notify-events", *sorted(one.events)),
        ipp.keyword("notify-pull-method", SCHEME),
        ipp.charset("notify-charset", "utf-8"),
        ipp.language("notify-natural-language", "en"),
        ipp.name_("notify-subscriber-user-name", one.user or "anonymous"),
        ipp.octets("notify-user-data", one.user_data),
        ipp.integer("notify-printer-up-time", place.now_s),
    ]
    printer = None if one.printer_id is None else place.printers.get(one.printer_id)
    uri = printer[1] if printer else f"{server.reach(ask).uris[0][0]}/"
    found.append(ipp.uri("notify-printer-uri", uri))
    if one.job_id is not None:
        found.append(ipp.integer("notify-job-id", one.job_id))
    if one.until_us is not None:
        found.append(ipp.integer("notify-lease-duration", one.lease_s))
        found.append(ipp.integer("notify-lease-expiration-time", one.until_us // SECOND_US))
    return {attribute.name: attribute for attribute in found}


def _group(server: Server, ask: Ask, one: Subscription, default: frozenset[str] | None) -> bytes:
    found = _attributes(server, ask, one)
    known = frozenset(found)
    groups = {"all": known, "subscription-description": known, "subscription-template": known}
    asked = ask.keywords("requested-attributes")
    names = selected(asked, groups, known, known if default is None else default)
    return ipp.encode_group(Tag.SUBSCRIPTION, [found[name] for name in found if name in names])


async def get_subscription_attributes(server: Server, ask: Ask) -> Reply:
    one = _found(server, ask, ask.integer("notify-subscription-id", 1))
    return Reply(groups=_group(server, ask, one, None))


async def get_subscriptions(server: Server, ask: Ask) -> Reply:
    target = ask.target()
    printer_id = None if target.printer is None else server.printer(ask).id
    job_id = ask.integer("notify-job-id", 1)
    limit = ask.integer("limit", 1)
    sees_all = server.node.is_staff(ask.principal) and not ask.boolean("my-subscriptions")
    default = frozenset({"notify-subscription-id"})
    chosen = [
        one
        for one in server.events.all()
        if (sees_all or one.identity == ask.principal.identity)
        and one.job_id == job_id
        and (printer_id is None or one.printer_id in (None, printer_id))
    ]
    return Reply(groups=b"".join(_group(server, ask, one, default) for one in chosen[:limit]))


async def renew_subscription(server: Server, ask: Ask) -> Reply:
    one = _found(server, ask, ask.integer("notify-subscription-id", 1))
    if one.job_id is not None:
        raise Refusal(Status.CLIENT_ERROR_NOT_POSSIBLE, "a job's subscription has no lease.")
    lease_s = ask.integer("notify-lease-duration")
    server.events.renew(one, LEASE_S if lease_s is None else lease_s)
    found = [ipp.integer("notify-lease-duration", one.lease_s)]
    return Reply(groups=ipp.encode_group(Tag.SUBSCRIPTION, found))


async def cancel_subscription(server: Server, ask: Ask) -> Reply:
    server.events.cancel(_found(server, ask, ask.integer("notify-subscription-id", 1)))
    return Reply()


async def get_notifications(server: Server, ask: Ask) -> Reply:
    """Get-Notifications (RFC 3996 5): at once, whatever `notify-wait` says."""
    ids = ask.integers("notify-subscription-ids")
    if not ids:
        raise bad("notify-subscription-ids is missing.")
    numbers = ask.integers("notify-sequence-numbers", 0) or []
    is_complete = True
    groups: list[bytes] = []
    for at, subscription_id in enumerate(ids):
        one = _found(server, ask, subscription_id)
        first = numbers[at] if at < len(numbers) else 0
        groups += [_event(server, ask, one, n) for n in server.events.notices(one, first)]
        is_complete = is_complete and one.is_over
    place = server.place(ask)
    head = [ipp.integer("printer-up-time", place.now_s)]
    if not is_complete:
        head.append(ipp.integer("notify-get-interval", GET_INTERVAL_S))
    status = Status.SUCCESSFUL_OK_EVENTS_COMPLETE if is_complete else Status.SUCCESSFUL_OK
    return Reply(status, ipp.encode_attributes(head) + b"".join(groups))


def _event(server: Server, ask: Ask, one: Subscription, notice: Notice) -> bytes:
    place = server.place(ask)
    at_s = notice.at_us // SECOND_US
    printer = place.printers.get(notice.printer_id)
    found = [
        ipp.charset("notify-charset", "utf-8"),
        ipp.language("notify-natural-language", "en"),
        ipp.integer("notify-subscription-id", one.id),
        ipp.integer("notify-sequence-number", notice.sequence),
        ipp.keyword("notify-subscribed-event", notice.event),
        ipp.keyword("notify-event", notice.event),
        ipp.octets("notify-user-data", one.user_data),
        ipp.integer("printer-up-time", at_s),
        ipp.text("notify-text", _text(notice, printer[0] if printer else "a removed printer")),
    ]
    if printer is not None:
        found.append(ipp.uri("notify-printer-uri", printer[1]))
        found += _printer_state(server, notice.printer_id)
    if notice.job_id is not None and notice.state is not None:
        found += [
            ipp.integer("notify-job-id", notice.job_id),
            ipp.enum_("job-state", JobState.of(notice.state.value)),
            ipp.keyword("job-state-reasons", *(notice.reasons or ("none",))),
        ]
    return ipp.encode_group(Tag.EVENT, found)


def _printer_state(server: Server, printer_id: int) -> list[Attribute]:
    live = server.printers.live(server.printers.by_id[printer_id])
    return [
        ipp.enum_("printer-state", PrinterState[live.state.upper()]),
        ipp.keyword("printer-state-reasons", *(live.reasons or ("none",))),
        ipp.boolean("printer-is-accepting-jobs", live.accepting),
    ]


def _text(notice: Notice, printer: str) -> str:
    if notice.job_id is None or notice.state is None:
        return f"{printer}: {notice.event.replace('-', ' ')}."
    return f"{printer}: job {notice.job_id} is {notice.state.value}."


OPERATIONS: Final[dict[Operation, Handler]] = {
    Operation.CREATE_PRINTER_SUBSCRIPTIONS: create_printer_subscriptions,
    Operation.CREATE_JOB_SUBSCRIPTIONS: create_job_subscriptions,
    Operation.GET_SUBSCRIPTION_ATTRIBUTES: get_subscription_attributes,
    Operation.GET_SUBSCRIPTIONS: get_subscriptions,
    Operation.RENEW_SUBSCRIPTION: renew_subscription,
    Operation.CANCEL_SUBSCRIPTION: cancel_subscription,
    Operation.GET_NOTIFICATIONS: get_notifications,
}
