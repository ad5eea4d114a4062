"""Patience of the tests: a slow disk needs more of it than CI's, as for quorum queues in ``make compat``."""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("TEST_PATIENCE", "1"))
"""A factor of the seconds after which a test no longer waits."""
