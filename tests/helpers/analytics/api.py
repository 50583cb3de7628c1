"""The HTTP API of an analytics service that runs elsewhere, in a container or a cluster."""

from __future__ import annotations

from typing import Any

import httpx

from tests.helpers.waiting import wait_for


def answer(api: httpx.Client, sql: str) -> list[dict[str, Any]]:
    """Run a query through the API and page through its rows."""
    started = api.post("/v1/queries", json={"sql": sql}).raise_for_status().json()

    def end() -> Any:
        query = api.get(f"/v1/queries/{started['id']}").raise_for_status().json()
        return query if query["state"] in ("SUCCEEDED", "FAILED", "CANCELLED") else None

    ended = wait_for(end, 120, f"the end of {sql}", every=0.5)
    assert ended["state"] == "SUCCEEDED", ended
    rows: list[dict[str, Any]] = []
    page: str | None = None
    while True:
        parameters = {"limit": 1000} | ({"page": page} if page else {})
        part = api.get(f"/v1/queries/{started['id']}/rows", params=parameters).raise_for_status().json()
        names = [column["name"] for column in part["columns"]]
        rows += [dict(zip(names, row, strict=True)) for row in part["rows"]]
        page = part.get("next_page")
        if not page:
            return rows


def tables(api: httpx.Client) -> list[str]:
    """Names of the tables in the catalogue."""
    return [table["name"] for table in api.get("/v1/tables").raise_for_status().json()["tables"]]


def count_once(api: httpx.Client, table: str) -> int:
    """How many events an Iceberg table has; none of them may be there twice."""
    sql = f"""SELECT count(*) AS events, count(DISTINCT (kafka_partition, kafka_offset)) AS places
              FROM "{table}" """  # noqa: S608
    found = answer(api, sql)[0]
    assert found["events"] == found["places"], found
    return int(found["events"])
