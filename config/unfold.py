"""Look and navigation of the admin (unfold)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _may_see(permission: str) -> Callable[[HttpRequest], bool]:
    return lambda request: bool(request.user.has_perm(permission))


def _item(title: str, icon: str, model: str, app: str = "generation") -> dict[str, Any]:
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{model}_changelist"),
        "permission": _may_see(f"{app}.view_{model}"),
    }


UNFOLD: Final[dict[str, Any]] = {
    "SITE_TITLE": "Visual Generation",
    "SITE_HEADER": "Visual Generation",
    "SITE_SUBHEADER": "Administration",
    "SITE_SYMBOL": "palette",
    "SITE_URL": "/",
    "DASHBOARD_CALLBACK": "generation.admin.index.dashboard",
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "BORDER_RADIUS": "6px",
    "STYLES": [lambda request: static("generation/staff.css")],
    "COLORS": {
        "primary": {
            "50": "oklch(97.7% .013 236.62)",
            "100": "oklch(95.1% .026 236.824)",
            "200": "oklch(90.1% .058 230.902)",
            "300": "oklch(82.8% .111 230.318)",
            "400": "oklch(74.6% .16 232.661)",
            "500": "oklch(62% .15 240)",
            "600": "oklch(52% .15 245)",
            "700": "oklch(46% .134 245)",
            "800": "oklch(39% .11 245)",
            "900": "oklch(34% .09 245)",
            "950": "oklch(26% .066 245)",
        },
    },
    "SIDEBAR": {
        "show_search": False,
        "show_all_applications": False,
        "navigation": [
            {
                "title": "Generation",
                "items": [
                    {"title": "Dashboard", "icon": "monitoring", "link": reverse_lazy("admin:index")},
                    _item("Requests", "image", "generationrequest"),
                    _item("Batches", "stacks", "generationbatch"),
                    _item("Attempts", "replay", "generationattempt"),
                    _item("Uploads", "upload", "upload"),
                    _item("Bulk actions", "checklist", "bulkaction"),
                ],
            },
            {
                "title": "Control",
                "separator": True,
                "items": [
                    _item("Pauses", "pause_circle", "pause"),
                    _item("Providers", "hub", "providerstate"),
                    _item("Models", "model_training", "providermodel"),
                    _item("Prompt styles", "format_paint", "promptstyle"),
                    _item("Processes", "memory", "workerprocess"),
                ],
            },
            {
                "title": "Accounts and costs",
                "separator": True,
                "items": [
                    _item("Users", "group", "user", "auth"),
                    _item("Groups", "shield_person", "group", "auth"),
                    _item("API keys", "key", "apikey"),
                    _item("Webhooks", "webhook", "webhookendpoint"),
                    _item("Webhook deliveries", "outbox", "webhookdelivery"),
                    _item("Budgets", "savings", "budget"),
                    _item("Spending", "payments", "spending"),
                    _item("Audit log", "history", "logentry", "admin"),
                ],
            },
        ],
    },
}
