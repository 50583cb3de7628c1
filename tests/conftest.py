"""What holds for all tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# A busy machine is slow; that alone is no failure.
settings.register_profile("lakefeed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lakefeed")
os.environ.setdefault("LAKEFEED_LOCAL_START_SECONDS", "150")
