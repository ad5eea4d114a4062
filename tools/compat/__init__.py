"""Compatibility, ``make compat``: the tests on the servers of Debian 13, and on the oldest Twisted."""
