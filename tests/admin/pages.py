"""Addresses of the staff's pages, and what stands in an answer."""

from __future__ import annotations

import html
import re
from typing import Any

from django.test import Client
from django.urls import reverse

from generation.models import BulkAction
from generation.requests import bulk_actions

REQUESTS = "/admin/generation/generationrequest/"
ACT = f"{REQUESTS}act/"
EXPORT = f"{REQUESTS}export/"
PAUSES = "/admin/generation/pause/"
BULK = "/admin/generation/bulkaction/"
BATCHES = "/admin/generation/generationbatch/"
#: Every list of the admin.
LISTS = [
    *("generation_generationrequest", "generation_generationbatch", "generation_generationattempt"),
    *("generation_bulkaction", "generation_pause", "generation_providerstate", "generation_providermodel"),
    *("generation_promptstyle", "generation_workerprocess", "generation_budget", "generation_spending"),
    *("auth_user", "auth_group", "admin_logentry", "generation_apikey", "generation_upload"),
    *("generation_webhookendpoint", "generation_webhookdelivery"),
]


def list_of(name: str) -> str:
    return reverse(f"admin:{name}_changelist")


def page_of(request_id: str) -> str:
    return f"{REQUESTS}{request_id}/change/"


def text(response: Any) -> str:
    """What people read of a page."""
    assert response.status_code == 200, (response.status_code, response.content[:500])
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", response.content.decode(), flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body)))


def listed(client: Client, query: str = "") -> list[str]:
    """The ids that the list of requests shows, in its order."""
    body = client.get(f"{REQUESTS}?{query}").content.decode()
    return re.findall(r'<small class="vg-id">(vga_[0-9a-z_]+)</small>', body)


def told(client: Client, response: Any) -> str:
    """What the page says after an action."""
    assert response.status_code == 302, (response.status_code, response.content[:500])
    return text(client.get(response["Location"]))


def act(client: Client, action: str, *ids: str, **more: str) -> Any:
    """An action that was confirmed."""
    return client.post(ACT, {"action": action, "ids": list(ids), **more})


def run_bulk(answer: Any) -> BulkAction:
    """Do all steps of the action that this answer leads to."""
    made = BulkAction.objects.get(pk=answer["Location"].rstrip("/").split("/")[-2])
    while bulk_actions.advance(made.pk):
        pass
    made.refresh_from_db()
    return made
