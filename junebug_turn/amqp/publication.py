"""A publication: one message on its way to the broker, until its outcome is known.

Tested by tests/unit/amqp/test_publisher.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context, copy_context

from attrs import define, field
from twisted.internet.defer import Deferred

from junebug_turn.amqp.backlog import Backlog


@define(eq=False)
class Publication:
    """A message on its way to the broker.

    :ivar confirmed: fires with the broker's confirm.  Cancelling it withdraws the message while it waits; once the
        message was handed to the broker, cancelling only ends the wait.
    :ivar number: its delivery tag; 0 while it was not handed to the broker
    :ivar backlog: the bound that it counts for until its outcome is known
    :ivar late: called with the outcome when ``confirmed`` was cancelled before it: None for the broker's confirm, or
        the fault.  A message that was withdrawn has no outcome.
    """

    confirmed: Deferred[None]
    arguments: bytes = b""
    properties: bytes = field(default=b"", repr=False)
    body: bytes = field(default=b"", repr=False)
    number: int = 0
    returned: str = ""
    context: Context = field(factory=copy_context)  # of its sender, for the log
    late: Callable[[Exception | None], None] | None = None
    abandon: Callable[[Publication], None] | None = None
    abandoned: bool = False
    backlog: Backlog | None = None

    @property
    def handed_over(self) -> bool:
        """Whether the broker may have the message."""
        return self.number > 0

    def withdraw(self) -> bool:
        """Take the message back, if it still waits; ``confirmed`` fails with CancelledError then.

        Of a message that was handed over it is only noted that nobody waits for it; ``confirmed`` goes on.

        :returns: whether it was surely not handed to the broker, and never will be
        """
        if not self.number:
            self.confirmed.cancel()
            return True
        if self.abandon is not None and not self.confirmed.called:
            self.abandon(self)
        return False

    def release(self) -> None:
        """Count no longer for the backlog."""
        backlog, self.backlog = self.backlog, None
        if backlog is not None:
            backlog.remove(self.body)

    def settle(self, fault: Exception | None) -> None:
        """Have ``confirmed`` fire with the outcome, or call ``late`` with it."""
        self.release()
        if self.confirmed.called:
            if self.late is not None:
                self.late(fault)
        elif fault is None:
            self.confirmed.callback(None)
        else:
            self.confirmed.errback(fault)
