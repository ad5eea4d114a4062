"""The operators' address, made from the settings.

Tested by tests/integration/test_operators.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.http.authentication import Authenticator
from junebug_turn.http.mounts import Mount


def operators_mounts(options: DaemonOptions, pages: Mapping[str, Mount]) -> dict[str, Mount]:
    """Make the mounts of the operators' address: path -> mount.

    :param pages: those that other addresses may have, too
    """
    authenticator = Authenticator(options.admin_auth)
    return {path: attrs.evolve(mount, authenticator=authenticator) for path, mount in pages.items()}
