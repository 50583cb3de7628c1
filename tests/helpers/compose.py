"""What several tests know of docker-compose.yml."""

from __future__ import annotations

ONE_SHOT = ("broker-agent", "init")
"""Services whose containers end when they have done their work."""
