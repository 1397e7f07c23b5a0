"""The admin. Rows that the system writes are read-only; actions on them go through ``services``, which checks the
permission and records the action in the audit log."""

from generation.admin import (
    api_keys,
    attempts,
    audit_log,
    batches,
    bulk_actions,
    index,
    pauses,
    providers,
    requests,
    uploads,
    users,
    webhooks,
)

__all__ = [
    "api_keys",
    "attempts",
    "audit_log",
    "batches",
    "bulk_actions",
    "index",
    "pauses",
    "providers",
    "requests",
    "uploads",
    "users",
    "webhooks",
]
