"""Errors that Redis answers with, sorted by the reaction to them: reconnect, wait, or tell the operator.

docs/caches.md has the same table.
"""

from __future__ import annotations

import re
from enum import Enum

from attrs import frozen


class Kind(Enum):
    """Kind of an error.

    :cvar STALE: this server should not be written to; one that is connected to anew may be another
    :cvar PASSING: the same command on the same connection may succeed later
    :cvar SETUP: nothing gets better until somebody changes the server's or our configuration
    """

    STALE = "give up the connection"
    PASSING = "passing"
    SETUP = "set up wrongly"


@frozen
class Meaning:
    """Meaning of an error: its kind and, where it is ``SETUP``, the remedy."""

    kind: Kind
    remedy: str | None = None


def _setup(remedy: str) -> Meaning:
    return Meaning(Kind.SETUP, remedy)


_STALE, _PASSING = Meaning(Kind.STALE), Meaning(Kind.PASSING)
_NO_CLUSTER = _setup("a Redis Cluster is not supported: let url name a server that is not part of one")

MEANINGS = {
    # The primary of a failover became a replica, and keeps its clients' connections.
    "READONLY": _STALE,
    "MASTERDOWN": _STALE,
    # A primary that its replicas have left: they may follow another one by now.
    "NOREPLICAS": _STALE,
    "LOADING": _PASSING,
    "BUSY": _PASSING,
    "CLUSTERDOWN": _PASSING,
    "TRYAGAIN": _PASSING,
    "OOM": _setup("raise maxmemory of this Redis, or let the cache keep its entries for a shorter time"),
    "MISCONF": _setup("this Redis can't save to its disk: its log says why; free space, or mend dir"),
    "NOAUTH": _setup("this Redis wants a password: put it into url"),
    "WRONGPASS": _setup("correct user and password in url"),
    "NOPERM": _setup(
        "the user in url needs more rights: EVAL, EVALSHA and the commands of the cache on its keys"
    ),
    "DENIED": _setup("set protected-mode, bind or a password at this Redis so that it accepts us"),
    "MOVED": _NO_CLUSTER,
    "ASK": _NO_CLUSTER,
    "CROSSSLOT": _NO_CLUSTER,
}
"""Meanings by the first word of the error; others are passing."""

# Before Redis 7 an error inside of a script is quoted: "ERR Error running script (...): @user_script: 2: -OOM ...".
_WORD = re.compile(rf"(?:^|[ :]-)({'|'.join(MEANINGS)})\b")
# Our pool and txredisapi put words of their own before the error of a new connection.
_QUOTED = re.compile(rf": ({'|'.join(MEANINGS)}) ")


def meaning(error: Exception | str) -> Meaning:
    """Return the meaning of an error of Redis, or of a text that ends with one."""
    text = str(error)
    found = _WORD.search(text) or _QUOTED.search(text)
    return MEANINGS[found[1]] if found else _PASSING


def remedy(error: Exception | str) -> str | None:
    """Return the change that the operator has to make; None for an error that can pass by itself."""
    return meaning(error).remedy
