"""SeaweedFS as a child process: an S3 server with conditional puts that keeps up with the consumer."""

from __future__ import annotations

import json
import sys
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from obstore.store import S3Store

from lakefeed_local.process import Child
from tests.helpers.services import free_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_START_SECONDS = 60
REGION = "us-east-1"
ACCESS_KEY, RENEWED_KEY, SECRET_KEY = "chaos", "chaos-renewed", "chaos-secret"
_USERS = {
    "identities": [
        {
            "name": "chaos",
            "credentials": [{"accessKey": key, "secretKey": SECRET_KEY} for key in (ACCESS_KEY, RENEWED_KEY)],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
    ]
}


class SeaweedS3:
    """SeaweedFS's S3 server with its own master, volume server and filer, from `with` to the end of it.

    Args:
        certificate: PEM files of a certificate and of its key, for `https_port`; none is no TLS.

    Attributes:
        filer: address of the filer in the form that `weed` takes: host:port.grpc-port.
        metrics_port: where its own metrics are served.
    """

    def __init__(self, folder: Path, certificate: tuple[Path, Path] | None = None) -> None:
        self._folder = folder.absolute()
        self._certificate = certificate
        self._child: Child | None = None

    def __enter__(self) -> Self:
        data = self._folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        users = self._folder / "s3.json"
        users.write_text(json.dumps(_USERS))
        # It listens on some of them seconds after others: an outgoing connection could have taken one.
        numbers = count(free_port(10))
        self.port, self.metrics_port = next(numbers), next(numbers)
        ports = {name: next(numbers) for name in ("master", "volume", "filer")}
        grpc_ports = {name: next(numbers) for name in (*ports, "s3")}
        self.filer = f"127.0.0.1:{ports['filer']}.{grpc_ports['filer']}"
        options = {
            "dir": data,
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            # The ports of gRPC would be these plus 10,000: taken, perhaps.
            **{f"{name}.port": port for name, port in ports.items()},
            **{f"{name}.port.grpc": port for name, port in grpc_ports.items()},
            "metricsPort": self.metrics_port,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 256,
            # Each bucket takes seven at least; they are empty until used.
            "volume.max": 2000,
            "volume.preStopSeconds": 0,
            "s3": "true",
            "s3.port": self.port,
            "s3.config": users,
            "s3.iam": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            # A bucket that does not exist must not be created by a put.
            "s3.autoCreateBucket": "false",
            **{f"{name}.localSocket": self._folder / f"{name}.sock" for name in ("s3", "filer")},
        }
        if self._certificate is not None:
            self.https_port = next(numbers)
            files = dict(zip(("s3.cert.file", "s3.key.file"), self._certificate, strict=True))
            options |= {"s3.port.https": self.https_port, **files}
        weed = Path(sys.executable).with_name("weed")
        arguments = [f"-{name}={value}" for name, value in options.items()]
        log = self._folder / "seaweedfs.log"
        self._child = Child("SeaweedFS", [str(weed), "server", *arguments], log, grace_seconds=1)
        try:
            self._child.wait_until(self._serves, _START_SECONDS)
        except BaseException:
            self._child.stop()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.stop()

    @property
    def endpoint_url(self) -> str:
        """The server itself, behind any proxy."""
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> S3Client:
        """boto3's client of the server itself."""
        return boto3.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION).client(
            "s3", endpoint_url=self.endpoint_url
        )

    def objects(self, bucket: str) -> S3Store:
        """obstore's view of a bucket of the server itself."""
        return S3Store(
            bucket,
            endpoint=self.endpoint_url,
            region=REGION,
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def _serves(self) -> bool:
        """Whether an object can be stored: the port opens before the volume server has volumes."""
        client = self.client()
        try:
            if not any(bucket.get("Name") == "ready" for bucket in client.list_buckets()["Buckets"]):
                client.create_bucket(Bucket="ready")
            client.put_object(Bucket="ready", Key="ready", Body=b"{}")
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True


def access(endpoint_url: str) -> dict[str, str]:
    """AWS's variables that lead to the server, or to a proxy before it."""
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
