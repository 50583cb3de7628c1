"""Lets all boto3 sessions of a process read AWS's descriptions of its services once.

Each session has a loader of its own, which parses megabytes of JSON for each client: a test's six clients
would take more of the processor than what it does with them.
"""

from __future__ import annotations

import botocore.loaders
import botocore.session


def share_loader() -> None:
    """Give every session from now on the same loader, as all clients of one session have it."""
    loader = botocore.loaders.create_loader()
    setattr(botocore.session, "create_loader", lambda *_: loader)  # noqa: B010 - no name of its interface
