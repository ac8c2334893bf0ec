"""Throw-away certificates for mutual TLS: an authority of this run, a node and an agent."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAYS: Final = 2


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files below one directory."""

    directory: Path

    def certificate(self, who: str) -> Path:
        """Of `authority`, `node` or `agent`, PEM."""
        return self.directory / f"{who}.pem"

    def key(self, who: str) -> Path:
        """Of `node` or `agent`, PEM."""
        return self.directory / f"{who}.key"

    def client_context(self) -> ssl.SSLContext:
        """Trusts the node alone, and shows who the agent is."""
        context = ssl.create_default_context(cafile=self.certificate("authority"))
        context.load_cert_chain(self.certificate("agent"), self.key("agent"))
        return context

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        """Writes them."""
        made = cls(directory)
        authority = ec.generate_private_key(ec.SECP256R1())
        for who in ("authority", "node", "agent"):
            key = authority if who == "authority" else ec.generate_private_key(ec.SECP256R1())
            certificate = _certificate(who, key, authority)
            made.certificate(who).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
            if who != "authority":
                _write_key(made.key(who), key)
        return made


def _certificate(
    who: str, key: ec.EllipticCurvePrivateKey, authority: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    is_authority = key is authority
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(who))
        .issuer_name(_name("authority"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
        .add_extension(_usage(is_authority=is_authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),
            critical=False,
        )
    )
    if not is_authority:
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    return builder.sign(authority, hashes.SHA256())


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(who: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"asys benchmark {who}")])


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
