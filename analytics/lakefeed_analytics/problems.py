"""Errors as problem details (RFC 9457), without internals of the code."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from lakefeed_analytics.errors import ConflictError
from lakefeed_common.errors import InputError, LakefeedError, MissingError, RefusedError, UnavailableError

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = "5"
_LONGEST_PATH = 200  # of a requested path, in a response

# The first match is used.
_STATUSES: tuple[tuple[type[LakefeedError], int, str], ...] = (
    (ConflictError, 409, "Not possible now"),
    (MissingError, 404, "Not found"),
    (InputError, 422, "Invalid input"),
    (UnavailableError, 503, "AWS does not answer"),
    (RefusedError, 502, "AWS refused"),
    (LakefeedError, 502, "AWS failed"),
)


class Problem(BaseModel):
    """Problem details according to RFC 9457."""

    type: str = Field("about:blank", description="URI of the problem type.")
    title: str = Field(description="Summary of the problem type.", examples=["Not found"])
    status: int = Field(description="The HTTP status.", examples=[404])
    detail: str = Field(description="What happened, and what to do.")
    errors: list[str] = Field(default=[], description="Location and message for each invalid value.")


def respond(problem: Problem) -> JSONResponse:
    """The HTTP response for a problem."""
    headers = (
        {"Retry-After": _RETRY_AFTER_SECONDS} if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    )
    return JSONResponse(problem.model_dump(), problem.status, headers, MEDIA_TYPE)


def of(error: LakefeedError) -> Problem:
    """The problem for a Lakefeed error."""
    status, title = next((status, title) for kind, status, title in _STATUSES if isinstance(error, kind))
    return Problem(type=f"urn:lakefeed:problem:{error.kind}", title=title, status=status, detail=str(error))


def foreign(reason: str) -> Problem:
    """The problem for a request to another host or from another page."""
    return Problem(type="urn:lakefeed:problem:foreign", title="Not allowed", status=403, detail=reason)


def internal() -> Problem:
    """The problem for an unexpected error; the log has the details."""
    return Problem(
        title="Internal error", status=500, detail="An internal error occurred. See the service's log."
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses=` of a route: problems with these statuses, in addition to 403, 500, 502 and 503."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in (*statuses, 403, 422, 500, 502, 503)
    }


# Pydantic's own message speaks of Python.
_MESSAGES = {"model_attributes_type": 'the body must be a JSON object, such as {"sql": "SELECT 1"}'}


def _wrong_type(request: Request, error: RequestValidationError) -> list[str]:
    """The message for a body that is not sent as JSON."""
    given = request.headers.get("content-type", "")
    kind = given.partition(";")[0].strip().lower()
    whole = any(tuple(each["loc"]) == ("body",) and each["type"] != "missing" for each in error.errors())
    if (
        not whole
        or kind == "application/json"
        or (kind.startswith("application/") and kind.endswith("+json"))
    ):
        return []
    found = f"it is {given[:_LONGEST_PATH]!r}" if given else "it is missing"
    return [
        f"the body must be JSON with the header `Content-Type: application/json`, but {found} (curl: --json)"
    ]


def install(app: FastAPI, count: Callable[[LakefeedError], None]) -> None:
    """Turn every error into a problem response; count Lakefeed errors."""

    @app.exception_handler(LakefeedError)
    def ours(_: Request, error: LakefeedError) -> JSONResponse:
        count(error)
        return respond(of(error))

    @app.exception_handler(RequestValidationError)
    def shape(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without the input, which may contain anything.
        errors = [
            f"{'.'.join(str(part) for part in each['loc'])}: {_MESSAGES.get(each['type'], each['msg'])}"
            for each in error.errors()
        ]
        problem = Problem(
            type="urn:lakefeed:problem:input",
            title="Invalid request",
            status=422,
            detail="; ".join([*_wrong_type(request, error), *errors]),
            errors=errors,
        )
        return respond(problem)

    @app.exception_handler(HTTPException)
    def framework(request: Request, error: HTTPException) -> JSONResponse:
        said = "The body is not UTF-8" if isinstance(error.__cause__, UnicodeDecodeError) else error.detail
        response = respond(
            Problem(
                title=HTTPStatus(error.status_code).phrase,
                status=error.status_code,
                detail=f"{request.method} {request.url.path[:_LONGEST_PATH]}: {said}",
            )
        )
        response.headers.update(error.headers or {})
        return response
