"""docs/operations.md, followed word by word in the running deployment: an upgrade under load, a backup and its
restore."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx2

from tests.engine.neighbors import ContainerVendor
from tests.engine.project import Project, ended, note, submit
from tests.support import compose
from tests.support.operations import commands

OURS = compose.OURS[1:]  # without migrate, which ends
HEADING = "## Upgrade without downtime"
#: Calls in a second while the deployment is upgraded.
RATE = 20


class Load:
    """Calls at an even rate, of the kinds that clients make; ``outcomes`` counts them by kind and result."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self._ended = threading.Event()
        self.ids: list[str] = []
        self.outcomes: Counter[tuple[str, int | str]] = Counter()

    def run(self) -> None:
        """Call until :meth:`stop`."""
        kinds = {"submit": self._submit, "status": self._status, "wait": self._wait, "list": self._list}
        names = list(kinds)
        with ThreadPoolExecutor(40) as pool:
            due = time.monotonic()
            for number in range(1_000_000):
                if self._ended.wait(max(0.0, due - time.monotonic())):
                    return
                name = names[number % len(names)]
                pool.submit(self._call, name, kinds[name])
                due += 1 / RATE

    def stop(self) -> None:
        """Begin no more calls."""
        self._ended.set()

    def _call(self, name: str, act: Callable[[], httpx2.Response]) -> None:
        try:
            outcome: int | str = act().status_code
        except httpx2.TransportError as error:
            outcome = repr(error)
        self.outcomes[name, outcome] += 1

    def _submit(self) -> httpx2.Response:
        body = {"type": "illustration", "prompt": f"Dragon number {len(self.ids)} during the upgrade"}
        answer = self._client.post("/submit", json=body)
        if answer.status_code == 200:
            self.ids.append(answer.json()["requestId"])
        return answer

    def _status(self) -> httpx2.Response:
        return self._client.get(f"/status/{self.ids[-1]}")

    def _wait(self) -> httpx2.Response:
        return self._client.get(f"/status/{self.ids[-1]}?imageData=false", headers={"Prefer": "wait=1"})

    def _list(self) -> httpx2.Response:
        return self._client.get("/requests?limit=5")


@contextmanager
def loaded(client: httpx2.Client) -> Iterator[Load]:
    """Make calls during the block."""
    load = Load(client)
    load.ids.append(submit(client, "A dragon before the upgrade"))
    thread = threading.Thread(target=load.run)
    thread.start()
    try:
        yield load
    finally:
        load.stop()
        thread.join()


@contextmanager
def upgraded(project: Project, client: httpx2.Client) -> Iterator[Load]:
    """Make calls while the block replaces all processes by those of another version; none may fail."""
    before = {service: project.inspect(service) for service in OURS}
    manage = project.folder / "manage.py"
    manage.write_text(f"{manage.read_text()}# The next version.\n")
    started = time.monotonic()
    with loaded(client) as load:
        yield load
    calls = sum(load.outcomes.values())
    note(f"{time.monotonic() - started:6.1f} s  an upgrade, {calls} calls meanwhile")
    assert not {outcome for outcome in load.outcomes if outcome[1] not in {200, 202}}, load.outcomes
    assert calls > RATE * 10
    for service in OURS:
        assert len(project.containers(service)) == 1, service
        assert project.inspect(service)["Image"] != before[service]["Image"], service


def test_an_upgrade_under_load_fails_no_call(project: Project, vendor: ContainerVendor, alice: httpx2.Client) -> None:
    with upgraded(project, alice) as load:
        for command in commands(HEADING):
            project.type(command)
    assert {ended(alice, request_id)["status"] for request_id in load.ids} == {"completed"}


def test_a_backup_brings_everything_back(project: Project, vendor: ContainerVendor, alice: httpx2.Client) -> None:
    kept = submit(alice, "A dragon that is in the backup")
    assert ended(alice, kept)["status"] == "completed"
    image = alice.get(f"/image/{kept}").content
    prune, check, *backup, stop, restore, unpack, up = commands("## Maintenance and backup")
    for command in (prune, check, *backup):
        project.type(command)
    project.sql("TRUNCATE generation_requests CASCADE")
    project.execute("web", "find", "/var/lib/visual-generation/media/results", "-type", "f", "-delete")
    assert alice.get(f"/image/{kept}").status_code == 404
    for command in (stop, restore, unpack, up):
        project.type(command)
    with project.client("alice") as again:
        assert again.get(f"/image/{kept}").content == image
        assert ended(again, submit(again, "A dragon after the restore"))["status"] == "completed"


def test_a_database_of_a_newer_version_is_refused(project: Project) -> None:
    project.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('generation', '0999_next', now())")
    try:
        done = project.run("migrate", check=False)
    finally:
        project.sql("DELETE FROM django_migrations WHERE name = '0999_next'")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if "0999_next" in line] == [
        "CommandError: A newer version has migrated this database: 0999_next is unknown to this one. Use the newer one,"
        " or restore a backup of this one."
    ]
    assert project.is_ready()
