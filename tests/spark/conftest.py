"""The servers of the integration tests, and the environment of Spark, which `make spark-test` installs."""

from __future__ import annotations

from tests.integration.conftest import (  # noqa: F401 - fixtures
    account,
    athena,
    aws,
    bucket,
    glue,
    kafka,
    s3,
    shared_aws,
    shared_folder,
    topic,
)
