"""The ``Idempotency-Key`` header of the Junebug Message API."""

from __future__ import annotations

from collections.abc import Sequence

from junebug_turn.errors import ApiUsageError

HEADER = "Idempotency-Key"

WINDOW = 24 * 3600.0
"""Seconds for which a key is known after its first answer."""

MAX_LENGTH = 255


def read_key(headers: Sequence[bytes]) -> bytes | None:
    """The key of a request; None where it has none.

    :param headers: the values of all headers of that name
    :raises ApiUsageError: the key can't be used
    """
    if not headers:
        return None
    if len(headers) > 1:
        raise ApiUsageError(f"the request has more than one {HEADER} header")
    key = headers[0]
    if not 1 <= len(key) <= MAX_LENGTH or not all(0x20 <= byte <= 0x7E for byte in key):
        raise ApiUsageError(f"{HEADER} must have 1 to {MAX_LENGTH} printable ASCII characters")
    return key
