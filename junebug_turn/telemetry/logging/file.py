"""Log file: lines are appended, and it can be opened anew after it was moved away.

Twisted's ``LogFile`` closes the old file before it opens the new one, and everybody may read what it makes.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import BinaryIO

MODE = 0o640
"""Its owner writes, its group reads, and others do neither: log lines have people's numbers, if masked."""


class LogFile:
    """A file of log lines.

    :raises OSError: it can't be opened
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._file = _opened(self._path)

    def write(self, line: str) -> None:
        """Append a line."""
        self._file.write(line.encode("utf-8"))

    def reopen(self) -> None:
        """Go on in a new file of the same name; where it can't be opened, in the one before.

        :raises OSError: it can't be opened
        """
        former, self._file = self._file, _opened(self._path)
        former.close()


def _opened(path: str) -> BinaryIO:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
    found = os.fstat(descriptor).st_mode
    if stat.S_ISREG(found) and found & stat.S_IRWXO:
        with suppress(OSError):  # another user's
            os.fchmod(descriptor, stat.S_IMODE(found) & ~stat.S_IRWXO)
    return os.fdopen(descriptor, "ab", 0)
