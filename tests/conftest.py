"""The people who appear in the tests, and how they reach the API."""

from __future__ import annotations

import functools
import gc
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpcore2
import pytest
from celery import current_app
from django.contrib.auth.models import Group, User
from rest_framework.test import APIClient
from rest_framework_simplejwt.tokens import AccessToken
from xdist.scheduler import LoadFileScheduling

from generation import caching, event_loop
from generation.access import roles
from generation.queue import broker
from tests import servers
from tests.support.sweeping import Sweeper

# Each client, also that of one `httpx2.get`, would read the certificates of all authorities: 30 ms of processor time.
httpcore2.default_ssl_context = functools.cache(httpcore2.default_ssl_context)

_TESTS = Path(__file__).parent
#: The tier of a test is the folder that it is in.
_TIERS = {"unit", "contracts", "integration", "api", "acceptance", "faults", "realtime", "admin", "browser", "engine"}
#: The tiers with the longest files, which start first.
_SLOW = ["browser", "acceptance", "faults"]

PROMPT = "A friendly dragon playing in a garden"


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(_TESTS).parts[0]


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark each test with its tier, and let those with long files start first."""
    for item in items:
        if (tier := _tier(item)) in _TIERS:
            item.add_marker(tier)
    yield  # pytest-django has an order of its own
    items.sort(key=lambda item: _SLOW.index(tier) if (tier := _tier(item)) in _SLOW else len(_SLOW))


#: Beginning of a test's id → the tests with which it shares a process.
_GROUPS = {
    "tests/browser/": "browser",  # several browsers at once starve each other
    # Each of the two has a deployment of its own.
    "tests/engine/test_bad_input": "engine: more deployments",
    "tests/engine/test_more_hosts": "engine: more deployments",
    "tests/engine/": "engine",
}


class _Together(LoadFileScheduling):  # type: ignore[misc]
    """Runs the tests of one file in one process, as ``--dist loadfile``, or those of one group. (``--dist loadgroup``
    of pytest-xdist 3.8 does nothing with pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        for beginning, group in _GROUPS.items():
            if nodeid.startswith(beginning):
                return group
        return str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling:
    return _Together(config, log)


def pytest_collection_finish() -> None:
    """Spare the garbage collector the modules and the tests: each full collection would visit them all."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_keepdb: bool) -> bool:
    """Keep the test database: it ends with our own server. Dropping it needs every connection closed first, also those
    of autovacuum."""
    return django_db_keepdb or servers.is_ours("DATABASE_URL")


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Room for many threads."""
    from django.db import connections

    settings = connections["default"].settings_dict
    if pool := settings["OPTIONS"].get("pool"):
        pool["max_size"] = 60  # some tests have that many threads at once


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """The database that the migrations make, which every test finds."""
    with django_db_blocker.unblock():
        Sweeper().use()


@pytest.fixture(scope="session", autouse=True)
def _loop_ends_before_its_servers() -> Iterator[None]:
    yield
    event_loop.loop.stop()


@pytest.fixture(autouse=True)
def _files_of_their_own(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"


@pytest.fixture(autouse=True)
def _no_rate_in_the_way(settings: Any) -> None:
    """Rates are tested where they are what is tested."""
    settings.SUBMIT_RATE = settings.TOKEN_RATE = "1000000/s"


@pytest.fixture(autouse=True)
def _empty_caches() -> None:
    caching.clear_all()


@pytest.fixture
def empty_queues() -> Iterator[None]:
    """Redis without a message of ours, before and after."""
    from generation.states import WEIGHTS

    def empty() -> None:
        with current_app.connection_for_write() as connection:
            channel: Any = connection.default_channel
            channel.client.delete(*WEIGHTS)
            channel.client.set(broker._EPOCH_KEY, broker._COMPLETE)  # so that only a test empties it
        caching.clear_all()

    empty()
    yield
    empty()


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A broker address without a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        unreachable = f"redis://127.0.0.1:{free.getsockname()[1]}/0"

    def forget_connections() -> None:
        # Celery keeps pools by address and remembers the one in use.
        application: Any = current_app
        application._pool = None
        application.amqp._producer_pool = None

    with monkeypatch.context() as patch:
        patch.setenv("CELERY_BROKER_URL", unreachable)
        forget_connections()
        yield
    forget_connections()
    caching.clear_all()


def _user(name: str, **more: Any) -> User:
    user: User = User.objects.create(username=name, **more)
    return user


@pytest.fixture
def alice(db: None) -> User:
    """Owns what the tests are about."""
    return _user("alice")


@pytest.fixture
def bob(db: None) -> User:
    """Is on the staff, as an operator."""
    user = _user("bob", is_staff=True)
    user.groups.add(Group.objects.get(name=roles.OPERATOR))
    return user


@pytest.fixture
def charlie(db: None) -> User:
    """Is a stranger."""
    return _user("charlie")


def client_of(user: User | None) -> APIClient:
    """A client that sends the user's token, or none."""
    client = APIClient()
    if user is not None:
        client.credentials(HTTP_AUTHORIZATION=f"Bearer {AccessToken.for_user(user)}")
    return client


@pytest.fixture
def api(alice: User) -> APIClient:
    """Alice's client."""
    return client_of(alice)
