"""What the IPP server asks of the node, and the IPP server of a node, put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from spoold.codec.dnssd import service_name
from spoold.codec.ipp_model_printer import NodeFacts
from spoold.daemon.config import Config
from spoold.daemon.operations import steering
from spoold.daemon.operations.access import OPERATORS, STAFF, is_own
from spoold.daemon.operations.context import Services
from spoold.daemon.operations.table import Table
from spoold.dispatch.status import PrinterStatus
from spoold.intake.acceptance import Acceptance
from spoold.intake.ipp import SUPPORTED, Ipp
from spoold.intake.ipp_events import Events
from spoold.intake.ipp_server import Printers, Server
from spoold.intake.ipp_subscriptions import ATTRIBUTES
from spoold.intake.opening import OpenJobs
from spoold.model.errors import SpoolFull
from spoold.model.job import Job
from spoold.model.person import Known
from spoold.model.principal import Port, Principal
from spoold.model.printer import Printer


class IppNode:
    """`ports` are the first ports that were bound, by what is spoken there."""

    def __init__(
        self,
        services: Services,
        table: Table,
        config: Callable[[], Config],
        ports: Mapping[Port, int],
        open_jobs: OpenJobs,
        acceptance: Acceptance,
    ) -> None:
        self._acceptance = acceptance
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
        roles = self._show.granted(principal)
        return not roles.isdisjoint(OPERATORS) or is_own(principal, roles, job)

    def sight(self, principal: Principal) -> Callable[[Job], bool]:
        """Staff read every job, others their own; so does the address that alone can have sent it.

        Such a job has an owner who is only claimed: its sender may cancel it as well.
        """
        roles = self._show.granted(principal)
        if not roles.isdisjoint(STAFF):
            return lambda _: True
        address = principal.address

        def may_read(job: Job) -> bool:
            if is_own(principal, roles, job):
                return True
            if job.owner.known is not Known.CLAIMED or not address:
                return False
            return job.client_host == address or steering.is_same_address(job.client_host, address)

        return may_read

    def is_full(self) -> bool:
        try:
            self._acceptance.check_room(0)
        except SpoolFull:
            return True
        return False

    def reaches(self, printer: Printer) -> bool:
        return self._acceptance.reaches(printer)

    def default_printer(self) -> str:
        return self._config().listen.raw_printer

    def advertised(self) -> str:
        names = self._config().advertise.names
        return names[0] if names else "localhost"

    def port(self, is_tls: bool) -> int | None:
        return self._ports.get(Port.TLS if is_tls else Port.CLEAR)

    def service_name(self, printer: Printer) -> str:
        return self._services.announced(printer.id).name or service_name(printer)

    def wall_clock(self) -> int:
        return self._services.wall_clock()

    def facts(self) -> NodeFacts:
        """What every printer says alike."""
        limits = self._config().limits
        return NodeFacts(
            SUPPORTED,
            max(limits.document_bytes_max, limits.job_bytes_max),
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
    node = IppNode(services, table, config, ports, open_jobs, acceptance)
    printers = Printers(services.journal, services.reader, node, node.facts)
    await printers.start()
    events = Events(services.journal, services.wall_clock)
    return Ipp(
        Server(
            acceptance,
            open_jobs,
            table,
            services.journal,
            services.reader,
            services.documents,
            printers,
            events,
            node,
        )
    )
