"""The roles of staff as three groups, and the permission that each action needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from generation.states import BulkActionName

VIEWER: Final = "viewer"
OPERATOR: Final = "operator"
ADMINISTRATOR: Final = "administrator"

#: The permission for each action on requests of other users.
PERMISSIONS: Final[Mapping[str, str]] = {
    BulkActionName.CANCEL: "generation.cancel_generationrequest",
    BulkActionName.RETRY: "generation.retry_generationrequest",
    BulkActionName.REQUEUE: "generation.requeue_generationrequest",
    BulkActionName.PRIORITY: "generation.prioritise_generationrequest",
}
PAUSE: Final = "generation.add_pause"
DELETE_UPLOAD: Final = "generation.delete_upload"
RESUME: Final = "generation.delete_pause"
REVOKE: Final = "generation.revoke_apikey"
APPROVE: Final = "generation.approve_generationrequest"
DISABLE_WEBHOOK: Final = "generation.change_webhookendpoint"
REDELIVER: Final = "generation.change_webhookdelivery"
SEEN_WEBHOOKS: Final = ("generation.view_webhookendpoint", "generation.view_webhookdelivery")

_SEEN: Final = (
    *("generationrequest", "generationbatch", "generationattempt", "generationqueue", "statuschange"),
    *("providermodel", "providerstate", "promptstyle", "workerprocess", "budget", "spending", "pause", "bulkaction"),
    *("apikey", "upload"),
)
_EDITED: Final = ("providermodel", "providerstate", "promptstyle", "budget")


def _viewer() -> Iterator[str]:
    yield from (f"generation.view_{model}" for model in _SEEN)
    yield from SEEN_WEBHOOKS
    yield from ("auth.view_user", "auth.view_group", "admin.view_logentry")


def _operator() -> Iterator[str]:
    yield from _viewer()
    yield from PERMISSIONS.values()
    yield from (PAUSE, RESUME, REVOKE, APPROVE, DISABLE_WEBHOOK, REDELIVER)


def _administrator() -> Iterator[str]:
    yield from _operator()
    yield from (f"generation.{verb}_{model}" for model in _EDITED for verb in ("add", "change", "delete"))
    yield from ("auth.add_user", "auth.change_user", DELETE_UPLOAD)


#: The permissions of each group.
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    VIEWER: tuple(_viewer()),
    OPERATOR: tuple(_operator()),
    ADMINISTRATOR: tuple(_administrator()),
}


def make_groups(group: Any, permission: Any) -> None:
    """Bring the groups to what they may do, by the models of Django's ``auth``. A permission that is missing is left
    out."""
    found = {
        f"{one.content_type.app_label}.{one.codename}": one for one in permission.objects.select_related("content_type")
    }
    for name, names in GROUPS.items():
        made, _ = group.objects.get_or_create(name=name)
        made.permissions.set([found[one] for one in names if one in found])
