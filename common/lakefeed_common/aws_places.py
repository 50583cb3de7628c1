"""Resolves the endpoints of AWS services, in AWS's documented order, for every client.

Endpoint: `AWS_ENDPOINT_URL_<SERVICE>`, `AWS_ENDPOINT_URL`, the shared config file's `services` section, its
`endpoint_url`; none of them with `AWS_IGNORE_CONFIGURED_ENDPOINT_URLS`. Everything else in an address
(partition, FIPS, dual stack, a bucket name in the host) comes from botocore.
See https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html.
"""

from __future__ import annotations

import io
import os
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ProfileNotFound
from botocore.loaders import Loader, create_loader
from urllib3 import HTTPResponse

from lakefeed_common.errors import SettingsError
from lakefeed_common.settings import AwsSettings, check_endpoint

_FILES = "AWS's shared config and credentials files"
# Variables for a file of certificate authorities, in order of precedence. The config file's `ca_bundle` comes
# after the first one.
_BUNDLES = ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class BucketPlace:
    """The address of a bucket.

    Attributes:
        url: the prefix of an object's URL, ending with a slash.
        virtual: whether the bucket name is in the host instead of the path.
        region: the region for signatures.
        ca_bundle: PEM file of the trusted authorities; None for the system's.
    """

    url: str
    virtual: bool
    region: str
    ca_bundle: str | None

    def endpoint(self, bucket: str) -> str:
        """The address without the path, for obstore."""
        return self.url.rstrip("/") if self.virtual else self.url.removesuffix(f"/{bucket}/")


def profile() -> str:
    """The name of the profile in use."""
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or "default"


@contextmanager
def usable_configuration() -> Iterator[None]:
    """Translate whatever botocore raises for AWS's variables and shared files; nothing is sent in the block.

    Raises:
        SettingsError: they cannot be used.
    """
    try:
        yield
    except ProfileNotFound as error:
        raise SettingsError(
            f"AWS_PROFILE={profile()}: there is no such profile in {_FILES}. Add it there, or set another one"
        ) from error
    except (BotoCoreError, OSError, ValueError) as error:
        raise SettingsError(
            f"AWS's configuration cannot be used: {str(error).rstrip('.')}. Check the AWS_ variables and "
            f"{_FILES}"
        ) from error


def new_session(region: str | None = None) -> boto3.Session:
    """A session that shares botocore's models of the services with all others.

    Parsing them takes two thirds of the time in which a client is made.

    Raises:
        SettingsError: the shared config file, its profile or one of AWS's variables cannot be used.
    """
    with usable_configuration():
        made = boto3.Session(region_name=region)
        core: Any = made._session
        core.register_component("data_loader", _model_loader(core.get_config_variable("data_path")))
        for name, (option, variable, _, convert) in core.session_var_map.items():
            # botocore converts them when it first needs them, and its message does not name them.
            if convert is int:
                _check_number(core, name, option, variable)
    return made


def _check_number(core: Any, name: str, option: str, variable: str) -> None:
    try:
        core.get_config_variable(name)
    except ValueError:
        value = os.environ.get(variable)
        place = f"{option} of profile {profile()}" if value is None else variable
        value = core.get_scoped_config().get(option) if value is None else value
        raise SettingsError(f"{place}={value!r}: it should be a whole number") from None


@cache
def _model_loader(path: str | None) -> Loader:
    return create_loader(path)


def options(service: str, session: boto3.Session, settings: AwsSettings) -> tuple[dict[str, Any], Config]:
    """The arguments of a boto3 client for the service, and config options to merge.

    Raises:
        SettingsError: an endpoint or a file of authorities cannot be used.
    """
    endpoint = endpoint_url(service, settings, session)
    # AWS's current default; botocore has the old one.
    s3 = {"us_east_1_regional_endpoint": "regional"}
    if endpoint and not _section(session, "s3").get("addressing_style"):
        # S3-compatible servers rarely have a host name for each bucket.
        s3["addressing_style"] = "path"
    arguments = {"endpoint_url": endpoint, "verify": ca_bundle(session)}
    # If no endpoint is configured, botocore must not find one in the environment either.
    more: dict[str, Any] = {"s3": s3, "ignore_configured_endpoint_urls": True}
    return arguments, Config(**more)


def endpoint_url(service: str, settings: AwsSettings, session: boto3.Session | None = None) -> str | None:
    """The endpoint that is configured for a service; None for AWS's own.

    Raises:
        SettingsError: it is not a valid address.
    """
    given = settings.aws_endpoint_url
    if given and given != os.environ.get("AWS_ENDPOINT_URL"):
        # Set by the program, not by its environment.
        return given
    session = session or new_session()
    core: Any = session._session
    if core.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    variable = f"AWS_ENDPOINT_URL_{service.upper()}"
    services = core.full_config.get("services", {}).get(_scoped(session).get("services", ""), {})
    section = services.get(service, {})
    found = {
        variable: os.environ.get(variable),
        "AWS_ENDPOINT_URL": given,
        f"endpoint_url of {service} in AWS's shared config file": isinstance(section, dict)
        and section.get("endpoint_url"),
        "endpoint_url in AWS's shared config file": _scoped(session).get("endpoint_url"),
    }
    for source, url in found.items():
        if url:
            try:
                check_endpoint(url)
            except ValueError as error:
                raise SettingsError(f"{source}={url!r}: {error}") from None
            return str(url)
    return None


def describe(settings: AwsSettings, service: str | None = None) -> str:
    """The endpoint as text, for messages; without a service, those of all services in use."""
    own = f"AWS ({settings.aws_region})"
    try:
        session = new_session(settings.aws_region)
        if service:
            return endpoint_url(service, settings, session) or own
        places = {name: endpoint_url(name, settings, session) for name in ("s3", "glue", "athena")}
    except SettingsError:
        return settings.aws_endpoint_url or own
    if len(set(places.values())) == 1:
        return places["s3"] or own
    return f"{own}, with " + ", ".join(f"{name} at {url}" for name, url in places.items() if url)


def ca_bundle(session: boto3.Session) -> str | None:
    """The PEM file of the trusted authorities, for every client; None for the system's.

    Raises:
        SettingsError: it contains no certificates.
    """
    names = {
        _BUNDLES[0]: os.environ.get(_BUNDLES[0]),
        f"ca_bundle of profile {profile()} in AWS's shared config file": _scoped(session).get("ca_bundle"),
        **{name: os.environ.get(name) for name in _BUNDLES[1:]},
    }
    for name, path in names.items():
        if path:
            try:
                _check_certificates(path, Path(path).stat().st_mtime_ns)
            except OSError as error:
                raise SettingsError(
                    f"{name}={path}: no certificates can be read from it ({error.strerror or error})"
                ) from None
            return str(path)
    return None


@lru_cache(maxsize=16)
def _check_certificates(path: str, _modified: int) -> None:
    ssl.create_default_context(cafile=path)


def bucket_place(bucket: str, settings: AwsSettings) -> BucketPlace:
    """The address to which boto3 would put an object of the bucket; nothing is sent.

    Raises:
        SettingsError: see `options` and `new_session`.
    """
    session = new_session(settings.aws_region)
    arguments, config = options("s3", session, settings)
    sent: list[str] = []

    def keep(request: AWSPreparedRequest, **_: object) -> Any:
        sent.append(request.url)
        raw: Any = HTTPResponse(io.BytesIO(), preload_content=False)
        return AWSResponse(request.url, 200, HTTPHeaders(), raw)

    with usable_configuration():
        client = session.client("s3", config=Config(signature_version=UNSIGNED).merge(config), **arguments)
        with closing(client):
            client.meta.events.register("before-send.s3.HeadObject", keep)
            client.head_object(Bucket=bucket, Key="k")
    url = sent[0].removesuffix("k")
    virtual = not url.endswith(f"/{bucket}/")
    return BucketPlace(url, virtual, client.meta.region_name, arguments["verify"])


def _scoped(session: boto3.Session) -> dict[str, Any]:
    core: Any = session._session
    found: dict[str, Any] = core.get_scoped_config()
    return found


def _section(session: boto3.Session, name: str) -> dict[str, Any]:
    found = _scoped(session).get(name)
    return found if isinstance(found, dict) else {}
