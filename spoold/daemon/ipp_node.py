"""What the IPP server asks of the node, and the IPP server of a node, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spoold.codec.ipp_model_printer import NodeFacts
from spoold.daemon.config import Config
from spoold.daemon.operations import steering
from spoold.daemon.operations.access import STAFF, is_own
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.table import Table
from spoold.dispatch.dispatcher import PrinterStatus
from spoold.intake.acceptance import Acceptance
from spoold.intake.ipp import OPERATIONS, Ipp
from spoold.intake.ipp_events import Events
from spoold.intake.ipp_server import Printers, Server
from spoold.intake.ipp_subscriptions import ATTRIBUTES
from spoold.intake.opening import OpenJobs
from spoold.model.job import Job
from spoold.model.person import Known
from spoold.model.principal import Port, Principal


class IppNode:
    """`ports` are the first ports that were bound, by what is spoken there."""

    def __init__(
        self,
        services: Services,
        table: Table,
        config: Callable[[], Config],
        ports: Mapping[Port, int],
        open_jobs: OpenJobs,
    ) -> None:
        self.open_jobs = open_jobs
        self._services = services
        self._show = table.operations["job.show"]
        self._config = config
        self._ports = ports

    def state(self, printer_id: int) -> PrinterStatus:
        return self._services.dispatcher.status(printer_id)

    def is_staff(self, principal: Principal) -> bool:
        return not self._show.granted(principal).isdisjoint(STAFF)

    def may_read(self, principal: Principal, job: Job) -> bool:
        """Staff read every job, others their own, and so does whoever alone can have sent it."""
        roles = self._show.granted(principal)
        if not roles.isdisjoint(STAFF) or is_own(principal, roles, job):
            return True
        is_claimed = job.owner.known is Known.CLAIMED and bool(principal.address)
        return is_claimed and steering.is_same_address(job.client_host, principal.address)

    def default_printer(self) -> str:
        return self._config().listen.raw_printer

    def advertised(self) -> str:
        names = self._config().advertise.names
        return names[0] if names else "localhost"

    def port(self, is_tls: bool) -> int | None:
        return self._ports.get(Port.TLS if is_tls else Port.CLEAR)

    def wall_clock(self) -> int:
        return self._services.wall_clock()

    def facts(self) -> NodeFacts:
        """What every printer says alike."""
        return NodeFacts(
            tuple(sorted(OPERATIONS)),
            self._config().limits.document_bytes_max,
            int(self.open_jobs.time_out_s),
            ("ipp-everywhere-server", "subscription-object", "document-object"),
            ATTRIBUTES,
        )


async def open_ipp(
    services: Services,
    table: Table,
    acceptance: Acceptance,
    config: Callable[[], Config],
    ports: Mapping[Port, int],
) -> Ipp:
    """The IPP server of the node; it follows the printers and jobs from now on."""
    open_jobs = services.open_jobs
    node = IppNode(services, table, config, ports, open_jobs)
    printers = Printers(services.journal, services.reader, node, node.facts)
    await printers.start()
    events = Events(services.journal, services.wall_clock)
    return Ipp(
        Server(
            acceptance, open_jobs, table, services.journal, services.reader, printers, events, node
        )
    )
