"""A visitor with a browser."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.faults.house import House
from tests.support.stack import PASSWORD

#: ms; the tests share their processors.
PATIENCE = 30_000

_TELL_OF_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`);
});
"""


class Visitor:
    """A page, and what was wrong on it."""

    def __init__(self, page: Page, house: House) -> None:
        self.page = page
        self.house = house
        self.faults: list[str] = []
        page.add_init_script(_TELL_OF_VIOLATIONS)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: self._listen(message.type, message.text))

    def _listen(self, kind: str, text: str) -> None:
        # The browser's own remark on each answer with an error, and on each connection that fails, is no fault of ours.
        is_remark = text.startswith(("Failed to load resource", "WebSocket connection to"))
        if kind == "error" and not is_remark:
            self.faults.append(text)

    def assert_no_fault(self) -> None:
        """No script failed, and nothing asked for what the policy forbids."""
        violations = [] if self.page.is_closed() else self.page.evaluate("window.violations ?? []")
        assert (self.faults, violations) == ([], []), (self.faults, violations)

    def sign_in(self, name: str, password: str = PASSWORD) -> None:
        """By the form, as people do; ends where they are led."""
        self.page.goto("/sign-in")
        self.page.get_by_label("Username").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()

    def studio(self, query: str = "") -> None:
        """Go there and wait until it shows what there is."""
        self.page.goto(f"/{query}")
        self.wait_loaded()

    def wait_loaded(self) -> None:
        """Until the list is there and updates come."""
        expect(self.page.locator("#cards")).to_have_attribute("aria-busy", "false", timeout=PATIENCE)
        self.wait_live()

    def wait_live(self) -> None:
        """Until updates come."""
        expect(self.page.locator("#connection")).to_have_attribute("data-state", "live", timeout=PATIENCE)

    def submit(self, prompt: str, **choices: str) -> Locator:
        """Fill the form and submit; the card that appears. ``choices`` are options of lists, by their names."""
        self.page.locator("#more").evaluate("(more) => { more.open = true; }")
        for name, value in choices.items():
            self.page.locator(f"[name={name}]").select_option(value)
        self.page.locator("#prompt").fill(prompt)
        self.page.locator("#submit").click()
        return self.card(prompt)

    def card(self, prompt: str) -> Locator:
        """The newest card with this prompt."""
        return self.page.locator(".card", has_text=prompt).first

    def submit_by_api(self, prompt: str, *, name: str = "alice", **more: Any) -> str:
        """As a program would, of which the page knows nothing."""
        with self.house.stack.client(name) as client:
            answer = client.post("/submit", json={"type": "coloring-page", "prompt": prompt, **more})
        return str(answer.raise_for_status().json()["requestId"])


def wait_status(card: Locator, status: str) -> None:
    """Until the card says so."""
    expect(card).to_have_attribute("data-status", status, timeout=PATIENCE)
