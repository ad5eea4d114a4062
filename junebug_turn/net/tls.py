"""TLS of outgoing connections: the trusted authorities, and the daemon's own certificate."""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import frozen
from OpenSSL import SSL, crypto
from service_identity.hazmat import DNS_ID, IPAddress_ID, verify_service_identity
from service_identity.pyopenssl import extract_patterns
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.python.failure import Failure
from twisted.web.iweb import IPolicyForHTTPS
from zope.interface import implementer

from junebug_turn.errors import ConfigError
from junebug_turn.net.addresses import ascii_name

_FORWARD_SECRET = b"ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:ECDHE+AES:DHE+AES:!aNULL:!MD5:!DSS"
"""Cipher suites of TLS 1.2, in OpenSSL's form; TLS 1.3 has no others.

They are Twisted's without those in which whoever gets the server's key later can read what was recorded before.
"""

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class CertificateRefused(Exception):
    """A certificate of a trusted authority is not for the host that was asked for."""


@implementer(IOpenSSLClientConnectionCreator)
class _VerifiedConnections:
    """Creator of TLS connections to one host, whose certificate is verified within the handshake.

    Twisted's own creator (``optionsForClientTLS``) ends a connection only after service-identity's VerificationError
    in some of its versions, and a certificate without any name for a host raises another exception.  Here every
    exception ends the handshake, before anything of ours is sent: our certificate neither.

    :param host: a name or an address
    """

    def __init__(self, host: str, context: SSL.Context) -> None:
        self._host = host
        self._context = context
        self._server_name: bytes | None = None
        self._identity: DNS_ID | IPAddress_ID
        try:
            self._identity = IPAddress_ID(str(ip_address(host)))
        except ValueError:
            name = ascii_name(host)
            self._identity = DNS_ID(name)
            self._server_name = name.encode("ascii")

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """Make a connection for a ``TLSMemoryBIOProtocol``."""
        connection = SSL.Connection(self._context)
        connection.set_app_data(tlsProtocol)
        if self._server_name is not None:
            connection.set_tlsext_host_name(self._server_name)
        connection.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._verify)
        return connection

    def _verify(
        self, connection: SSL.Connection, certificate: crypto.X509, fault: int, depth: int, trusted: int
    ) -> bool:
        """Verify one certificate of the chain; OpenSSL calls it for each, the server's own last, at depth 0."""
        if depth > 0 or not trusted:
            return bool(trusted)
        try:
            verify_service_identity(extract_patterns(certificate), [self._identity], [])
        except Exception as error:
            refused = CertificateRefused(f"the server's certificate is not for {self._host}")
            refused.__cause__ = error
            connection.get_app_data().failVerification(Failure(refused))
            return False
        return True


def not_after(*certificates: crypto.X509) -> float:
    """Return the Unix time at which the first of these certificates ends."""
    return min(each.to_cryptography().not_valid_after_utc.timestamp() for each in certificates)


def context_of(options: CertificateOptions) -> SSL.Context:
    """Return the TLS context of ``options``, of either side, with forward secrecy."""
    context: SSL.Context = options.getContext()
    context.set_cipher_list(_FORWARD_SECRET)
    return context


@implementer(IPolicyForHTTPS)
@frozen
class ClientTls:
    """TLS policy of a client, also of an HTTP client.

    The other side's certificate is always verified, for the name or address that was asked for.

    :ivar trust_root: the authorities that may sign it, as ``CertificateOptions`` takes them; None: the platform's
    :ivar own: the options of ``CertificateOptions`` for our own certificate
    """

    trust_root: Any = None
    own: tuple[tuple[str, Any], ...] = ()

    def creator(self, hostname: str) -> IOpenSSLClientConnectionCreator:
        """Return the creator of TLS connections to ``hostname``."""
        options: Any = dict(self.own)
        certificates = CertificateOptions(trustRoot=self.trust_root or platformTrust(), **options)
        return _VerifiedConnections(hostname, context_of(certificates))

    def creatorForNetloc(self, hostname: bytes, port: int) -> IOpenSSLClientConnectionCreator:
        """Do the same for an HTTP client."""
        return self.creator(hostname.decode("ascii"))

    @property
    def not_after(self) -> float | None:
        """The Unix time at which our own certificate ends: see ``not_after``; None where there is none."""
        own = dict(self.own)
        return not_after(own["certificate"], *own["extraCertChain"]) if own else None

    def anonymous(self) -> ClientTls:
        """Return the same policy without our own certificate, which not every server needs to see."""
        return ClientTls(self.trust_root)


@frozen
class TlsFiles:
    """Files of the policy for outgoing TLS, in PEM.

    :ivar ca_file: the authorities that are trusted in place of the platform's
    :ivar client_cert_file: our certificate, followed by those between it and its authority
    :ivar client_key_file: its key, unencrypted; None where it stands in ``client_cert_file``
    :ivar prefix: the beginning of the options' names, as ``amqp.``
    """

    ca_file: str | None
    client_cert_file: str | None
    client_key_file: str | None
    prefix: str = ""

    def load(self) -> ClientTls:
        """Read the files as they are now.

        :raises ConfigError: one can't be read, or they don't belong together
        """
        trust_root: Any = None
        if self.ca_file is not None:
            trust_root = trustRootFromCertificates(self._certificates("ca_file", self.ca_file))
        if self.client_cert_file is None:
            if self.client_key_file is not None:
                raise ConfigError(f"{self.prefix}client_key_file: needs {self.prefix}client_cert_file")
            return ClientTls(trust_root)
        first, *chain = self._certificates("client_cert_file", self.client_cert_file)
        in_one = self.client_key_file is None
        key = self._key(
            "client_cert_file" if in_one else "client_key_file", self.client_key_file or self.client_cert_file
        )
        if first.original.to_cryptography().public_key() != key.original.to_cryptography_key().public_key():
            raise ConfigError(
                f"{self.prefix}client_cert_file: {self.client_cert_file} and the key don't belong together"
            )
        own = {
            "certificate": first.original,
            "privateKey": key.original,
            "extraCertChain": [certificate.original for certificate in chain],
        }
        return ClientTls(trust_root, tuple(own.items()))

    def _read(self, option: str, path: str) -> bytes:
        try:
            return Path(path).read_bytes()
        except OSError as error:
            raise ConfigError(f"{self.prefix}{option}: can't read {path}: {error.strerror}") from None

    def _certificates(self, option: str, path: str) -> list[Any]:
        found = _CERTIFICATE.findall(self._read(option, path))
        try:
            certificates = [Certificate.loadPEM(pem) for pem in found]
        except (crypto.Error, ValueError):
            certificates = []
        if not certificates:
            raise ConfigError(f"{self.prefix}{option}: {path} has no certificate that can be read")
        return certificates

    def _key(self, option: str, path: str) -> Any:
        try:
            # The passphrase keeps OpenSSL from asking the terminal for one.
            key: Any = crypto.load_privatekey(crypto.FILETYPE_PEM, self._read(option, path), b"")
            return KeyPair(key)
        except (crypto.Error, ValueError, TypeError):
            raise ConfigError(
                f"{self.prefix}{option}: {path} has no unencrypted key that can be read"
            ) from None
