from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.log import Log


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Log]:
    """Makes logs that write to a file of the test's own."""
    return lambda *arguments, **options: Log(tmp_path, *arguments, **options)
