"""The collector of cyclic garbage, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, weakref
from junebug_turn.daemon.garbage import YOUNG, settle
settle()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold()[0] == YOUNG

class Node: pass

node = Node()
node.itself = node
gone = weakref.ref(node)
del node
kept = [[] for _ in range(2 * YOUNG)]
assert gone() is None
"""


def test_settle() -> None:
    """What is there is left alone from then on, and new cycles are still collected by themselves."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, cwd=Path(__file__).parents[3])
