"""Certificates that a test makes on the spot: of an authority, and self-signed ones."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    trustRootFromCertificates,
)

_Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
_DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates, valid for a day; all files are in ``folder``.

    :ivar ca_file: its own certificate
    """

    def __init__(self, folder: Path, name: str = "test authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            self._builder(self._name, self._key)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_ca_usage(), critical=True)
        )
        self.ca_file = folder / f"{name.replace(' ', '-')}.pem"
        self.ca_file.write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))

    def issue(self, name: str) -> tuple[Path, Path]:
        """The files with a certificate for ``name``, a host's name or address, and with its key."""
        return self.issue_with(name, x509.SubjectAlternativeName([_subject(name)]))

    def issue_rsa(self, name: str) -> tuple[Path, Path]:
        """The same with an RSA key, which older cipher suites need."""
        key = rsa.generate_private_key(65537, 2048)
        return self.issue_with(name, x509.SubjectAlternativeName([_subject(name)]), key=key)

    def issue_with(
        self, name: str, *extensions: x509.ExtensionType, key: _Key | None = None
    ) -> tuple[Path, Path]:
        """The files with a certificate whose common name is ``name``, and with its key.

        :param extensions: in place of the subject alternative name
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = (
            self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        )
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        cert_file, key_file = self._folder / f"{name}-cert.pem", self._folder / f"{name}-key.pem"
        cert_file.write_bytes(_pem(certificate))
        key_file.write_bytes(_key_pem(key))
        return cert_file, key_file

    def server(self, name: str, *, ask_clients: bool = False) -> CertificateOptions:
        """The TLS of a server with a certificate for ``name``, that may want certificates of its clients."""
        cert_file, key_file = self.issue(name)
        return CertificateOptions(
            certificate=Certificate.loadPEM(cert_file.read_bytes()).original,
            privateKey=KeyPair.load(key_file.read_bytes(), 1).original,
            trustRoot=trustRootFromCertificates([Certificate.loadPEM(self.ca_file.read_bytes())])
            if ask_clients
            else None,
        )

    def _builder(self, subject: x509.Name, key: _Key) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            # Python 3.13 asks for both.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )


def _ca_usage() -> x509.KeyUsage:
    others = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment")
    others += ("key_agreement", "encipher_only", "decipher_only")
    return x509.KeyUsage(key_cert_sign=True, crl_sign=True, **dict.fromkeys(others, False))


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _subject(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def self_signed(host: str) -> PrivateCertificate:
    """Make a self-signed certificate for ``host``, a name or an address; valid for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "junebug-turn test")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([_subject(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return PrivateCertificate.loadPEM(_pem(certificate) + _key_pem(key))
