"""The one table of operations: what may be asked of a running node, by whom, at which door.

In: a principal that the transport vouches for, the name of an operation and a map of arguments.
Out: a map, after whatever it changed is durable; or an `OperationError` with advice. Every map can
be written as JSON and fits one message of the frames protocol: listings and bulk changes come in
pages, and `next_after_id` of one, unless it is nil, is the `after_id` of the next.
"""

from __future__ import annotations

from collections.abc import Iterable

from spoold.daemon.operations import (
    accounts,
    audit,
    backups,
    booking,
    copies,
    devices,
    direct,
    elsewhere,
    emergency,
    errands,
    handing,
    handing_down,
    jobs,
    joining,
    journal,
    membership,
    mfd,
    mfd_jobs,
    mfd_work,
    nodes,
    people,
    prices,
    printers,
    queueing,
    rehoming,
    release,
    repairs,
    rights,
    running,
    showing,
    site_desk,
    sites,
    sources,
    standing,
    status,
    steering,
    story,
    uplink,
    usage,
    user_import,
    users,
)
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.scopes import Scopes
from spoold.daemon.operations.table import Operation, Table


def build_table(services: Services, more: Iterable[Operation] = ()) -> Table:
    """The table of a node: the operations of this package, and `more`."""
    rooms = (
        jobs,
        elsewhere,
        steering,
        handing,
        handing_down,
        errands,
        direct,
        queueing,
        release,
        story,
        printers,
        rehoming,
        running,
        showing,
        status,
        nodes,
        joining,
        membership,
        sites,
        site_desk,
        rights,
        standing,
        repairs,
        emergency,
        devices,
        users,
        people,
        user_import,
        sources,
        accounts,
        booking,
        prices,
        usage,
        mfd,
        mfd_jobs,
        mfd_work,
        journal,
        uplink,
        audit,
        copies,
        backups,
    )
    operations = [*(one for room in rooms for one in room.OPERATIONS), *more]
    return Table(operations, services, Scopes(services))
