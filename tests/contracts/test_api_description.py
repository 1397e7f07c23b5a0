"""The OpenAPI document is complete and valid, matches the code, and keeps its structure.

``UPDATE_OPENAPI=1 .venv/bin/python -m pytest -q tests/contracts/test_api_description.py -k structure`` writes
``openapi-structure.json`` again after an intended change of the API.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from drf_spectacular.generators import SchemaGenerator
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from config.version import VERSION
from generation import caching
from generation.reports import statistics
from generation.requests import representations, services
from generation.requests.new_request import NewRequest
from generation.states import Status
from tests.api.helpers import completed
from tests.support.requests import PROMPT, in_status

ROOT = Path(__file__).parents[2]
STRUCTURE = Path(__file__).with_name("openapi-structure.json")
METHODS = {"get", "post", "put", "patch", "delete"}
#: A page for people, which is no part of what it shows.
NOT_DESCRIBED = {"api/docs", "v1(?:/.*)?"}
#: Only in the status of a queued request; the last two only with ``explain``.
WHILE_QUEUED = {
    *("queuePosition", "estimatedWaitTime", "estimate", "waitingFor", "possible"),
    *("explanation", "reasons"),
}


@cache
def description() -> dict[str, Any]:
    schema: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return schema


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Every call: method, address, description."""
    return [
        (method, path, operation) for path, item in description()["paths"].items() for method, operation in item.items()
    ]


def component(name: str) -> dict[str, Any]:
    shape: dict[str, Any] = description()["components"]["schemas"][name]
    return shape


def assert_valid(value: Any, schema: dict[str, Any]) -> None:
    """The value is of the schema, whose references point into the description."""
    Draft202012Validator(schema | {"components": description()["components"]}).validate(value)


def assert_exact(value: Any, name: str, *, may_lack: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """The value is of the component and has exactly its keys."""
    assert_valid(value, {"$ref": f"#/components/schemas/{name}"})
    assert set(component(name)["properties"]) - set(value) == may_lack
    assert set(value) <= set(component(name)["properties"])


# --- Complete ---------------------------------------------------------------------------------------------------------


def test_it_is_valid_and_nothing_was_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    call_command("spectacular", "--validate", "--fail-on-warn")
    assert capsys.readouterr().err == ""


def patterns(resolver: Any, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    for entry in resolver.url_patterns:
        address = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from patterns(entry, address)
        else:
            yield address, entry


def methods_of(view: Any) -> set[str]:
    """What the view of an address takes."""
    names = set(view.actions) if hasattr(view, "actions") else {name for name in METHODS if hasattr(view.cls, name)}
    return names & METHODS


def test_every_address_of_the_api_is_described_with_every_method() -> None:
    described = {path: set(item) for path, item in description()["paths"].items()}
    served: dict[str, set[str]] = {}
    for regex, entry in patterns(get_resolver()):
        address = regex.lstrip("^").removesuffix("/?$")
        if not address.startswith(("api/", "v1", "healthz", "readyz")) or address in NOT_DESCRIBED:
            continue
        path = re.sub(r"\(\?P<extension>.*", "", address)
        path = re.sub(r"\(\?P<(\w+?)_id>[^)]*\)", r"{\1Id}", path)
        served[f"/{path}"] = methods_of(entry.callback)
    assert served == described


def test_every_call_says_what_it_is_for_and_how_it_fails() -> None:
    tags = {tag["name"] for tag in description()["tags"]}
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(names) == len(set(names))
    for _, path, operation in operations():
        assert operation["summary"], path
        assert operation["description"], path
        assert set(operation["tags"]) <= tags, path
        for parameter in operation.get("parameters", []):
            assert parameter["in"] == "query" or parameter["description"], (path, parameter["name"])
        for status, answer in operation["responses"].items():
            assert answer["description"], (path, status)
        if operation.get("security"):
            assert "WWW-Authenticate" in operation["responses"]["401"]["headers"], path
        if path.startswith(("/api/", "/v1/")):
            assert "Retry-After" in operation["responses"]["503"]["headers"], path
        if "requestBody" in operation:
            assert {"400", "413", "415"} <= set(operation["responses"]), path


def test_the_page_in_docs_has_every_call_under_its_tag() -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    written = [
        (tag.partition("\n")[0], *call)
        for tag in re.split(r"^## ", page, flags=re.MULTILINE)[1:]
        for call in re.findall(r"^`([A-Z]+) (/\S*)`$", tag, re.MULTILINE)
    ]
    described = [(operation["tags"][0], method.upper(), path) for method, path, operation in operations()]
    assert sorted(written) == sorted(described)


def test_it_names_the_release_and_where_clients_reach_us() -> None:
    assert description()["openapi"].startswith("3.1")
    assert description()["info"]["version"] == VERSION
    assert description()["servers"] == [{"url": settings.PUBLIC_BASE_URL}]


# --- Stable -----------------------------------------------------------------------------------------------------------


def without_prose(value: Any) -> Any:
    """Return a part of the document without prose, and with the error codes of its examples instead of the examples."""
    if isinstance(value, list):
        return [without_prose(member) for member in value]
    if not isinstance(value, dict):
        return value
    is_prose = {name for name in ("title", "summary", "description") if isinstance(value.get(name), str)}
    part = {name: without_prose(value[name]) for name in value.keys() - is_prose - {"examples"}}
    examples = [example["value"] for example in value.get("examples", {}).values()]
    if codes := sorted({example["code"] for example in examples if isinstance(example, dict) and "code" in example}):
        part["codes"] = codes
    return part


def structure() -> dict[str, Any]:
    """Return operations, parameters, responses, components and properties without prose, each under its own key."""
    parts: dict[str, Any] = {}
    for method, path, operation in operations():
        key = f"{method.upper()} {path}"
        parts[key] = without_prose(operation)
        for parameter in parts[key].pop("parameters", []):
            parts[f"{key} {parameter.pop('in')} {parameter.pop('name')}"] = parameter
        for status, response in parts[key].pop("responses").items():
            parts[f"{key} {status}"] = response
    for components in description()["components"].values():
        for name, schema in components.items():
            parts[name] = without_prose(schema)
            for field, of_field in parts[name].pop("properties", {}).items():
                parts[f"{name}.{field}"] = of_field
    return parts


def test_the_structure_of_the_document_is_unchanged() -> None:
    parts = structure()
    if os.environ.get("UPDATE_OPENAPI"):
        compact = {key: json.dumps(parts[key], sort_keys=True, separators=(",", ":")) for key in sorted(parts)}
        lines = ",\n".join(f"{json.dumps(key)}: {part}" for key, part in compact.items())
        STRUCTURE.write_text(f"{{\n{lines}\n}}\n")
    stored = json.loads(STRUCTURE.read_text())
    changed = sorted(key for key in stored.keys() | parts.keys() if stored.get(key) != parts.get(key))
    assert not changed, {key: {"stored": stored.get(key), "now": parts.get(key)} for key in changed}


# --- True -------------------------------------------------------------------------------------------------------------


def contents() -> list[tuple[str, dict[str, Any]]]:
    """Every body that is described, of calls and of answers."""
    return [
        (f"{operation['operationId']} {where}", content)
        for _, _, operation in operations()
        for where, holder in {"body": operation.get("requestBody", {}), **operation["responses"]}.items()
        for content in holder.get("content", {}).values()
    ]


def test_every_example_is_of_the_shape_beside_which_it_stands() -> None:
    shown = 0
    for where, content in contents():
        for name, example in content.get("examples", {}).items():
            shown += 1
            try:
                assert_valid(example["value"], content["schema"])
            except Exception as error:
                raise AssertionError(f"{where}, {name}: {error}") from None
    assert shown > 50


def test_every_body_has_an_example() -> None:
    for where, content in contents():
        is_free = content["schema"].get("format") == "binary" or content["schema"] == {"type": "object"}
        assert content.get("examples") or is_free, where


@pytest.mark.parametrize("status", Status)
def test_the_status_shape_has_exactly_the_keys_that_are_described(alice: User, status: Status) -> None:
    request = completed(alice) if status == Status.COMPLETED else in_status(alice, status)
    shape = representations.status(request, image_data=True)
    assert_exact(shape, "Request", may_lack=WHILE_QUEUED)
    own = {"requestedAt", "startedAt", "completedAt", "attempts", "maxAttempts", "generationTime"}
    assert set(shape["metadata"]) == set(component("RequestMetadata")["required"]) == own
    if status == Status.COMPLETED:
        assert_exact(shape["result"], "Result")
    if status == Status.FAILED:
        assert_exact(shape["error"], "GenerationError")


def test_a_batch_has_exactly_the_keys_that_are_described(alice: User) -> None:
    draft = NewRequest(type="cover", prompt=PROMPT, priority="low", metadata={}, max_attempts=3)
    batch, requests = services.submit_batch(owner=alice, drafts=[draft] * 2, priority="low", max_concurrent=1)
    shape = representations.batch(batch, requests)
    assert_exact(shape, "Batch")
    assert_exact(shape["counts"], "StatusCounts")
    assert_exact(shape["requests"][0], "BatchRequest", may_lack=WHILE_QUEUED)


def test_the_numbers_have_exactly_the_keys_that_are_described(alice: User) -> None:
    in_status(alice, Status.QUEUED)
    caching.clear_all()
    queue, metrics = statistics.queue_status(), statistics.metrics()
    caching.clear_all()
    assert_exact(queue, "QueueStatus")
    assert_exact(queue["queuedByPriority"], "PriorityCounts")
    assert_exact(metrics, "Metrics")
    assert_exact(metrics["byDay"][0], "Day")
    assert_exact(metrics["backlog"]["normal"], "Waiting")


# --- Served -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "*/*", "application/json"),
        ("", "application/yaml", "application/yaml"),
        ("", "text/html", "application/json"),
        ("?format=yaml", "application/json", "application/yaml"),
        ("?format=json", "", "application/json"),
        ("?format=yaml", "", "application/yaml"),
    ],
)
def test_it_is_served_to_all_in_the_wanted_format(client: Client, query: str, accept: str, content_type: str) -> None:
    response = client.get(f"/api/schema{query}", HTTP_ACCEPT=accept)
    assert response.status_code == 200
    assert response["Content-Type"] == f"{content_type}; charset=utf-8"
    assert response.content.startswith(b"{" if content_type.endswith("json") else b"openapi: 3.1")


def test_an_unknown_format_is_refused(client: Client) -> None:
    response = client.get("/api/schema?format=xml")
    assert response.status_code == 400
    assert response.json()["errors"] == [{"path": "format", "msg": "Must be json or yaml.", "code": "invalid_choice"}]


def test_the_documentation_page_loads_nothing_external_or_inline(client: Client) -> None:
    response = client.get("/api/docs")
    page = response.content.decode()
    assert response.status_code == 200
    assert "unsafe" not in response["Content-Security-Policy"]
    assert not re.search(r"<style|\sstyle=|\son\w+=|https?://", page)
    assert re.findall(r"<script([^>]*)>([^<]*)", page)
    assert all("src=" in attributes and not text for attributes, text in re.findall(r"<script([^>]*)>([^<]*)", page))
