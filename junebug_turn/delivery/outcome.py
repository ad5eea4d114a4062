"""Outcome of an attempt for the circuits, and of a delivery that failed for its connector.

Tested by tests/unit/delivery/test_deliverer.py.
"""

from __future__ import annotations

from junebug_turn.delivery.attempt import Fault
from junebug_turn.delivery.circuits import DeliveryCircuits
from junebug_turn.delivery.destination import Destination
from junebug_turn.delivery.retry import ASKS
from junebug_turn.errors import DeliveryDeferred, DeliveryExhausted, DeliveryFailed, DeliveryRefused


def given_up(
    destination: Destination,
    fault: Fault | None,
    attempts: int,
    first_failure: float,
    last_failure: float,
    *,
    is_open: bool,
) -> DeliveryFailed:
    """Make the failure of a delivery.

    :param fault: that of its last attempt; None where there was none
    :param is_open: whether the circuit of its destination is open, or in doubt
    """
    if fault is None:
        text = f"{destination.origin} is known to be down: its circuit is open"
        return deferred("circuit_open", text, first_failure, last_failure, soon=ASKS)
    kind: type[DeliveryFailed] = DeliveryExhausted if fault.passing else DeliveryRefused
    if fault.passing and (is_open or not fault.reached):
        # What the destination hasn't got can't be the cause.
        kind = DeliveryDeferred
    return kind(
        f"delivery to {destination.origin} failed after {attempts} attempt(s): {fault}{fault.quoted}",
        reason=fault.reason,
        last_status=fault.status,
        attempts=attempts,
        first_failure=first_failure,
        last_failure=last_failure,
        last_error=fault.text,
        soon=ASKS if kind is DeliveryDeferred else 0,
    )


def deferred(
    reason: str, text: str, first_failure: float, last_failure: float, *, soon: int = 0
) -> DeliveryDeferred:
    """Make the failure of a delivery without an attempt.

    :param soon: see ``DeliveryFailed``
    """
    return DeliveryDeferred(
        text,
        reason=reason,
        last_status=None,
        attempts=0,
        first_failure=first_failure,
        last_failure=last_failure,
        soon=soon,
    )


def judge(circuits: DeliveryCircuits, fault: Fault | None) -> None:
    """Report the end of an attempt to the circuits."""
    if fault is not None and fault.misconfigured:
        circuits.misconfigured(str(fault))
    elif fault is not None and fault.limited:
        circuits.limited()
    elif fault is not None and fault.passing:
        circuits.failed(str(fault), fault.retry_after, reached=fault.reached)
    else:
        # Refusing a message is an answer too.
        circuits.answered()
