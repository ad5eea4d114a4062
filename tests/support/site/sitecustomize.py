"""Host names for the daemon of the hostile suite: ``127-1-0-7.names.test`` is at 127.1.0.7, without a name server.

Python imports this module at its start where its folder is in ``PYTHONPATH``.
"""

from __future__ import annotations

import socket
from typing import Any

SUFFIX = ".names.test"

_getaddrinfo = socket.getaddrinfo


def _with_names(host: Any, *args: Any, **options: Any) -> Any:
    if isinstance(host, str) and host.endswith(SUFFIX):
        host = host.removesuffix(SUFFIX).replace("-", ".")
    return _getaddrinfo(host, *args, **options)


socket.getaddrinfo = _with_names
