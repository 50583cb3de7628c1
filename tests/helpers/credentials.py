"""Who comes to a secured broker, and what they show: passwords, tokens, certificates; right and wrong."""

from __future__ import annotations

import base64
import datetime
import json
import time
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

# May do everything; as the user of certificates, of passwords and of tokens.
USER = "lakefeed"
PASSWORD = "right-password-5f3c"
WRONG_PASSWORD = "wrong-password-91ab"
# May see topics, and nothing else.
STRANGER = "stranger"


def unsecured_token(user: str, seconds: float) -> str:
    """A token for so long that Kafka's own validator for tests takes: it has no signature."""
    now = time.time()

    def part(content: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()

    claims: dict[str, object] = {"sub": user, "iat": now - 1, "exp": now + seconds}
    return f"{part({'alg': 'none'})}.{part(claims)}."


def write_certificates(folder: Path) -> None:
    """Write PEM files: authorities `ca` and `other-ca`; certificates with their keys.

    `server` is for localhost, `otherhost` for another name, `expired` ended yesterday. `client`,
    `other-client` (of the other authority) and `expired-client` are those of `USER`.
    """
    authority, other = trustme.CA(), trustme.CA()
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    for name, signer in (("ca", authority), ("other-ca", other)):
        signer.cert_pem.write_to_path(str(folder / f"{name}.pem"))
    made = {
        "server": authority.issue_cert("localhost", "127.0.0.1"),
        "otherhost": authority.issue_cert("kafka.example.com"),
        "expired": authority.issue_cert("localhost", "127.0.0.1", not_after=yesterday),
        "client": authority.issue_cert("lakefeed@example.com", common_name=USER),
        "other-client": other.issue_cert("lakefeed@example.com", common_name=USER),
        "expired-client": authority.issue_cert("lakefeed@example.com", common_name=USER, not_after=yesterday),
    }
    for name, certificate in made.items():
        chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
        (folder / f"{name}.pem").write_bytes(_pkcs8(certificate.private_key_pem.bytes()) + chain)


def _pkcs8(key: bytes) -> bytes:
    """The key in the one form that Java reads."""
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
