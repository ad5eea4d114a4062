"""Bound of the messages whose outcome at the broker is not known yet."""

from __future__ import annotations

from attrs import define

MAX_MESSAGES = 5000
MAX_BYTES = 64 * 1024 * 1024

OVERHEAD = 4096
"""Bytes that a message takes beside its body: its publication, and the request that waits for it."""


@define
class Backlog:
    """Bound, in number and bytes, of the messages that wait for the broker or for its confirm.

    A broker that is away, blocks its publishers or reads without confirming would fill the memory otherwise.

    :param max_messages: how many there can be
    :param max_bytes: how many bytes they can have together; a message that is alone may have any size
    :ivar messages: how many there are
    :ivar size: their bytes
    """

    max_messages: int = MAX_MESSAGES
    max_bytes: int = MAX_BYTES
    messages: int = 0
    size: int = 0

    def takes(self, body: bytes) -> bool:
        """Tell whether there is room for a message with this body."""
        if not self.messages:
            return True
        return self.messages < self.max_messages and self.size + len(body) + OVERHEAD <= self.max_bytes

    def add(self, body: bytes) -> None:
        """Count a message, whose outcome is not known."""
        self.messages += 1
        self.size += len(body) + OVERHEAD

    def remove(self, body: bytes) -> None:
        """Count a message no longer: its outcome is known, or it was withdrawn."""
        self.messages -= 1
        self.size -= len(body) + OVERHEAD
