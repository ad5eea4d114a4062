"""What hypothesis makes up: JSON values, messages and events.  Sizes are capped, so that a run stays short."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from junebug_turn.messages.vumi import (
    DELIVERY_REPORT,
    DELIVERY_STATUSES,
    EVENT_TYPES,
    Event,
    Message,
)

texts = st.text(max_size=40)
json_scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_values = st.recursive(
    json_scalars,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(texts, children, max_size=4),
    max_leaves=12,
)
json_objects = st.dictionaries(texts, json_values, max_size=4)
timestamps = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2100, 1, 1))
optional_texts = st.none() | texts
ids = st.text(min_size=1, max_size=40)

messages = st.builds(
    Message,
    to_addr=optional_texts,
    from_addr=optional_texts,
    transport_name=optional_texts,
    transport_type=optional_texts,
    content=optional_texts,
    session_event=optional_texts,
    in_reply_to=optional_texts,
    group=optional_texts,
    provider=optional_texts,
    to_addr_type=optional_texts,
    from_addr_type=optional_texts,
    message_id=ids,
    timestamp=timestamps,
    routing_metadata=json_objects,
    helper_metadata=json_objects,
    transport_metadata=json_objects,
)


@st.composite
def _events(draw: st.DrawFn) -> Event:
    event_type = draw(st.sampled_from(sorted(EVENT_TYPES)))
    statuses = st.sampled_from(sorted(DELIVERY_STATUSES))
    return Event(
        user_message_id=draw(ids),
        event_type=event_type,
        event_id=draw(ids),
        sent_message_id=draw(optional_texts),
        nack_reason=draw(optional_texts),
        delivery_status=draw(statuses if event_type == DELIVERY_REPORT else st.none() | statuses),
        timestamp=draw(timestamps),
        routing_metadata=draw(json_objects),
        helper_metadata=draw(json_objects),
        transport_metadata=draw(json_objects),
    )


events = _events()

# Seconds only, as AMQP has them.
_amqp_times = st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
    lambda value: value.replace(microsecond=0)
)
_decimals = st.builds(
    lambda digits, places: Decimal(digits).scaleb(-places),
    st.integers(-(2**31), 2**31 - 1),
    st.integers(0, 20),
)
amqp_values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text(max_size=200)
    | st.binary(max_size=100)
    | _amqp_times
    | _decimals
)


def tables(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """AMQP tables of these values, nested or not."""
    values = st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=60), inner, max_size=5),
        max_leaves=20,
    )
    return st.dictionaries(st.text(max_size=60), values, max_size=8)
