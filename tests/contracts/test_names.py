"""Names that two sides must agree on without importing each other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from celery import current_app

from config.celery import QUEUES
from generation.db import queries
from generation.queue import dispatch
from generation.states import WEIGHTS, Priority
from workers import tasks

ROOT = Path(__file__).parents[2]


def test_the_task_that_is_sent_is_the_one_that_workers_know() -> None:
    assert tasks.generate.name == dispatch.TASK
    assert dispatch.TASK in current_app.tasks


def test_the_queues_are_the_priorities_the_most_pressing_first() -> None:
    assert list(QUEUES) == Priority.values == sorted(WEIGHTS, key=lambda name: -WEIGHTS[name])
    assert [queue.name for queue in current_app.conf.task_queues] == list(QUEUES)


def test_the_worker_of_the_procfile_reads_every_queue_in_that_order() -> None:
    worker = re.search(r"^worker:.*", (ROOT / "Procfile").read_text(), re.MULTILINE)
    assert worker is not None
    assert f" --queues ${{WORKER_QUEUES:-{','.join(QUEUES)}}} " in worker[0]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("task_acks_late", False),
        ("task_reject_on_worker_lost", False),
        ("worker_disable_prefetch", True),
        ("worker_prefetch_multiplier", 1),
        ("task_ignore_result", True),
        ("result_backend", None),
        ("task_serializer", "json"),
        ("accept_content", ["json"]),
        ("worker_enable_remote_control", False),
        ("task_create_missing_queues", False),
    ],
)
def test_celery_is_set_as_the_engine_needs_it(setting: str, value: object) -> None:
    assert getattr(current_app.conf, setting) == value


def test_the_broker_is_polled_in_order_of_priority_with_short_waits() -> None:
    options = current_app.conf.broker_transport_options
    assert options["queue_order_strategy"] == "priority"
    assert 1 < options["socket_timeout"] <= 2
    assert options["max_retries"] == 1


WRITERS = {
    "update",
    "create",
    "bulk_create",
    "update_or_create",
    "get_or_create",
    "change",
    "updating",
    "insert",
    "inserting",
}


def writes_a_status(node: ast.AST) -> bool:
    """``x.status = …``, ``….update(status=…)``, ``update(…, {"status": …})`` and the like."""
    if isinstance(node, ast.Assign):
        return any(isinstance(target, ast.Attribute) and target.attr == "status" for target in node.targets)
    if not isinstance(node, ast.Call) or ast.unparse(node.func).rpartition(".")[2] not in WRITERS:
        return False
    keys = [key for part in node.args if isinstance(part, ast.Dict) for key in part.keys]
    named = any(isinstance(key, ast.Constant) and key.value == "status" for key in keys)
    return named or any(keyword.arg == "status" for keyword in node.keywords)


def test_one_module_writes_statuses_and_no_other() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]
        for room in ("config", "generation", "workers")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if writes_a_status(node)
    ]
    assert found
    assert all(place.startswith("generation/requests/transitions.py:") for place in found)


def test_only_the_lifecycle_runs_sql_that_writes_a_status() -> None:
    writes = re.compile(r"INSERT INTO generation_requests|UPDATE generation_requests AS request\s+SET status")
    names = {name for name, sql in vars(queries).items() if isinstance(sql, str) and writes.search(sql)}
    assert {name.removesuffix("_UNLOCKED") for name in names} == {"SUBMIT", "CLAIM", "END", "RELEASE"}
    code = {
        path: path.read_text() for room in ("config", "generation", "workers") for path in (ROOT / room).rglob("*.py")
    }
    sql = sorted(path.name for path, text in code.items() if writes.search(text))
    runs = [path.name for path, text in code.items() if re.search(rf"queries\.({'|'.join(names)})\b", text)]
    assert (sql, sorted(runs)) == (["attempts.py", "queue.py"], ["inserts.py", "lifecycle.py"])
    assert [path.name for path, text in code.items() if re.search(r"import .*\binserts\b", text)] == ["lifecycle.py"]
