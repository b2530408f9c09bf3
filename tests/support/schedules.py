"""Schedules of printers with jobs, and what they choose to print."""

from __future__ import annotations

from random import Random
from uuid import UUID

from spoold.dispatch.queues import Choice
from spoold.dispatch.schedule import Backoff, Schedule
from spoold.model.printer import Printer

NO_JITTER = Backoff(first_s=1.0, max_s=60.0, jitter=0.0)


def make_printer(id_: int, device_id: int | None = None, **fields: object) -> Printer:
    name = fields.pop("name", f"p{id_}")
    return Printer(id_, UUID(int=id_), name, device_id, **fields)  # type: ignore[arg-type]


def make_schedule(*printers: Printer, backoff: Backoff = NO_JITTER) -> Schedule:
    schedule = Schedule(backoff, Random(1))
    for printer in printers:
        schedule.set_printer(printer)
    return schedule


def start_all(schedule: Schedule, now_s: float) -> list[Choice]:
    """Take everything that can be taken now, as the dispatcher does."""
    taken = []
    while devices := schedule.startable(now_s):
        for device_id in devices:
            choice = schedule.take(device_id, now_s)
            if choice is not None:
                taken.append(choice)
    return taken


def print_all(schedule: Schedule, now_s: float = 0.0) -> list[int]:
    """Print until nothing waits; the order in which jobs were chosen."""
    order = []
    while True:
        taken = start_all(schedule, now_s)
        order += [choice.job_id for choice in taken]
        for choice in taken:
            schedule.succeed(choice.device_id)
            schedule.finish(choice.device_id)
            schedule.remove(choice.job_id)
        if not taken:
            wake_s = schedule.wake_s()
            if wake_s is None:
                return order
            now_s = max(now_s, wake_s)
