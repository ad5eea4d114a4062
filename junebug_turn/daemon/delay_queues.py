"""The delay queues that a daemon with some settings has."""

from __future__ import annotations

from junebug_turn.amqp.topology import Queue
from junebug_turn.connectors.retry_queues import RetryWindows, deferred_queue, delay_queue
from junebug_turn.daemon.settings import Settings


def delay_queues(settings: Settings) -> tuple[Queue, ...]:
    """Return the queues where messages of these connectors are delayed, from short to long; the deferred one last."""
    windows, queue_type = RetryWindows(), settings.daemon.queue_type
    delays = {windows.session_delay, windows.deferral[0], windows.soon[0]}
    applications = list(settings.applications)
    if settings.channels is not None:
        applications.append(settings.channels.template)
    for each in applications:
        delays.update(each.retry_delays)
    return *(delay_queue(delay, queue_type) for delay in sorted(delays)), deferred_queue(queue_type)
