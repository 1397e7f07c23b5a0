"""The receivers of docs/webhooks.md get real deliveries."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.contrib.auth.models import User

from config.local.valkey import free_port
from generation.models import WebhookDelivery, WebhookEndpoint
from generation.webhooks import deliveries, leases, signatures
from generation.webhooks.leases import Leased, Result
from generation.webhooks.sender import Sender
from tests.support import npm
from tests.support.stack import ROOT, wait_until
from tests.support.webhooks import SECRET, endpoint_of

pytestmark = pytest.mark.django_db(transaction=True)

PAGE = (ROOT / "docs" / "webhooks.md").read_text()


def command(language: str, folder: Path) -> list[str]:
    """The program that runs the language, with the library of Standard Webhooks."""
    if language == "python":
        return [sys.executable]
    npm.install("standardwebhooks@1.1.1", folder)
    return ["node"]


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def running(language: str, folder: Path, port: int) -> Iterator[Path]:
    """Run the receiver of the page; yields the file of what it prints."""
    [code] = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    program, output = folder / "receiver", folder / "output"
    program.write_text(code)
    environment = os.environ | {"PORT": str(port), "WEBHOOK_SECRET": SECRET}
    with output.open("w") as file:
        process = subprocess.Popen(
            [*command(language, folder), str(program)], env=environment, stdout=file, stderr=subprocess.DEVNULL
        )
        try:
            wait_until(lambda: answers(port), seconds=20, what="a receiver")
            yield output
        finally:
            process.terminate()
            process.wait(10)


@pytest.fixture(autouse=True)
def _loopback(settings: Any) -> None:
    settings.WEBHOOK_ALLOWED_NETWORKS = [ipaddress.ip_network("127.0.0.0/8")]
    settings.WEBHOOK_ALLOW_HTTP = True


def sent() -> Result:
    """Send the one delivery that is due."""
    [leased] = leases.take(room=10, suspect_room=10)

    async def act(leased: Leased) -> Result:
        sender = Sender()
        try:
            return await sender.send(leased)
        finally:
            await sender.aclose()

    result = asyncio.run(act(leased))
    leases.settle([result])
    return result


@pytest.mark.parametrize("language", ["python", "javascript"])
def test_a_receiver_of_the_page_checks_and_works_once(alice: User, tmp_path: Path, language: str) -> None:
    port = free_port()
    endpoint = endpoint_of(alice, url=f"http://127.0.0.1:{port}/")
    with running(language, tmp_path, port) as output:
        deliveries.send_test(endpoint)
        assert sent().status == 204
        wait_until(lambda: output.read_text(), what="what it prints")
        delivery = WebhookDelivery.objects.select_related("endpoint").get()
        deliveries.redeliver(delivery)
        assert sent().status == 204
        assert len(output.read_text().splitlines()) == 1, "it does the work once"
        assert output.read_text().startswith("webhook.test")
        stranger = httpx2.post(endpoint.url, content=b'{"type": "webhook.test", "data": {}}')
        assert stranger.status_code == 400
        WebhookEndpoint.objects.update(secret=signatures.encrypt(signatures.new()))
        deliveries.redeliver(WebhookDelivery.objects.select_related("endpoint").get())
        assert sent().status == 400, "signed with another secret"
