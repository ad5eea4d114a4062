"""The measurement of many connectors, with a few."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tools.bench import connectors
from tools.servers.rabbitmq import RabbitNode


def test_few_connectors(rabbitmq: RabbitNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both starts are measured, the memory and the processor time at rest, and the queues are counted."""
    monkeypatch.setattr(connectors, "_IDLE", 0.1)
    said: list[str] = []
    lines = connectors.run(tmp_path, rabbitmq, 2, said.append).splitlines()
    assert said == ["first start", "again start"]
    assert lines[0] == "2 connectors"
    assert re.fullmatch(r"first start to healthy: [\d.]+ s, [\d.]+ s of processor time", lines[1])
    assert re.fullmatch(r"at rest: \d+ MB, [\d.]+% of a core", lines[3])
    # Those of other tests may be there too.
    assert int(lines[4].rpartition(" ")[2]) >= 2 * 5 + 5
