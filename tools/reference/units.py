"""The systemd unit for several processes, etc/junebug-turn@.service, made from the unit for one.

Tested by tests/project/test_reference.py.
"""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).resolve().parents[2] / "etc" / "junebug-turn.service"

_HEAD = """\
# systemd template unit for several processes with one configuration, as in
#   systemctl enable --now junebug-turn@1 junebug-turn@2
# `make docs` writes this file from junebug-turn.service: change that one.
#
# The processes need a cache that they share (state_cache_class: redis) and an address that they share: either
# reuse_port: true beside http_bind, or the socket of junebug-turn-shared.socket with
# http_bind: systemd:domain=INET:index=0 and the two lines below that name it.  docs/scaling.md has more.
"""

_CHANGES = (
    ("over the AMQP queues of vumi\n", "over the AMQP queues of vumi (process %i)\n"),
    (
        "After=network-online.target\n",
        "After=network-online.target\n#Requires=junebug-turn-shared.socket\n",
    ),
    ("WatchdogSignal=SIGTERM\n", "WatchdogSignal=SIGTERM\n#Sockets=junebug-turn-shared.socket\n"),
    # A folder of its own for each process: systemd removes it when the process ends.
    ("RuntimeDirectory=junebug-turn\n", "RuntimeDirectory=junebug-turn-%i\n"),
    ("unix:/run/junebug-turn/", "unix:/run/junebug-turn-N/"),
)


def updated(_: str) -> str:
    """The template unit as the unit for one process has it now.

    :raises ValueError: a line that differs is no longer there
    """
    text = UNIT.read_text("utf-8")
    text = _HEAD + text[text.index("[Unit]") :]
    for before, after in _CHANGES:
        if before not in text:
            raise ValueError(f"etc/junebug-turn.service must have {before!r}")
        text = text.replace(before, after)
    return text
