"""A house with the whole product in it, and a browser to look at it with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, Playwright, sync_playwright

from tests.browser.visitor import PATIENCE, Visitor
from tests.faults.house import House, built

#: The first has no window of its own, and so needs a third less of the processors.
_PROGRAMS: Final = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The browser that the system has; the tests download none."""
    found = next(filter(None, map(shutil.which, _PROGRAMS)), None)
    assert found, "the tests of the pages need Chromium: apt-get install chromium (Debian), or the like"
    return found


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Draws with the built-in provider, and with one that a test can hold where it asks for ``openai``."""
    settings = {"WEBHOOK_ALLOW_HTTP": "true", "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8"}
    with built(tmp_path_factory.mktemp("browser"), PROVIDERS="clipart,openai", LEASE_MS="20000", **settings) as house:
        stack = house.stack
        stack.env["REALTIME_BASE_URL"] = f"ws://127.0.0.1:{stack.realtime_port}"
        stack.manage("collectstatic", "--noinput", "-v0")
        stack.start("web", "realtime", "worker", "dispatcher", "deliverer")
        stack.wait_ready()
        yield house


@pytest.fixture(scope="package")
def playwright() -> Iterator[Playwright]:
    """For this package alone: while it runs, its event loop is in the way of others."""
    with sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="package")
def browser(playwright: Playwright) -> Iterator[Browser]:
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    browser = playwright.chromium.launch(executable_path=chromium(), args=as_root)
    yield browser
    browser.close()


@pytest.fixture
def calm(house: House) -> Iterator[None]:
    """The provider that can be held draws at once, until a test says otherwise; what it held goes on afterwards."""
    house.provider.reset()
    house.provider.release()
    yield
    house.provider.script(default="")
    house.provider.release()


Visit = Callable[..., Visitor]


@pytest.fixture(scope="package")
def sessions() -> dict[str, Any]:
    """What the browsers of those who have signed in once have kept of it, by their names."""
    return {}


@pytest.fixture
def visit(browser: Browser, house: House, sessions: dict[str, Any]) -> Iterator[Visit]:
    """Opens a browser of one's own, in which ``name`` has signed in; at the end nothing may have gone wrong in it. With
    ``new_session`` it is a session that a test may end."""
    visitors: list[Visitor] = []
    with ExitStack() as open_ones:

        def open_one(name: str | None = "alice", *, new_session: bool = False, **settings: Any) -> Visitor:
            known = None if new_session or name is None else sessions.get(name)
            context = browser.new_context(base_url=house.stack.base_url, storage_state=known, **settings)
            context.set_default_timeout(PATIENCE)
            open_ones.callback(context.close)
            visitor = Visitor(context.new_page(), house)
            visitors.append(visitor)
            if known:
                visitor.page.goto("/")
            elif name is not None:
                visitor.sign_in(name)
                visitor.page.wait_for_url(f"{house.stack.base_url}/")
                if not new_session:
                    sessions[name] = context.storage_state()
            return visitor

        yield open_one
        for visitor in visitors:
            visitor.assert_no_fault()


@pytest.fixture
def alice(visit: Visit) -> Visitor:
    """Alice in the Studio."""
    return visit("alice")
