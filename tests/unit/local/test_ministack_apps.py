"""What the local AWS puts in front of MiniStack: queries by their token, and the log of calls."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import pytest

from lakefeed_local.ministack.asgi import (
    Actions,
    App,
    Credential,
    OwnOrigin,
    Receive,
    Response,
    Scope,
    Send,
    read_body,
    request,
    respond,
)
from lakefeed_local.ministack.calls import CallLog
from lakefeed_local.ministack.queries import Queries


class Recorder:
    """An app that answers with documents of the test's own, and keeps the bodies of its calls."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self._answers = list(answers)
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append(await read_body(receive))
        await respond(send, Response(200, [], json.dumps(self._answers.pop(0)).encode()))


def scope_of(target: str, access_key: str = "test", **changes: Any) -> dict[str, Any]:
    headers = {
        "x-amz-target": target,
        "authorization": Credential(access_key, "eu-west-1", "athena").header(),
    }
    listed = [(name.encode(), text.encode()) for name, text in headers.items() if text]
    return {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": listed, **changes}


def call(app: App, target: str, access_key: str = "test", **data: Any) -> dict[str, Any]:
    answer = asyncio.run(request(app, scope_of(target, access_key), json.dumps(data).encode()))
    document: dict[str, Any] = json.loads(answer.body)
    return document


START = "AmazonAthena.StartQueryExecution"


def test_a_start_that_is_retried_is_the_same_query() -> None:
    app = Actions(Recorder({"QueryExecutionId": "1"}, {"QueryExecutionId": "2"}), Queries().actions)

    first, again = (call(app, START, QueryString="SELECT 1", ClientRequestToken="a") for _ in range(2))
    other = call(app, START, QueryString="SELECT 1", ClientRequestToken="b")

    assert (first, again, other) == ({"QueryExecutionId": "1"}, first, {"QueryExecutionId": "2"})


def test_a_token_belongs_to_one_statement_of_one_account() -> None:
    app = Actions(Recorder({"QueryExecutionId": "1"}, {"QueryExecutionId": "2"}), Queries().actions)
    call(app, START, QueryString="SELECT 1", ClientRequestToken="a")

    assert (
        call(app, START, QueryString="SELECT 2", ClientRequestToken="a")["__type"]
        == "InvalidRequestException"
    )
    other = call(app, START, "111111111111", QueryString="SELECT 2", ClientRequestToken="a")
    assert other == {"QueryExecutionId": "2"}


def test_starts_without_a_token_are_different_queries() -> None:
    app = Actions(Recorder({"QueryExecutionId": "1"}, {"QueryExecutionId": "2"}), Queries().actions)

    assert [call(app, START, QueryString="SELECT 1")["QueryExecutionId"] for _ in range(2)] == ["1", "2"]


def test_other_calls_pass_unchanged() -> None:
    behind = Recorder({}, {})
    app = Actions(behind, Queries().actions)

    asyncio.run(request(app, scope_of("AmazonAthena.ListWorkGroups"), b"{ }"))
    asyncio.run(request(app, scope_of(START), b"not JSON"))

    assert behind.bodies == [b"{ }", b"not JSON"]


def test_signed_calls_are_logged_and_passed_on() -> None:
    behind, file = Recorder({}, {}, {}, {}), io.StringIO()
    app = CallLog(behind, file)
    keys = b"<Delete><Object><Key>a &amp; b</Key></Object><Object><Key>c</Key></Object></Delete>"
    delete = scope_of("", "maintain", method="POST", path="/lake", query_string=b"delete")
    put = scope_of("", "consumer", method="PUT", path="/lake/a b.json", query_string=b"x-id=PutObject")
    health = {**scope_of(""), "headers": []}

    call(app, "AWSGlue.GetTable", "analytics", Name="orders")
    asyncio.run(request(app, put, b"{}"))
    asyncio.run(request(app, delete, keys))
    asyncio.run(request(app, health, b""))

    glue, s3, deleted = (json.loads(line) for line in file.getvalue().splitlines())
    assert (glue["access_key"], glue["target"], glue["body"]) == ("analytics", "GetTable", {"Name": "orders"})
    assert (s3["method"], s3["path"], s3["query"]) == ("PUT", "/lake/a b.json", {"x-id": ["PutObject"]})
    assert deleted["body"] == {"Keys": ["a & b", "c"]}
    assert behind.bodies == [b'{"Name": "orders"}', b"{}", keys, b""]


@pytest.mark.parametrize(
    ("origin", "status"),
    [("", 200), ("http://local-aws:4566", 200), ("http://evil.example", 403), ("null", 403)],
)
def test_pages_of_other_hosts_are_refused(origin: str, status: int) -> None:
    scope = scope_of(START)
    scope["headers"] += [(b"host", b"local-aws:4566"), *([(b"origin", origin.encode())] if origin else [])]
    assert asyncio.run(request(OwnOrigin(Recorder({})), scope, b"{}")).status == status
