"""TLS of outgoing connections: its files, which are read again at SIGHUP, and the ends of the daemon's certificates.

Tested by tests/integration/test_metrics.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from junebug_turn.daemon.options import DaemonOptions
from junebug_turn.errors import ConfigError
from junebug_turn.net.tls import ClientTls, TlsFiles

Expiries: TypeAlias = dict[str, Callable[[], float | None]]
"""The option or address of a certificate of ours -> returns the Unix time at which it ends, if that is known."""


class OutgoingTls:
    """The files of HTTPS and of the broker's connections; the latter read theirs themselves, each time.

    :param use: is given the policy of HTTPS, each time that its files are read
    :ivar expiries: has the listeners' certificates too, once they listen
    """

    def __init__(self, options: DaemonOptions, use: Callable[[ClientTls], None]) -> None:
        amqp = options.amqp
        self._files = TlsFiles(options.ca_file, options.client_cert_file, options.client_key_file)
        self._amqp_files = TlsFiles(amqp.ca_file, amqp.client_cert_file, amqp.client_key_file, "amqp.")
        self._use = use
        self.expiries: Expiries = {"amqp.client_cert_file": self._amqp_expiry}

    def renew(self) -> None:
        """Read the files of HTTPS.

        :raises ConfigError: they can't be used; then everything stays as it was
        """
        tls = self._files.load()
        self._use(tls)
        self.expiries["client_cert_file"] = lambda: tls.not_after

    def check_amqp(self) -> None:
        """Read the files of the broker's connections.

        :raises ConfigError: they can't be used
        """
        self._amqp_files.load()

    def _amqp_expiry(self) -> float | None:
        """Return when the certificate ends that the next connection will have; None while it can't be read."""
        if self._amqp_files.client_cert_file is None:
            return None
        try:
            return self._amqp_files.load().not_after
        except ConfigError:
            return None
