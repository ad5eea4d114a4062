"""The option of a configured quota; ``test_pacing`` has what the answers of a service state."""

from __future__ import annotations

import pytest

from junebug_turn.delivery.rate import DELIVERY_RATE, DeliveryRate


@pytest.mark.parametrize(
    "value",
    [
        60,
        [],
        {},
        {"calls": 60},
        {"calls": 0, "seconds": 60},
        {"calls": 1.5, "seconds": 60},
        {"calls": 60, "seconds": 0},
        {"calls": True, "seconds": 60},
        {"calls": 60, "seconds": "soon"},
        {"calls": 60, "seconds": 60, "more": 1},
    ],
)
def test_a_wrong_rate(value: object) -> None:
    """A rate that is no mapping of calls and seconds, in their bounds, is refused."""
    with pytest.raises(ValueError, match=r"^must "):
        DELIVERY_RATE.read(value)


def test_a_rate() -> None:
    """A rate is a mapping, whose numbers may be quoted; a report shows it so."""
    rate = DELIVERY_RATE.read({"calls": "60", "seconds": 60.0})
    assert rate == DeliveryRate(60, 60.0)
    assert DELIVERY_RATE.shown is not None
    assert DELIVERY_RATE.shown(rate) == "{calls: 60, seconds: 60}"
