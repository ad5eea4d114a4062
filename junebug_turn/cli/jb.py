"""The command ``jb``, that of Junebug: the daemon in the foreground, with Junebug's flags and its ``junebug.yml``.

It is ``twistd junebug-turn jb``, with the log where Junebug had it.

Tested by tests/integration/test_old_deployment.py.
"""

from __future__ import annotations

import sys

from twisted.scripts import twistd

from junebug_turn.daemon.junebug.command_line import log_file


def main() -> None:
    """Run the daemon until a signal stops it."""
    argv = sys.argv[1:]
    # Also prints the help, or what is wrong with the line.
    file = log_file(argv)
    log = [] if file is None else [f"--logfile={file}"]
    sys.argv[1:] = ["--nodaemon", "--pidfile=", *log, "junebug-turn", "jb", *argv]
    twistd.run()


if __name__ == "__main__":
    main()
