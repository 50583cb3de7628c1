"""Looks for planted secrets in what a service shows."""

from __future__ import annotations

import base64
import json
import urllib.parse

from tests.helpers.credentials import PASSWORD, USER

SECRET_KEY = "planted+secret/key-0c1d"
SESSION_TOKEN = "planted+session/token-7a9e"
SECRETS = (PASSWORD, SECRET_KEY, SESSION_TOKEN)
# A signed request is as good as a password for as long as it lasts.
_SIGNED = ("X-Amz-Signature=", base64.b64encode(b"https://kafka.")[:18].decode())


def leaks(text: str) -> list[str]:
    """What of the secrets is in a text, as it is, quoted for JSON or an address, or encoded."""
    forms = {
        form: secret
        for secret in SECRETS
        for form in (
            secret,
            json.dumps(secret)[1:-1],
            urllib.parse.quote(secret, safe=""),
            base64.b64encode(secret.encode()).decode().rstrip("="),
            base64.b64encode(f"\0{USER}\0{secret}".encode()).decode().rstrip("="),
        )
    }
    return [f"{secret} as {form}" for form, secret in forms.items() if form in text] + [
        word for word in _SIGNED if word in text
    ]
