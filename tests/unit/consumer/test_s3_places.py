"""A table of AWS's variables and config files: each client of AWS uses the addresses that they give."""

from __future__ import annotations

import asyncio
import base64
import codecs
import io
import os
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import obstore
import pytest
import trustme
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from urllib3 import HTTPResponse

from lakefeed_common import aws
from lakefeed_common.errors import SettingsError
from lakefeed_common.settings import load
from lakefeed_consumer.s3.fast.store import FastObjectStore
from lakefeed_consumer.s3.obstore import ObstoreObjectStore
from lakefeed_consumer.settings import ConsumerSettings

KEY = "events/t/dt=2026-01-01/00000-00000000000000000000.json"


@dataclass(frozen=True)
class Case:
    """Variables and a config file; `url` is the bucket's, and `services` the endpoints of others."""

    name: str
    variables: dict[str, str]
    url: str
    region: str = "us-east-1"
    config: str = ""
    bucket: str = "lake"
    services: dict[str, str] = field(default_factory=dict)


OWN, OTHER = "http://store.test:9000", "https://other.test"
PRIVATE = "[default]\nregion=eu-west-3\nendpoint_url=http://all.test:1\nservices=mine\n[services mine]\n"
CASES = [
    Case("nothing", {}, "https://lake.s3.us-east-1.amazonaws.com/"),
    Case("a region", {"AWS_REGION": "eu-west-1"}, "https://lake.s3.eu-west-1.amazonaws.com/", "eu-west-1"),
    Case(
        "the default region",
        {"AWS_DEFAULT_REGION": "eu-west-1"},
        "https://lake.s3.eu-west-1.amazonaws.com/",
        "eu-west-1",
    ),
    Case(
        "both regions",
        {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-2"},
        "https://lake.s3.eu-west-1.amazonaws.com/",
        "eu-west-1",
    ),
    Case(
        "a region of the config file",
        {},
        "https://lake.s3.eu-west-3.amazonaws.com/",
        "eu-west-3",
        "[default]\nregion=eu-west-3\n",
    ),
    Case(
        "a region of a profile",
        {"AWS_PROFILE": "work"},
        "https://lake.s3.eu-west-3.amazonaws.com/",
        "eu-west-3",
        "[profile work]\nregion=eu-west-3\n",
    ),
    Case(
        "China",
        {"AWS_REGION": "cn-north-1"},
        "https://lake.s3.cn-north-1.amazonaws.com.cn/",
        "cn-north-1",
        services={"glue": "https://glue.cn-north-1.amazonaws.com.cn"},
    ),
    Case(
        "GovCloud",
        {"AWS_REGION": "us-gov-west-1"},
        "https://lake.s3.us-gov-west-1.amazonaws.com/",
        "us-gov-west-1",
    ),
    Case(
        "dots in the bucket",
        {"AWS_REGION": "cn-north-1"},
        "https://s3.cn-north-1.amazonaws.com.cn/lake.of.dots/",
        "cn-north-1",
        bucket="lake.of.dots",
    ),
    Case(
        "dual stack",
        {"AWS_REGION": "eu-west-1", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        "https://lake.s3.dualstack.eu-west-1.amazonaws.com/",
        "eu-west-1",
    ),
    Case(
        "FIPS",
        {"AWS_REGION": "us-east-2", "AWS_USE_FIPS_ENDPOINT": "true"},
        "https://lake.s3-fips.us-east-2.amazonaws.com/",
        "us-east-2",
    ),
    Case("an endpoint", {"AWS_ENDPOINT_URL": OWN}, f"{OWN}/lake/", services={"glue": OWN, "athena": OWN}),
    Case("an IPv6 endpoint", {"AWS_ENDPOINT_URL": "http://[::1]:9000"}, "http://[::1]:9000/lake/"),
    Case("a slash behind it", {"AWS_ENDPOINT_URL": f"{OWN}/"}, f"{OWN}/lake/"),
    Case(
        "an endpoint of S3",
        {"AWS_ENDPOINT_URL_S3": OWN},
        f"{OWN}/lake/",
        services={"glue": "https://glue.us-east-1.amazonaws.com"},
    ),
    Case(
        "endpoints of all and of S3",
        {"AWS_ENDPOINT_URL": OTHER, "AWS_ENDPOINT_URL_S3": OWN},
        f"{OWN}/lake/",
        services={"glue": OTHER, "athena": OTHER},
    ),
    Case(
        "endpoints of Glue and Athena",
        {"AWS_ENDPOINT_URL_GLUE": OWN, "AWS_ENDPOINT_URL_ATHENA": OTHER},
        "https://lake.s3.us-east-1.amazonaws.com/",
        services={"glue": OWN, "athena": OTHER},
    ),
    Case(
        "ignored endpoints",
        {
            "AWS_ENDPOINT_URL": OTHER,
            "AWS_ENDPOINT_URL_S3": OWN,
            "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true",
        },
        "https://lake.s3.us-east-1.amazonaws.com/",
        services={"glue": "https://glue.us-east-1.amazonaws.com"},
    ),
    Case(
        "endpoints of the config file",
        {},
        f"{OWN}/lake/",
        "eu-west-3",
        f"{PRIVATE}s3=\n  endpoint_url={OWN}\n",
        services={"glue": "http://all.test:1"},
    ),
    Case(
        "a variable before the config file",
        {"AWS_ENDPOINT_URL": OTHER},
        f"{OTHER}/lake/",
        "eu-west-3",
        f"{PRIVATE}s3=\n  endpoint_url={OWN}\n",
    ),
    Case(
        "ignored endpoints of the config file",
        {},
        "https://lake.s3.eu-west-3.amazonaws.com/",
        "eu-west-3",
        PRIVATE.replace("services=", "ignore_configured_endpoint_urls=true\nservices="),
    ),
    Case(
        "a server with a name for each bucket",
        {"AWS_ENDPOINT_URL": OTHER},
        "https://lake.other.test/",
        config="[default]\ns3=\n  addressing_style=virtual\n",
    ),
    Case(
        "obstore's own variables",
        {
            "AWS_ENDPOINT": OTHER,
            "AWS_BUCKET": "other",
            "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false",
            "AWS_SKIP_SIGNATURE": "true",
            "AWS_UNSIGNED_PAYLOAD": "true",
            "AWS_S3_EXPRESS": "true",
            "AWS_SERVER_SIDE_ENCRYPTION": "aws:kms",
            "AWS_REQUEST_PAYER": "true",
        },
        "https://lake.s3.us-east-1.amazonaws.com/",
    ),
]


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("AWS_") or name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


def by_boto3(settings: ConsumerSettings) -> tuple[str, str]:
    sent: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: object) -> Any:
        sent.append(request)
        return AWSResponse(request.url, 200, HTTPHeaders(), HTTPResponse(io.BytesIO(), preload_content=False))

    client = aws.client("s3", settings)
    client.meta.events.register("before-send.s3.PutObject", keep)
    client.put_object(Bucket=settings.bucket, Key=KEY, Body=b"{}")
    signed = sent[0].headers["Authorization"]
    text = signed.decode() if isinstance(signed, bytes) else signed
    return unquote(sent[0].url), text.split("/")[2]


def by_obstore(store: ObstoreObjectStore) -> tuple[str, str]:
    url = urlsplit(obstore.sign(store._store, "PUT", KEY, timedelta(minutes=1)))
    (credential,) = parse_qs(url.query)["X-Amz-Credential"]
    return f"{url.scheme}://{url.netloc}{unquote(url.path)}", credential.split("/")[2]


async def by_fast(settings: ConsumerSettings, fallback: ObstoreObjectStore) -> tuple[str, str]:
    store = FastObjectStore(settings, fallback)
    keys = store._keys.current(0)
    assert keys is not None
    head = store._signer.header(KEY, b"{}", {}, keys, 0).decode()
    path, host = head.split(" ")[1], head.split("Host: ")[1].split("\r\n")[0]
    server = store._connections.server
    scheme = "https" if server.tls else "http"
    # The connection goes to the host of the header.
    assert urlsplit(f"//{host}").hostname == server.addresses._host == server.name
    assert (urlsplit(f"//{host}").port or (443 if server.tls else 80)) == server.port
    await store.close()
    return f"{scheme}://{host}{path}", head.split("Credential=")[1].split("/")[2]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_each_client_uses_the_address_of_the_table(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(case.config)
    for name, value in case.variables.items():
        monkeypatch.setenv(name, value)
    settings = load(ConsumerSettings, {"bucket": case.bucket})
    assert settings.aws_region == case.region
    store = ObstoreObjectStore(settings)
    expected = f"{case.url}{KEY}", case.region
    assert by_boto3(settings) == expected
    assert by_obstore(store) == expected
    assert asyncio.run(by_fast(settings, store)) == expected
    for service, url in case.services.items():
        assert aws.client(service, settings).meta.endpoint_url == url


def test_opening_the_store_does_not_change_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", OWN)
    before = dict(os.environ)
    ObstoreObjectStore(load(ConsumerSettings))
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("variables", "config", "complaint"),
    [
        ({"AWS_ENDPOINT_URL_S3": "store.test"}, "", "AWS_ENDPOINT_URL_S3='store.test'"),
        ({"AWS_ENDPOINT_URL": "store.test"}, "", "AWS_ENDPOINT_URL='store.test'"),
        (
            {},
            "[default]\nca_bundle=/nowhere.pem\n",
            "ca_bundle of profile default in AWS's shared config file=/nowhere.pem: no certificates",
        ),
        ({}, "[default]\nendpoint_url=http://a/b\n", "endpoint_url in AWS's shared config file='http://a/b'"),
        ({"AWS_DEFAULT_REGION": "Europe!"}, "", "AWS_DEFAULT_REGION='Europe!'"),
        ({"AWS_CA_BUNDLE": "/nowhere.pem"}, "", "AWS_CA_BUNDLE=/nowhere.pem: no certificates can be read"),
        (
            {"LAKEFEED_BUCKET": "a.b.c"},
            "[default]\ns3 =\n  use_accelerate_endpoint = true\n",
            "AWS's configuration cannot be used",
        ),
    ],
)
def test_an_unusable_value_is_named_with_its_source(
    variables: dict[str, str],
    config: str,
    complaint: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "config").write_text(config)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        ObstoreObjectStore(load(ConsumerSettings))
    assert complaint in str(caught.value)


@pytest.mark.parametrize("source", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "config"])
def test_each_client_trusts_the_authorities_of_one_file(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "own.pem"
    trustme.CA().cert_pem.write_to_path(file)
    (tmp_path / "config").write_text(f"[default]\nca_bundle={file}\n" if source == "config" else "")
    if source != "config":
        monkeypatch.setenv(source, str(file))
    settings = load(ConsumerSettings)
    store = ObstoreObjectStore(settings)
    assert aws.client("s3", settings)._endpoint.http_session._verify == str(file)
    given = store._store.client_options
    assert given is not None
    assert file.read_bytes() in (given["root_certificate"], str(given["root_certificate"]).encode())
    fast = FastObjectStore(settings, store)._connections.server.tls
    assert fast is not None
    assert len(fast.get_ca_certs()) == 1


def test_obstore_gets_every_certificate_of_a_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    server = authority.issue_cert("store.test").cert_chain_pems[0]
    content = b"# Own authorities\n" + authority.cert_pem.bytes() + server.bytes()
    (tmp_path / "own.pem").write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "own.pem"))
    given = ObstoreObjectStore(load(ConsumerSettings))._store.client_options
    assert given is not None
    found = given["root_certificate"]
    assert (found.encode() if isinstance(found, str) else found) == content


@pytest.mark.parametrize("form", ["mark", "trusted"])
def test_obstore_gets_each_form_of_a_certificate_that_openssl_reads(
    form: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pem = trustme.CA().cert_pem.bytes()
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    if form == "trusted":
        # The certificate, then what it is trusted for: here nothing in particular.
        lines = base64.encodebytes(der + bytes([0x30, 0])).decode()
        text = f"-----BEGIN TRUSTED CERTIFICATE-----\n{lines}-----END TRUSTED CERTIFICATE-----\n".encode()
    else:
        text = codecs.BOM_UTF8 + pem
    (tmp_path / "own.pem").write_bytes(text)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "own.pem"))
    given = ObstoreObjectStore(load(ConsumerSettings))._store.client_options
    assert given is not None
    found = given["root_certificate"]
    assert ssl.PEM_cert_to_DER_cert(found if isinstance(found, str) else found.decode()) == der
