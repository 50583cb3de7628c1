"""Schemas of Kubernetes's own kinds in several versions, and of the custom resources in use."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any

import kubernetes_validate
from jsonschema import Draft202012Validator

from k8s.check.manifests import Resource

# The package lists each version twice, for its strict schemas.
VERSIONS = tuple(dict.fromkeys(kubernetes_validate.utils.all_versions()))[-3:]
# Models generated from the CustomResourceDefinitions of a release, by `apiVersion`.
CUSTOM = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}


def problems(resource: Resource) -> Iterator[str]:
    """Schema violations of a resource, including unknown fields."""
    if resource.body["apiVersion"] in CUSTOM:
        yield from _custom_problems(resource)
        return
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(dict(resource.body), version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"Kubernetes {version}: {_place(error.path)}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield (
                f"Kubernetes {version} has no {resource.kind} in {resource.body['apiVersion']}. If it is a "
                "custom resource, add its models to k8s/check/schemas.py"
            )


def _custom_problems(resource: Resource) -> Iterator[str]:
    api = str(resource.body["apiVersion"])
    schema = _custom_schema(api, resource.kind)
    if schema is None:
        yield f"{api} has no kind {resource.kind}"
        return
    for error in Draft202012Validator(schema).iter_errors(resource.body):
        yield f"{api}: {_place(error.path)}: {error.message}"


@cache
def _custom_schema(api: str, kind: str) -> dict[str, Any] | None:
    model = getattr(import_module(CUSTOM[api]), kind, None)
    return None if model is None else _strict(model.model_json_schema(by_alias=True))


def _strict(schema: Any) -> Any:
    """The schema with unknown fields forbidden, and null not allowed as a value."""
    if isinstance(schema, list):
        return [_strict(each) for each in schema if each != {"type": "null"}]
    if not isinstance(schema, dict):
        return schema
    closed = {"additionalProperties": False} if "properties" in schema else {}
    return {**closed, **{key: _strict(value) for key, value in schema.items()}}


def _place(path: Any) -> str:
    return ".".join(str(each) for each in path) or "the whole"
