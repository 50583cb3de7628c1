"""The fast client over TLS: a server with an invalid certificate receives nothing."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from lakefeed_common.settings import load
from lakefeed_consumer.object_store import StoreUnavailableError
from lakefeed_consumer.s3.client import open_store
from lakefeed_consumer.s3.fast.store import FastObjectStore
from lakefeed_consumer.settings import ConsumerSettings
from tests.helpers.consuming import ReadsOnly, run
from tests.helpers.seaweed import SeaweedS3, access


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedS3]:
    """A server whose certificate is for `localhost`, and for no address."""
    folder = tmp_path_factory.mktemp("tls")
    certificate = authority.issue_cert("localhost")
    chain, key = folder / "certificate.pem", folder / "key.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    certificate.private_key_pem.write_to_path(str(key))
    with SeaweedS3(folder / "seaweed", (chain, key)) as running:
        yield running


@pytest.fixture
def bucket(server: SeaweedS3, topic: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in access(f"https://localhost:{server.https_port}").items():
        monkeypatch.setenv(name, value)
    server.client().create_bucket(Bucket=topic)
    return topic


def trust(authority: trustme.CA, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Their authorities would take precedence.
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    authority.cert_pem.write_to_path(str(folder / "authority.pem"))
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(folder / "authority.pem"))


def keys(server: SeaweedS3, bucket: str) -> list[str]:
    found = server.client().list_objects_v2(Bucket=bucket).get("Contents", [])
    return [entry["Key"] for entry in found]


def test_a_server_with_a_good_certificate_gets_the_objects(
    server: SeaweedS3,
    bucket: str,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trust(authority, tmp_path, monkeypatch)
    settings = load(ConsumerSettings, {"bucket": bucket})
    store = FastObjectStore(settings, ReadsOnly(settings))

    async def scenario() -> None:
        for n in range(20):
            await store.create(f"events/{n}.json", b"{}" * n)

    run(store, scenario)
    assert len(keys(server, bucket)) == 20


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "AWS_CA_BUNDLE"])
def test_obstore_trusts_the_same_authority(
    variable: str,
    server: SeaweedS3,
    bucket: str,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv(variable, str(tmp_path / "authority.pem"))
    store = open_store(load(ConsumerSettings, {"bucket": bucket, "s3_client": "obstore"}))

    async def scenario() -> None:
        await store.create("events/a.json", b"{}")

    run(store, scenario)
    assert keys(server, bucket) == ["events/a.json"]


@pytest.mark.parametrize("wrong", ["authority", "name"])
def test_a_server_with_a_wrong_certificate_gets_nothing(
    server: SeaweedS3,
    bucket: str,
    authority: trustme.CA,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    wrong: str,
) -> None:
    caplog.set_level("INFO")
    if wrong == "name":
        trust(authority, tmp_path, monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://127.0.0.1:{server.https_port}")
    else:
        trust(trustme.CA(), tmp_path, monkeypatch)
    store = open_store(load(ConsumerSettings, {"bucket": bucket}))

    async def scenario() -> None:
        with pytest.raises(StoreUnavailableError):
            await store.create("events/a.json", b"{}")

    run(store, scenario)
    assert "certificate verify failed" in caplog.text
    assert keys(server, bucket) == []
