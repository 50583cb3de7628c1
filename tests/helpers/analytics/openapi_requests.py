"""Requests made from the API's own OpenAPI document, and what every answer must be."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok
from schemathesis.openapi import from_url
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance


def check(url: str, mode: GenerationMode, examples: int, *, names: list[str], query: str) -> Counter[int]:
    """Ask each route, and assert that statuses, types and bodies are as documented and none is a 500.

    Args:
        url: the address of an API.
        mode: requests that fit the document, or such that break it in one place or another.
        examples: requests a route; the same ones each time.
        names: of a table and a named query that exist.
        query: id of a query that exists.

    Returns:
        How often each status was answered.
    """
    there = {"name": st.sampled_from(names), "id": st.just(query)}
    answered: Counter[int] = Counter()
    for found in from_url(f"{url}/openapi.json").get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()

        @settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
        def answers(case: Case[Any], data: st.DataObject) -> None:
            # Half of the time something that exists, since a random name never does.
            named = [name for name in case.path_parameters or {} if data.draw(st.booleans())]
            for name in named:
                case.path_parameters[name] = data.draw(there[name])
            answer = case.call()
            # What is SQL cannot be said in a schema.
            excluded: list[Any] = [positive_data_acceptance]
            if named or answer.status_code == 413:
                # An invalid request may become valid; and schemathesis does not treat 413 as a refusal.
                excluded.append(negative_data_rejection)
            case.validate_response(answer, excluded_checks=excluded)
            answered[answer.status_code] += 1

        # Some routes have nothing that a request could break.
        with suppress(Unsatisfiable):
            answers()
    return answered
