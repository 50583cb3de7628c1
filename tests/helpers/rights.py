"""Which rights the calls that the local AWS noted want, and which of them a policy gives.

As IAM decides it, for what Lakefeed's policies and calls use; anything else is an error and not a guess.
Actions and resources: https://docs.aws.amazon.com/service-authorization/latest/reference/
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ACCOUNT = "000000000000"
# By role, the access key of its calls; a crawl's is its account's number.
ACCESS_KEYS = {
    **{role: role for role in ("consumer", "consumer-batches", "analytics", "compactor", "maintain")},
    "crawler": ACCOUNT,
}

Policy = dict[str, Any]
"""A policy document, as IAM has it."""


@dataclass(frozen=True)
class Call:
    """One call, as `LAKEFEED_LOCAL_AWS_CALLS` has it."""

    access_key: str
    region: str
    service: str
    method: str
    path: str
    query: Mapping[str, list[str]]
    target: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Right:
    """An action on a resource; `context` has the condition keys that the call brings."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __str__(self) -> str:
        return f"{self.action} on {self.resource}"


def read_calls(lines: str) -> list[Call]:
    """The calls of a file's text."""
    return [Call(**json.loads(line)) for line in lines.splitlines()]


def wanted(calls: list[Call]) -> dict[Right, Call]:
    """Every right that the calls need, each once, with the first call that needs it."""
    rights: dict[Right, Call] = {}
    workgroups = {call.body["WorkGroup"] for call in calls if call.body.get("WorkGroup")}
    for call in calls:
        for right in _wanted(call, workgroups):
            rights.setdefault(right, call)
    return rights


def _wanted(call: Call, workgroups: set[str]) -> Iterator[Right]:
    match call.service:
        case "s3" if "delete" in call.query:
            for key in call.body["Keys"]:
                yield Right("s3:DeleteObject", f"arn:aws:s3:::{call.path.strip('/')}/{key}")
        case "s3":
            yield _of_s3(call)
        case "glue":
            yield from _of_glue(call)
        case "athena":
            # A query's id does not say which workgroup it is of; the caller knows no others than its own.
            for group in [call.body["WorkGroup"]] if "WorkGroup" in call.body else sorted(workgroups):
                resource = f"arn:aws:athena:{call.region}:{ACCOUNT}:workgroup/{group}"
                yield Right(f"athena:{call.target}", resource)
        case _:
            raise ValueError(f"no right is known for {call}")


# By method, for a bucket and for an object. HeadBucket and ListObjectsV2 want the same.
_BUCKET = {"HEAD": "s3:ListBucket", "GET": "s3:ListBucket", "PUT": "s3:CreateBucket"}
_OBJECT = {"HEAD": "s3:GetObject", "GET": "s3:GetObject", "PUT": "s3:PutObject", "DELETE": "s3:DeleteObject"}
_LISTING = {
    "list-type",
    "prefix",
    "delimiter",
    "start-after",
    "continuation-token",
    "max-keys",
    "encoding-type",
}


def _of_s3(call: Call) -> Right:
    bucket, _, key = call.path.removeprefix("/").partition("/")
    known = {"x-id"} if key else _LISTING
    if call.query.keys() - known:
        raise ValueError(f"no right is known for {call}")
    resource = f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}"
    context = {"s3:prefix": call.query["prefix"][0]} if "prefix" in call.query else {}
    return Right((_OBJECT if key else _BUCKET)[call.method], resource, context)


_CRAWLER = {"GetCrawler", "StartCrawler", "StopCrawler", "CreateCrawler", "UpdateCrawler"}
_ANY_CRAWLER = {"ListCrawls", "GetCrawlerMetrics"}
_DATABASE = {"GetDatabase": "Name", "CreateDatabase": "DatabaseInput"}
# Where the name of the table stands; GetTables is about all tables of a database.
_TABLE = {
    "GetTable": "Name",
    **dict.fromkeys(("CreateTable", "UpdateTable"), "TableInput"),
    **dict.fromkeys(
        ("GetPartitions", "BatchCreatePartition", "BatchUpdatePartition", "DeletePartition"), "TableName"
    ),
    "GetTables": "",
}


def _of_glue(call: Call) -> Iterator[Right]:
    action, body, glue = f"glue:{call.target}", call.body, f"arn:aws:glue:{call.region}:{ACCOUNT}"
    if call.target in _CRAWLER:
        yield Right(action, f"{glue}:crawler/{body['Name']}")
        if "Role" in body:
            role = str(body["Role"])
            arn = role if role.startswith("arn:") else f"arn:aws:iam::{ACCOUNT}:role/{role}"
            yield Right("iam:PassRole", arn, {"iam:PassedToService": "glue.amazonaws.com"})
    elif call.target in _ANY_CRAWLER:
        yield Right(action, "*")
    elif call.target in _DATABASE:
        yield Right(action, f"{glue}:catalog")
        yield Right(action, f"{glue}:database/{_name(body[_DATABASE[call.target]])}")
    elif call.target in _TABLE:
        database, place = body["DatabaseName"], _TABLE[call.target]
        yield Right(action, f"{glue}:catalog")
        yield Right(action, f"{glue}:database/{database}")
        yield Right(action, f"{glue}:table/{database}/{_name(body[place]) if place else '*'}")
    else:
        raise ValueError(f"no right is known for {call}")


def _name(given: Any) -> str:
    return str(given["Name"] if isinstance(given, dict) else given)


# ---- policies -----------------------------------------------------------------------------


def given(policy: Policy) -> set[str]:
    """Every right of a policy as `Sid action`."""
    return {f"{each['Sid']} {action}" for each in policy["Statement"] for action in _listed(each["Action"])}


def without(policy: Policy, right: str) -> Policy:
    """The policy without one of its rights, which is named as `given` names it."""
    statements = [
        {**each, "Action": [other for other in _listed(each["Action"]) if f"{each['Sid']} {other}" != right]}
        for each in policy["Statement"]
    ]
    return {**policy, "Statement": statements}


def needed(policy: Policy, rights: list[Right]) -> set[str]:
    """Which of its rights a policy must not lose, since one of these would be refused without it."""
    allowed = [right for right in rights if giving(policy, right)]
    return {
        name for name in given(policy) if not all(giving(without(policy, name), right) for right in allowed)
    }


def giving(policy: Policy, right: Right) -> set[str]:
    """Which of its rights a policy answers with, as `Sid action`; none when it says no."""
    answers: set[str] = set()
    for statement in policy["Statement"]:
        unknown = statement.keys() - {"Sid", "Effect", "Action", "Resource", "Condition"}
        if unknown:
            raise ValueError(f"{sorted(unknown)} of a policy is not known here")
        if not any(_like(pattern, right.resource) for pattern in _listed(statement["Resource"])):
            continue
        if not _conditions_hold(statement.get("Condition", {}), right.context):
            continue
        actions = {
            action for action in _listed(statement["Action"]) if _like(action.lower(), right.action.lower())
        }
        if actions and statement["Effect"] == "Deny":
            return set()
        answers |= {f"{statement['Sid']} {action}" for action in actions}
    return answers


def _conditions_hold(conditions: Mapping[str, Mapping[str, Any]], context: Mapping[str, str]) -> bool:
    """A key that the call does not bring meets no condition, except for those `…IfExists`."""
    for operator, required in conditions.items():
        test, optional = operator.removesuffix("IfExists"), operator.endswith("IfExists")
        if test not in ("StringEquals", "StringLike", "Bool"):
            raise ValueError(f"the condition {operator} is not known here")
        for key, values in required.items():
            if key not in context:
                if optional:
                    continue
                return False
            said = context[key]
            if not any(
                _like(value, said) if test == "StringLike" else value == said for value in _listed(values)
            ):
                return False
    return True


def _like(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern with IAM's `*` and `?`."""
    translated = "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
    return re.fullmatch(translated, text, re.DOTALL) is not None


def _listed(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def read_explained(path: Path) -> dict[str, dict[str, str]]:
    """By role: rights that no call uses, and why they are given."""
    found: dict[str, dict[str, str]] = {}
    for entry in yaml.safe_load(path.read_text()):
        for right in entry["rights"]:
            found.setdefault(entry["role"], {})[right] = entry["why"]
    return found
